# Runs once in each guest, before the snapshot: bash -s NAME ROLE NUMBER.
set -eu
name=$1 role=$2 number=$3

# Identities that must differ between nodes, and be the same after every restore.
zgenhostid -f "0x48410$(printf '%03x' "$number")"
echo "InitiatorName=iqn.2026-01.example.hastor:$name" >/etc/iscsi/initiatorname.iscsi

case $role in
head)
	modprobe -a zfs drbd target_core_mod target_core_iblock target_core_file iscsi_target_mod iscsi_tcp nfsd
	systemctl --quiet enable corosync pacemaker iscsid
	systemctl start iscsid
	systemctl start corosync
	systemctl start pacemaker
	;;
client)
	modprobe -a iscsi_tcp nfsv4
	systemctl --quiet enable iscsid
	systemctl start iscsid
	;;
shelf)
	modprobe -a target_core_mod target_core_iblock iscsi_target_mod
	;;
esac
