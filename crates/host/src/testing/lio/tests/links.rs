//! LUNs, initiators that see them, groups of ports, and the order in which all that is removed.

use super::*;

const GROUP: &str = "/sys/kernel/config/target/core/iblock_0/vol/alua/ha";

fn with_group() -> (Script, Host) {
    let (script, host) = with_target();
    make(&host, &[GROUP]);
    (script, host)
}

fn set(host: &Host, attribute: &str, text: &str) -> anyhow::Result<()> {
    host.write(&format!("{GROUP}/{attribute}"), text)
}

fn get(host: &Host, attribute: &str) -> String {
    read(host, &format!("{GROUP}/{attribute}"))
}

#[test]
fn a_lun_is_named_by_its_number() {
    let (_script, host) = with_target();
    let mkdir = |name: &str| host.mkdir(&format!("{TPG}/lun/{name}"));
    mkdir("lun_16383").unwrap();
    for name in ["0", "lun0", "lun_", "lun_x", "lun_-1"] {
        assert_eq!(refused(mkdir(name)), Errno::EINVAL, "{name}");
    }
    assert_eq!(refused(mkdir("lun_99999999999999999999")), Errno::ERANGE);
}

#[test]
fn a_lun_links_to_its_backstore() {
    let (_script, host) = with_target();
    let link = host.link_target(&format!("{LUN}/vol")).unwrap();
    assert_eq!(link.unwrap(), "../../../../../../target/core/iblock_0/vol");
    let real = host.real_path(&format!("{LUN}/vol")).unwrap();
    assert_eq!(real.unwrap(), VOL);
    assert_eq!(read(&host, &format!("{LUN}/vol/enable")), "1\n");
}

#[test]
fn a_lun_needs_a_backstore_that_is_enabled() {
    let (_script, host) = machine();
    make(&host, &[HBA, VOL, ISCSI, IQN, TPG, LUN]);
    let link = format!("{LUN}/vol");
    assert_eq!(refused(host.symlink(VOL, &link)), Errno::ENODEV);
    assert_eq!(
        refused(host.symlink(&format!("{HBA}/none"), &link)),
        Errno::ENOENT
    );
    assert_eq!(refused(host.symlink(HBA, &link)), Errno::EFAULT);
    assert_eq!(
        refused(host.symlink(&format!("{VOL}/enable"), &link)),
        Errno::ENOTDIR
    );
    assert_eq!(refused(host.symlink("/dev", &link)), Errno::EPERM);
    assert_eq!(
        refused(host.symlink(VOL, &format!("{TPG}/vol"))),
        Errno::EPERM
    );
    assert_eq!(host.link_target(&link).unwrap(), None);
}

#[test]
fn a_lun_has_one_backstore() {
    let (_script, host) = with_target();
    assert_eq!(
        refused(host.symlink(VOL, &format!("{LUN}/again"))),
        Errno::EEXIST
    );
    assert_eq!(
        refused(host.symlink(VOL, &format!("{LUN}/vol"))),
        Errno::EEXIST
    );
    let second = format!("{TPG}/lun/lun_1");
    make(&host, &[&second]);
    host.symlink(VOL, &format!("{second}/vol")).unwrap();
}

#[test]
fn a_lun_without_a_backstore_says_so() {
    let (_script, host) = machine();
    make(&host, &[ISCSI, IQN, TPG, LUN]);
    for name in [
        "alua_tg_pt_gp",
        "alua_tg_pt_offline",
        "alua_tg_pt_status",
        "alua_tg_pt_write_md",
    ] {
        let path = format!("{LUN}/{name}");
        let error = host.read(&path).unwrap_err();
        assert!(
            format!("{error:#}").ends_with("No such device (os error 19)"),
            "{error:#}"
        );
        assert_eq!(refused(host.write(&path, "0")), Errno::ENODEV);
    }
}

#[test]
fn a_lun_begins_in_the_default_group() {
    let (_script, host) = with_target();
    assert_eq!(
        read(&host, &format!("{LUN}/alua_tg_pt_gp")),
        "TG Port Alias: default_tg_pt_gp\nTG Port Group ID: 0\nTG Port Primary Access State: Active/Optimized\nTG Port Primary Access Status: None\nTG Port Secondary Access State: None\nTG Port Secondary Access Status: None\n"
    );
    assert_eq!(read(&host, &format!("{LUN}/alua_tg_pt_offline")), "0\n");
    let members = read(&host, &format!("{VOL}/alua/default_tg_pt_gp/members"));
    assert_eq!(
        members,
        "iSCSI/iqn.2003-01.org.example:tank/tpgt_1/lun_0\n\0"
    );
}

