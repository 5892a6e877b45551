//! The agent on machines that a test describes: disks with labels, and a `zpool` that behaves.

mod machine;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use host::testing::{Reply, Script, Tree};
use ocf::testing::{act, conformance};
use ocf::{Exit, Outcome};

use crate::pool::ZfsPool;
use machine::{
    ANNOUNCE, LINK, changed_device, corrupt, device_with_label, export, import_by_hand,
    imported_by_hand, listing_also, machine, machine_last_used_by, plug, pull, removed_device,
    with_multipath, with_old_link, without_link,
};

const TANK: &[(&str, &str)] = &[("pool", "tank")];

fn reason(script: &Script, action: &str, params: &[(&str, &str)], exit: Exit) -> String {
    let outcome: Outcome = act::<ZfsPool>(script, action, params);
    assert_eq!(outcome.exit, exit, "{action} {params:?}: {outcome:?}");
    outcome.reason.unwrap_or_default()
}

fn ok(script: &Script, action: &str, params: &[(&str, &str)]) {
    reason(script, action, params, Exit::Success);
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [TANK, more].concat()
}

fn commands(script: &Script, program: &str) -> Vec<String> {
    script
        .steps()
        .into_iter()
        .filter(|step| step.starts_with(program))
        .collect()
}

#[test]
fn conforms() {
    conformance::<ZfsPool>(machine, TANK);
}

#[test]
fn conforms_with_everything_configured() {
    let params = [
        ("pool", "tank"),
        ("pool_guid", "7"),
        ("devices", "/dev/disk/by-id"),
        ("importargs", "-d /dev/mapper -o readonly=off"),
        ("reservation", "wero"),
        ("tunables", "zfs_scan_suspend_progress=1"),
        ("report_degraded", "true"),
        ("helper", "/usr/local/sbin/pool-helper"),
    ];
    let machine = || {
        machine().when_matching(
            |cmd| cmd.program() == "/usr/local/sbin/pool-helper",
            Reply::ok(""),
        )
    };
    conformance::<ZfsPool>(machine, &params);
}

#[test]
fn monitors_run_nothing_and_change_nothing() {
    let script = machine();
    ok(&script, "start", TANK);
    script.clear_steps();
    ok(&script, "monitor", TANK);
    assert_eq!(script.steps(), Vec::<String>::new());
}

#[test]
fn a_pool_in_the_kernel_is_never_stopped() {
    let script = machine();
    ok(&script, "start", TANK);
    for state in [
        "SUSPENDED",
        "FAULTED",
        "UNAVAIL",
        "REMOVED",
        "SPLIT",
        "OFFLINE",
        "TRANSITIONING",
        "",
        "NEW WORD",
    ] {
        script.write_file("/proc/spl/kstat/zfs/tank/state", &format!("{state}\n"));
        let why = reason(&script, "monitor", TANK, Exit::Generic);
        assert!(why.contains("tank"), "{state}: {why}");
    }
    script.write_file("/proc/spl/kstat/zfs/tank/state", "DEGRADED\n");
    ok(&script, "monitor", TANK);
    reason(
        &script,
        "monitor",
        &with(&[("report_degraded", "1")]),
        Exit::Degraded,
    );
}

#[test]
fn a_state_that_passes_is_waited_out() {
    let script = machine();
    ok(&script, "start", TANK);
    script.write_file("/proc/spl/kstat/zfs/tank/state", "OFFLINE\n");
    script.meanwhile(|tree| tree.write("/proc/spl/kstat/zfs/tank/state", "ONLINE\n"));
    ok(&script, "monitor", TANK);
}

#[test]
fn a_suspended_pool_is_not_exported() {
    let script = machine();
    ok(&script, "start", TANK);
    script.write_file("/proc/spl/kstat/zfs/tank/state", "SUSPENDED\n");
    script.clear_steps();
    let why = reason(&script, "stop", TANK, Exit::Generic);
    assert!(why.contains("suspended") && why.contains("fenced"), "{why}");
    assert_eq!(script.steps(), Vec::<String>::new());
    reason(
        &script,
        "stop",
        &with(&[("on_suspended", "panic")]),
        Exit::Generic,
    );
    assert_eq!(
        script.read_file("/proc/sysrq-trigger").as_deref(),
        Some("c")
    );
}

#[test]
fn what_belongs_to_the_pool_is_watched() {
    let script = machine();
    ok(&script, "start", TANK);
    let mounts = script.read_file("/proc/self/mountinfo").unwrap();
    assert!(mounts.contains(" /tank/data "), "{mounts}");
    unmounted(&script, "/tank/data");
    let why = reason(&script, "monitor", TANK, Exit::Generic);
    assert!(why.contains("tank/data"), "{why}");
    script.write_file("/proc/self/mountinfo", &mounts);
    script.remove("/sys/class/block/zd0");
    let why = reason(&script, "monitor", TANK, Exit::Generic);
    assert!(why.contains("tank/vol"), "{why}");
}

