//! A machine with three disks of a pool, and the commands of ZFS as they change what the kernel shows.

use std::time::Duration;

use host::Cmd;
use host::testing::{Reply, Script, Tree};

const GUID: u64 = 7;
const STATE: &str = "/proc/spl/kstat/zfs/tank/state";
const TXGS: &str = "/proc/spl/kstat/zfs/tank/txgs";
const DISKS: [&str; 3] = ["sda", "sdb", "sdc"];

/// The pool was exported by this host, whose hostid is 1.
pub fn machine() -> Script {
    with_labels(1, "n1", 1)
}

/// Another host had the pool and has not exported it.
pub fn machine_last_used_by(hostname: &str, hostid: u64) -> Script {
    with_labels(0, hostname, hostid)
}

fn with_labels(state: u64, hostname: &str, hostid: u64) -> Script {
    let script = Script::empty();
    let tree = script.tree();
    tree.mkdir("/run");
    tree.mkdir("/proc/spl/kstat/zfs");
    tree.write("/sys/module/zfs/parameters/zfs_scan_suspend_progress", "0");
    tree.write("/proc/sys/kernel/hostname", "n1\n");
    tree.write("/proc/sysrq-trigger", "");
    tree.kernel_link("999", "/proc/self");
    tree.write("/proc/999/status", "Name:\tzfs-pool\nPPid:\t1\n");
    tree.write(
        "/proc/999/mountinfo",
        "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n",
    );
    tree.write_bytes("/etc/hostid", &1u32.to_ne_bytes());
    for (number, disk) in DISKS.iter().enumerate() {
        let label = device_with_label(state, number as u64, hostname, hostid);
        plug(tree, disk, &label);
    }
    script.meanwhile(pool_lives_on);
    script
        .when("udevadm settle --timeout=5", Reply::ok(""))
        .when("modprobe zfs", Reply::ok(""))
        .when("zpool set cachefile=none tank", Reply::ok(""))
        .when(
            "zpool export tank",
            Reply::given(export).taking(Duration::from_millis(300)),
        )
        .when("zpool status -P -p -s tank", Reply::ok(STATUS))
        .when_matching(is_zfs_get, Reply::ok(LISTED))
        .when_matching(|cmd| cmd.program() == "attrd_updater", Reply::ok(""))
        .when_matching(
            is_import,
            Reply::given(import).taking(Duration::from_secs(2)),
        )
}

/// A disk with this on its first partition comes.
pub fn plug(tree: &Tree, disk: &str, content: &[u8]) {
    let part = format!("{disk}1");
    let device = format!("/sys/devices/host0/{disk}");
    tree.mkdir(&format!("{device}/holders"));
    tree.write(&format!("{device}/{part}/partition"), "1\n");
    tree.mkdir(&format!("{device}/{part}/holders"));
    tree.symlink(&device, &format!("/sys/class/block/{disk}"));
    tree.symlink(
        &format!("{device}/{part}"),
        &format!("/sys/class/block/{part}"),
    );
    tree.write(&format!("/dev/{disk}"), "");
    tree.write_bytes(&format!("/dev/{part}"), content);
    for name in [disk, &part] {
        let link = format!("/dev/disk/by-id/wwn-{}", name.replace("1", "-part1"));
        tree.symlink(&format!("/dev/{name}"), &link);
    }
}

/// A disk goes.
pub fn pull(tree: &Tree, disk: &str) {
    tree.remove(&format!("/sys/devices/host0/{disk}"));
    for name in [disk, &format!("{disk}1")] {
        tree.remove(&format!("/sys/class/block/{name}"));
        tree.remove(&format!("/dev/{name}"));
    }
    for name in [disk, &format!("{disk}-part1")] {
        tree.remove(&format!("/dev/disk/by-id/wwn-{name}"));
    }
}

/// Does this command ask for properties?
pub fn is_zfs_get(cmd: &Cmd) -> bool {
    cmd.program() == "zfs" && cmd.arguments().first().is_some_and(|word| word == "get")
}

/// Is this the command that imports?
pub fn is_import(cmd: &Cmd) -> bool {
    cmd.program() == "zpool" && cmd.arguments().first().is_some_and(|word| word == "import")
}

/// What that does.
pub fn import(tree: &Tree) -> Reply {
    if tree.exists(STATE) {
        return Reply::fails(
            1,
            "cannot import 'tank': a pool with that name already exists\n",
        );
    }
    Reply::ok("").and(|tree| imported(tree, GUID))
}

/// The pool is here.
pub fn imported(tree: &Tree, guid: u64) {
    tree.write(STATE, "ONLINE\n");
    tree.write("/proc/spl/kstat/zfs/tank/guid", &format!("{guid}\n"));
    tree.write(TXGS, &txgs(10));
    tree.write("/dev/zd0", "tank/vol");
    tree.write("/sys/class/block/zd0/dev", "230:0\n");
    tree.symlink("/dev/zd0", LINK);
}

