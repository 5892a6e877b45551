//! Is the image good? Boots it once and has everything run that the lab will stand on.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guest::{Accelerator, Guest};
use super::{Image, host};
use crate::interrupt;
use crate::progress::{more, say, tell};

/// Ten times what was seen without hardware virtualisation.
const BOOT: Duration = Duration::from_secs(400);

/// For each line of [`LOOKS`]; under emulation a kernel module takes seconds to load.
const LOOK: Duration = Duration::from_secs(120);

/// What is looked at, and a script that prints one line about it or fails.
const LOOKS: &[(&str, &str)] = &[
    ("kernel", "uname -r"),
    (
        "ZFS",
        "modprobe zfs && cat /sys/module/zfs/version && zpool list",
    ),
    (
        "DRBD",
        "modprobe drbd && head -n 1 /proc/drbd && drbdadm --version",
    ),
    (
        "LIO",
        "modprobe -a target_core_mod target_core_iblock iscsi_target_mod && mkdir /sys/kernel/config/target/iscsi && cat /sys/kernel/config/target/iscsi/lio_version && rmdir /sys/kernel/config/target/iscsi",
    ),
    (
        "NFS server",
        "modprobe nfsd && mount -t nfsd nfsd /proc/fs/nfsd 2>/dev/null; head -n 1 /proc/fs/nfsd/versions || test -e /proc/fs/nfsd/threads",
    ),
    ("iSCSI", "modprobe iscsi_tcp && iscsiadm --version"),
    (
        "multipath",
        "modprobe -a dm_multipath scsi_dh_alua && multipath -t >/dev/null && dpkg-query -W multipath-tools",
    ),
    (
        "network",
        "modprobe -a veth bridge dummy 8021q sch_netem nf_tables && echo veth bridge dummy vlan netem nftables",
    ),
    (
        "addresses",
        "for n in ring0 lan0 repl0 mgmt0; do ip -4 -o address show dev $n scope global | awk '{ print $2, $4; n++ } END { exit n != 1 }' || exit 1; done | paste -sd ' '; test \"$(ip -4 -o address show scope global | wc -l)\" = 4",
    ),
    ("Pacemaker", "pacemakerd --version"),
    ("Corosync", "corosync -v"),
    (
        "peers' agents",
        "for a in heartbeat:ZFS heartbeat:iSCSITarget heartbeat:portblock heartbeat:exportfs linbit:drbd; do crm_resource --show-metadata ocf:$a >/dev/null || exit 1; done; fence_ipmilan --version | head -n 1",
    ),
    (
        "units",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do systemctl is-system-running --wait >/dev/null && echo all started && exit; sleep 1; done; systemctl --failed --plain --no-legend; exit 1",
    ),
    (
        "left alone",
        "for unit in corosync pacemaker drbd nfs-server zfs-import-cache zfs-import-scan zfs-mount zfs-zed rtslib-fb-targetctl iscsid.socket multipathd; do if systemctl --quiet is-active $unit || systemctl --quiet is-enabled $unit; then echo $unit; exit 1; fi; done; echo no cluster, pool, target or DRBD is started by itself",
    ),
    ("start-up", "systemd-analyze time | head -n 1"),
];

/// Boots the image, which stays as it is, and looks at everything.
pub fn run(cache: &Path, image: &Image) -> Result<()> {
    host::prepare()?;
    let accelerator = Accelerator::here()?;
    say(match accelerator {
        Accelerator::Kvm => "check: booting, with KVM",
        Accelerator::Tcg => "check: booting, emulated (this processor offers no vmx or svm)",
    });
    let begin = Instant::now();
    let mut guest = Guest::boot(cache, image, accelerator)?;
    let seen = look_at_all(&mut guest, begin);
    if seen.is_err() && !interrupt::ending() {
        let log = guest.keep_logs(cache)?;
        return seen.with_context(|| format!("check failed, console in {}", log.display()));
    }
    seen
}

fn look_at_all(guest: &mut Guest, begin: Instant) -> Result<()> {
    guest.wait(BOOT)?;
    tell(format_args!(
        "check: guest answers, {:.1} s after power on",
        begin.elapsed().as_secs_f64()
    ));
    let mut missing = Vec::new();
    for (what, script) in LOOKS {
        let done = guest
            .agent
            .shell(script, LOOK)
            .with_context(|| (*what).to_owned())?;
        let first = done.output.lines().next().unwrap_or_default();
        if done.code == 0 && !first.is_empty() {
            more(format_args!("{what:14} {first}"));
        } else {
            more(format_args!("{what:14} FAILED ({}):", done.code));
            done.output
                .lines()
                .for_each(|line| more(format_args!("  {line}")));
            missing.push(*what);
        }
    }
    if !missing.is_empty() {
        bail!("not working in the guest: {}", missing.join(", "));
    }
    tell("check: everything works");
    Ok(())
}