/// The options of the mount there, as the kernel's table has them.
fn mounted_with(script: &Script, target: &str) -> String {
    let mounts = script.read_file("/proc/self/mountinfo").unwrap_or_default();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').nth(4) == Some(target));
    let line = line.unwrap_or_else(|| panic!("nothing is mounted on {target}: {mounts}"));
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn file_systems_are_mounted_with_what_snapshots_and_selinux_need() {
    let script = machine();
    let property =
        |set: &str, name: &str, value: &str| format!("tank/{set}\t{name}\t{value}\tlocal\n");
    let contexts = [
        ("web", "context", "u:r:web_t:s0:c1,c2"),
        ("web", "fscontext", "u:r:fs_t"),
        ("db", "context", "none"),
        ("db", "fscontext", "none"),
        ("db", "rootcontext", "u:r:db_t"),
    ];
    let mut more = String::new();
    for (set, mountpoint) in [
        ("web", "/tank/web"),
        ("db", "/tank/db"),
        ("odd", "/tank/a,ro"),
    ] {
        more += &property(set, "type", "filesystem");
        more += &property(set, "mountpoint", mountpoint);
        more += &property(set, "canmount", "on");
        for (_, name, value) in contexts.iter().filter(|(of, ..)| *of == set) {
            more += &property(set, name, value);
        }
    }
    listing_also(&script, &more);
    ok(&script, "start", TANK);
    for (target, expected) in [
        ("/tank/data", "rw,zfsutil,mntpoint=/tank/data"),
        (
            "/tank/web",
            "rw,zfsutil,context=\"u:r:web_t:s0:c1,c2\",mntpoint=/tank/web",
        ),
        (
            "/tank/db",
            "rw,zfsutil,rootcontext=\"u:r:db_t\",mntpoint=/tank/db",
        ),
        // The module would take what follows the comma for an option.
        ("/tank/a,ro", "rw,zfsutil"),
    ] {
        assert_eq!(mounted_with(&script, target), expected);
    }
}

#[test]
fn a_snapshot_that_somebody_has_entered_is_unmounted_and_nothing_else() {
    const ENTERED: &str = "/tank/data/.zfs/snapshot/made";
    let script = machine();
    ok(&script, "start", TANK);
    let mut mounts = script.read_file("/proc/self/mountinfo").unwrap_or_default();
    mounts += &format!("200 101 0:200 / {ENTERED} ro - zfs tank/data@made ro\n");
    script.write_file("/proc/self/mountinfo", &mounts);
    script.tree().mkdir(ENTERED);
    ok(&script, "stop", TANK);
    assert!(script.tree().exists(ENTERED));
}

#[test]
fn nothing_is_imported_with_options_that_discard() {
    let script = machine();
    ok(&script, "start", TANK);
    let imports = commands(&script, "zpool import");
    assert_eq!(imports.len(), 1, "{imports:?}");
    let line = &imports[0];
    assert!(
        line.starts_with("zpool import -N -o cachefile=none -d /dev/sda1 "),
        "{line}"
    );
    assert!(line.ends_with(" 7"), "{line}");
    for option in [" -f ", " -F ", " -X ", " -T ", " -m "] {
        assert!(!line.contains(option), "{line}");
    }
}

#[test]
fn a_one_time_token_is_used_once() {
    let script = machine();
    script.write_file("/run/hastor/zfs-pool-once/tank", "-F\n");
    ok(&script, "start", TANK);
    assert!(commands(&script, "zpool import")[0].contains(" -F "));
    assert_eq!(script.read_file("/run/hastor/zfs-pool-once/tank"), None);
}

/// What crm_mon says of n1 and of another node.
fn crm_mon(fencing: &str, other: &str, online: &str, unclean: &str) -> Reply {
    Reply::ok(format!(
        "<pacemaker-result><summary><cluster_options stonith-enabled=\"{fencing}\"/></summary>\
         <nodes><node name=\"n1\" online=\"true\" unclean=\"false\"/>\
         <node name=\"{other}\" online=\"{online}\" unclean=\"{unclean}\"/></nodes></pacemaker-result>"
    ))
}

/// Another host has the pool, and the cluster says this.
fn in_cluster(hostname: &str, hostid: u64, said: Reply) -> Script {
    machine_last_used_by(hostname, hostid).when_matching(|cmd| cmd.program() == "crm_mon", said)
}

#[test]
fn a_pool_of_another_host_is_forced_only_if_that_is_away() {
    let script =
        |online: &str, unclean: &str| in_cluster("n2", 2, crm_mon("true", "n2", online, unclean));
    let away = script("false", "false");
    ok(&away, "start", TANK);
    assert!(commands(&away, "zpool import")[0].contains(" -f "));
    for (online, unclean) in [("true", "false"), ("false", "true"), ("true", "true")] {
        let script = script(online, unclean);
        let why = reason(&script, "start", TANK, Exit::Generic);
        assert!(why.contains("n2"), "{why}");
        assert!(commands(&script, "zpool import").is_empty());
    }
    let online = script("true", "false");
    reason(
        &online,
        "start",
        &with(&[("force", "never")]),
        Exit::Generic,
    );
    ok(&online, "start", &with(&[("importforce", "true")]));
}

/// Then nobody has fenced it, and it never counts as unclean.
#[test]
fn without_fencing_nothing_is_forced() {
    let script = in_cluster("n2", 2, crm_mon("false", "n2", "false", "false"));
    let why = reason(&script, "start", TANK, Exit::Generic);
    assert!(
        why.contains("n2 is offline, but fencing is switched off") && why.contains("force=always"),
        "{why}"
    );
    assert!(commands(&script, "zpool import").is_empty());
    ok(&script, "start", &with(&[("force", "always")]));
}

/// The host storage2 may be a node that is called otherwise.
#[test]
fn a_host_that_may_be_a_node_is_no_stranger() {
    let script = |online: &str, told: &str| {
        let told = Reply::ok(told);
        in_cluster("storage2", 2, crm_mon("true", "n2", online, "false"))
            .when_matching(|cmd| cmd.program() == "attrd_updater", told)
    };
    let silent = script("true", "");
    let why = reason(&silent, "start", TANK, Exit::Generic);
    assert!(why.contains("may be n2:"), "{why}");
    assert!(commands(&silent, "zpool import").is_empty());
    let another = "name=\"hastor-hostid\" host=\"n2\" value=\"00000003\"\n";
    let fenced = script("false", "");
    for script in [script("true", another), fenced] {
        ok(&script, "start", TANK);
        assert!(commands(&script, "zpool import")[0].contains(" -f "));
    }
    let itself = "name=\"hastor-hostid\" host=\"n2\" value=\"00000002\"\n";
    let why = reason(&script("true", itself), "start", TANK, Exit::Generic);
    assert!(why.contains("n2 is online"), "{why}");
}

/// Others must be able to tell whose pool it is.
#[test]
fn who_takes_over_a_pool_that_is_here_tells_its_hostid() {
    let script = imported_by_hand(7);
    ok(&script, "start", TANK);
    let told = commands(&script, "attrd_updater");
    assert!(
        told.iter().any(|line| line.ends_with("--update 00000001")),
        "{told:?}"
    );
}

#[test]
fn without_the_cluster_nothing_is_forced() {
    let script = machine_last_used_by("n2", 2).when_matching(
        |cmd| cmd.program() == "crm_mon",
        Reply::fails(102, "not connected"),
    );
    let why = reason(&script, "start", TANK, Exit::Generic);
    assert!(why.contains("cannot be asked"), "{why}");
}

#[test]
fn two_hosts_with_one_hostid_are_refused() {
    let script = machine_last_used_by("n2", 1);
    let why = reason(&script, "start", TANK, Exit::NotInstalled);
    assert!(why.contains("n2") && why.contains("zgenhostid"), "{why}");
    let told = "name=\"hastor-hostid\" host=\"n1\" value=\"00000001\"\nname=\"hastor-hostid\" host=\"n2\" value=\"00000001\"\n";
    let script = machine().when_matching(|cmd| cmd.program() == "attrd_updater", Reply::ok(told));
    let why = reason(&script, "start", TANK, Exit::NotInstalled);
    assert!(why.contains("n2 has the same hostid"), "{why}");
    let script = machine();
    script.remove("/etc/hostid");
    let why = reason(&script, "start", TANK, Exit::NotInstalled);
    assert!(why.contains("zgenhostid"), "{why}");
}

/// A change that the cluster sees would make it decide anew in the middle of a failover.
#[test]
fn the_hostid_is_told_once_and_privately() {
    let hostids = |script: &Script| {
        ok(script, "start", TANK);
        commands(script, "attrd_updater")
    };
    let told = hostids(&machine());
    let [_, tell, _] = &told[..] else {
        panic!("expected question, answer and question: {told:?}");
    };
    assert!(
        tell.contains("--private") && tell.ends_with("--update 00000001"),
        "{tell}"
    );
    let known = "name=\"hastor-hostid\" host=\"n1\" value=\"00000001\"\n";
    let known = machine().when_matching(|cmd| cmd.program() == "attrd_updater", Reply::ok(known));
    assert_eq!(hostids(&known).len(), 1);
}

/// Each of the cluster's tools has ten seconds.
#[test]
fn a_cluster_that_does_not_answer_is_asked_once() {
    let script = machine().when_matching(|cmd| cmd.program() == "attrd_updater", Reply::hangs());
    ok(&script, "start", TANK);
    assert_eq!(commands(&script, "attrd_updater").len(), 1);
}

/// Somebody has imported another pool of that name by hand.
#[test]
fn another_pool_of_that_name_is_left_alone() {
    const GUID: &str = "/proc/spl/kstat/zfs/tank/guid";
    let ours = with(&[("pool_guid", "7"), ("reservation", "wero")]);
    let script = imported_by_hand(8);
    reason(&script, "monitor", &ours, Exit::NotRunning);
    ok(&script, "stop", &ours);
    let why = reason(&script, "start", &ours, Exit::Generic);
    assert!(why.contains("GUID 8, expected 7"), "{why}");
    // Also by what takes the failed start back, and by a stop that finds traces of one.
    script.write_file(
        "/run/hastor/zfs-pool/resource/reservation",
        "4861737400000001\n/dev/sda\n",
    );
    ok(&script, "stop", &ours);
    assert_eq!(script.read_file(GUID).as_deref(), Some("8\n"));
    assert_eq!(commands(&script, "z"), Vec::<String>::new());
    // Doubt: whose it is cannot be told.
    for text in ["0\n", "", "x\n"] {
        script.write_file(GUID, text);
        ok(&script, "monitor", &ours);
    }
    script.remove(GUID);
    ok(&script, "monitor", &ours);
    ok(&script, "start", &ours);
    ok(&script, "stop", &ours);
    assert!(!script.tree().exists("/proc/spl/kstat/zfs/tank"));
}

#[test]
fn users_are_named_or_made_to_leave() {
    let busy = || {
        let script = machine();
        ok(&script, "start", TANK);
        script.tree().mkdir("/proc/4711/fd");
        script.write_file("/proc/4711/comm", "bash\n");
        script.write_file("/proc/4711/status", "Name:\tbash\nPPid:\t1\n");
        script
            .tree()
            .kernel_link("/tank/data/deep", "/proc/4711/cwd");
        script.tree().symlink("/bin/bash", "/proc/4711/exe");
        let looked = script.clone();
        script.busy(move |target| target == "/tank/data" && looked.tree().exists("/proc/4711"));
        script
    };
    let script = busy();
    let why = reason(
        &script,
        "stop",
        &with(&[("force_unmount", "false")]),
        Exit::Generic,
    );
    assert!(why.contains("bash") && why.contains("4711"), "{why}");
    let script = busy();
    ok(&script, "stop", TANK);
}

/// On a busy machine udev looks at the volume again and again, each time for longer than a stop waits for those that stay.
#[test]
fn one_that_is_about_to_go_is_waited_for_and_left_alone() {
    let script = machine();
    let rounds = std::sync::atomic::AtomicU32::new(0);
    script.meanwhile(move |tree| {
        let round = rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match round {
            0..30 => {
                let pid = 5000 + round / 10;
                tree.write(&format!("/proc/{pid}/comm"), "(udev-worker)\n");
                tree.mkdir(&format!("/proc/{pid}/fd"));
                if !tree.exists(&format!("/proc/{pid}/fd/3")) {
                    tree.kernel_link("/dev/zd0", &format!("/proc/{pid}/fd/3"));
                }
                tree.remove(&format!("/proc/{}", pid - 1));
            }
            _ => tree.remove("/proc/5002"),
        }
    });
    ok(&script, "start", TANK);
    // One is there when it begins.
    script.write_file("/proc/4999/comm", "(udev-worker)\n");
    script.tree().mkdir("/proc/4999/fd");
    script.tree().kernel_link("/dev/zd0", "/proc/4999/fd/3");
    script.clear_steps();
    ok(&script, "stop", TANK);
    let steps = script.steps();
    assert!(!steps.iter().any(|step| step.contains("SIG")), "{steps:?}");
}

#[test]
fn an_export_that_says_it_worked_is_not_believed() {
    let script = machine().when("zpool export tank", Reply::ok(""));
    ok(&script, "start", TANK);
    let why = reason(&script, "stop", TANK, Exit::Generic);
    assert!(why.contains("still here"), "{why}");
}

#[test]
fn a_pool_that_the_machine_imports_at_boot_is_refused() {
    let script = machine();
    script.tree().symlink(
        "/lib/systemd/system/zfs-import-scan.service",
        "/etc/systemd/system/zfs-import.target.wants/zfs-import-scan.service",
    );
    let why = reason(&script, "start", TANK, Exit::NotInstalled);
    assert!(
        why.contains("systemctl mask zfs-import-scan.service"),
        "{why}"
    );
    script
        .tree()
        .symlink("/dev/null", "/etc/systemd/system/zfs-import-scan.service");
    ok(&script, "start", TANK);
}

#[test]
fn a_disk_of_another_host_is_preempted_only_by_force() {
    let wero = with(&[("reservation", "wero")]);
    let script = machine();
    script.disk("/dev/sda", |disk| disk.register(0x99));
    // Exported, so nobody has it: what is left is preempted.
    ok(&script, "start", &wero);
    script.disk("/dev/sda", |disk| {
        assert_eq!(disk.keys(), [0x4861_7374_0000_0001])
    });
    ok(&script, "stop", &wero);
    script.disk("/dev/sda", |disk| assert!(disk.keys().is_empty()));
    script.disk("/dev/sdb", |disk| disk.unsupported());
    let why = reason(&script, "start", &wero, Exit::Generic);
    assert!(why.contains("/dev/sdb"), "{why}");
    ok(
        &script,
        "start",
        &with(&[("reservation", "wero"), ("reservation_missing", "1")]),
    );
}

#[test]
fn a_pool_on_partitions_of_multipath_devices_is_found_and_reserved_through_these() {
    let wero = with(&[("reservation", "wero")]);
    let script = machine();
    with_multipath(&script);
    ok(&script, "start", &wero);
    let line = &commands(&script, "zpool import")[0];
    let by_id = "-d /dev/disk/by-id/dm-uuid-part1-mpath-3600";
    assert!(
        line.contains(&format!("{by_id}sda {by_id}sdb {by_id}sdc 7")),
        "{line}"
    );
    for (disk, keys) in [
        ("dm-0", 1),
        ("dm-2", 1),
        ("dm-3", 0),
        ("sda", 0),
        ("sdd", 0),
    ] {
        script.disk(&format!("/dev/{disk}"), |disk| {
            assert_eq!(disk.keys().len(), keys)
        });
    }
    ok(&script, "monitor", &wero);
    ok(&script, "stop", &wero);
    // The whole device has been named: its partitions are looked at.
    let devices = "/dev/dm-0 /dev/dm-1 /dev/dm-2";
    ok(&script, "start", &with(&[("devices", devices)]));
    let line = commands(&script, "zpool import").pop().unwrap_or_default();
    assert!(
        line.ends_with("-d /dev/dm-3 -d /dev/dm-5 -d /dev/dm-7 7"),
        "{line}"
    );
}

#[test]
fn a_pool_without_a_disk_that_could_be_reserved_is_not_taken_over() {
    let here = || {
        let script = machine();
        import_by_hand(&script, 7);
        for disk in ["sda1", "sdb1", "sdc1"] {
            script.write_file(&format!("/dev/{disk}"), "");
        }
        script
    };
    ok(&here(), "start", TANK);
    let wero = with(&[("reservation", "wero")]);
    let why = reason(&here(), "start", &wero, Exit::Generic);
    assert!(
        why.contains("no disk") && why.contains("/dev/disk/by-id"),
        "{why}"
    );
}

#[test]
fn a_pool_that_hangs_in_the_middle_of_an_export_is_said_to() {
    let script = machine().when("zpool export tank", Reply::hangs());
    ok(&script, "start", TANK);
    let why = reason(&script, "stop", TANK, Exit::Generic);
    assert!(why.contains("zpool export tank"), "{why}");
}

#[test]
fn a_pool_that_is_not_consistent_is_not_rewound() {
    let script = machine();
    corrupt(&script);
    let why = reason(&script, "start", TANK, Exit::Generic);
    assert!(why.contains("put -F into the one-time token"), "{why}");
}

#[test]
fn a_pool_on_files_is_found_where_it_is_said_to_be() {
    let script = machine();
    for disk in ["sda", "sdb", "sdc"] {
        script.remove(&format!("/dev/{disk}"));
        script.remove(&format!("/dev/{disk}1"));
    }
    for number in 0..3 {
        let label = device_with_label(1, number, "n1", 1);
        script
            .tree()
            .write_bytes(&format!("/srv/disk{number}"), &label);
    }
    let params = with(&[("devices", "/srv")]);
    ok(&script, "start", &params);
    assert!(
        commands(&script, "zpool import")[0].contains("-d /srv/disk0 -d /srv/disk1 -d /srv/disk2")
    );
    ok(&script, "monitor", &params);
}

fn monitor_at(script: &Script, level: u32) -> Outcome {
    let mut call = ocf::testing::call("monitor", [("pool".to_owned(), "tank".to_owned())].into());
    call.level = level;
    ocf::execute::<ZfsPool>(&call, &script.host(Duration::from_secs(60)))
}

/// The import of any other pool holds a lock that commands need.
#[test]
fn a_pool_whose_counters_cannot_be_read_is_not_failed() {
    const STATUS: &str = "zpool status -P -p -s tank";
    let script = machine();
    ok(&script, "start", TANK);
    for answer in [
        Reply::hangs(),
        Reply::fails(1, "cannot open 'tank'"),
        Reply::ok("?"),
    ] {
        script.when(STATUS, answer);
        let outcome = monitor_at(&script, 20);
        assert_eq!(outcome.exit, Exit::Success, "{outcome:?}");
    }
    // Unless it is suspended meanwhile.
    let suspended =
        Reply::hangs().and(|tree| tree.write("/proc/spl/kstat/zfs/tank/state", "SUSPENDED\n"));
    script.when(STATUS, suspended);
    let outcome = monitor_at(&script, 20);
    assert_eq!(outcome.exit, Exit::Generic, "{outcome:?}");
}

#[test]
fn a_deep_monitor_waits_for_a_transaction_group_unless_one_has_just_been() {
    const TXGS: &str = "/proc/spl/kstat/zfs/tank/txgs";
    let script = machine();
    ok(&script, "start", TANK);
    let deep = |now_ns: u64| {
        script.write_file(
            "/proc/spl/kstat/zfs/fm",
            &format!("9 1 0x01 5 1360 1 {now_ns}\n"),
        );
        let before = script.read_file(TXGS);
        let outcome = monitor_at(&script, 10);
        assert_eq!(outcome.exit, Exit::Success, "{outcome:?}");
        // One is written whenever somebody waits.
        script.read_file(TXGS) != before
    };
    // The last one was done 5 ns after the beginning of that clock.
    assert!(!deep(4_900_000_000), "waited although one has just been");
    assert!(deep(5_100_000_000), "did not wait");
}

/// A machine whose udev links to the volume only when that is announced once more.
fn forgetful_machine() -> Script {
    let script = machine();
    without_link(&script);
    script.meanwhile(|tree: &Tree| {
        let announced = tree.read(ANNOUNCE).is_some_and(|text| text == "change");
        if announced && !tree.exists(LINK) {
            tree.symlink("/dev/zd0", LINK);
        }
    });
    script
}

#[test]
fn a_volume_that_udev_has_lost_is_announced_once_more() {
    let script = forgetful_machine();
    ok(&script, "start", TANK);
    assert!(script.tree().exists(LINK));
}

#[test]
fn a_link_of_an_earlier_time_is_not_believed() {
    let script = machine();
    with_old_link(&script);
    let why = reason(&script, "start", TANK, Exit::Generic);
    assert!(
        why.contains("/dev/zvol/tank/vol leads to zd16, expected zd0"),
        "{why}"
    );
    let script = machine();
    with_old_link(&script);
    script.meanwhile(|tree: &Tree| {
        if tree.read(ANNOUNCE).is_some_and(|text| text == "change") {
            tree.remove(LINK);
            tree.symlink("/dev/zd0", LINK);
        }
    });
    ok(&script, "start", TANK);
    // That is what monitor looks at.
    script.remove("/sys/class/block/zd16");
    ok(&script, "monitor", TANK);
}

#[test]
fn conforms_though_udev_loses_a_volume() {
    conformance::<ZfsPool>(forgetful_machine, TANK);
}

#[test]
fn udev_is_left_alone_while_it_is_busy_and_nothing_is_mounted_meanwhile() {
    const QUEUE: &str = "/run/udev/queue";
    let script = machine();
    without_link(&script);
    script.write_file(QUEUE, "");
    script.write_file("/waits", "");
    script.meanwhile(|tree: &Tree| {
        let waits = tree.read("/waits").unwrap_or_default() + ".";
        let mounts = tree.read("/proc/self/mountinfo").unwrap_or_default();
        assert!(tree.exists(LINK) || !mounts.contains(" - zfs tank"));
        // After some four seconds.
        if waits.len() == 20 {
            tree.symlink("/dev/zd0", LINK);
            tree.remove(QUEUE);
        }
        tree.write("/waits", &waits);
    });
    ok(&script, "start", TANK);
    assert_eq!(script.read_file(ANNOUNCE).as_deref(), Some(""));
    assert!(
        script
            .read_file("/waits")
            .is_some_and(|waits| waits.len() >= 20)
    );
}

const TUNABLE: &str = "/sys/module/zfs/parameters/zfs_scan_suspend_progress";
const SUSPENDED_SCAN: (&str, &str) = ("tunables", "zfs_scan_suspend_progress=1");
const OTHERS_TUNABLES: &str = "/run/hastor/zfs-pool/other/tunables";

/// The next import does this, too.
fn while_importing(script: &Script, effect: impl Fn(&Tree) + Send + Sync + Clone + 'static) {
    let imports = move |tree: &Tree| machine::import(tree).and(effect.clone());
    script.when_matching(machine::is_import, Reply::given(imports));
}

#[test]
fn a_tunable_that_cannot_be_written_fails_the_start_and_no_stop() {
    use std::os::unix::fs::PermissionsExt;
    let params = with(&[SUSPENDED_SCAN]);
    let script = machine();
    let read_only = std::fs::Permissions::from_mode(0o444);
    std::fs::set_permissions(script.path(TUNABLE), read_only).unwrap();
    let why = reason(&script, "start", &params, Exit::NotInstalled);
    assert!(
        why.contains("zfs_scan_suspend_progress") && why.contains("0444"),
        "{why}"
    );
    ok(&script, "stop", &params);
    let why = reason(
        &script,
        "start",
        &with(&[("tunables", "zfs_no_such=1")]),
        Exit::NotInstalled,
    );
    assert!(why.contains("zfs_no_such"), "{why}");
}

#[test]
fn a_tunable_that_cannot_be_set_back_keeps_no_pool() {
    let params = with(&[SUSPENDED_SCAN]);
    let script = machine();
    while_importing(&script, |tree| tree.remove(TUNABLE));
    ok(&script, "start", &params);
    ok(&script, "monitor", &params);
    // It can be written again: a later attempt sets it back.
    script.write_file(TUNABLE, "1");
    ok(&script, "stop", &params);
    assert_eq!(script.read_file(TUNABLE).as_deref(), Some("0"));

    ok(&script, "start", &params);
    ok(&script, "stop", &params);
    reason(&script, "monitor", &params, Exit::NotRunning);
}

#[test]
fn the_last_of_several_pools_sets_a_tunable_back() {
    let params = with(&[SUSPENDED_SCAN]);
    // The other one is still importing when this one has done so.
    let script = machine();
    script.write_file(TUNABLE, "1");
    script.write_file(OTHERS_TUNABLES, "set zfs_scan_suspend_progress=0\n");
    ok(&script, "start", &params);
    assert_eq!(script.read_file(TUNABLE).as_deref(), Some("1"));
    let mut other = ocf::testing::call("stop", [("pool".to_owned(), "other".to_owned())].into());
    other.instance = "other".into();
    let outcome = ocf::execute::<ZfsPool>(&other, &script.host(Duration::from_secs(20)));
    assert_eq!(outcome.exit, Exit::Success, "{outcome:?}");
    assert_eq!(script.read_file(TUNABLE).as_deref(), Some("0"));

    // It has imported, or is about to set it back, when this one is done.
    for note in ["", "back zfs_scan_suspend_progress=0\n"] {
        let script = machine();
        script.write_file(TUNABLE, "1");
        script.write_file(OTHERS_TUNABLES, "set zfs_scan_suspend_progress=0\n");
        while_importing(&script, move |tree| tree.write(OTHERS_TUNABLES, note));
        ok(&script, "start", &params);
        assert_eq!(script.read_file(TUNABLE).as_deref(), Some("0"), "{note}");
    }
}

/// Takes the mount of a dataset away, as whoever changes it does.
fn unmounted(script: &Script, target: &str) {
    let mounts = script.read_file("/proc/self/mountinfo").unwrap_or_default();
    let place = format!(" {target} ");
    let rest = mounts.lines().filter(|line| !line.contains(&place));
    let rest: String = rest.map(|line| format!("{line}\n")).collect();
    script.write_file("/proc/self/mountinfo", &rest);
}

/// What ZFS says when it is asked for the pool and one of its datasets, and not for all of them.
fn when_asked(script: &Script, said: &str, stderr: &str) {
    const POOL: &str = "tank\ttype\tfilesystem\t-\n";
    let is_question = |cmd: &host::Cmd| {
        cmd.to_string().starts_with("zfs get") && !cmd.arguments().contains(&"-r".to_owned())
    };
    let (said, stderr) = (format!("{POOL}{said}"), stderr.to_owned());
    script.when_matching(is_question, Reply::says(stderr.is_empty(), said, stderr));
}

const GONE: &str = "cannot open 'tank/data': dataset does not exist\n";

#[test]
fn a_dataset_that_was_changed_on_purpose_is_not_missed() {
    let data = |mountpoint: &str, canmount: &str| {
        format!(
            "tank/data\ttype\tfilesystem\t-\ntank/data\tmountpoint\t{mountpoint}\tlocal\ntank/data\tcanmount\t{canmount}\tlocal\n"
        )
    };
    for (said, stderr) in [
        (String::new(), GONE),
        (data("/srv/data", "on"), ""),
        (data("none", "on"), ""),
        (data("/tank/data", "off"), ""),
    ] {
        let script = machine();
        ok(&script, "start", TANK);
        when_asked(&script, &said, stderr);
        unmounted(&script, "/tank/data");
        let moves = said.contains("/srv/data");
        if moves {
            let mounts = script.read_file("/proc/self/mountinfo").unwrap();
            let line = "200 1 0:200 / /srv/data rw - zfs tank/data rw\n";
            script.write_file("/proc/self/mountinfo", &(mounts + line));
        }
        ok(&script, "monitor", TANK);
        script.clear_steps();
        ok(&script, "monitor", TANK);
        assert_eq!(
            script.steps(),
            Vec::<String>::new(),
            "it asks again: {said}"
        );
        if moves {
            when_asked(&script, &said, "");
            unmounted(&script, "/srv/data");
            let why = reason(&script, "monitor", TANK, Exit::Generic);
            assert!(why.contains("/srv/data"), "{why}");
        }
    }
}

#[test]
fn a_dataset_that_is_missing_is_an_error_unless_zfs_says_why() {
    let data = "tank/data\ttype\tfilesystem\t-\ntank/data\tmountpoint\t/tank/data\tlocal\ntank/data\tcanmount\ton\tlocal\n";
    for (said, stderr) in [
        (data.to_owned(), ""),
        (format!("{data}tank/data\tkeystatus\tunavailable\t-\n"), ""),
        (String::new(), "cannot open 'tank/data': I/O error\n"),
        (
            String::new(),
            "cannot open 'tank/data2': dataset does not exist\n",
        ),
    ] {
        let script = machine();
        ok(&script, "start", TANK);
        when_asked(&script, &said, stderr);
        unmounted(&script, "/tank/data");
        let why = reason(&script, "monitor", TANK, Exit::Generic);
        assert!(why.contains("tank/data is not mounted"), "{why}");
    }
    let script = machine();
    ok(&script, "start", TANK);
    script.when_matching(|cmd| cmd.to_string().starts_with("zfs get"), Reply::hangs());
    unmounted(&script, "/tank/data");
    let why = reason(&script, "monitor", TANK, Exit::Generic);
    assert!(why.contains("tank/data is not mounted"), "{why}");
}

/// ZFS unmounts what it renames or moves, and mounts it again.
#[test]
fn a_dataset_that_comes_back_at_once_is_not_missed() {
    let script = machine();
    ok(&script, "start", TANK);
    let mounts = script.read_file("/proc/self/mountinfo").unwrap();
    let data = "tank/data\ttype\tfilesystem\t-\ntank/data\tmountpoint\t/tank/data\tlocal\ntank/data\tcanmount\ton\tlocal\n";
    when_asked(&script, data, "");
    unmounted(&script, "/tank/data");
    script.meanwhile(move |tree| tree.write("/proc/self/mountinfo", &mounts));
    ok(&script, "monitor", TANK);
}

#[test]
fn a_volume_that_was_destroyed_is_not_missed() {
    let volume = "tank/vol\ttype\tvolume\t-\ntank/vol\tvolmode\tdefault\tdefault\n";
    let script = machine();
    ok(&script, "start", TANK);
    script.remove("/sys/class/block/zd0");
    script.remove(LINK);
    when_asked(&script, volume, "");
    let why = reason(&script, "monitor", TANK, Exit::Generic);
    assert!(why.contains("tank/vol"), "{why}");
    when_asked(
        &script,
        "",
        "cannot open 'tank/vol': dataset does not exist\n",
    );
    ok(&script, "monitor", TANK);
    // Destroyed and made once more, with another device.
    let script = machine();
    ok(&script, "start", TANK);
    script.remove("/sys/class/block/zd0");
    script.remove(LINK);
    script.write_file("/dev/zd16", "tank/vol");
    script.write_file("/sys/class/block/zd16/dev", "230:16\n");
    script.tree().symlink("/dev/zd16", LINK);
    when_asked(&script, volume, "");
    ok(&script, "monitor", TANK);
    script.remove("/sys/class/block/zd16");
    reason(&script, "monitor", TANK, Exit::Generic);
}

#[test]
fn a_reload_watches_what_was_made_meanwhile() {
    let script = machine();
    ok(&script, "start", TANK);
    let more = "tank/new\ttype\tfilesystem\t-\ntank/new\tmountpoint\t/tank/new\tdefault\ntank/new\tcanmount\ton\tdefault\n\
                tank/unmounted\ttype\tfilesystem\t-\ntank/unmounted\tmountpoint\t/tank/unmounted\tdefault\n\
                tank/unmounted\tcanmount\ton\tdefault\n";
    let listed = format!("{}{more}", machine::LISTED);
    script.when_matching(machine::is_zfs_get, Reply::ok(listed));
    let mounts = script.read_file("/proc/self/mountinfo").unwrap();
    let line = "200 1 0:200 / /tank/new rw - zfs tank/new rw\n";
    script.write_file("/proc/self/mountinfo", &(mounts + line));
    ok(&script, "reload-agent", TANK);
    ok(&script, "monitor", TANK);
    for target in ["/tank/new", "/tank/data"] {
        let mounts = script.read_file("/proc/self/mountinfo").unwrap();
        unmounted(&script, target);
        let why = reason(&script, "monitor", TANK, Exit::Generic);
        assert!(why.contains(target), "{why}");
        // Nor does a reload forget it.
        ok(&script, "reload-agent", TANK);
        reason(&script, "monitor", TANK, Exit::Generic);
        script.write_file("/proc/self/mountinfo", &mounts);
    }
    // A pool that does not answer is reloaded all the same.
    script.when_matching(machine::is_zfs_get, Reply::hangs());
    ok(&script, "reload-agent", TANK);
    ok(&script, "monitor", TANK);
}

const OUR_KEY: u64 = 0x4861_7374_0000_0001;

/// What a monitor at depth 10 says.
fn deep(script: &Script, params: &[(&str, &str)]) -> Outcome {
    let params = params
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let mut call = ocf::testing::call("monitor", params.collect());
    call.level = 10;
    ocf::execute::<ZfsPool>(&call, &script.host(Duration::from_secs(60)))
}

fn deep_reason(script: &Script, params: &[(&str, &str)], exit: Exit) -> String {
    let outcome = deep(script, params);
    assert_eq!(outcome.exit, exit, "{outcome:?}");
    outcome.reason.unwrap_or_default()
}

fn keys(script: &Script, disk: &str) -> Vec<u64> {
    script.disk(disk, |disk| disk.keys().to_vec())
}

#[test]
fn a_disk_that_is_gone_is_told_of_and_no_error() {
    for params in [with(&[]), with(&[("reservation", "wero")])] {
        let script = machine();
        ok(&script, "start", &params);
        pull(script.tree(), "sdb");
        script.disk("/dev/sdb", |disk| disk.unsupported());
        for _ in 0..2 {
            let why = deep_reason(&script, &params, Exit::Degraded);
            assert!(why.contains("/dev/sdb1"), "{why}");
        }
        ok(&script, "monitor", &params);
        // It is there again, and has lost the registration.
        plug(script.tree(), "sdb", &device_with_label(0, 1, "n1", 1));
        script.disk("/dev/sdb", |disk| *disk = Default::default());
        deep_reason(&script, &params, Exit::Success);
        if params.len() > 1 {
            assert_eq!(keys(&script, "/dev/sdb"), [OUR_KEY]);
        }
        ok(&script, "stop", &params);
        assert!(keys(&script, "/dev/sdb").is_empty());
    }
}

#[test]
fn a_disk_that_another_host_has_taken_is_an_error() {
    let params = with(&[("reservation", "wero")]);
    let script = machine();
    ok(&script, "start", &params);
    script.disk("/dev/sdb", |disk| {
        *disk = Default::default();
        disk.register(0x99);
    });
    let why = deep_reason(&script, &params, Exit::Generic);
    assert!(why.contains("/dev/sdb") && why.contains("gone"), "{why}");
    // Of one that does not tell there is no such knowledge, of none there is doubt.
    script.disk("/dev/sdb", |disk| disk.unsupported());
    let why = deep_reason(&script, &params, Exit::Degraded);
    assert!(why.contains("/dev/sdb"), "{why}");
    for disk in ["/dev/sda", "/dev/sdc"] {
        script.disk(disk, |disk| disk.unsupported());
    }
    deep_reason(&script, &params, Exit::Generic);
}

/// The labels of the pool after sdb was replaced by sdd.
fn replace_sdb(script: &Script) {
    let members = ["sda", "sdd", "sdc"];
    for disk in ["sda", "sdc"] {
        let label = changed_device(1, &members, disk);
        script.tree().write_bytes(&format!("/dev/{disk}1"), &label);
    }
    script.tree().write("/dev/sdb1", "");
    plug(script.tree(), "sdd", &changed_device(1, &members, "sdd"));
}

#[test]
fn a_disk_that_has_replaced_another_is_watched_and_reserved() {
    for params in [with(&[]), with(&[("reservation", "wero")])] {
        let script = machine();
        ok(&script, "start", &params);
        replace_sdb(&script);
        deep_reason(&script, &params, Exit::Success);
        script.clear_steps();
        deep_reason(&script, &params, Exit::Success);
        assert_eq!(script.steps(), Vec::<String>::new());
        if params.len() > 1 {
            assert_eq!(keys(&script, "/dev/sdd"), [OUR_KEY]);
            script.disk("/dev/sdd", |disk| *disk = Default::default());
            let why = deep_reason(&script, &params, Exit::Generic);
            assert!(why.contains("/dev/sdd"), "{why}");
        }
        ok(&script, "stop", &params);
        for disk in ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"] {
            assert!(keys(&script, disk).is_empty(), "{disk}");
        }
    }
}

