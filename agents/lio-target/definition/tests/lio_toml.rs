//! What `lio.toml` means.

use proptest::prelude::*;

use super::*;
use crate::wanted::Backing;

const ESX1: &str = "iqn.1998-01.com.vmware:esx1-01234567";
const ESX2: &str = "iqn.1998-01.com.vmware:esx2-89abcdef";
const BACKUP: &str = "iqn.1991-05.com.microsoft:backup.example.com";

/// The examples of the documentation.
fn examples() -> Vec<String> {
    let mut examples = Vec::new();
    let mut current: Option<String> = None;
    for line in crate::definition::MANUAL.lines() {
        match (line, current.take()) {
            ("```toml", None) => current = Some(String::new()),
            ("```", Some(example)) => examples.push(example),
            (line, Some(example)) => current = Some(example + line + "\n"),
            (_, None) => {}
        }
    }
    examples
}

fn with_passwords(script: Script) -> Script {
    for (path, text) in [
        ("/etc/hastor/chap/vm", "vm-secret\n"),
        ("/etc/hastor/chap/backup", "backup-secret\nnot this\n"),
    ] {
        script.write_file(path, text);
        set_mode(&script, path, 0o600);
    }
    script
}

#[test]
fn the_examples_of_the_documentation_are_read() {
    let examples = examples();
    let [small, whole] = examples.as_slice() else {
        panic!("{examples:?}")
    };
    assert_eq!(small.lines().count(), 3);
    let definition = defined(&volumes(&[]), TOML, small);
    assert_eq!(luns(&definition.wanted.targets[0]), [(0, "dev+drbd0")]);

    let script = with_passwords(volumes(&[
        "tank/archive/a",
        "tank/archive/b",
        "tank/vm/1",
        "tank/vm/deep/2",
        "tank/vmx",
    ]));
    let definition = defined(&script, TOML, whole);
    let [vm, archive] = definition.wanted.targets.as_slice() else {
        panic!("{definition:?}")
    };
    let portals: Vec<(String, bool)> = vm
        .portals
        .iter()
        .map(|portal| (portal.to_string(), portal.iser))
        .collect();
    assert_eq!(
        portals,
        [
            ("192.0.2.10:3260".to_owned(), false),
            ("[2001:db8::10]:3260".to_owned(), false),
            ("198.51.100.10:3261".to_owned(), true)
        ]
    );
    assert_eq!(
        luns(vm),
        [
            (100, "journal"),
            (101, "tank+images+scratch"),
            (0, "tank+vm+1"),
            (1, "tank+vm+deep+2")
        ]
    );
    assert_eq!(view(vm, ESX1), [(0, 0), (1, 1), (100, 100), (101, 101)]);
    assert_eq!(view(vm, ESX2), view(vm, ESX1));
    assert_eq!(view(vm, BACKUP), [(0, 100)]);
    let Access::Only(initiators) = &vm.access else {
        panic!("{vm:?}")
    };
    let backup: &Initiator = &initiators[2];
    assert_eq!(backup.depth, Some(32));
    assert!(backup.luns[0].read_only);
    assert_eq!(
        backup.chap.as_ref().unwrap().password.reveal(),
        "backup-secret"
    );
    assert_eq!(vm.chap.as_ref().unwrap().password.reveal(), "vm-secret");
    assert_eq!(
        vm.attributes,
        [("default_cmdsn_depth".into(), "128".into())]
    );
    assert_eq!(
        vm.parameters,
        [
            ("ImmediateData".into(), "Yes".into()),
            ("MaxOutstandingR2T".into(), "8".into())
        ]
    );
    assert_eq!(archive.access, Access::Anyone);
    assert_eq!(
        luns(archive),
        [(0, "tank+archive+a"), (1, "tank+archive+b")]
    );
    let journal = unit(&definition, "journal");
    assert_eq!(journal.serial, "journal-1");
    assert_eq!(journal.vendor.as_deref(), Some("EXAMPLE"));
    assert_eq!(journal.product.as_deref(), Some("JOURNAL"));
    assert_eq!(attribute(journal, "block_size"), Some("4096"));
    assert_eq!(attribute(journal, "emulate_tpu"), Some("1"));
    assert_eq!(attribute(journal, "queue_depth"), Some("128"));
    assert_eq!(
        unit(&definition, "tank+images+scratch").backing,
        Backing::File {
            path: "/tank/images/scratch".into(),
            size: Some(10 << 30),
            write_back: false
        }
    );
    assert!(matches!(
        unit(&definition, "tank+archive+b").backing,
        Backing::Block {
            read_only: true,
            ..
        }
    ));
    check(whole, Format::Toml, TOML, None).unwrap();
}

