//! What `stmf-ha.conf` means.

use proptest::prelude::*;

use super::*;

const A: &str = "iqn.1998-01.com.vmware:esx1";
const B: &str = "iqn.1998-01.com.vmware:esx2";

/// All keywords, as the manual page of stmf-ha has them.
const WHOLE: &str = r#"
default_target_type=iscsi
target_portal_groups=( tpg01 tpg02 )
tpg01_portals=( 192.168.1.1  192.168.1.2 )
tpg02_portals=( 192.168.2.1:5000  [2001:db8::1]:5000 )
default_tpg=tpg02   # not the first
targets=( target01  target02 target03 )
target01_type=iscsi
target01_tpg=tpg01
logical_units=( tank/vm/A tank/vm/deep/B tank/other/C tank/vmx/D )
host_groups=( hosts_a  hosts_b )
hosts_a_members=(
  iqn.1998-01.com.vmware:ESX1
)
hosts_b_members=(
  iqn.1998-01.com.vmware:esx1
  iqn.1998-01.com.vmware:esx2
)
target_groups=( two  last )
two_members=( target01  target02 )
last_members=( target03 )
views=( vm others )
vm_hg=hosts_a
vm_tg=two
vm_lu_prefix="tank/vm"
others_hg=hosts_b
others_tg=last
others_lu_prefix=tank/other
"#;

fn all() -> Script {
    volumes(&[
        "tank/vm/A",
        "tank/vm/deep/B",
        "tank/other/C",
        "tank/vmx/D",
        "tank/vm/unlisted",
    ])
}

#[test]
fn every_keyword_has_its_meaning() {
    let definition = defined(&all(), CONF, WHOLE);
    let [one, two, three] = definition.wanted.targets.as_slice() else {
        panic!("{definition:?}")
    };
    assert_eq!(one.iqn, "iqn.2010-08.org.illumos:stmf-ha:target01");
    let portals = |target: &Target| -> Vec<String> {
        target.portals.iter().map(ToString::to_string).collect()
    };
    assert_eq!(portals(one), ["192.168.1.1:3260", "192.168.1.2:3260"]);
    assert_eq!(portals(two), ["192.168.2.1:5000", "[2001:db8::1]:5000"]);
    assert_eq!(portals(three), portals(two));
    for target in [one, two] {
        assert_eq!(luns(target), [(0, "tank+vm+A"), (1, "tank+vm+deep+B")]);
        assert_eq!(view(target, A), [(0, 0), (1, 1)]);
    }
    assert_eq!(luns(three), [(0, "tank+other+C")]);
    assert_eq!(view(three, A), [(0, 0)]);
    assert_eq!(view(three, B), [(0, 0)]);
    // tank/vmx is not in tank/vm: it is in no view, and nobody sees it.
    assert_eq!(definition.wanted.units.len(), 3);
}

#[test]
fn groups_and_targets_that_are_not_declared_are_those_of_stmf_ha() {
    let script = volumes(&["tank/a"]);
    for (text, portal) in [
        ("", "0.0.0.0:3260"),
        (
            "target_portal_groups=( x y )\ny_portals=192.0.2.1\n",
            "0.0.0.0:3260",
        ),
        (
            "target_portal_groups=( y x )\ny_portals=192.0.2.1\n",
            "192.0.2.1:3260",
        ),
        (
            "target_portal_groups=( y x )\ny_portals=192.0.2.1\ndefault_tpg=x",
            "0.0.0.0:3260",
        ),
        (
            "target_portal_groups=( x y )\ny_portals=192.0.2.1\ntank_tpg=y",
            "192.0.2.1:3260",
        ),
        (
            "target_portal_groups=( y )\ny_portals=192.0.2.1\ntank_tpg=default",
            "0.0.0.0:3260",
        ),
        (
            "target_portal_groups=( y )\ny_portals=192.0.2.1\ndefault_tpg=default",
            "192.0.2.1:3260",
        ),
        (
            "target_portal_groups=( default )\ndefault_portals=192.0.2.1",
            "192.0.2.1:3260",
        ),
    ] {
        let definition = defined(&script, CONF, text);
        let target = &definition.wanted.targets[0];
        assert_eq!(target.iqn, "iqn.2010-08.org.illumos:stmf-ha:tank");
        assert_eq!(target.portals[0].to_string(), portal, "{text}");
        assert_eq!(target.portals.len(), 1);
    }
}

#[test]
fn all_members_count_and_exactly_they() {
    let text = "logical_units=( tank/a tank/a1 )\nviews=v\nv_hg=h\nhost_groups=h\n\
                h_members=( iqn.1998-01.com.vmware:esx1 iqn.1998-01.com.vmware:esx10 )\n";
    let definition = defined(&volumes(&["tank/a", "tank/a1", "tank/a10"]), CONF, text);
    let target = &definition.wanted.targets[0];
    assert_eq!(luns(target), [(0, "tank+a"), (1, "tank+a1")]);
    assert_eq!(view(target, "iqn.1998-01.com.vmware:esx10").len(), 2);
}

#[test]
fn of_several_views_of_a_volume_the_last_counts() {
    let text = format!(
        "host_groups=( a b )\na_members={A}\nb_members={B}\n\
         views=( all special )\nall_hg=a\nspecial_hg=b\nspecial_lu_prefix=tank/x\n"
    );
    let definition = defined(&volumes(&["tank/x/1", "tank/y"]), CONF, &text);
    let target = &definition.wanted.targets[0];
    let seen: Vec<&str> = luns(target).iter().map(|(_, unit)| *unit).collect();
    assert_eq!(seen.len(), 2);
    assert_eq!((view(target, A).len(), view(target, B).len()), (1, 1));
}