#[test]
fn a_disk_that_was_added_is_found_and_reserved() {
    let params = with(&[
        ("reservation", "wero"),
        ("devices", "/dev/sda /dev/sdb /dev/sdc"),
    ]);
    let script = machine();
    ok(&script, "start", &params);
    for disk in ["sda", "sdb", "sdc"] {
        let label = changed_device(2, &["sda", "sdb", "sdc"], disk);
        script.tree().write_bytes(&format!("/dev/{disk}1"), &label);
    }
    plug(script.tree(), "sdd", &changed_device(2, &["sdd"], "sdd"));
    // As long as another host is registered it is told of, and tried again.
    script.disk("/dev/sdd", |disk| disk.register(0x99));
    for _ in 0..2 {
        let why = deep_reason(&script, &params, Exit::Degraded);
        assert!(why.contains("/dev/sdd"), "{why}");
    }
    script.disk("/dev/sdd", |disk| *disk = Default::default());
    deep_reason(&script, &params, Exit::Success);
    assert_eq!(keys(&script, "/dev/sdd"), [OUR_KEY]);
    // No other label names it, and it is missed all the same.
    pull(script.tree(), "sdd");
    script.disk("/dev/sdd", |disk| *disk = Default::default());
    for _ in 0..2 {
        let why = deep_reason(&script, &params, Exit::Degraded);
        assert!(why.contains("its disk /dev/sdd1 is not there"), "{why}");
    }
    plug(script.tree(), "sdd", &changed_device(2, &["sdd"], "sdd"));
    deep_reason(&script, &params, Exit::Success);
    // Another one has its place, and it is taken out together with its mirror, which is not there.
    plug(script.tree(), "sde", &changed_device(2, &["sde"], "sde"));
    let removed = removed_device(&["sdd", "sdf"], "sdd");
    script.tree().write_bytes("/dev/sdd1", &removed);
    deep_reason(&script, &params, Exit::Success);
    assert_eq!(keys(&script, "/dev/sde"), [OUR_KEY]);
    ok(&script, "stop", &params);
    for disk in ["/dev/sdd", "/dev/sde"] {
        assert!(keys(&script, disk).is_empty());
    }
}

