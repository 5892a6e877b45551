//! A machine with three volumes and a kernel that has LIO.

use host::testing::{LioKernel, Reply, Script};

/// Its volumes and their numbers.
pub const DISKS: [(&str, &str, &str); 3] = [
    ("zd0", "230:0", "a"),
    ("zd16", "230:16", "b"),
    ("zd32", "230:32", "c"),
];

/// How it is asked whether volumes wait for their disks.
pub const ASKS_FOR_SYNC: &str = "zfs get -Hp -o name,property,value,source sync ";

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
    tree.kernel_link("999", "/proc/self");
    tree.write(
        "/proc/999/mountinfo",
        "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n36 29 0:50 / /tank rw shared:2 - zfs tank rw\n",
    );
    // As modprobe leaves it.
    let iscsi = script
        .host(std::time::Duration::from_secs(1))
        .mkdir(probe::lio::ISCSI);
    iscsi.unwrap_or_else(|error| panic!("{error:#}"));
    script.clear_steps();
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
    let durable = DISKS.map(|(_, _, volume)| format!("tank/{volume}\tsync\talways\tlocal\n"));
    let script = script.when_matching(
        |cmd| cmd.to_string().contains(ASKS_FOR_SYNC),
        Reply::ok(durable.concat()),
    );
    let portals = ["127.0.0.1:3260", "192.0.2.10:3260", "[2001:db8::10]:3261"];
    portals.into_iter().fold(script, |script, portal| {
        script.service(portal, iscsi_answers)
    })
}

/// A portal that lets anybody discover targets, and has none to show.
fn iscsi_answers(heard: &[u8]) -> Option<Vec<u8>> {
    let mut header = vec![0; 48];
    (header[0], header[1]) = match heard.first()? & 0x3f {
        0x03 => (0x23, 0x87),
        _ => (0x24, 0x80),
    };
    Some(header)
}