#[test]
fn a_port_can_be_taken_offline() {
    let (_script, host) = with_target();
    let offline = format!("{LUN}/alua_tg_pt_offline");
    host.write(&offline, "1").unwrap();
    assert_eq!(refused(host.write(&offline, "2")), Errno::EINVAL);
    assert_eq!(read(&host, &offline), "1\n");
    let group = read(&host, &format!("{LUN}/alua_tg_pt_gp"));
    assert!(group.ends_with("Secondary Access State: Offline\nTG Port Secondary Access Status: Altered by Implicit ALUA\n"));
}

#[test]
fn a_group_needs_an_identifier_before_anything_else() {
    let (_script, host) = with_group();
    assert_eq!(get(&host, "tg_pt_gp_id"), "");
    for name in [
        "alua_access_state",
        "alua_access_status",
        "alua_support_standby",
    ] {
        assert_eq!(refused(set(&host, name, "0")), Errno::EINVAL, "{name}");
    }
    let lun = format!("{LUN}/alua_tg_pt_gp");
    assert_eq!(refused(host.write(&lun, "ha")), Errno::ENODEV);
    set(&host, "alua_access_type", "1").unwrap();
    set(&host, "tg_pt_gp_id", "16").unwrap();
    assert_eq!(get(&host, "tg_pt_gp_id"), "16\n");
    set(&host, "alua_access_state", "2").unwrap();
    host.write(&lun, "ha\n").unwrap();
    assert!(read(&host, &lun).starts_with(
        "TG Port Alias: ha\nTG Port Group ID: 16\nTG Port Primary Access State: Standby\nTG Port Primary Access Status: Altered by Implicit ALUA\n"
    ));
}

#[test]
fn a_group_gets_its_identifier_once_and_for_itself() {
    let (_script, host) = with_group();
    let second = format!("{VOL}/alua/second");
    make(&host, &[&second]);
    assert_eq!(refused(set(&host, "tg_pt_gp_id", "65536")), Errno::EINVAL);
    set(&host, "tg_pt_gp_id", "1").unwrap();
    assert_eq!(refused(set(&host, "tg_pt_gp_id", "2")), Errno::EINVAL);
    assert_eq!(
        refused(host.write(&format!("{second}/tg_pt_gp_id"), "1")),
        Errno::EINVAL
    );
    host.write(&format!("{second}/tg_pt_gp_id"), "0").unwrap();
    assert_eq!(read(&host, &format!("{second}/tg_pt_gp_id")), "2\n");
}

#[test]
fn a_state_needs_a_device_a_type_and_support() {
    let (_script, host) = machine();
    make(&host, &[HBA, VOL, GROUP]);
    set(&host, "tg_pt_gp_id", "1").unwrap();
    assert_eq!(refused(set(&host, "alua_access_state", "1")), Errno::ENODEV);
    host.write(&format!("{VOL}/control"), "udev_path=/dev/zd0")
        .unwrap();
    host.write(&format!("{VOL}/enable"), "1").unwrap();
    set(&host, "alua_access_type", "2").unwrap();
    assert_eq!(get(&host, "alua_access_type"), "Explicit\n");
    assert_eq!(refused(set(&host, "alua_access_state", "1")), Errno::EINVAL);
    set(&host, "alua_access_type", "3").unwrap();
    set(&host, "alua_access_state", "1").unwrap();
    assert_eq!(refused(set(&host, "alua_access_state", "4")), Errno::EINVAL);
    assert_eq!(refused(set(&host, "alua_access_state", "5")), Errno::EINVAL);
    set(&host, "alua_support_standby", "0").unwrap();
    assert_eq!(refused(set(&host, "alua_access_state", "2")), Errno::EINVAL);
    assert_eq!(get(&host, "alua_access_state"), "1\n");
    assert_eq!(refused(set(&host, "alua_access_type", "4")), Errno::EINVAL);
}

