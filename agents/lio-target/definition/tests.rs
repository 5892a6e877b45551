//! Definitions, read on a scripted host that has pool tank.

mod bash;
mod lio_toml;
mod round_trip;
mod stmf_ha;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use host::testing::{Reply, Script};

use super::*;
use crate::wanted::{Access, Initiator, Lun, Mapped, Target, Unit};

const TOML: &str = "/tank/.ha/lio.toml";
const CONF: &str = "/tank/stmf-ha.conf";
const GET: &str = "zfs get -Hp -t volume -r -o name,property,value,source \
                   volmode,org.hastor:guid,org.illumos.stmf-ha:guid,org.hastor:lun,org.illumos.stmf-ha:lun,\
                   org.hastor:blk,org.illumos.stmf-ha:blk tank";

/// A host with pool tank, whose volumes have these properties: volume, property, value, source.
fn machine(properties: &[(&str, &str, &str, &str)]) -> Script {
    let listed: String = properties
        .iter()
        .map(|(volume, property, value, source)| {
            format!("{volume}\t{property}\t{value}\t{source}\n")
        })
        .collect();
    let script = Script::empty().when(GET, Reply::ok(listed));
    script.write_file(
        "/proc/self/mountinfo",
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
         50 21 0:45 / /tank rw - zfs tank rw\n\
         51 50 0:46 / /tank/.ha rw - zfs tank/.ha rw\n",
    );
    script
}

/// Volumes of which nothing is said.
fn volumes(names: &[&'static str]) -> Script {
    let plain = names
        .iter()
        .map(|name| (*name, "volmode", "default", "default"));
    machine(&plain.collect::<Vec<_>>())
}

fn read_on(script: &Script, path: &str, text: &str) -> Result<Definition> {
    script.write_file(path, text);
    let host = script.host(Duration::from_secs(60));
    Ok(read(&host, path)?.expect("the file is there"))
}

fn defined(script: &Script, path: &str, text: &str) -> Definition {
    read_on(script, path, text).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The one line of the error.
fn refused(script: &Script, path: &str, text: &str) -> String {
    let error = read_on(script, path, text).expect_err("an error was expected");
    let line = format!("{error:#}");
    assert!(!line.contains('\n'), "{line}");
    assert!(line.starts_with(path), "{line}");
    line
}

fn set_mode(script: &Script, path: &str, mode: u32) {
    std::fs::set_permissions(script.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn luns(target: &Target) -> Vec<(u16, &str)> {
    target
        .luns
        .iter()
        .map(|lun| (lun.number, lun.unit.as_str()))
        .collect()
}

fn unit<'a>(definition: &'a Definition, name: &str) -> &'a Unit {
    let mut units = definition.wanted.units.iter();
    units.find(|unit| unit.name == name).unwrap()
}

fn attribute<'a>(unit: &'a Unit, name: &str) -> Option<&'a str> {
    let mut attributes = unit.attributes.iter();
    let (_, value) = attributes.find(|(attribute, _)| attribute == name)?;
    Some(value)
}

/// What one initiator sees: its numbers, and the target's.
fn view(target: &Target, name: &str) -> Vec<(u16, u16)> {
    let Access::Only(initiators) = &target.access else {
        panic!("anyone may use {}", target.iqn)
    };
    let one = initiators.iter().find(|one| one.name == name).unwrap();
    one.luns.iter().map(|lun| (lun.number, lun.lun)).collect()
}

#[test]
fn a_file_that_is_not_there_means_not_managed() {
    let host = volumes(&["tank/a"]).host(Duration::from_secs(60));
    assert_eq!(read(&host, TOML).unwrap(), None);
    assert_eq!(read(&host, CONF).unwrap(), None);
}

#[test]
fn an_empty_file_is_one_target_with_every_volume_for_anyone() {
    for path in [TOML, CONF] {
        let definition = defined(&volumes(&["tank/vm/b", "tank/a"]), path, "# nothing\n");
        let [target] = definition.wanted.targets.as_slice() else {
            panic!("{definition:?}")
        };
        assert_eq!(target.iqn, "iqn.2010-08.org.illumos:stmf-ha:tank");
        assert_eq!(target.portals, [names::portal("0.0.0.0").unwrap()]);
        assert_eq!(target.access, Access::Anyone);
        assert_eq!(luns(target), [(0, "tank+a"), (1, "tank+vm+b")]);
        let unit = unit(&definition, "tank+vm+b");
        assert_eq!(unit.backing.path(), "/dev/zvol/tank/vm/b");
        assert_eq!(attribute(unit, "block_size"), Some("512"));
        assert_eq!(unit.company_id, Some(0x00144f));
    }
}