#[test]
fn a_note_of_an_older_version_is_renewed() {
    let script = machine();
    ok(&script, "start", TANK);
    let note = "/run/hastor/zfs-pool/resource/disks";
    let now = script.read_file(note).unwrap();
    script.write_file(note, "/dev/sda1\n/dev/sdb1\n/dev/sdc1");
    ok(&script, "monitor", TANK);
    deep_reason(&script, TANK, Exit::Success);
    assert_eq!(script.read_file(note).unwrap(), now);
}

#[test]
fn a_pool_that_was_given_another_guid_is_still_ours() {
    let params = with(&[("pool_guid", "7")]);
    let script = machine();
    ok(&script, "start", &params);
    script.write_file("/proc/spl/kstat/zfs/tank/guid", "9\n");
    ok(&script, "monitor", &params);
    let why = deep_reason(&script, &params, Exit::Degraded);
    assert!(why.contains("has the GUID 9"), "{why}");
    ok(&script, "stop", &params);
    assert!(!script.tree().exists("/proc/spl/kstat/zfs/tank/state"));
}

#[test]
fn disks_that_were_all_replaced_are_not_gone() {
    let script = machine();
    ok(&script, "start", TANK);
    for disk in ["sda", "sdb", "sdc"] {
        pull(script.tree(), disk);
    }
    let why = reason(&script, "monitor", TANK, Exit::Generic);
    assert!(why.contains("all of its disks are gone"), "{why}");
    plug(script.tree(), "sdd", &changed_device(1, &["sdd"], "sdd"));
    ok(&script, "monitor", TANK);
    script.clear_steps();
    ok(&script, "monitor", TANK);
    assert_eq!(script.steps(), Vec::<String>::new());
    deep_reason(&script, TANK, Exit::Success);
}