#[test]
fn one_volume_is_one_unit_however_many_targets_it_has() {
    let text = "[[target]]\niqn = 'iqn.2025-01.com.example:a'\n\
                [[target]]\niqn = 'iqn.2025-01.com.example:b'\nlun = [{ number = 5, volume = 'tank/a' }]\nvolumes = ['tank']\n";
    let definition = defined(&volumes(&["tank/a", "tank/b"]), TOML, text);
    assert_eq!(definition.wanted.units.len(), 2);
    assert_eq!(
        luns(&definition.wanted.targets[0]),
        [(0, "tank+a"), (1, "tank+b")]
    );
    // tank/b has one number everywhere; what is said of tank/a in one target is said there only.
    assert_eq!(
        luns(&definition.wanted.targets[1]),
        [(5, "tank+a"), (1, "tank+b")]
    );
}

#[test]
fn luns_can_be_for_some_initiators_only() {
    let text = format!(
        "[[target]]\niqn = 'iqn.2025-01.com.example:a'\nlun = [\n\
         {{ number = 0, device = '/dev/drbd0', initiators = ['{ESX1}'] }},\n\
         {{ number = 1, device = '/dev/drbd1', initiators = ['{ESX1}', '{ESX2}'] }},\n]\n"
    );
    let definition = defined(&volumes(&[]), TOML, &text);
    let target = &definition.wanted.targets[0];
    assert_eq!(view(target, ESX1), [(0, 0), (1, 1)]);
    assert_eq!(view(target, ESX2), [(1, 1)]);
    let error = refused(
        &volumes(&[]),
        TOML,
        &(text.clone() + "initiators = ['" + ESX1 + "']"),
    );
    assert!(
        error.ends_with(&format!(
            "/dev/drbd1 is for {ESX2}, who is none of the target's initiators"
        )),
        "{error}"
    );
    let error = refused(
        &volumes(&[]),
        TOML,
        &text.replacen(", initiators", ", read_only = true}, #", 1),
    );
    assert!(
        error.contains("/dev/drbd0 is for any initiator, /dev/drbd1 for some only"),
        "{error}"
    );
}

#[test]
fn passwords_are_in_files_of_root_only() {
    let text = "[[target]]\niqn = 'iqn.2025-01.com.example:a'\nlun = []\n\
                chap = { user = 'u', password_file = '/etc/hastor/chap/vm' }\n";
    let script = with_passwords(volumes(&[]));
    defined(&script, TOML, text);
    set_mode(&script, "/etc/hastor/chap/vm", 0o640);
    assert_eq!(
        refused(&script, TOML, text),
        format!(
            "{TOML}:4: target.chap.password_file: /etc/hastor/chap/vm has a password in it, and others than its owner have \
             access to it (mode 0640); expected 0600"
        )
    );
    script.remove("/etc/hastor/chap/vm");
    assert_eq!(
        refused(&script, TOML, text),
        format!("{TOML}:4: target.chap.password_file: /etc/hastor/chap/vm is not there")
    );
    assert!(
        refused(&script, TOML, &text.replace("/etc/", "etc/")).contains("expected an absolute one")
    );

    let text = text.replace(
        "password_file = '/etc/hastor/chap/vm'",
        "password = 'top-secret'",
    );
    set_mode(&script, TOML, 0o644);
    let error = refused(&script, TOML, &text);
    assert!(
        error.contains("others than its owner have access to it (mode 0644)"),
        "{error}"
    );
    assert!(!error.contains("top-secret"), "{error}");
    set_mode(&script, TOML, 0o600);
    let definition = defined(&script, TOML, &text);
    let chap = definition.wanted.targets[0].chap.as_ref().unwrap();
    assert_eq!(chap.password.reveal(), "top-secret");
    for bad in ["NULL", " x", "", "é"] {
        let error = refused(&script, TOML, &text.replace("top-secret", bad));
        assert!(error.contains("the password cannot be used"), "{error}");
    }
    for (key, wrong) in [
        ("password", "[ 'top-secret' ]"),
        ("user", "{ password = 'top-secret' }"),
    ] {
        let text = format!("[[target]]\nchap = {{ {key} = {wrong} }}\n");
        let error = refused(&script, TOML, &text);
        assert!(!error.contains("top-secret"), "{error}");
    }
}