/// Somebody has imported a pool of that name, with this GUID; that of the disks is 7.
pub fn imported_by_hand(guid: u64) -> Script {
    let script = machine();
    import_by_hand(&script, guid);
    script
}

/// What `zpool export` does.
pub fn export(tree: &Tree) -> Reply {
    let mounts = tree.read("/proc/self/mountinfo").unwrap_or_default();
    if mounts.contains(" - zfs tank") {
        return Reply::fails(1, "cannot export 'tank': pool is busy\n");
    }
    Reply::ok("").and(|tree| {
        for path in [
            "/proc/spl/kstat/zfs/tank",
            "/dev/zvol",
            "/dev/zd0",
            "/sys/class/block/zd0",
        ] {
            tree.remove(path);
        }
    })
}

fn txgs(done: u64) -> String {
    let header = "txg birth state ndirty nread nwritten reads writes otime qtime wtime stime\n";
    format!(
        "{header}{done} 1 C 0 0 0 0 0 1 1 1 1\n{} 2 O 0 0 0 0 0 0 0 0 0\n",
        done + 1
    )
}

/// Every time somebody waits, a transaction group is written.
fn pool_lives_on(tree: &Tree) {
    let Some(text) = tree.read(TXGS) else {
        return;
    };
    let done = text
        .lines()
        .nth(1)
        .and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    tree.write(TXGS, &txgs(done.unwrap_or(0) + 1));
}

/// Somebody else imports it.
pub fn import_by_hand(script: &Script, guid: u64) {
    imported(script.tree(), guid);
}

/// The next import finds that the pool is not consistent.
pub fn corrupt(script: &Script) {
    let said = "cannot import 'tank': I/O error\n\tRecovery is possible, but will result in some data loss.\n";
    script.when_matching(is_import, Reply::fails(1, said));
}

/// Where udev links to the volume.
pub const LINK: &str = "/dev/zvol/tank/vol";

/// The kernel's file by which the volume's device is announced once more.
pub const ANNOUNCE: &str = "/sys/class/block/zd0/uevent";

/// The next import brings a volume that udev has not linked to.
pub fn without_link(script: &Script) {
    let without = |tree: &Tree| {
        import(tree).and(|tree| {
            tree.remove(LINK);
            tree.write(ANNOUNCE, "");
        })
    };
    script.when_matching(is_import, Reply::given(without));
}

const STATUS: &str = "  pool: tank\n state: ONLINE\nconfig:\n\n\tNAME       STATE READ WRITE CKSUM SLOW\n\ttank       ONLINE 0 0 0 0\n\
                      \t  /dev/sda1  ONLINE 0 0 0 0\n\nerrors: No known data errors\n";

/// What is in the pool: two file systems, one that is not mounted, and a volume.
pub const LISTED: &str = "tank\ttype\tfilesystem\t-\ntank\tmountpoint\t/tank\tdefault\ntank\tcanmount\ton\tdefault\n\
                      tank/data\ttype\tfilesystem\t-\ntank/data\tmountpoint\t/tank/data\tdefault\ntank/data\tcanmount\ton\tdefault\n\
                      tank/off\ttype\tfilesystem\t-\ntank/off\tmountpoint\t/tank/off\tdefault\ntank/off\tcanmount\tnoauto\tlocal\n\
                      tank/vol\ttype\tvolume\t-\ntank/vol\tvolmode\tdefault\tdefault\n";

/// udev has not removed the link of an earlier time yet: the device it leads to will be another volume.
pub fn with_old_link(script: &Script) {
    let tree = script.tree();
    tree.write("/dev/zd16", "tank/other");
    tree.symlink("/dev/zd16", LINK);
    let without = |tree: &Tree| {
        tree.remove(LINK);
        import(tree).and(|tree| {
            tree.remove(LINK);
            tree.symlink("/dev/zd16", LINK);
            tree.write("/sys/class/block/zd16/dev", "230:16\n");
            tree.write(ANNOUNCE, "");
        })
    };
    script.when_matching(is_import, Reply::given(without));
}

/// `zfs get` lists these lines as well.
pub fn listing_also(script: &Script, lines: &str) {
    script.when_matching(is_zfs_get, Reply::ok(format!("{LISTED}{lines}")));
}