#[test]
fn hosts_that_never_meet_may_have_the_same_number() {
    let text = format!(
        "host_groups=( a b )\na_members={A}\nb_members={B}\n\
         views=( va vb )\nva_hg=a\nva_lu_prefix=tank/a\nvb_hg=b\nvb_lu_prefix=tank/b\n"
    );
    let script = machine(&[
        ("tank/a/1", "org.illumos.stmf-ha:lun", "0", "local"),
        ("tank/b/1", "org.illumos.stmf-ha:lun", "0", "local"),
        ("tank/b/2", "volmode", "default", "default"),
    ]);
    let definition = defined(&script, CONF, &text);
    let target = &definition.wanted.targets[0];
    assert_eq!(view(target, A), [(0, 0)]);
    assert_eq!(view(target, B), [(0, 256), (1, 1)]);
    assert_eq!(
        luns(target),
        [(0, "tank+a+1"), (1, "tank+b+2"), (256, "tank+b+1")]
    );

    // But not with a host in both.
    let both = text.replace(&format!("b_members={B}"), &format!("b_members=( {B} {A} )"));
    assert!(refused(&script, CONF, &both).contains("LUN 0 is both tank/a/1 and tank/b/1"));
}

#[test]
fn what_lio_cannot_do_is_refused() {
    let text = format!(
        "host_groups=a\na_members={A}\nviews=( all some )\nsome_hg=a\nsome_lu_prefix=tank/some\n"
    );
    assert_eq!(
        refused(&volumes(&["tank/all", "tank/some"]), CONF, &text),
        format!(
            "{CONF}: target iqn.2010-08.org.illumos:stmf-ha:tank: tank/all is for any initiator, tank/some for some only, \
             which no target can tell apart; expected initiators for both, or a target for each"
        )
    );
}

#[test]
fn mistakes_are_told_with_their_line() {
    let script = volumes(&["tank/a"]);
    for (text, expected) in [
        (
            "\ndefault_target_type=fc",
            ":2: default_target_type: \"fc\" is a type of target that there is not; expected iscsi",
        ),
        ("targets=t\nt_type=srp", ":2: t_type: \"srp\" is a type"),
        (
            "targets=t\nt_tpg=x",
            ":2: t_tpg: \"x\" is no target portal group; expected one of target_portal_groups",
        ),
        (
            "default_tpg=x",
            ":1: default_tpg: \"x\" is no target portal group",
        ),
        (
            "target_portal_groups=x\nx_portals=( 192.0.2.1 storage )",
            ":2: x_portals: \"storage\" is not a portal",
        ),
        (
            "logical_units=( tank/a tank/b )",
            ":1: logical_units: \"tank/b\" is no logical unit: there is no volume tank/b in pool tank",
        ),
        (
            "host_groups=h\nh_members=( x )",
            ":2: h_members: \"x\" is not an iSCSI name",
        ),
        (
            "host_groups=h\nh_members=wwn.52004567BA64678D",
            ":2: h_members: \"wwn.52004567BA64678D\" is not an iSCSI name",
        ),
        (
            "target_groups=g\ng_members=x",
            ":2: g_members: \"x\" is no target",
        ),
        ("views=v\nv_hg=x", ":2: v_hg: \"x\" is no host group"),
        ("views=v\nv_tg=x", ":2: v_tg: \"x\" is no target group"),
        (
            "views=v\nv_tg=\"x y\"",
            ":2: v_tg: \"y\" is one value too much; expected one",
        ),
        (
            "views=v\nv_lu_prefix=dozer/x",
            ":2: v_lu_prefix: \"dozer/x\" is in another pool",
        ),
        (
            "views=v\nv_lu_prefix=/tank/x",
            ":2: v_lu_prefix: \"/tank/x\" is not a dataset's name",
        ),
        (
            "\nlogical_unit=( tank/a )",
            ":2: logical_unit means nothing here; expected default_target_type",
        ),
        (
            "targets=( a/b )",
            ": target a/b: \"iqn.2010-08.org.illumos:stmf-ha:a/b\" is not an iSCSI name",
        ),
        (
            "targets=( a A )",
            ": there are two targets iqn.2010-08.org.illumos:stmf-ha:a",
        ),
    ] {
        let error = refused(&script, CONF, text);
        assert!(error.starts_with(&format!("{CONF}{expected}")), "{error}");
    }
}

#[test]
fn names_with_blanks_are_datasets() {
    let script = volumes(&["tank/a b", "tank/c"]);
    let definition = defined(&script, CONF, "logical_units=( 'tank/a b' )");
    let unit = &definition.wanted.units[0];
    assert_eq!(unit.name, "tank+a%20b");
    assert_eq!(unit.backing.path(), "/dev/zvol/tank/a+b");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_one_line(text in "(views=|targets=|a_tpg=|v_hg=|host_groups=|[a-z_]{1,5}=|\\(|\\)|a|v| |\n|\"){0,30}") {
        if let Err(error) = check(&text, Format::StmfHa, CONF, Some("tank")) {
            let line = format!("{error:#}");
            prop_assert!(line.starts_with(CONF), "{}", line);
        }
    }
}
