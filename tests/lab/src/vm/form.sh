# Runs once in each guest, before the snapshot: bash -s NAME ROLE NUMBER.
set -eu
name=$1 role=$2 number=$3

# Identities that must differ between nodes, and be the same after every restore.
zgenhostid -f "0x48410$(printf '%03x' "$number")"
echo "InitiatorName=iqn.2026-01.example.hastor:$name" >/etc/iscsi/initiatorname.iscsi

# Where the lab's own programs will be: /run is empty after a boot, so they lie elsewhere.
mkdir -p /usr/local/lib/hastor-lab
cat >/etc/tmpfiles.d/hastor-lab.conf <<END
d /run/hastor-lab 0755 root root
L /run/hastor-lab/bin - - - - /usr/local/lib/hastor-lab
END
systemd-tmpfiles --create /etc/tmpfiles.d/hastor-lab.conf

case $role in
head)
	# Answers the name of the node over TCP: what a client asks for at a floating address.
	cat >/etc/systemd/system/hastor-lab-serve.service <<-END
		[Unit]
		Description=Answers the name of this node

		[Service]
		ExecStart=/run/hastor-lab/bin/lab serve %H
		Restart=always

		[Install]
		WantedBy=multi-user.target
	END
	# At later boots: instead of zfs-load-module.service, which waits until udev has nothing to do, the slowest part of one.
	echo zfs >/etc/modules-load.d/hastor-lab.conf
	# Reading all units anew takes long under emulation, and none that runs has changed.
	systemctl --quiet --no-reload enable hastor-lab-serve corosync pacemaker iscsid
	modprobe -a zfs drbd target_core_mod target_core_iblock target_core_file iscsi_target_mod iscsi_tcp nfsd
	systemctl start iscsid
	systemctl start corosync
	systemctl start pacemaker
	;;
client)
	modprobe -a iscsi_tcp nfsv4
	systemctl --quiet --no-reload enable iscsid
	systemctl start iscsid
	;;
shelf)
	modprobe -a target_core_mod target_core_iblock iscsi_target_mod
	;;
esac