#[test]
fn what_was_chosen_is_stored_once_and_stays() {
    let script = volumes(&["tank/b", "tank/a"]);
    let definition = defined(&script, TOML, "");
    let guid = |name| identity::Identity::of_volume(name).naa();
    let sets = [
        format!(
            "zfs set org.hastor:guid={} org.hastor:lun=0 tank/a",
            guid("tank/a")
        ),
        format!(
            "zfs set org.hastor:guid={} org.hastor:lun=1 tank/b",
            guid("tank/b")
        ),
    ];
    let script = sets
        .iter()
        .fold(script, |script, set| script.when(set, Reply::ok("")));
    script.clear_steps();
    store(&script.host(Duration::from_secs(60)), &definition.assigned).unwrap();
    assert_eq!(script.steps(), sets);

    // Renamed and the other way round: the same disks under the same numbers.
    let (a, b) = (guid("tank/a"), guid("tank/b"));
    let later = machine(&[
        ("tank/1", "org.hastor:guid", &b, "local"),
        ("tank/1", "org.hastor:lun", "1", "local"),
        ("tank/2", "org.hastor:guid", &a, "local"),
        ("tank/2", "org.hastor:lun", "0", "local"),
    ]);
    let later = defined(&later, TOML, "");
    assert_eq!(later.assigned, []);
    assert_eq!(
        luns(&later.wanted.targets[0]),
        [(0, "tank+2"), (1, "tank+1")]
    );
    assert_eq!(
        unit(&later, "tank+2").serial,
        unit(&definition, "tank+a").serial
    );
}

#[test]
fn storing_that_was_interrupted_goes_on_where_it_was() {
    let all = defined(&volumes(&["tank/a", "tank/b", "tank/c"]), TOML, "");
    let rest = machine(&[
        (
            "tank/a",
            "org.hastor:guid",
            &identity::Identity::of_volume("tank/a").naa(),
            "local",
        ),
        ("tank/a", "org.hastor:lun", "0", "local"),
        ("tank/b", "volmode", "default", "default"),
        ("tank/c", "volmode", "default", "default"),
    ]);
    let rest = defined(&rest, TOML, "");
    assert_eq!(rest.wanted, all.wanted);
    assert_eq!(rest.assigned, all.assigned[2..]);
}

#[test]
fn ours_win_over_those_of_stmf_ha_and_inherited_ones_do_not_count() {
    let guid = "600144F0C73A5D0000004F1A2B3C0001";
    let script = machine(&[
        ("tank/a", "org.illumos.stmf-ha:guid", guid, "received"),
        ("tank/a", "org.illumos.stmf-ha:lun", "7", "local"),
        ("tank/a", "org.hastor:lun", "9", "local"),
        ("tank/a", "org.illumos.stmf-ha:blk", "4096", "local"),
        (
            "tank/b",
            "org.illumos.stmf-ha:guid",
            guid,
            "inherited from tank",
        ),
        (
            "tank/b",
            "org.illumos.stmf-ha:lun",
            "9",
            "inherited from tank",
        ),
        ("tank/b", "org.hastor:blk", "4096", "inherited from tank"),
    ]);
    for path in [TOML, CONF] {
        let definition = defined(&script, path, "");
        assert_eq!(
            luns(&definition.wanted.targets[0]),
            [(0, "tank+b"), (9, "tank+a")]
        );
        let (a, b) = (unit(&definition, "tank+a"), unit(&definition, "tank+b"));
        assert_eq!(rules::identity(a).naa(), guid.to_ascii_lowercase());
        assert_eq!(attribute(a, "block_size"), Some("4096"));
        assert_eq!(a.serial, "0c73a5d0000004f1a2b3c0001");
        assert_ne!(a.serial, b.serial);
        assert_eq!(attribute(b, "block_size"), Some("512"));
        let stored: Vec<&str> = definition
            .assigned
            .iter()
            .map(|one| one.volume.as_str())
            .collect();
        assert_eq!(stored, ["tank/b", "tank/b"]);
    }
}

#[test]
fn two_volumes_with_one_number_or_one_guid_are_an_error_that_names_both() {
    for path in [TOML, CONF] {
        let script = machine(&[
            ("tank/a", "org.hastor:lun", "3", "local"),
            ("tank/b", "org.illumos.stmf-ha:lun", "3", "local"),
        ]);
        assert_eq!(
            refused(&script, path, ""),
            format!(
                "{path}: target iqn.2010-08.org.illumos:stmf-ha:tank: LUN 3 is both tank/a and tank/b; \
                 expected each number once"
            )
        );
        let guid = "600144F0C73A5D0000004F1A2B3C0001";
        let lower = guid.to_ascii_lowercase();
        let script = machine(&[
            ("tank/a", "org.hastor:guid", guid, "local"),
            ("tank/b", "org.hastor:guid", &lower, "received"),
        ]);
        assert_eq!(
            refused(&script, path, ""),
            format!(
                "{path}: /dev/zvol/tank/a and /dev/zvol/tank/b have the same serial number, \
                 0c73a5d0000004f1a2b3c0001; to initiators they would be one disk"
            )
        );
    }
}