#[test]
fn attributes_of_a_group_have_ranges() {
    let (_script, host) = with_group();
    for (name, default, good, bad) in [
        ("nonop_delay_msecs", "100", "10000", "10001"),
        ("trans_delay_msecs", "0", "30000", "30001"),
        ("implicit_trans_secs", "0", "255", "256"),
        ("preferred", "0", "1", "2"),
        ("alua_write_metadata", "0", "1", "2"),
    ] {
        assert_eq!(get(&host, name), format!("{default}\n"));
        set(&host, name, good).unwrap();
        assert_eq!(refused(set(&host, name, bad)), Errno::EINVAL, "{name}");
    }
    assert_eq!(refused(set(&host, "members", "x")), Errno::EACCES);
}

#[test]
fn a_group_with_members_can_be_removed_and_the_default_one_cannot() {
    let (_script, host) = with_group();
    set(&host, "tg_pt_gp_id", "1").unwrap();
    host.write(&format!("{LUN}/alua_tg_pt_gp"), "ha").unwrap();
    host.rmdir(GROUP).unwrap();
    let group = read(&host, &format!("{LUN}/alua_tg_pt_gp"));
    assert!(group.starts_with("TG Port Alias: default_tg_pt_gp\n"));
    assert_eq!(
        refused(host.rmdir(&format!("{VOL}/alua/default_tg_pt_gp"))),
        Errno::EPERM
    );
}

#[test]
fn an_initiator_sees_a_lun_of_its_portal_group() {
    let (_script, host) = with_target();
    let second = format!("{IQN}/tpgt_2");
    let (lun, acl) = (
        format!("{second}/lun/lun_0"),
        format!("{second}/acls/iqn.y"),
    );
    let mapped = format!("{acl}/lun_0");
    make(&host, &[ACL, MAPPED, &second, &lun, &acl, &mapped]);
    assert_eq!(
        refused(host.symlink(LUN, &format!("{mapped}/x"))),
        Errno::EINVAL
    );
    assert_eq!(
        refused(host.symlink(&lun, &format!("{mapped}/x"))),
        Errno::EINVAL
    );
    assert_eq!(
        refused(host.symlink(VOL, &format!("{MAPPED}/x"))),
        Errno::EFAULT
    );
    host.symlink(LUN, &format!("{MAPPED}/x")).unwrap();
    let link = host.link_target(&format!("{MAPPED}/x")).unwrap().unwrap();
    assert!(
        link.starts_with("../../../../../../../target/iscsi/iqn."),
        "{link}"
    );
    assert_eq!(
        host.real_path(&format!("{MAPPED}/x")).unwrap().unwrap(),
        LUN
    );
}

#[test]
fn an_initiator_sees_one_lun_by_a_number() {
    let (_script, host) = with_initiator();
    let same = format!("{ACL}/lun_05");
    make(&host, &[&same]);
    assert_eq!(
        refused(host.symlink(LUN, &format!("{MAPPED}/again"))),
        Errno::EINVAL
    );
    assert_eq!(
        refused(host.symlink(LUN, &format!("{same}/vol"))),
        Errno::EINVAL
    );
    for name in ["lun", "lun_x", "0"] {
        assert_eq!(
            refused(host.mkdir(&format!("{ACL}/{name}"))),
            Errno::EINVAL,
            "{name}"
        );
    }
}

#[test]
fn protection_from_writing_counts_from_the_link_on() {
    let (_script, host) = with_target();
    make(&host, &[ACL, MAPPED]);
    let protect = format!("{MAPPED}/write_protect");
    assert_eq!(read(&host, &protect), "");
    host.write(&protect, "1").unwrap();
    host.symlink(LUN, &format!("{MAPPED}/vol")).unwrap();
    assert_eq!(read(&host, &protect), "0\n");
    host.write(&protect, "1").unwrap();
    assert_eq!(read(&host, &protect), "1\n");
    assert_eq!(refused(host.write(&protect, "2")), Errno::EINVAL);
    host.remove(&format!("{MAPPED}/vol")).unwrap();
    host.write(&format!("{TPG}/attrib/prod_mode_write_protect"), "1")
        .unwrap();
    host.symlink(LUN, &format!("{MAPPED}/vol")).unwrap();
    assert_eq!(read(&host, &protect), "1\n");
}

#[test]
fn a_lun_that_initiators_see_can_be_unlinked_and_is_gone_for_them() {
    let (_script, host) = with_initiator();
    host.remove(&format!("{LUN}/vol")).unwrap();
    assert_eq!(read(&host, &format!("{MAPPED}/write_protect")), "");
    assert_eq!(
        host.real_path(&format!("{MAPPED}/vol")).unwrap().unwrap(),
        LUN
    );
    assert_eq!(refused(host.rmdir(LUN)), Errno::EBUSY);
    host.symlink(VOL, &format!("{LUN}/vol")).unwrap();
    assert_eq!(read(&host, &format!("{MAPPED}/write_protect")), "");
    host.remove(&format!("{MAPPED}/vol")).unwrap();
    host.symlink(LUN, &format!("{MAPPED}/vol")).unwrap();
    assert_eq!(read(&host, &format!("{MAPPED}/write_protect")), "0\n");
}

