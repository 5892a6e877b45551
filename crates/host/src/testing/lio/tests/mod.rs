//! Each rule, as somebody who drives LIO sees it.

mod backstores;
mod links;
mod reservations;
mod targets;

use std::time::Duration;

use nix::errno::Errno;

use super::{Disk, LioKernel};
use crate::Host;
use crate::testing::Script;

const CORE: &str = "/sys/kernel/config/target/core";
const ISCSI: &str = "/sys/kernel/config/target/iscsi";
const HBA: &str = "/sys/kernel/config/target/core/iblock_0";
const VOL: &str = "/sys/kernel/config/target/core/iblock_0/vol";
const IQN: &str = "/sys/kernel/config/target/iscsi/iqn.2003-01.org.example:tank";
const TPG: &str = "/sys/kernel/config/target/iscsi/iqn.2003-01.org.example:tank/tpgt_1";
const LUN: &str = "/sys/kernel/config/target/iscsi/iqn.2003-01.org.example:tank/tpgt_1/lun/lun_0";
const ACL: &str = "/sys/kernel/config/target/iscsi/iqn.2003-01.org.example:tank/tpgt_1/acls/iqn.2003-01.org.example:client";
const MAPPED: &str = "/sys/kernel/config/target/iscsi/iqn.2003-01.org.example:tank/tpgt_1/acls/iqn.2003-01.org.example:client/lun_5";

/// A machine with two volumes.
fn machine() -> (Script, Host) {
    machine_with(LioKernel::v6_12())
}

fn machine_with(kernel: LioKernel) -> (Script, Host) {
    let script = Script::empty();
    for number in [0, 16] {
        script.write_file(&format!("/dev/zd{number}"), "tank/vol");
        let dev = format!("/sys/class/block/zd{number}/dev");
        script.write_file(&dev, &format!("230:{number}\n"));
    }
    script.tree().symlink("/dev/zd0", "/dev/zvol/tank/vol");
    script.tree().mkdir("/var/target/pr");
    let script = script.with_lio(kernel);
    let host = script.host(Duration::from_secs(60));
    (script, host)
}

/// The error number of what was refused.
fn refused(result: anyhow::Result<()>) -> Errno {
    let error = result.expect_err("it should be refused");
    let cause = error
        .downcast_ref::<std::io::Error>()
        .expect("an error of the system");
    Errno::from_raw(cause.raw_os_error().expect("a number"))
}

fn read(host: &Host, path: &str) -> String {
    host.read(path)
        .unwrap()
        .unwrap_or_else(|| panic!("there is no {path}"))
}

fn make(host: &Host, dirs: &[&str]) {
    dirs.iter().for_each(|dir| host.mkdir(dir).unwrap());
}

/// A backstore that has /dev/zd0.
fn with_backstore() -> (Script, Host) {
    let (script, host) = machine();
    make_backstore(&host);
    (script, host)
}

fn make_backstore(host: &Host) {
    make(host, &[HBA, VOL]);
    host.write(&format!("{VOL}/control"), "udev_path=/dev/zvol/tank/vol")
        .unwrap();
    host.write(&format!("{VOL}/enable"), "1").unwrap();
}

/// And a target that exports it as LUN 0.
fn with_target() -> (Script, Host) {
    let (script, host) = with_backstore();
    make(&host, &[ISCSI, IQN, TPG, LUN]);
    host.symlink(VOL, &format!("{LUN}/vol")).unwrap();
    (script, host)
}

/// And an initiator that sees it as LUN 5.
fn with_initiator() -> (Script, Host) {
    let (script, host) = with_target();
    make(&host, &[ACL, MAPPED]);
    host.symlink(LUN, &format!("{MAPPED}/vol")).unwrap();
    (script, host)
}
