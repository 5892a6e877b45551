# Runs once inside the root of the guest image, after all packages are installed.

# Units that cost boot time or would touch disks, pools and targets behind the cluster's back.
for unit in \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
	logrotate.timer man-db.timer \
	e2scrub_reap.service systemd-networkd-wait-online.service systemd-pcrphase.service \
	zfs-import-cache.service zfs-import-scan.service zfs-mount.service zfs-share.service zfs-zed.service \
	zfs-volume-wait.service zfs-load-module.service \
	drbd.service rtslib-fb-targetctl.service lvm2-monitor.service lvm2-lvmpolld.socket blk-availability.service \
	nfs-blkmap.service open-iscsi.service pcsd.service pcsd-ruby.service
do
	ln -sf /dev/null "/etc/systemd/system/$unit"
done

# The cluster decides when these run; multipathd is for the client of a test that has several paths.
systemctl --quiet disable corosync.service pacemaker.service nfs-server.service iscsid.socket rpcbind.socket rpcbind.service \
	multipathd.service
systemctl --quiet enable systemd-networkd.service

# They came with multipath-tools, and run ten programs for each disk to find names that udev's own rules find, too.
for rules in 55-scsi-sg3_id 58-scsi-sg3_symlink 60-multipath; do
	ln -sf /dev/null "/etc/udev/rules.d/$rules.rules"
done

# The module is compiled here, once, and not at the first boot of every guest.
for kernel in /lib/modules/*; do
	kernel=${kernel##*/}
	if ! modinfo -k "$kernel" zfs >/dev/null 2>&1; then
		dkms autoinstall -k "$kernel"
		depmod "$kernel"
		modinfo -k "$kernel" zfs >/dev/null
	fi
done

# One image serves all nodes: the name comes from the kernel command line, identities are made at the first boot.
rm -f /etc/hostname /etc/resolv.conf
echo GenerateName=yes >/etc/iscsi/initiatorname.iscsi
# An example that would form a cluster of one.
rm -f /etc/corosync/corosync.conf

# Caches are as new as what they were made of: without this every first boot makes them again.
touch /etc/.updated /var/.updated