/// The disks are reached over two paths each, sda and sdd and so on: only what multipath and kpartx make of them has a name.
pub fn with_multipath(script: &Script) {
    let tree = script.tree();
    for (number, disk) in DISKS.iter().enumerate() {
        let other = ["sdd", "sde", "sdf"][number];
        let label = device_with_label(1, number as u64, "n1", 1);
        for path in [
            format!("/dev/{disk}1"),
            format!("/sys/class/block/{disk}1"),
            format!("/sys/devices/host0/{disk}/{disk}1"),
            format!("/dev/disk/by-id/wwn-{disk}"),
            format!("/dev/disk/by-id/wwn-{disk}-part1"),
        ] {
            tree.remove(&path);
        }
        tree.write(&format!("/dev/{other}"), "");
        let device = format!("/sys/devices/host1/{other}");
        tree.mkdir(&format!("{device}/holders"));
        tree.symlink(&device, &format!("/sys/class/block/{other}"));
        let (whole, first, last) = (number, 3 + 2 * number, 4 + 2 * number);
        let uuid = format!("mpath-3600{disk}");
        map(tree, whole, &uuid, &[disk, other]);
        for (part, map_of_part) in [(1, first), (9, last)] {
            let whole = format!("dm-{whole}");
            map(tree, map_of_part, &format!("part{part}-{uuid}"), &[&whole]);
        }
        tree.write_bytes(&format!("/dev/dm-{first}"), &label);
    }
}

/// A map of device mapper as sysfs shows it.
fn map(tree: &Tree, number: usize, uuid: &str, of: &[&str]) {
    let name = format!("dm-{number}");
    let device = format!("/sys/devices/virtual/block/{name}");
    tree.write(&format!("{device}/dm/uuid"), &format!("{uuid}\n"));
    tree.mkdir(&format!("{device}/holders"));
    tree.symlink(&device, &format!("/sys/class/block/{name}"));
    for below in of {
        let below_device = format!("/sys/class/block/{below}");
        tree.symlink(&below_device, &format!("{device}/slaves/{below}"));
        tree.symlink(&device, &format!("{below_device}/holders/{name}"));
    }
    tree.write(&format!("/dev/{name}"), "");
    let link = format!("/dev/disk/by-id/dm-uuid-{uuid}");
    tree.symlink(&format!("/dev/{name}"), &link);
}

/// A device with the list of a label at its place.
pub fn device_with_label(state: u64, number: u64, hostname: &str, hostid: u64) -> Vec<u8> {
    let whole = (1, &DISKS[..]);
    device(state, 42, whole, DISKS[number as usize], (hostname, hostid))
}

/// One of a pool that was changed while it was imported: how many top-level vdevs it has by now, and the disks of that which
/// the device belongs to.
pub fn changed_device(vdevs: u64, members: &[&str], itself: &str) -> Vec<u8> {
    device(0, 50, (vdevs, members), itself, ("n1", 1))
}

/// One that was taken out of the pool, with others.
pub fn removed_device(members: &[&str], itself: &str) -> Vec<u8> {
    device(0, 0, (2, members), itself, ("n1", 1))
}

fn device(
    state: u64,
    txg: u64,
    (vdevs, members): (u64, &[&str]),
    itself: &str,
    (hostname, hostid): (&str, u64),
) -> Vec<u8> {
    // sda has 100.
    let guid = |disk: &str| 3 + disk.bytes().last().map_or(0, u64::from);
    let children: Vec<Vec<u8>> = members
        .iter()
        .map(|disk| {
            list(&[
                text("type", "disk"),
                num("guid", guid(disk)),
                text("path", &format!("/dev/{disk}1")),
            ])
        })
        .collect();
    let top = 1000 + guid(members[0]);
    let tree = list(&[
        text("type", "raidz"),
        num("guid", top),
        lists("children", &children),
    ]);
    let label = list(&[
        text("name", "tank"),
        num("state", state),
        num("txg", txg),
        num("pool_guid", GUID),
        num("hostid", hostid),
        text("hostname", hostname),
        num("top_guid", top),
        num("guid", guid(itself)),
        num("vdev_children", vdevs),
        pair("vdev_tree", 19, 1, &tree),
    ]);
    [&[0; 16 << 10][..], &[1, 1, 0, 0], &label].concat()
}

fn list(pairs: &[Vec<u8>]) -> Vec<u8> {
    [&[0; 8][..], &pairs.concat(), &[0; 8]].concat()
}

fn num(name: &str, value: u64) -> Vec<u8> {
    pair(name, 8, 1, &value.to_be_bytes())
}

fn text(name: &str, value: &str) -> Vec<u8> {
    pair(name, 9, 1, &xdr_text(value))
}

fn lists(name: &str, lists: &[Vec<u8>]) -> Vec<u8> {
    pair(name, 20, lists.len() as u32, &lists.concat())
}

fn xdr_text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend(text.bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn pair(name: &str, kind: u32, count: u32, value: &[u8]) -> Vec<u8> {
    let body = [
        &xdr_text(name)[..],
        &kind.to_be_bytes(),
        &count.to_be_bytes(),
        value,
    ]
    .concat();
    let size = (body.len() as u32 + 8).to_be_bytes();
    [&size[..], &size, &body].concat()
}
