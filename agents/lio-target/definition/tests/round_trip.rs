//! A definition that is written is read again as what it was.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::wanted::{Backing, Chap};
use ocf::Secret;

fn settings() -> impl Strategy<Value = Vec<(String, String)>> {
    btree_map(
        "[a-zA-Z_][a-z0-9_]{0,8}x",
        "(0|-?[1-9][0-9]{0,8}|007|[A-Za-z,\"\\\\]{1,8})",
        0..3,
    )
    .prop_map(|pairs| pairs.into_iter().collect())
}

fn backing() -> impl Strategy<Value = Backing> {
    let path = "/dev/[a-z][a-z 0-9\"\\\\%+._é-]{0,10}[a-z]";
    let volume = "tank/[a-z][a-z 0-9:._-]{0,8}[a-z]";
    prop_oneof![
        (path, any::<bool>(), any::<bool>()).prop_map(|(path, read_only, write_back)| {
            Backing::Block {
                path,
                read_only,
                write_back,
            }
        }),
        (volume, any::<bool>(), any::<bool>()).prop_map(|(volume, read_only, write_back)| {
            Backing::Block {
                path: super::super::volumes::link(&volume),
                read_only,
                write_back,
            }
        }),
        (path, option::of(1..i64::MAX as u64), any::<bool>()).prop_map(
            |(path, size, write_back)| Backing::File {
                path,
                size,
                write_back
            }
        ),
        path.prop_map(|path| Backing::Scsi { path }),
    ]
}

fn units() -> impl Strategy<Value = Vec<Unit>> {
    let company = option::of(prop_oneof![
        Just(0x00144fu32),
        Just(0x001405),
        0..0x100_0000u32
    ]);
    let unit = (
        option::of("[a-z0-9][A-Za-z0-9._:+%-]{0,12}"),
        backing(),
        "([0-9a-f]{25}|[!-~]{1,20})",
        company,
        (
            option::of("[!-~]{1,8}"),
            option::of("[!-~]([ -~]{0,14}[!-~])?"),
            option::of("[!-~]{1,4}"),
        ),
        option::of(prop_oneof![Just("512"), Just("4096")]),
        settings(),
    );
    let unit = unit.prop_map(
        |(name, backing, serial, company_id, (vendor, product, revision), block_size, settings)| {
            let mut attributes = settings;
            attributes.extend(block_size.map(|size| ("block_size".to_owned(), size.to_owned())));
            attributes.sort();
            let path = backing.path().to_owned();
            Unit {
                name: name.unwrap_or_else(|| {
                    super::super::draft::Data::Backing(backing.clone()).name()
                        + &path.len().to_string()
                }),
                backing,
                serial,
                company_id,
                vendor,
                product,
                revision,
                attributes,
            }
        },
    );
    vec(unit, 1..5)
}

fn chap() -> impl Strategy<Value = Option<Chap>> {
    let secret = "[a-z][!-~]{5,12}[a-z]";
    option::of((secret, secret, option::of((secret, secret)))).prop_map(|chap| {
        let (user, password, mutual) = chap?;
        let other = |text: String| Secret::new(format!("{text}{password}"));
        Some(Chap {
            user,
            mutual: mutual.map(|(user, text)| (user, other(text))),
            password: Secret::new(password),
        })
    })
}

fn portals() -> impl Strategy<Value = Vec<Portal>> {
    let portal = (any::<bool>(), 1..4u8, 1..u16::MAX, any::<bool>()).prop_map(
        |(is_v6, last, port, iser)| {
            let address = match is_v6 {
                true => format!("2001:db8::{last}"),
                false => format!("192.0.2.{last}"),
            };
            Portal {
                address: address.parse().unwrap(),
                port,
                iser,
            }
        },
    );
    prop_oneof![vec(portal, 1..4), Just(vec![default_portal()])]
}

/// An initiator's credentials and depth, and what kind of view it has.
type Host = (Option<Chap>, Option<u32>, u8, u16);

fn access() -> impl Strategy<Value = Option<Vec<Host>>> {
    option::of(vec(
        (chap(), option::of(1..200u32), 0..5u8, any::<u16>()),
        0..4,
    ))
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let target = (
        1..=u16::MAX,
        portals(),
        settings(),
        settings(),
        chap(),
        vec(any::<u16>(), 5),
        access(),
    );
    (units(), vec(target, 0..4)).prop_map(|(units, targets)| {
        let targets: Vec<Target> = targets
            .into_iter()
            .enumerate()
            .map(
                |(index, (tag, portals, attributes, parameters, chap, numbers, access))| {
                    let mut luns: Vec<Lun> = units
                        .iter()
                        .zip(numbers)
                        .map(|(unit, number)| Lun {
                            number,
                            unit: unit.name.clone(),
                        })
                        .collect();
                    // Not all units in each target, and in another order.
                    let by = index % luns.len();
                    luns.rotate_left(by);
                    if index > 0 {
                        luns.pop();
                    }
                    let access = match access {
                        None => Access::Anyone,
                        Some(list) => Access::Only(
                            list.into_iter()
                                .enumerate()
                                .map(|(at, (chap, depth, kind, shift))| Initiator {
                                    name: format!("iqn.2025-01.com.example:host{at}"),
                                    chap,
                                    depth,
                                    luns: mapped(&luns, kind, shift),
                                })
                                .collect(),
                        ),
                    };
                    Target {
                        iqn: format!("iqn.2025-01.com.example:{index}"),
                        tag,
                        portals,
                        attributes,
                        parameters,
                        chap,
                        luns,
                        access,
                    }
                },
            )
            .collect();
        let used = !targets.is_empty();
        Wanted {
            units: if used { units } else { Vec::new() },
            targets,
        }
    })
}