#[test]
fn what_something_links_to_or_is_in_stays() {
    let (script, host) = with_initiator();
    host.mkdir(&format!("{TPG}/np/192.0.2.1:3260")).unwrap();
    let before = script.lio().snapshot();
    for (dir, expected) in [
        (VOL, Errno::EBUSY),
        (HBA, Errno::ENOTEMPTY),
        (LUN, Errno::EBUSY),
        (MAPPED, Errno::ENOTEMPTY),
        (ACL, Errno::ENOTEMPTY),
        (TPG, Errno::ENOTEMPTY),
        (IQN, Errno::ENOTEMPTY),
        (ISCSI, Errno::ENOTEMPTY),
    ] {
        assert_eq!(refused(host.rmdir(dir)), expected, "{dir}");
    }
    assert_eq!(script.lio().snapshot(), before);
}

#[test]
fn what_the_kernel_made_and_what_is_no_directory_is_not_removed() {
    let (_script, host) = with_initiator();
    for dir in [CORE, "/sys/kernel/config/target"] {
        assert_eq!(refused(host.rmdir(dir)), Errno::EPERM, "{dir}");
    }
    for dir in ["lun", "np", "acls", "attrib", "param"] {
        assert_eq!(
            refused(host.rmdir(&format!("{TPG}/{dir}"))),
            Errno::EPERM,
            "{dir}"
        );
    }
    assert_eq!(
        refused(host.rmdir(&format!("{TPG}/enable"))),
        Errno::ENOTDIR
    );
    assert_eq!(refused(host.rmdir(&format!("{LUN}/vol"))), Errno::ENOTDIR);
    assert_eq!(refused(host.remove(&format!("{TPG}/enable"))), Errno::EPERM);
    assert_eq!(refused(host.remove(LUN)), Errno::EISDIR);
    assert_eq!(refused(host.write(LUN, "1")), Errno::EISDIR);
    let tag = format!("{ACL}/tag");
    assert_eq!(refused(host.save(&tag, "db")), Errno::EACCES);
    host.rmdir(&format!("{TPG}/lun/lun_9")).unwrap();
    host.remove(&format!("{LUN}/none")).unwrap();
}

#[test]
fn an_enabled_portal_group_can_be_removed_once_nothing_is_in_it() {
    let (_script, host) = machine();
    make(&host, &[ISCSI, IQN, TPG]);
    host.write(&format!("{TPG}/enable"), "1").unwrap();
    host.rmdir(TPG).unwrap();
    make(&host, &[TPG]);
    host.write(&format!("{TPG}/enable"), "1").unwrap();
    assert_eq!(read(&host, &format!("{TPG}/rtpi")), "0x1\n");
}

#[test]
fn all_that_was_made_can_be_removed_again() {
    let (script, host) = machine();
    let before = script.lio().snapshot();
    make_backstore(&host);
    let portal = format!("{TPG}/np/192.0.2.1:3260");
    make(&host, &[GROUP, ISCSI, IQN, TPG, LUN, ACL, MAPPED, &portal]);
    host.symlink(VOL, &format!("{LUN}/vol")).unwrap();
    host.symlink(LUN, &format!("{MAPPED}/vol")).unwrap();
    let made = script.lio().snapshot();
    assert!(made.contains("target/core/iblock_0/vol/enable = \"1\\n\"\n"));
    assert!(made.contains("/lun/lun_0/vol -> target/core/iblock_0/vol\n"));

    host.remove(&format!("{MAPPED}/vol")).unwrap();
    make(&host, &[MAPPED]);
    for dir in [MAPPED, ACL] {
        host.rmdir(dir).unwrap();
    }
    host.remove(&format!("{LUN}/vol")).unwrap();
    for dir in [LUN, &portal, TPG, IQN, ISCSI, GROUP, VOL, HBA] {
        host.rmdir(dir).unwrap();
    }
    assert_eq!(script.lio().snapshot(), before);
    assert!(script.lio().held().is_empty());
    assert_eq!(host.list(CORE).unwrap(), ["alua"]);
}
