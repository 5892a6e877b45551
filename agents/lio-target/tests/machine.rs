//! A machine with three volumes and a kernel that has LIO.

use host::testing::{LioKernel, Script};

/// Its volumes and their numbers.
pub const DISKS: [(&str, &str, &str); 3] = [
    ("zd0", "230:0", "a"),
    ("zd16", "230:16", "b"),
    ("zd32", "230:32", "c"),
];

/// With Linux 6.12.
pub fn machine() -> Script {
    machine_with(LioKernel::v6_12())
}

/// With that kernel.
pub fn machine_with(kernel: LioKernel) -> Script {
    let script = Script::empty().with_lio(kernel);
    let tree = script.tree();
    tree.mkdir("/run");
    tree.mkdir("/var/target");
    tree.mkdir("/tank/.ha");
    tree.mkdir("/etc");
    for (disk, number, volume) in DISKS {
        tree.write(&format!("/dev/{disk}"), "");
        tree.write(
            &format!("/sys/class/block/{disk}/dev"),
            &format!("{number}\n"),
        );
        tree.write(&format!("/sys/class/block/{disk}/size"), "131072\n");
        tree.write(&format!("/sys/class/block/{disk}/ro"), "0\n");
        tree.symlink(&format!("/dev/{disk}"), &format!("/dev/zvol/tank/{volume}"));
    }
    script
}