fn mapped(luns: &[Lun], kind: u8, shift: u16) -> Vec<Mapped> {
    let mut mapped: Vec<Mapped> = luns
        .iter()
        .map(|lun| Mapped {
            number: lun.number,
            lun: lun.number,
            read_only: kind == 1,
        })
        .collect();
    mapped.sort_by_key(|lun| lun.number);
    match kind {
        0 | 1 => {}
        2 => mapped.reverse(),
        3 => mapped.clear(),
        _ => {
            for (index, lun) in mapped.iter_mut().enumerate() {
                lun.number = lun.number.wrapping_add(shift);
                lun.read_only = index % 2 == 0;
            }
        }
    }
    mapped
}

/// Writes the files that the text names, each with the password that belongs there.
fn write_passwords(script: &Script, wanted: &Wanted) {
    let write = |whose: &str, chap: &Chap| {
        let path = format!("/etc/hastor/chap/{whose}");
        let mutual = chap
            .mutual
            .as_ref()
            .map(|(_, secret)| (format!("{path}.mutual"), secret));
        for (path, secret) in [(path, &chap.password)].into_iter().chain(mutual) {
            script.write_file(&path, secret.reveal());
            set_mode(script, &path, 0o600);
        }
    };
    for target in &wanted.targets {
        if let Some(chap) = &target.chap {
            write(&target.iqn, chap);
        }
        if let Access::Only(initiators) = &target.access {
            for initiator in initiators {
                if let Some(chap) = &initiator.chap {
                    write(&format!("{}@{}", target.iqn, initiator.name), chap);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read_again(wanted in wanted()) {
        prop_assume!(rules::check(&wanted).is_ok());
        let script = volumes(&[]);
        write_passwords(&script, &wanted);
        let text = to_toml(&wanted);
        let definition = read_on(&script, "/etc/lio.toml", &text);
        let definition = definition.map_err(|error| TestCaseError::fail(format!("{error:#}\n{text}")))?;
        prop_assert_eq!(&definition.wanted, &wanted, "{}", text);
        prop_assert_eq!(&definition.assigned, &[]);
        prop_assert!(!script.steps().iter().any(|step| step.contains("zfs")), "{:?}", script.steps());
        for chap in wanted.targets.iter().filter_map(|target| target.chap.as_ref()) {
            prop_assert!(!text.contains(chap.password.reveal()), "{}", text);
        }
    }
}

#[test]
fn a_stmf_ha_conf_can_be_moved() {
    let conf = "target_portal_groups=( a )\na_portals=( 192.0.2.1 192.0.2.2 )\n\
                host_groups=( h )\nh_members=( iqn.1998-01.com.vmware:esx1 iqn.1998-01.com.vmware:esx2 )\n\
                views=( v )\nv_hg=h\nv_lu_prefix=tank/vm\n";
    let script = machine(&[
        (
            "tank/vm/a",
            "org.illumos.stmf-ha:guid",
            "600144F0C73A5D0000004F1A2B3C0001",
            "local",
        ),
        ("tank/vm/a", "org.illumos.stmf-ha:lun", "4", "local"),
        (
            "tank/vm/b",
            "org.illumos.stmf-ha:guid",
            "600144F0C73A5D0000004F1A2B3C0002",
            "local",
        ),
        ("tank/vm/b", "org.illumos.stmf-ha:lun", "0", "local"),
        ("tank/vm/b", "org.illumos.stmf-ha:blk", "4096", "local"),
    ]);
    let before = defined(&script, CONF, conf);
    let text = to_toml(&before.wanted);
    assert_eq!(
        text,
        r#"[[unit]]
volume = "tank/vm/a"
guid = "600144f0c73a5d0000004f1a2b3c0001"
block_size = 512

[[unit]]
volume = "tank/vm/b"
guid = "600144f0c73a5d0000004f1a2b3c0002"
block_size = 4096

[[target]]
iqn = "iqn.2010-08.org.illumos:stmf-ha:tank"
portals = ["192.0.2.1:3260", "192.0.2.2:3260"]
initiators = ["iqn.1998-01.com.vmware:esx1", "iqn.1998-01.com.vmware:esx2"]
lun = [
  { number = 0, unit = "tank+vm+b" },
  { number = 4, unit = "tank+vm+a" },
]
"#
    );
    assert_eq!(defined(&script, TOML, &text).wanted, before.wanted);
}

#[test]
fn no_targets_are_none_and_not_the_default_one() {
    let text = to_toml(&Wanted::default());
    assert_eq!(text, "target = []\n");
    assert_eq!(
        defined(&volumes(&["tank/a"]), TOML, &text).wanted,
        Wanted::default()
    );
}
