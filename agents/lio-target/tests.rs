//! The agent on a machine whose kernel has LIO's rules.

mod machine;

use std::collections::BTreeMap;

use host::testing::{LioKernel, Reply, Script};
use ocf::testing::{act, call, conformance};
use ocf::{Call, Exit, Outcome};

use crate::target::LioTarget;
use machine::{ASKS_FOR_SYNC, DISKS, machine, machine_with};

const IQN: &str = "iqn.2026-01.com.example:tank";
const ALICE: &str = "iqn.2026-01.com.example:alice";
const BOB: &str = "iqn.2026-01.com.example:bob";
const GROUP: &str = "/sys/kernel/config/target/iscsi/iqn.2026-01.com.example:tank/tpgt_1";
const SHARED: &str = "/tank/.ha";

/// Two LUNs for anyone.
const PLAIN: &[(&str, &str)] = &[("iqn", IQN), ("luns", "1=/dev/zd0 2=/dev/zd16")];

/// Everything that goes together.
const FULL: &[(&str, &str)] = &[
    ("iqn", IQN),
    (
        "luns",
        "1=/dev/zvol/tank/a 2=/dev/zvol/tank/b,serial=abc-1,product=Second,ro",
    ),
    ("portals", "192.0.2.10 [2001:db8::10]:3261"),
    (
        "allowed_initiators",
        "iqn.2026-01.com.example:alice iqn.2026-01.com.example:bob",
    ),
    ("incoming_username", "initiator"),
    ("incoming_password", "hidden-inside"),
    ("outgoing_username", "target"),
    ("outgoing_password", "hidden-outside"),
    ("additional_parameters", "DefaultTime2Retain=0"),
    ("tpg_attributes", "login_timeout=20"),
    ("attributes", "emulate_3pc=0"),
    ("emulate_tpu", "1"),
    ("vendor_id", "HASTOR"),
    ("aptpl_dir", SHARED),
];

fn reason(script: &Script, action: &str, params: &[(&str, &str)], exit: Exit) -> String {
    let outcome: Outcome = act::<LioTarget>(script, action, params);
    assert_eq!(outcome.exit, exit, "{action} {params:?}: {outcome:?}");
    outcome.reason.unwrap_or_default()
}

fn ok(script: &Script, action: &str, params: &[(&str, &str)]) {
    reason(script, action, params, Exit::Success);
}

fn with<'a>(params: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = params
        .iter()
        .filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    kept.chain(more).copied().collect()
}

fn shows(script: &Script, path: &str) -> String {
    let text = script.read_file(path);
    text.unwrap_or_else(|| panic!("{path} is not there"))
        .trim_matches(|c: char| c == '\0' || c == '\n')
        .to_owned()
}

/// The backstore behind a LUN.
fn store(script: &Script, lun: u16) -> String {
    let host = script.host(std::time::Duration::from_secs(5));
    let links = probe::lio::links(&host, &format!("{GROUP}/lun/lun_{lun}")).unwrap();
    links[0].store.as_ref().unwrap().dir()
}

#[test]
fn conforms() {
    conformance::<LioTarget>(machine, PLAIN);
}

#[test]
fn conforms_with_everything_configured() {
    conformance::<LioTarget>(machine, FULL);
}