#[test]
fn a_password_in_both_directions_is_not_the_same() {
    let script = with_passwords(volumes(&[]));
    let text = "[[target]]\nlun = []\nchap = { user = 'u', password_file = '/etc/hastor/chap/vm', \
                mutual_user = 'm', mutual_password_file = '/etc/hastor/chap/backup' }\n";
    let definition = defined(&script, TOML, text);
    let (user, password) = definition.wanted.targets[0]
        .chap
        .as_ref()
        .unwrap()
        .mutual
        .as_ref()
        .unwrap();
    assert_eq!((user.as_str(), password.reveal()), ("m", "backup-secret"));
    let error = refused(&script, TOML, &text.replace("/backup", "/vm"));
    assert!(
        error.ends_with("the target's password is that of the initiator; expected another"),
        "{error}"
    );
}

#[test]
fn mistakes_are_told_with_line_and_key() {
    let head = "[[target]]\niqn = 'iqn.2025-01.com.example:a'\n";
    let lun = |keys: &str| format!("{head}lun = [\n{{ {keys} }}\n]\n");
    for (text, expected) in [
        (
            "x = 1".to_owned(),
            ":1: x: there is no such key; expected one of defaults, groups, pool, target, unit",
        ),
        ("a = ".to_owned(), ":1: "),
        (
            "pool = 'a b'".to_owned(),
            ":1: pool: 'a b' is not a pool's name",
        ),
        (
            "[target]\n".to_owned(),
            ":1: target: [target] is not what belongs here; expected an array in square brackets",
        ),
        (
            "[[target]]\niqn = 'x'".to_owned(),
            ":2: target.iqn: 'x' is not an iSCSI name",
        ),
        (
            "[[target]]\niqn = 1".to_owned(),
            ":2: target.iqn: 1 is not what belongs here; expected a text in quotes",
        ),
        (
            format!("{head}tag = 0"),
            ":3: target.tag: 0 is not what belongs here; expected a number from 1 to 65535",
        ),
        (
            format!("{head}portals = [\n'192.0.2.1',\n'storage' ]"),
            ":5: target.portals: 'storage' is not a portal",
        ),
        (
            format!("{head}portals = []"),
            ":3: target.portals: [] is empty; expected at least one portal",
        ),
        (
            format!("{head}attributes = {{ '../x' = 1 }}"),
            ":3: target.attributes.../x: the name has other characters",
        ),
        (
            format!("{head}attributes = {{ x = 1.5 }}"),
            ":3: target.attributes.x: 1.5 is not what belongs here",
        ),
        (
            format!("{head}initiators = ['hosts']"),
            ":3: target.initiators: 'hosts' is no group and no iSCSI name",
        ),
        (
            format!("{head}[[target.initiator]]\ndepth = 1"),
            ":3: target.initiator: expected one of name and group",
        ),
        (
            format!("{head}volumes = 'tank'"),
            ":3: target.volumes: 'tank' is not what belongs here; expected an array",
        ),
        (
            lun("number = 0"),
            ":4: target.lun: expected one of unit, volume, device, file and scsi",
        ),
        (
            lun("device = '/dev/sda'"),
            ":4: target.lun: expected the key number",
        ),
        (
            lun("number = 65536, device = '/dev/sda'"),
            ":4: target.lun.number: 65536 is not what belongs here",
        ),
        (
            lun("number = 0, device = 'sda'"),
            ":4: target.lun.device: 'sda' is not a path that can be used",
        ),
        (
            lun("number = 0, device = '/dev/sda,x'"),
            ":4: target.lun.device: '/dev/sda,x' is not a path",
        ),
        (
            lun("number = 0, device = '/dev/sda', file = '/x'"),
            ":4: target.lun: expected only one of",
        ),
        (
            lun("number = 0, device = '/dev/sda', size = 1"),
            ":4: target.lun.size: there is no such key",
        ),
        (
            lun("number = 0, file = '/x', size = '1.5G'"),
            ":4: target.lun.size: '1.5G' is not a size",
        ),
        (
            lun("number = 0, file = '/x', size = '99999999T'"),
            ":4: target.lun.size: '99999999T' is not a size",
        ),
        (
            lun("number = 0, file = '/x', read_only = true"),
            ":4: target.lun.read_only: there is no such key",
        ),
        (
            lun("number = 0, unit = 'x'"),
            ":4: target.lun.unit: 'x' is no unit",
        ),
        (
            lun("number = 0, volume = 'tank'"),
            ": there is no volume tank in pool tank",
        ),
        (
            lun("number = 0, volume = 'tank/x@y'"),
            ":4: target.lun.volume: 'tank/x@y' is not a dataset's name",
        ),
        (
            lun("number = 0, device = '/dev/sda', vendor = 'NINECHARS'"),
            ":4: target.lun.vendor: 'NINECHARS' cannot be told",
        ),
        (
            lun("number = 0, device = '/dev/sda', guid = '6'"),
            ":4: target.lun.guid: '6' is not a GUID",
        ),
        (
            lun("number = 0, device = '/dev/sda', guid = '6', serial = 'x'"),
            ":4: target.lun: expected guid, or serial",
        ),
        (
            lun("number = 0, device = '/dev/sda', company_id = '00144f'"),
            ":4: target.lun: expected guid, or serial",
        ),
        (
            lun("number = 0, device = '/dev/sda', serial = 'x', company_id = '1'"),
            ":4: target.lun.company_id: '1' is no company number",
        ),
        (
            lun("number = 0, device = '/dev/sda', block_size = 513"),
            ":4: target.lun.block_size: 513 is not a block size",
        ),
        (
            lun("number = 0, device = '/dev/sda', attributes = { block_size = 512 }"),
            ":4: target.lun.attributes.block_size: expected as a key of the unit",
        ),
        (
            lun("number = 0, device = '/dev/sda' }, { number = 0, device = '/dev/sdb'"),
            ": target iqn.2025-01.com.example:a: LUN 0 is both /dev/sda and /dev/sdb",
        ),
        (
            lun("number = 0, device = '/dev/sda' }, { number = 1, device = '/dev/sda'"),
            ": target iqn.2025-01.com.example:a: dev+sda is LUN 0 and LUN 1; expected it once",
        ),
        (
            lun(
                "number = 0, device = '/dev/sda', serial = 'a' }, { number = 1, device = '/dev/sdb', serial = 'a'",
            ),
            ": /dev/sda and /dev/sdb have the same serial number, a;",
        ),
        (
            lun(
                "number = 0, device = '/dev/sda', serial = 'x-1' }, { number = 1, device = '/dev/sdb', serial = 'y-1'",
            ),
            ": /dev/sda and /dev/sdb have the same GUID, 60014051000000000000000000000000;",
        ),
        (
            lun(
                "number = 0, device = '/dev/sda', name = 'x' }, { number = 1, device = '/dev/sdb', name = 'x'",
            ),
            ": /dev/sda and /dev/sdb are both called \"x\"",
        ),
        (
            format!("{head}lun = []\n{head}lun = []"),
            ": there are two targets iqn.2025-01.com.example:a",
        ),
        (
            format!("{head}lun = []\nportals = ['192.0.2.1', 'iser:192.0.2.1']"),
            ": target iqn.2025-01.com.example:a: portal 192.0.2.1:3260 is there twice",
        ),
        (
            format!("{head}lun = []\n[[target.initiator]]\nname = '{ESX1}'\nview = [3]"),
            ": target iqn.2025-01.com.example:a: initiator iqn.1998-01.com.vmware:esx1-01234567: the target has no LUN 3",
        ),
        (
            "target = []\n[[unit]]\ndevice = '/dev/sda'".to_owned(),
            ": unit dev+sda is a LUN of no target",
        ),
        (
            "[[unit]]\ndevice = '/dev/sda'\n[[unit]]\ndevice = '/dev/sda'".to_owned(),
            ":3: unit: /dev/sda is a unit already",
        ),
    ] {
        let error = refused(&volumes(&["tank/a"]), TOML, &text);
        assert!(
            error.starts_with(&format!("{TOML}{expected}")),
            "{text}\n{error}\n{expected}"
        );
    }
}

/// Text that is more often than not near to a definition.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[[target]]\n".to_owned()),
        Just("[[unit]]\n".to_owned()),
        Just("[[target.lun]]\n".to_owned()),
        Just("[[target.initiator]]\n".to_owned()),
        Just("number = 1\n".to_owned()),
        Just("device = '/dev/sda'\n".to_owned()),
        Just("volume = 'tank/a'\n".to_owned()),
        Just("lun = [{ number = 1, file = '/x', size = '1G' }]\n".to_owned()),
        Just("chap = { user = 'x', password = 'y' }\n".to_owned()),
        Just(format!("initiators = ['{ESX1}']\n")),
        Just(format!("name = '{ESX2}'\n")),
        Just("view = [1, { lun = 2 }]\n".to_owned()),
        "[a-z_]{1,8} = ([0-9]{1,20}|'.{0,5}'|\\[\\]|\\{\\}|true)\n",
        ".{0,4}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in texts()) {
        if let Err(error) = check(&text, Format::Toml, TOML, Some("tank")) {
            let line = format!("{error:#}");
            prop_assert!(line.starts_with(TOML), "{}", line);
        }
    }
}