#[test]
fn a_property_that_says_nonsense_is_an_error_where_it_counts() {
    let script = machine(&[
        ("tank/a", "org.hastor:lun", "ten", "local"),
        ("tank/vm/b", "org.hastor:lun", "+2", "local"),
        ("tank/vm/c", "org.hastor:blk", "520", "local"),
    ]);
    assert_eq!(
        refused(&script, TOML, ""),
        format!(
            "{TOML}: volume tank/vm/c: property org.hastor:blk: \"520\" is not a block size; expected 512, 1024, 2048 or 4096"
        )
    );
    assert_eq!(
        refused(
            &script,
            TOML,
            "[[target]]\nlun = [{ volume = 'tank/vm/b' }]\n"
        ),
        format!(
            "{TOML}: volume tank/vm/b: property org.hastor:lun: \"+2\" is not a LUN; expected a number from 0 to 65535"
        )
    );
}

#[test]
fn the_number_of_a_volume_that_is_not_used_now_is_given_to_no_other() {
    let script = machine(&[
        ("tank/a", "org.hastor:lun", "0", "local"),
        ("tank/vm/b", "volmode", "default", "default"),
    ]);
    let definition = defined(&script, TOML, "[[target]]\nvolumes = ['tank/vm']\n");
    assert_eq!(luns(&definition.wanted.targets[0]), [(1, "tank+vm+b")]);
}

#[test]
fn a_volume_without_a_device_is_no_lun() {
    let script = machine(&[
        ("tank/a", "volmode", "none", "local"),
        ("tank/b", "volmode", "dev", "local"),
    ]);
    for (path, named) in [
        (TOML, "[[target]]\nlun = [{ volume = 'tank/a' }]"),
        (CONF, "logical_units=(tank/a)"),
    ] {
        let definition = defined(&script, path, "");
        assert_eq!(luns(&definition.wanted.targets[0]), [(0, "tank+b")]);
        assert!(
            refused(&script, path, named)
                .ends_with("volume tank/a has no block device: its volmode is none")
        );
    }
}

#[test]
fn what_zfs_says_when_it_fails_is_passed_on() {
    let script = volumes(&[]).when(GET, Reply::fails(1, "cannot open 'tank': I/O error\n"));
    script.write_file(TOML, "");
    let host = script.host(Duration::from_secs(60));
    let error = format!("{:#}", read(&host, TOML).unwrap_err());
    assert!(
        error.ends_with("exit status 1: cannot open 'tank': I/O error"),
        "{error}"
    );
}

#[test]
fn a_file_on_no_pool_has_to_name_one() {
    let script = volumes(&["tank/a"]);
    let error = refused(&script, "/etc/lio.toml", "");
    assert!(error.contains("lies on no ZFS file system"), "{error}");
    let definition = defined(&script, "/etc/lio.toml", "pool = 'tank'");
    assert_eq!(luns(&definition.wanted.targets[0]), [(0, "tank+a")]);
    // Nothing has to be asked where everything is said.
    script.clear_steps();
    let text = "[[target]]\niqn = 'iqn.2025-01.com.example:vm'\nlun = [{ number = 0, device = '/dev/drbd0' }]\n";
    let definition = defined(&script, "/etc/lio.toml", text);
    assert_eq!(luns(&definition.wanted.targets[0]), [(0, "dev+drbd0")]);
    let steps = script.steps();
    assert!(!steps.iter().any(|step| step.contains("zfs")), "{steps:?}");
}

#[test]
fn a_text_can_be_checked_without_a_host() {
    check("", Format::Toml, TOML, Some("tank")).unwrap();
    check("", Format::StmfHa, CONF, None).unwrap();
    check("logical_units=( tank/a )", Format::StmfHa, CONF, None).unwrap();
    let error = check("targets=( a b\n", Format::StmfHa, CONF, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{CONF}:1: the array that begins here has no end; expected a \")\"")
    );
    let error = check("\n\nlun = 1\n", Format::Toml, TOML, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{TOML}:3: lun: there is no such key; expected one of defaults, groups, pool, target, unit"
        )
    );
}