#[test]
fn conforms_with_passwords_in_a_file() {
    let machine = || {
        let script = machine();
        script.write_file("/etc/chap", "hidden-inside\nhidden-outside\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(script.path("/etc/chap"), mode).unwrap();
        script
    };
    let params = [
        ("incoming_username", "initiator"),
        ("outgoing_username", "target"),
        ("password_file", "/etc/chap"),
    ];
    conformance::<LioTarget>(machine, &with(PLAIN, &params));
}

#[test]
fn conforms_where_volumes_are_cached() {
    let machine = || {
        let said = "tank/a\tsync\tstandard\tdefault\n";
        machine()
            .when(&format!("{ASKS_FOR_SYNC}tank/a"), Reply::ok(said))
            .when("zfs set sync=always tank/a", Reply::ok(""))
    };
    conformance::<LioTarget>(machine, &[("iqn", IQN), ("luns", "1=/dev/zvol/tank/a")]);
}

#[test]
fn conforms_on_an_older_kernel() {
    conformance::<LioTarget>(|| machine_with(LioKernel::v6_1()), PLAIN);
}

#[test]
fn a_target_appears_whole() {
    let script = machine();
    ok(&script, "start", FULL);
    for (file, value) in [
        ("enable", "1"),
        ("attrib/generate_node_acls", "0"),
        ("attrib/authentication", "1"),
        ("attrib/login_timeout", "20"),
        ("param/DefaultTime2Retain", "0"),
        (
            "acls/iqn.2026-01.com.example:alice/auth/password",
            "hidden-inside",
        ),
        (
            "acls/iqn.2026-01.com.example:bob/auth/password_mutual",
            "hidden-outside",
        ),
        ("acls/iqn.2026-01.com.example:bob/lun_1/write_protect", "0"),
        ("acls/iqn.2026-01.com.example:bob/lun_2/write_protect", "1"),
    ] {
        assert_eq!(shows(&script, &format!("{GROUP}/{file}")), value, "{file}");
    }
    assert_eq!(script.lio().held(), ["/dev/zd0", "/dev/zd16"]);
    let second = store(&script, 2);
    let serial = shows(&script, &format!("{second}/wwn/vpd_unit_serial"));
    assert!(serial.ends_with(": abc-1"), "{serial}");
    let product = shows(&script, &format!("{second}/wwn/product_id"));
    assert_eq!(product.trim_end(), "Second");
    assert_eq!(shows(&script, &format!("{second}/attrib/emulate_3pc")), "0");
    assert!(
        script
            .tree()
            .exists(&format!("{GROUP}/np/[2001:db8::10]:3261"))
    );
    // Nothing is to be done any more, and nothing is said that should not be.
    let plan = act::<LioTarget>(&script, "plan", FULL);
    assert_eq!(plan.stdout, "nothing would change\n");
    let steps = script.steps().join("\n");
    assert!(!steps.contains("hidden"), "{steps}");
}

#[test]
fn a_plan_changes_nothing() {
    let script = machine();
    let plan = act::<LioTarget>(&script, "plan", FULL).stdout;
    assert!(plan.ends_with("tpgt_1/enable 1\n"), "{plan}");
    assert!(plan.contains("auth/password (secret)"), "{plan}");
    assert!(!plan.contains("hidden"), "{plan}");
    assert_eq!(script.steps(), [format!("{ASKS_FOR_SYNC}tank/a")]);
}

#[test]
fn a_plan_by_hand_has_to_know_the_resource() {
    let script = machine();
    ok(&script, "start", FULL);
    let params = FULL
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let mut call = ocf::testing::call("plan", params.collect());
    call.instance = String::new();
    let outcome =
        ocf::execute::<LioTarget>(&call, &script.host(std::time::Duration::from_secs(60)));
    let said = outcome.reason.unwrap_or_default();
    assert!(said.contains("in OCF_RESOURCE_INSTANCE"), "{said}");
}

#[test]
fn parameters_contradict_each_other_no_more_than_a_definition_may() {
    let same = [("outgoing_password", "hidden-inside")];
    let said = reason(&machine(), "start", &with(FULL, &same), Exit::Generic);
    assert!(
        said.contains("the target's password is that of the initiator"),
        "{said}"
    );
    // It would be one that is cleared.
    let none = [("incoming_password", "NULL-and-void")];
    let said = reason(&machine(), "start", &with(FULL, &none), Exit::Generic);
    assert!(
        said.contains("the password cannot be used") && !said.contains("void"),
        "{said}"
    );
}

#[test]
fn the_target_is_enabled_last_and_disabled_first() {
    let script = machine();
    ok(&script, "start", FULL);
    let changes = || -> Vec<String> {
        let steps = script.steps().into_iter();
        steps
            .filter(|step| step.contains("/config/target/"))
            .collect()
    };
    assert!(changes().last().unwrap().ends_with("tpgt_1/enable"));
    script.clear_steps();
    ok(&script, "stop", FULL);
    assert!(changes()[0].ends_with("tpgt_1/enable"), "{:?}", changes());
}

#[test]
fn identity_is_the_same_on_every_node() {
    let identity = |script: Script| {
        ok(&script, "start", PLAIN);
        let store = store(&script, 1);
        [
            "wwn/vpd_unit_serial",
            "wwn/product_id",
            "wwn/vendor_id",
            "attrib/block_size",
        ]
        .map(|file| shows(&script, &format!("{store}/{file}")))
    };
    let other = machine();
    // Other adapters, other numbers.
    other
        .host(std::time::Duration::from_secs(5))
        .mkdir("/sys/kernel/config/target/core/iblock_0")
        .unwrap();
    assert_eq!(identity(machine()), identity(other));
}

#[test]
fn one_lun_has_the_serial_number_that_the_peers_give_it() {
    let script = machine();
    ok(
        &script,
        "start",
        &[("iqn", IQN), ("path", "/dev/zd0"), ("lun", "3")],
    );
    let serial = shows(
        &script,
        &format!("{}/wwn/vpd_unit_serial", store(&script, 3)),
    );
    // printf resource | md5sum | cut -c1-8
    assert!(serial.ends_with(": 96ab4e16"), "{serial}");
}

#[test]
fn a_stop_leaves_configfs_as_it_was() {
    let script = machine();
    foreign(&script);
    let before = script.lio().snapshot();
    for params in [PLAIN, FULL] {
        ok(&script, "start", params);
        assert_ne!(script.lio().snapshot(), before);
        ok(&script, "stop", params);
        assert_eq!(script.lio().snapshot(), before);
    }
}

#[test]
fn a_stop_needs_neither_parameters_nor_notes() {
    let script = machine();
    let before = script.lio().snapshot();
    ok(&script, "start", FULL);
    script.remove("/run/hastor");
    ok(
        &script,
        "stop",
        &with(
            FULL,
            &[("iqn", "iqn.2026-01.com.example:other"), ("luns", "")],
        ),
    );
    assert_eq!(script.lio().snapshot(), before);
}

/// A target that somebody made with targetcli.
fn foreign(script: &Script) {
    let host = script.host(std::time::Duration::from_secs(5));
    let store = "/sys/kernel/config/target/core/iblock_0/theirs";
    let group = "/sys/kernel/config/target/iscsi/iqn.2003-01.org.linux-iscsi.n1:theirs/tpgt_1";
    for dir in [
        "/sys/kernel/config/target/core/iblock_0",
        store,
        "/sys/kernel/config/target/iscsi",
        "/sys/kernel/config/target/iscsi/iqn.2003-01.org.linux-iscsi.n1:theirs",
        group,
    ] {
        host.mkdir(dir).unwrap();
    }
    host.write(&format!("{store}/control"), "udev_path=/dev/zd32")
        .unwrap();
    host.write(&format!("{store}/enable"), "1").unwrap();
    host.write(&format!("{store}/wwn/vpd_unit_serial"), "theirs-1")
        .unwrap();
    host.mkdir(&format!("{group}/lun/lun_0")).unwrap();
    host.symlink(store, &format!("{group}/lun/lun_0/abcdef"))
        .unwrap();
    host.write(&format!("{group}/enable"), "1").unwrap();
    script.clear_steps();
}

#[test]
fn what_others_made_is_not_mixed_up_with_ours() {
    let script = machine();
    foreign(&script);
    let before = script.lio().snapshot();
    let theirs = "iqn.2003-01.org.linux-iscsi.n1:theirs";
    let said = reason(
        &script,
        "start",
        &with(PLAIN, &[("iqn", theirs)]),
        Exit::Generic,
    );
    assert_eq!(
        said,
        format!(
            "target {theirs} is here already, and was made by something else (another resource, or targetcli)"
        )
    );
    let luns = [("luns", "1=/dev/zd0,serial=theirs-1")];
    let said = reason(&script, "start", &with(PLAIN, &luns), Exit::Generic);
    assert!(
        said.starts_with("unit 1: the serial number theirs-1 is that of iblock_0/theirs, which was made by something else"),
        "{said}"
    );
    assert_eq!(script.lio().snapshot(), before);
    let monitor = act::<LioTarget>(&script, "monitor", &with(PLAIN, &[("iqn", theirs)]));
    assert_eq!(monitor.exit, Exit::NotRunning);
}

#[test]
fn each_mistake_has_a_line_of_its_own() {
    for (name, value, exit, expected) in [
        (
            "iqn",
            "iqn.2026.example:x",
            Exit::NotConfigured,
            "parameter iqn: \"iqn.2026.example:x\" ",
        ),
        (
            "portals",
            "192.0.2.10:99999",
            Exit::NotConfigured,
            "parameter portals: \"192.0.2.10:99999\" ",
        ),
        (
            "portals",
            "storage.example:3260",
            Exit::NotConfigured,
            "parameter portals: \"storage.example:3260\" ",
        ),
        (
            "luns",
            "1=/dev/zd0 1=/dev/zd16",
            Exit::NotConfigured,
            "parameter luns: \"1=/dev/zd0 1=/dev/zd16\" has LUN 1 twice",
        ),
        (
            "luns",
            "1=/dev/gone",
            Exit::Generic,
            "unit 1: /dev/gone is not there",
        ),
        (
            "allowed_initiators",
            "alice",
            Exit::NotConfigured,
            "parameter allowed_initiators: \"alice\" ",
        ),
        (
            "attributes",
            "emulate_tpu=7",
            Exit::Generic,
            "unit 1: emulate_tpu=7: the kernel does not take it",
        ),
        (
            "definition",
            "/tank/lio.toml",
            Exit::NotConfigured,
            "parameter iqn: given together with definition /tank/lio.toml",
        ),
        (
            "aptpl_dir",
            "/nowhere",
            Exit::Generic,
            "parameter aptpl_dir: \"/nowhere\" is not a directory on this node",
        ),
        (
            "incoming_username",
            "user",
            Exit::NotConfigured,
            "parameter incoming_password: required with a user name",
        ),
    ] {
        let script = machine();
        let before = script.lio().snapshot();
        let said = reason(&script, "start", &with(PLAIN, &[(name, value)]), exit);
        assert!(said.contains(expected), "{name}={value}: {said}");
        assert_eq!(script.lio().snapshot(), before, "{name}={value}");
    }
}

#[test]
fn a_device_in_use_is_named() {
    let script = machine();
    script.busy(|path| path == "/dev/zd16");
    let before = script.lio().snapshot();
    let said = reason(&script, "start", PLAIN, Exit::Generic);
    assert!(said.contains("unit 2: opening /dev/zd16"), "{said}");
    assert!(said.contains("busy"), "{said}");
    assert_eq!(script.lio().snapshot(), before);
}

/// Another pool is being imported, which holds the lock that a volume needs to be opened for the first time.
#[test]
fn a_volume_that_cannot_be_opened_yet_is_waited_for() {
    use std::sync::atomic::{AtomicU32, Ordering};
    // When it is asked whose device it is, and when the kernel opens it.
    for locked in [0..3, 2..5] {
        let calls = AtomicU32::new(0);
        let script = machine();
        script.zfs_locked(move |_| locked.contains(&calls.fetch_add(1, Ordering::Relaxed)));
        ok(&script, "start", PLAIN);
    }
    let calls = AtomicU32::new(0);
    let script = machine();
    script.zfs_locked(move |_| calls.fetch_add(1, Ordering::Relaxed) >= 2);
    let said = reason(&script, "start", PLAIN, Exit::Generic);
    assert!(said.contains("unit 1: opening /dev/zd0"), "{said}");
    assert!(said.contains("the zfs module is busy"), "{said}");
}

#[test]
fn a_file_with_passwords_is_nobody_elses() {
    let script = machine();
    script.write_file("/etc/chap", "hidden-inside\n");
    let params = with(
        PLAIN,
        &[("incoming_username", "u"), ("password_file", "/etc/chap")],
    );
    let said = reason(&script, "start", &params, Exit::Generic);
    assert!(
        said.contains("parameter password_file: /etc/chap has a password in it")
            && said.contains("(mode 0644); expected 0600"),
        "{said}"
    );
    let params = with(
        PLAIN,
        &[("incoming_username", "u"), ("password_file", "/etc/none")],
    );
    let said = reason(&script, "start", &params, Exit::Generic);
    assert!(
        said.contains("parameter password_file: /etc/none is not there"),
        "{said}"
    );
}

/// What is harmed, what the monitor has to say, and how.
type Damage = (&'static str, &'static str, fn(&Script));

#[test]
fn a_volume_waits_for_its_disks_before_it_is_a_lun() {
    let cached = || {
        let said = "tank/a\tsync\tstandard\tdefault\ntank/c\tsync\tdisabled\tinherited from tank\n";
        // That one of them is a volume its device says.
        let script = machine().when(&format!("{ASKS_FOR_SYNC}tank/a tank/c"), Reply::ok(said));
        script.write_file("/dev/zd32", "tank/c");
        script
    };
    let set = "zfs set sync=always tank/a tank/c";
    let luns = "1=/dev/zvol/tank/a 2=/dev/zvol/tank/b,ro 3=/dev/zd32";
    let params = [("iqn", IQN), ("luns", luns), ("allowed_initiators", ALICE)];

    let script = cached().when(set, Reply::ok(""));
    let plan = act::<LioTarget>(&script, "plan", &params);
    assert!(plan.stdout.starts_with(&format!("{set}\n")), "{plan:?}");
    script.clear_steps();
    ok(&script, "start", &params);
    let steps = script.steps();
    let at = |what: &str| steps.iter().position(|step| step.contains(what)).unwrap();
    assert!(at(set) < at("/control"), "{steps:#?}");

    let script = cached().when(set, Reply::fails(1, "cannot set property: out of space"));
    let why = reason(&script, "start", &params, Exit::Generic);
    assert!(
        why.contains("write_cache=false") && why.contains("out of space"),
        "{why}"
    );
    assert!(script.lio().held().is_empty());

    // Who wants the cache has it.
    let script = machine();
    script.clear_steps();
    ok(&script, "start", &with(&params, &[("write_cache", "true")]));
    assert!(
        !script.steps().concat().contains("zfs "),
        "{:?}",
        script.steps()
    );
}

#[test]
fn a_stop_does_not_wait_for_a_pool_that_is_suspended() {
    let script = machine();
    ok(&script, "start", FULL);
    script.write_file("/sys/class/block/zd0/inflight", "       1        2\n");
    script.stuck("taking the target away");
    stop_gives_up(&script, "taking", 10.0..20.0);
    // A LUN that is half removed cannot even be listed.
    script.stuck("looking for what is there");
    stop_gives_up(&script, "looking", 4.0..10.0);
}

fn stop_gives_up(script: &Script, doing: &str, patience: std::ops::Range<f64>) {
    let state = "/proc/spl/kstat/zfs/tank/state";
    for (word, why, seconds) in [
        // It may answer yet.
        (
            "ONLINE",
            "LUN 1 (/dev/zvol/tank/a): 3 commands in flight: ",
            patience,
        ),
        (
            "SUSPENDED",
            "LUN 1 (/dev/zvol/tank/a): 3 commands in flight, and pool tank is suspended: it does not answer, LUN 2",
            1.0..3.0,
        ),
    ] {
        script.write_file(state, &format!("{word}\n"));
        let said = reason(script, "stop", FULL, Exit::Generic);
        assert!(said.starts_with(why), "{word}: {said}");
        assert!(said.contains(&format!(": {doing}")), "{word}: {said}");
        let after = said.rsplit_once("not finished after ").unwrap().1;
        let after: f64 = after.split(' ').next().unwrap().parse().unwrap();
        assert!(seconds.contains(&after), "{word}: {said}");
    }
}

#[test]
fn a_monitor_misses_whatever_is_missing() {
    let damage: [Damage; 7] = [
        ("disabled", "it is disabled", |script| {
            kernel(script)
                .write(&format!("{GROUP}/enable"), "0")
                .unwrap()
        }),
        (
            "portal",
            "its portal 192.0.2.10:3260 is not there",
            |script| {
                kernel(script)
                    .rmdir(&format!("{GROUP}/np/192.0.2.10:3260"))
                    .unwrap()
            },
        ),
        ("device", "its device /dev/zvol/tank/a is gone", |script| {
            script.remove("/dev/zvol/tank/a")
        }),
        (
            "other device",
            "is now another device (230:16) than the one that is served (230:0)",
            |script| {
                script.remove("/dev/zvol/tank/a");
                script.tree().symlink("/dev/zd16", "/dev/zvol/tank/a");
            },
        ),
        (
            "read-only",
            "its device /dev/zvol/tank/a has become read-only",
            |script| script.write_file("/sys/class/block/zd0/ro", "1\n"),
        ),
        ("mapped LUN", "does not see LUN 1", |script| {
            let at = format!("{GROUP}/acls/{ALICE}/lun_1");
            kernel(script).remove(&format!("{at}/lun_1")).unwrap();
        }),
        ("target", "it is not there", |script| {
            let host = kernel(script);
            let found =
                crate::own::Own::find(&own(), &host, &crate::own::Named::default()).unwrap();
            let mut steps = crate::plan::removal(&host, &found).unwrap();
            steps.retain(|step| !step.to_string().contains(" core/"));
            crate::steps::apply(&host, &steps).unwrap();
        }),
    ];
    for (what, expected, harm) in damage {
        let script = machine();
        ok(&script, "start", FULL);
        ok(&script, "monitor", FULL);
        harm(&script);
        let said = reason(&script, "monitor", FULL, Exit::Generic);
        assert!(said.contains(expected), "{what}: {said}");
        let before = machine().lio().snapshot();
        ok(&script, "stop", FULL);
        assert_eq!(script.lio().snapshot(), before, "{what}");
    }
}

fn kernel(script: &Script) -> host::Host {
    script.host(std::time::Duration::from_secs(5))
}

fn own() -> crate::own::Own {
    crate::own::Own::named("resource")
}

#[test]
fn a_reload_adds_and_removes_without_dropping_a_session() {
    let script = machine();
    ok(&script, "start", FULL);
    let acl = format!("{GROUP}/acls/{ALICE}");
    script.lio().log_in(&acl);
    let session = shows(&script, &format!("{acl}/info"));
    let kept = store(&script, 1);
    let other = with(
        FULL,
        &[
            ("luns", "1=/dev/zvol/tank/a 7=/dev/zd32"),
            ("allowed_initiators", ALICE),
        ],
    );
    script.clear_steps();
    ok(&script, "reload-agent", &other);
    assert_eq!(shows(&script, &format!("{acl}/info")), session);
    assert_eq!(store(&script, 1), kept);
    assert!(script.tree().exists(&format!("{acl}/lun_7/lun_7")));
    assert!(!script.tree().exists(&format!("{acl}/lun_2")));
    assert!(!script.tree().exists(&format!("{GROUP}/acls/{BOB}")));
    let touched = script
        .steps()
        .into_iter()
        .filter(|step| step.ends_with("/enable"));
    let touched: Vec<String> = touched.collect();
    assert_eq!(
        touched.len(),
        1,
        "only the new unit is enabled: {touched:?}"
    );
    ok(&script, "monitor", &other);
    ok(&script, "stop", &other);
    assert_eq!(script.lio().snapshot(), machine().lio().snapshot());
}

/// What the kernel looks at when a write comes is not how the device was opened.
#[test]
fn a_lun_is_read_only_for_whoever_uses_it() {
    let open = |luns: &'static str| [("iqn", IQN), ("luns", luns)];
    let script = machine();
    let said = reason(
        &script,
        "start",
        &open("1=/dev/zd0,ro 2=/dev/zd16"),
        Exit::Generic,
    );
    assert!(
        said.contains("LUN 1 is read-only and LUN 2 is not"),
        "{said}"
    );
    let protect = format!("{GROUP}/attrib/demo_mode_write_protect");
    ok(&script, "start", &open("1=/dev/zd0,ro 2=/dev/zd16,ro"));
    assert_eq!(shows(&script, &protect), "1");
    // The device has to be opened anew, and the LUN with it.
    ok(&script, "reload-agent", &open("1=/dev/zd0 2=/dev/zd16"));
    assert_eq!(shows(&script, &protect), "0");
    let info = shows(&script, &format!("{}/info", store(&script, 1)));
    assert!(info.contains("readonly: 0"), "{info}");
}

/// The kernel has an entry for each initiator that came as anybody, and keeps it.
#[test]
fn strangers_go_when_only_some_are_allowed() {
    let script = machine();
    ok(&script, "start", PLAIN);
    script.clear_steps();
    let only = with(PLAIN, &[("allowed_initiators", ALICE)]);
    ok(&script, "reload-agent", &only);
    let steps = script.steps();
    let at = |what: &str| {
        let mut steps = steps.iter();
        let at = steps.position(|step| step.contains(what));
        at.unwrap_or_else(|| panic!("no {what} in {steps:#?}"))
    };
    let removed = at(&format!("removing {GROUP}"));
    assert!(at(&format!("{GROUP}/enable")) < removed);
    ok(&script, "monitor", &only);
    assert!(script.tree().exists(&format!("{GROUP}/acls/{ALICE}/lun_2")));
    // An administrator may want both.
    let both = with(&only, &[("tpg_attributes", "generate_node_acls=1")]);
    ok(&script, "reload-agent", &both);
    script.clear_steps();
    ok(&script, "reload-agent", &both);
    let steps = script.steps();
    assert!(
        !steps.iter().any(|step| step.contains("removing")),
        "{steps:?}"
    );
    ok(&script, "stop", &both);
    assert_eq!(script.lio().snapshot(), machine().lio().snapshot());
}

/// With its LUNs the kernel would forget who has reserved them.
#[test]
fn reservations_stay_when_strangers_go() {
    let script = machine();
    let open = with(PLAIN, &[("aptpl_dir", SHARED)]);
    ok(&script, "start", &open);
    let only = with(&open, &[("allowed_initiators", ALICE)]);
    ok(&script, "stop", &open);
    ok(&script, "start", &only);
    script.lio().log_in(&format!("{GROUP}/acls/{ALICE}"));
    let mapped = format!("{GROUP}/acls/{ALICE}/lun_1");
    script
        .lio()
        .register(&mapped, Some("00023d000001"), 0xabcd, false)
        .unwrap();
    script.lio().reserve(&mapped, 5).unwrap();
    // As it is where anybody was let in before.
    kernel(&script)
        .write(&format!("{GROUP}/attrib/generate_node_acls"), "1")
        .unwrap();
    ok(&script, "reload-agent", &only);
    let holder = shows(&script, &format!("{}/pr/res_holder", store(&script, 1)));
    assert!(holder.contains(ALICE), "{holder}");
}

#[test]
fn a_port_number_that_another_target_has_is_not_taken() {
    let script = machine();
    ok(&script, "start", PLAIN);
    let number = shows(&script, &format!("{GROUP}/rtpi"));
    ok(&script, "stop", PLAIN);
    // Somebody else's has it.
    let theirs = "/sys/kernel/config/target/iscsi/iqn.2026-01.com.example:theirs";
    let host = kernel(&script);
    for dir in [theirs.to_owned(), format!("{theirs}/tpgt_1")] {
        host.mkdir(&dir).unwrap();
    }
    host.write(&format!("{theirs}/tpgt_1/rtpi"), &number)
        .unwrap();
    host.write(&format!("{theirs}/tpgt_1/enable"), "1").unwrap();
    ok(&script, "start", PLAIN);
    assert_ne!(shows(&script, &format!("{GROUP}/rtpi")), number);
    ok(&script, "stop", PLAIN);
}

#[test]
fn a_target_with_an_alias_of_its_own_is_known_all_the_same() {
    let script = machine();
    let before = script.lio().snapshot();
    let alias = "TargetAlias=x MaxConnections=bogus";
    let params = with(PLAIN, &[("additional_parameters", alias)]);
    reason(&script, "start", &params, Exit::Generic);
    assert_eq!(script.lio().snapshot(), before);
    let params = with(PLAIN, &[("additional_parameters", "TargetAlias=x")]);
    ok(&script, "start", &params);
    ok(&script, "stop", &params);
    assert_eq!(script.lio().snapshot(), before);
}

#[test]
fn what_is_given_no_longer_needs_a_restart() {
    let script = machine();
    ok(&script, "start", &with(PLAIN, &[("emulate_tpu", "1")]));
    let said = reason(&script, "reload-agent", PLAIN, Exit::Generic);
    assert!(
        said.contains("unit 1: emulate_tpu is given no longer"),
        "{said}"
    );
    let plan = act::<LioTarget>(&script, "plan", PLAIN).stdout;
    assert!(
        plan.contains("a reload would fail: unit 1: emulate_tpu"),
        "{plan}"
    );
    ok(
        &script,
        "reload-agent",
        &with(PLAIN, &[("emulate_tpu", "0")]),
    );
    // Units that are made anew have forgotten it.
    let others = with(PLAIN, &[("luns", "1=/dev/zd32 2=/dev/zd0")]);
    ok(&script, "reload-agent", &others);
}

#[test]
fn a_serial_number_by_itself_goes_with_a_path() {
    let script = machine();
    let params = with(PLAIN, &[("scsi_sn", "abc")]);
    let said = reason(&script, "start", &params, Exit::NotConfigured);
    assert!(
        said.contains("scsi_sn: \"abc\" given without path"),
        "{said}"
    );
    // One that runs with it, as it could once, can be watched and stopped.
    ok(&script, "start", PLAIN);
    ok(&script, "monitor", &params);
    ok(&script, "stop", &params);
}

#[test]
fn portals_for_rdma_need_no_others() {
    let script = machine();
    let only = with(PLAIN, &[("iser_portals", "192.0.2.10")]);
    let plan = act::<LioTarget>(&script, "plan", &only).stdout;
    assert!(plan.contains("np/192.0.2.10:3260/iser 1"), "{plan}");
    assert!(!plan.contains("0.0.0.0"), "{plan}");
    let both = with(&only, &[("portals", "0.0.0.0")]);
    let said = reason(&script, "start", &both, Exit::Generic);
    assert!(
        said.contains("portal 0.0.0.0:3260 takes what is sent to 192.0.2.10:3260"),
        "{said}"
    );
}

/// A port scanner that says nothing keeps the kernel's only login thread for 15 s.
#[test]
fn a_portal_that_is_busy_is_waited_for() {
    let patience = |seconds: u64| {
        let script = machine().service("192.0.2.10:3260", |_| None);
        let params = with(PLAIN, &[("portals", "192.0.2.10")]);
        ok(&script, "start", &params);
        let params = params.iter();
        let params = params.map(|(name, value)| (name.to_string(), value.to_string()));
        let mut call = call("monitor", params.collect());
        call.level = 10;
        let host = script.host(std::time::Duration::from_secs(seconds));
        ocf::execute::<LioTarget>(&call, &host)
    };
    for (timeout, waited) in [(60, "18 s"), (30, "18 s")] {
        let long = patience(timeout);
        assert_eq!(long.exit, Exit::Generic, "{long:?}");
        let why = long.reason.unwrap_or_default();
        let expected = format!("it has not answered a login for {waited}");
        assert!(why.contains(&expected), "{why}");
    }
    // Too little to know anything, or nothing at all.
    for timeout in [20, 9] {
        assert_eq!(patience(timeout).exit, Exit::Success, "{timeout} s");
    }
}

#[test]
fn reservations_move_with_the_storage() {
    let first = machine();
    ok(&first, "start", FULL);
    let mapped = |name: &str| format!("{GROUP}/acls/{name}/lun_1");
    first.lio().log_in(&format!("{GROUP}/acls/{ALICE}"));
    // Not even persistent by the initiator's own wish.
    first
        .lio()
        .register(&mapped(ALICE), Some("00023d000001"), 0xabcd, false)
        .unwrap();
    first.lio().reserve(&mapped(ALICE), 5).unwrap();
    let serial = shows(&first, &format!("{}/wwn/vpd_unit_serial", store(&first, 1)));
    let name = format!("aptpl_{}", serial.rsplit(' ').next().unwrap());
    let kept = first.read_file(&format!("{SHARED}/{name}")).unwrap();
    assert!(kept.contains("sa_res_key=43981"), "{kept}");

    let second = machine();
    second.write_file(&format!("{SHARED}/{name}"), &kept);
    ok(&second, "start", FULL);
    let holder = shows(&second, &format!("{}/pr/res_holder", store(&second, 1)));
    assert!(holder.contains(ALICE), "{holder}");
    // What was cut by a power loss is not taken for nothing.
    ok(&second, "stop", FULL);
    second.write_file(&format!("{SHARED}/{name}"), &kept[..kept.len() / 2]);
    let said = reason(&second, "start", FULL, Exit::Generic);
    assert!(
        said.contains("has the persistent reservations of a unit and cannot be read"),
        "{said}"
    );
    second.write_file(&format!("{SHARED}/{name}.last"), &kept);
    ok(&second, "start", FULL);
    let holder = shows(&second, &format!("{}/pr/res_holder", store(&second, 1)));
    assert!(holder.contains(ALICE), "{holder}");
}

#[test]
fn what_a_node_reserved_alone_is_put_aside() {
    let script = machine();
    ok(&script, "start", FULL);
    let serial = shows(
        &script,
        &format!("{}/wwn/vpd_unit_serial", store(&script, 1)),
    );
    let link = format!(
        "/var/target/pr/aptpl_{}",
        serial.rsplit(' ').next().unwrap()
    );
    ok(&script, "stop", FULL);
    assert!(
        !script.tree().exists(&link),
        "nothing leads to the storage any more"
    );
    script.write_file(&link, "stale");
    ok(&script, "start", FULL);
    assert_eq!(
        script.read_file(&format!("{link}.local")).as_deref(),
        Some("stale")
    );
}

#[test]
fn a_definition_lies_with_the_data() {
    let params = &[("definition", "/tank/.ha/lio.toml"), ("aptpl_dir", SHARED)];
    let script = machine();
    script.write_file(
        "/tank/.ha/lio.toml",
        "[[target]]\niqn = \"iqn.2026-01.com.example:tank\"\nlun = [{ number = 5, device = \"/dev/zd0\" }]\n",
    );
    let before = script.lio().snapshot();
    ok(&script, "start", params);
    ok(&script, "monitor", params);
    assert!(store(&script, 5).contains("/iblock_"));
    let import = act::<LioTarget>(&script, "import", params).stdout;
    assert!(import.contains("/dev/zd0"), "{import}");
    // Neither a monitor nor a stop needs it.
    script.remove("/tank");
    ok(&script, "monitor", params);
    ok(&script, "stop", params);
    assert_eq!(script.lio().snapshot(), before);
}

#[test]
fn without_a_definition_nothing_is_done() {
    let params = &[("definition", "/tank/.ha/lio.toml")];
    let script = machine();
    let before = script.lio().snapshot();
    reason(&script, "monitor", params, Exit::NotRunning);
    ok(&script, "start", params);
    ok(&script, "monitor", params);
    assert_eq!(script.lio().snapshot(), before);
    ok(&script, "stop", params);
    reason(&script, "monitor", params, Exit::NotRunning);
}

fn as_clone(action: &str, params: &[(&str, &str)]) -> Call {
    let params: BTreeMap<String, String> = params
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let mut call = call(action, params);
    call.meta.insert("promotable".into(), "true".into());
    call.instance = "resource:1".into();
    call
}

fn clone_ok(script: &Script, action: &str, params: &[(&str, &str)], exit: Exit) {
    let host = script.host(std::time::Duration::from_secs(20));
    let outcome = ocf::execute::<LioTarget>(&as_clone(action, params), &host);
    assert_eq!(outcome.exit, exit, "{action}: {outcome:?}");
}

#[test]
fn a_stand_in_becomes_as_large_as_its_unit_once_that_is_told() {
    let script = machine()
        .when("crm_node --cluster-id", Reply::ok("2\n"))
        .when_matching(|cmd| cmd.program() == "crm_attribute", Reply::ok(""))
        .when_matching(
            |cmd| cmd.program() == "attrd_updater",
            Reply::fails(6, "nobody has told it\n"),
        );
    clone_ok(&script, "start", PLAIN, Exit::Success);
    let info = |script: &Script| shows(script, &format!("{}/info", store(script, 1)));
    assert!(
        info(&script).contains("PAGES/PAGE_SIZE: 1*4096"),
        "{}",
        info(&script)
    );
    let told = "name=\"hastor-resource-sizes\" host=\"n1\" value=\"1=67108864,2=8192\"\n";
    let script = script.when_matching(|cmd| cmd.program() == "attrd_updater", Reply::ok(told));
    let notify = |kind: &str, operation: &str| {
        let mut call = as_clone("notify", PLAIN);
        call.meta.insert("notify_type".into(), kind.into());
        call.meta
            .insert("notify_operation".into(), operation.into());
        let host = script.host(std::time::Duration::from_secs(20));
        assert_eq!(ocf::execute::<LioTarget>(&call, &host).exit, Exit::Success);
    };
    notify("pre", "promote");
    assert!(info(&script).contains("PAGES/PAGE_SIZE: 1*4096"));
    notify("post", "promote");
    assert!(
        info(&script).contains("PAGES/PAGE_SIZE: 16384*4096"),
        "{}",
        info(&script)
    );
    // Made anew, it takes no writes either.
    let first = format!(
        "{}/alua/default_tg_pt_gp/alua_access_state",
        store(&script, 1)
    );
    assert_eq!(shows(&script, &first), "2");
    clone_ok(&script, "monitor", PLAIN, Exit::Success);
    assert!(script.lio().held().is_empty());
}

#[test]
fn the_node_that_is_not_promoted_opens_nothing() {
    let script = machine()
        .when("crm_node --cluster-id", Reply::ok("2\n"))
        .when_matching(
            // It knows the resource by that alone.
            |cmd| {
                let instance = ("OCF_RESOURCE_INSTANCE", "resource:1");
                cmd.program() == "crm_attribute" && cmd.variables().any(|it| it == instance)
            },
            Reply::ok(""),
        )
        .when_matching(
            |cmd| cmd.program() == "attrd_updater",
            Reply::ok("name=\"hastor-resource-sizes\" host=\"n1\" value=\"1=67108864,2=8192\"\n"),
        );
    let before = script.lio().snapshot();
    let params = FULL;
    let links = |script: &Script| {
        let host = kernel(script);
        let names = host.list("/var/target/pr").unwrap();
        names.len()
    };
    clone_ok(&script, "start", params, Exit::Success);
    clone_ok(&script, "monitor", params, Exit::Success);
    assert!(script.lio().held().is_empty());
    let standby = store(&script, 1);
    // A LUN is in this group before it is in its own: nobody may write to what keeps nothing.
    let first = format!("{standby}/alua/default_tg_pt_gp/alua_access_state");
    assert_eq!(shows(&script, &first), "2");
    assert_eq!(
        shows(
            &script,
            &format!("{standby}/alua/hastor_2/alua_access_state")
        ),
        "2"
    );
    let serial = shows(&script, &format!("{standby}/wwn/vpd_unit_serial"));

    clone_ok(&script, "promote", params, Exit::Success);
    clone_ok(&script, "monitor", params, Exit::Promoted);
    assert_eq!(links(&script), 2);
    assert_eq!(script.lio().held(), ["/dev/zd0", "/dev/zd16"]);
    let active = store(&script, 1);
    assert_eq!(
        shows(
            &script,
            &format!("{active}/alua/hastor_2/alua_access_state")
        ),
        "0"
    );
    assert_eq!(
        shows(&script, &format!("{active}/alua/hastor_2/tg_pt_gp_id")),
        "2"
    );
    assert_eq!(
        shows(&script, &format!("{active}/wwn/vpd_unit_serial")),
        serial
    );

    clone_ok(&script, "demote", params, Exit::Success);
    assert_eq!(links(&script), 0, "nothing is written there from here");
    assert!(script.lio().held().is_empty());
    clone_ok(&script, "stop", params, Exit::Success);
    assert_eq!(script.lio().snapshot(), before);
    assert_eq!(DISKS.len(), 3);
}
