use std::time::Duration;

use host::testing::Script;

use super::*;

fn machine() -> Script {
    let script = Script::empty();
    script.write_file("/proc/spl/kstat/zfs/tank/state", "ONLINE\n");
    script.write_file("/proc/spl/kstat/zfs/tank/guid", "8597412751122640914\n");
    script.write_file(
        "/proc/spl/kstat/zfs/tank/txgs",
        "txg      birth            state ndirty       nread        nwritten     reads    writes   otime        qtime        wtime        stime       \n\
         6        192268800177     C     688128       0            133120       0        182      439532729    16905        170283       394599588   \n\
         7        192708332906     S     0            0            0            0        0        394843731    15413        135150       0           \n\
         8        193103176637     O     0            0            0            0        0        0            0            0            0           \n",
    );
    script
}

#[test]
fn a_pool_is_known_by_its_statistics() {
    let script = machine();
    let host = script.host(Duration::from_secs(10));
    assert_eq!(state(&host, "tank").unwrap(), Some(PoolState::Online));
    assert_eq!(state(&host, "other").unwrap(), None);
    assert_eq!(guid(&host, "tank").unwrap(), Some(8597412751122640914));
    script.write_file("/proc/spl/kstat/zfs/tank/guid", "0\n");
    assert_eq!(guid(&host, "tank").unwrap(), None);
    let txgs = txgs(&host, "tank").unwrap();
    assert_eq!(
        txgs.iter()
            .map(|txg| (txg.number, txg.phase))
            .collect::<Vec<_>>(),
        [(6, Phase::Committed), (7, Phase::Syncing), (8, Phase::Open)]
    );
    let done = 192268800177 + 439532729 + 16905 + 170283 + 394599588;
    assert_eq!(
        txgs.iter().map(|txg| txg.done).collect::<Vec<_>>(),
        [Some(done), None, None]
    );
    assert_eq!(clock(&host).unwrap(), None);
    script.write_file(
        "/proc/spl/kstat/zfs/fm",
        "9 1 0x01 5 1360 47766778018 119830871570\nname type data\nerpt-dropped 4 0\n",
    );
    assert_eq!(clock(&host).unwrap(), Some(119830871570));
    assert_eq!(pools(&host).unwrap(), ["tank"]);
    script.remove("/proc/spl/kstat/zfs/tank/state");
    assert_eq!(
        state(&host, "tank").unwrap(),
        Some(PoolState::Unknown(String::new()))
    );
}

#[test]
fn an_import_tells_how_far_it_is() {
    let script = Script::empty();
    script.write_file(
        "/proc/spl/kstat/zfs/import_progress",
        "pool_guid           load_state     multihost_secs    max_txg        pool_name       notes\n\
         8597412751122640914 1              23                0              tank            watching\n",
    );
    let found = import_progress(&script.host(Duration::from_secs(10))).unwrap();
    assert_eq!(
        found,
        [Import {
            pool: "tank".into(),
            load_state: 1,
            multihost_secs: 23,
            max_txg: 0
        }]
    );
}

#[test]
fn the_hostid_is_the_parameter_or_the_file() {
    let script = Script::empty();
    let host = script.host(Duration::from_secs(10));
    assert_eq!(hostid(&host).unwrap(), None);
    script
        .tree()
        .write_bytes("/etc/hostid", &0x0a0b0c0d_u32.to_ne_bytes());
    script.write_file("/sys/module/spl/parameters/spl_hostid", "0\n");
    assert_eq!(hostid(&host).unwrap(), Some(0x0a0b0c0d));
    script.write_file("/sys/module/spl/parameters/spl_hostid", "7\n");
    assert_eq!(hostid(&host).unwrap(), Some(7));
}

#[test]
fn names_of_pools() {
    for good in ["tank", "Tank-1_a.b:c", "c", "logs", "cache"] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "1tank",
        "a/b",
        "a b",
        "$import",
        "mirror1",
        "raidz",
        "spare0",
        "log",
        "c0t0",
        "a@b",
        "..",
        "tänk",
        &"a".repeat(300),
    ] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}

/// The list in the label of a disk of a raidz1 pool, from ZFS 2.3.9 on Debian 13: what stands at 16 KiB of the device
/// (dd if=/dev/sda1 bs=16k skip=1 count=7), without the zeros after it.
const LABEL: &[u8] = include_bytes!("recorded/label-raidz1.bin");

/// The same of a disk of a mirror, in a pool with two logs of which the first was removed.
const HOLE: &[u8] = include_bytes!("recorded/label-hole.bin");

#[test]
fn a_hole_is_no_vdev() {
    let label = label::parse(HOLE).unwrap().unwrap();
    assert_eq!((label.vdev_children, label.leaves.len()), (Some(2), 2));
}

#[test]
fn a_label_tells_who_had_the_pool_and_which_disks_it_has() {
    let label = label::parse(LABEL).unwrap().unwrap();
    assert_eq!(
        (label.pool.as_str(), label.pool_guid),
        ("tank", 8597412751122640914)
    );
    assert_eq!(
        (label.state, label.hostid, label.hostname.as_deref()),
        (label::LabelState::Active, Some(1), Some("n1"))
    );
    assert_eq!((label.vdev_children, label.leaves.len()), (Some(1), 3));
    assert_eq!(label.leaves[0].guid, label.vdev_guid);
    assert_eq!(
        label.leaves[2].path.as_deref(),
        Some("/dev/disk/by-id/wwn-0x3000000048410003-part1")
    );
    assert!(
        label::parse(&LABEL[..1000]).is_err(),
        "a label that is cut off"
    );
    assert_eq!(label::parse(&[0; 4096]).unwrap(), None);
    assert_eq!(label::parse(b"an ext4 file system").unwrap(), None);
}

#[test]
fn the_counters_of_vdevs() {
    let text = "  pool: tank\n state: DEGRADED\nstatus: One or more devices\nconfig:\n\n\
        \tNAME                                              STATE     READ WRITE CKSUM  SLOW\n\
        \ttank                                              DEGRADED     0     0     0     0\n\
        \t  raidz1-0                                        DEGRADED     0     0     0     0\n\
        \t    /dev/disk/by-id/wwn-0x3000000048410001-part1  ONLINE       1     2     3     4\n\
        \t    1234                                          UNAVAIL      0     0     0     0  was /dev/sdb1\n\
        \tspares\n\
        \t  /dev/sdx                                        AVAIL\n\nerrors: No known data errors\n";
    let status = status::parse(text).unwrap();
    assert_eq!(status.state, "DEGRADED");
    let leaves: Vec<&str> = status
        .vdevs
        .iter()
        .filter(|vdev| vdev.is_leaf)
        .map(|vdev| vdev.name.as_str())
        .collect();
    assert_eq!(
        leaves,
        [
            "/dev/disk/by-id/wwn-0x3000000048410001-part1",
            "1234",
            "/dev/sdx"
        ]
    );
    let first = &status.vdevs[2];
    assert_eq!(
        (first.read, first.write, first.cksum, first.slow),
        (1, 2, 3, Some(4))
    );
    assert_eq!(status.vdevs[3].note, "was /dev/sdb1");
    assert!(status::parse("").is_err());
}

proptest::proptest! {
    #[test]
    fn any_text_and_any_bytes_are_read(text in "\\PC*", bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = status::parse(&text);
        let _ = listing::parse(&text);
        message::import(&text, &text);
        message::export(&text);
        let _ = label::parse(&bytes);
        let _ = cache::parse(&bytes);
    }
}