#[test]
fn a_disk_that_hangs_hides_nothing() {
    let wero = with(&[("reservation", "wero")]);
    let script = machine();
    ok(&script, "start", &wero);
    script.stuck("reading the label of 3 devices");
    script.stuck("reading the label of 1 devices");
    script.stuck("reading the label of /dev/sdb1");
    for _ in 0..2 {
        let begun = script.host(Duration::ZERO).now();
        let why = deep_reason(&script, &wero, Exit::Degraded);
        assert!(why.contains("/dev/sdb1"), "{why}");
        let took = script.host(Duration::ZERO).now() - begun;
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    ok(&script, "stop", &wero);
}

#[test]
fn that_all_disks_are_gone_is_said_in_time() {
    let script = machine();
    ok(&script, "start", TANK);
    for disk in ["sda", "sdb", "sdc"] {
        pull(script.tree(), disk);
    }
    // Another disk, which does not answer.
    plug(script.tree(), "sdd", &[]);
    for what in ["2 devices", "/dev/sdd", "/dev/sdd1"] {
        script.stuck(&format!("reading the label of {what}"));
    }
    let begun = script.host(Duration::ZERO).now();
    let why = reason(&script, "monitor", TANK, Exit::Generic);
    assert!(why.contains("all of its disks are gone"), "{why}");
    let took = script.host(Duration::ZERO).now() - begun;
    assert!(took < Duration::from_secs(15), "{took:?}");
}

/// Twenty volumes of another pool, none of them in use.
fn other_volumes(script: &Script) {
    for number in (16..).step_by(16).take(20) {
        script.write_file(
            &format!("/sys/class/block/zd{number}/dev"),
            &format!("230:{number}\n"),
        );
        script.write_file(&format!("/dev/zd{number}"), &format!("other/{number}"));
    }
}

/// True for the first `count` times that a volume is opened.
fn first(count: usize) -> impl Fn(&Tree) -> bool {
    let tries = AtomicUsize::new(0);
    move |_| tries.fetch_add(1, Ordering::Relaxed) < count
}

/// An action with the time that is advised for it.
fn within_180_s(script: &Script, action: &str) -> Outcome {
    let call = ocf::testing::call(action, [("pool".to_owned(), "tank".to_owned())].into());
    ocf::execute::<ZfsPool>(&call, &script.host(Duration::from_secs(180)))
}

/// Another pool is being imported, which holds the lock that a volume needs to be opened.
#[test]
fn a_start_waits_for_volumes_while_another_pool_is_imported() {
    let script = forgetful_machine();
    other_volumes(&script);
    script.zfs_locked(first(60));
    let outcome = within_180_s(&script, "start");
    assert_eq!(outcome.exit, Exit::Success, "{outcome:?}");
    // The kernel has told late that it is there; udev still had the time to link to it.
    assert!(script.tree().exists(LINK));
    let script = forgetful_machine();
    other_volumes(&script);
    script.zfs_locked(|_| true);
    let outcome = within_180_s(&script, "start");
    let why = outcome.reason.unwrap_or_default();
    assert!(
        why.contains("the first is tank/vol (asking whose volume /dev/zd"),
        "{why}"
    );
}

#[test]
fn a_start_does_not_wait_for_volumes_of_a_pool_that_is_suspended() {
    let script = forgetful_machine();
    script.zfs_locked(|tree| {
        tree.write("/proc/spl/kstat/zfs/tank/state", "SUSPENDED\n");
        true
    });
    let begun = script.host(Duration::ZERO).now();
    let why = reason(&script, "start", TANK, Exit::Generic);
    assert!(why.contains("suspended"), "{why}");
    let took = script.host(Duration::ZERO).now() - begun;
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_stop_needs_no_names_of_volumes_that_nobody_has_open() {
    for hangs in [false, true] {
        let script = machine();
        ok(&script, "start", TANK);
        other_volumes(&script);
        match hangs {
            true => script.stuck("asking for the names of volumes"),
            false => script.zfs_locked(|_| true),
        }
        let outcome = within_180_s(&script, "stop");
        assert_eq!(outcome.exit, Exit::Success, "{outcome:?}");
    }
}

#[test]
fn a_volume_that_is_opened_as_soon_as_that_is_possible_is_found() {
    let script = machine();
    ok(&script, "start", TANK);
    script.write_file("/proc/4711/comm", "bash\n");
    script.write_file("/proc/4711/status", "Name:\tbash\nPPid:\t1\n");
    script.tree().symlink("/bin/bash", "/proc/4711/exe");
    script.tree().mkdir("/proc/4711/fd");
    script.tree().kernel_link("/dev/zd0", "/proc/4711/fd/3");
    let script = script.when(
        "zpool export tank",
        Reply::given(|tree| match tree.exists("/proc/4711") {
            true => Reply::fails(1, "cannot export 'tank': pool is busy\n"),
            false => export(tree),
        }),
    );
    script.zfs_locked(first(2));
    ok(&script, "stop", TANK);
    assert!(!script.tree().exists("/proc/4711"));
}

#[test]
fn a_pool_that_is_suspended_while_its_volumes_are_asked_is_not_exported() {
    let script = machine();
    ok(&script, "start", TANK);
    script.clear_steps();
    script.zfs_locked(|tree| {
        tree.write("/proc/spl/kstat/zfs/tank/state", "SUSPENDED\n");
        true
    });
    let why = reason(&script, "stop", TANK, Exit::Generic);
    assert!(why.contains("suspended"), "{why}");
    assert_eq!(commands(&script, "zpool export"), Vec::<String>::new());
}

/// Its import waits for the lock that the import of another pool holds, and cannot be killed there.
fn machine_with_import_left_behind() -> Script {
    let script = machine();
    let import = Reply::hangs().and(|tree: &Tree| {
        tree.write("/proc/4712/comm", "zpool\n");
        tree.write("/proc/4712/cmdline", "zpool\0import\0-N\x007\0");
    });
    script.when_matching(machine::is_import, import);
    let why = reason(&script, "start", TANK, Exit::Generic);
    assert!(why.contains("zpool import"), "{why}");
    script
}

#[test]
fn an_import_that_was_left_behind_is_waited_for() {
    let script = machine_with_import_left_behind();
    let why = reason(&script, "monitor", TANK, Exit::Generic);
    assert!(why.contains("process 4712"), "{why}");
    let why = reason(&script, "stop", TANK, Exit::Generic);
    assert!(why.contains("process 4712"), "{why}");
    // It gets the lock, and the pool is here.
    script.meanwhile(|tree: &Tree| {
        if tree.exists("/proc/4712") {
            tree.remove("/proc/4712");
            machine::imported(tree, 7);
        }
    });
    script.clear_steps();
    ok(&script, "stop", TANK);
    assert_eq!(commands(&script, "zpool export").len(), 1);
    reason(&script, "monitor", TANK, Exit::NotRunning);
}

/// Of another pool, which is none of ours.
#[test]
fn the_import_of_another_pool_is_not_waited_for() {
    let script = machine_with_import_left_behind();
    script.write_file("/proc/4712/cmdline", "zpool\0import\0-N\x0077\0");
    ok(&script, "stop", TANK);
    reason(&script, "monitor", TANK, Exit::NotRunning);
}
