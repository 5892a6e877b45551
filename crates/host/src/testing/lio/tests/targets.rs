//! target/iscsi: targets, portal groups, portals and initiators.

use super::*;

/// A portal group with nothing in it.
fn with_tpg() -> (Script, Host) {
    let (script, host) = machine();
    make(&host, &[ISCSI, IQN, TPG]);
    (script, host)
}

fn set(host: &Host, attribute: &str, text: &str) -> anyhow::Result<()> {
    host.write(&format!("{TPG}/{attribute}"), text)
}

fn get(host: &Host, attribute: &str) -> String {
    read(host, &format!("{TPG}/{attribute}"))
}

#[test]
fn making_iscsi_loads_its_module() {
    let (_script, host) = machine();
    host.mkdir(ISCSI).unwrap();
    host.mkdir(ISCSI).unwrap();
    assert_eq!(
        read(&host, &format!("{ISCSI}/lio_version")),
        "Datera Inc. iSCSI Target v4.1.0\n"
    );
    assert_eq!(
        host.list(&format!("{ISCSI}/discovery_auth")).unwrap(),
        [
            "authenticate_target",
            "enforce_discovery_auth",
            "password",
            "password_mutual",
            "userid",
            "userid_mutual"
        ]
    );
    host.rmdir(ISCSI).unwrap();
}

#[test]
fn without_its_module_there_is_no_iscsi() {
    let (_script, host) = machine_with(LioKernel::v6_12().without_module("iscsi_target_mod"));
    assert_eq!(refused(host.mkdir(ISCSI)), Errno::EINVAL);
    assert_eq!(
        refused(host.mkdir("/sys/kernel/config/target/loopback")),
        Errno::EINVAL
    );
}

#[test]
fn a_target_may_have_any_name_that_is_not_too_long() {
    let (_script, host) = machine();
    make(&host, &[ISCSI, IQN, &format!("{ISCSI}/anything")]);
    host.mkdir(&format!("{ISCSI}/{}", "x".repeat(223))).unwrap();
    assert_eq!(
        refused(host.mkdir(&format!("{ISCSI}/{}", "x".repeat(224)))),
        Errno::EINVAL
    );
    assert_eq!(
        refused(host.mkdir(&format!("{ISCSI}/{}", "x".repeat(256)))),
        Errno::ENAMETOOLONG
    );
    assert_eq!(host.list(IQN).unwrap(), ["fabric_statistics", "param"]);
}

#[test]
fn a_directory_needs_the_one_above_it() {
    let (_script, host) = machine();
    assert_eq!(refused(host.mkdir(IQN)), Errno::ENOENT);
    make(&host, &[ISCSI]);
    assert_eq!(refused(host.mkdir(TPG)), Errno::ENOENT);
    assert_eq!(
        refused(host.mkdir(&format!("{ISCSI}/lio_version/x"))),
        Errno::ENOTDIR
    );
}

#[test]
fn directories_are_made_only_where_something_can_be() {
    let (_script, host) = with_initiator();
    for dir in [
        "/sys/kernel/config".to_owned(),
        format!("{CORE}/alua"),
        VOL.to_owned(),
        format!("{VOL}/attrib"),
        TPG.to_owned(),
        format!("{TPG}/param"),
        LUN.to_owned(),
        MAPPED.to_owned(),
    ] {
        assert_eq!(
            refused(host.mkdir(&format!("{dir}/x"))),
            Errno::EPERM,
            "{dir}"
        );
    }
    assert_eq!(
        refused(host.mkdir(&format!("{LUN}/statistics/x"))),
        Errno::ENOSYS
    );
    assert_eq!(refused(host.mkdir_all(&format!("{TPG}/a/b"))), Errno::EPERM);
}

#[test]
fn directories_can_be_made_all_at_once() {
    let (_script, host) = machine();
    host.mkdir_all(LUN).unwrap();
    assert_eq!(get(&host, "enable"), "0\n");
}

#[test]
fn a_portal_group_is_named_by_its_tag() {
    let (_script, host) = machine();
    make(
        &host,
        &[
            ISCSI,
            IQN,
            &format!("{IQN}/tpgt_0"),
            &format!("{IQN}/tpgt_65535"),
        ],
    );
    for name in ["tpgt", "tpgt_", "tpgt_x", "tpgt_65536", "tpg_1", "tpgt_-1"] {
        assert_eq!(
            refused(host.mkdir(&format!("{IQN}/{name}"))),
            Errno::EINVAL,
            "{name}"
        );
    }
}

#[test]
fn a_new_portal_group_comes_with_all_its_files() {
    let (_script, host) = with_tpg();
    let names = [
        "acls",
        "attrib",
        "auth",
        "dynamic_sessions",
        "enable",
        "lun",
        "np",
        "param",
        "rtpi",
    ];
    assert_eq!(host.list(TPG).unwrap(), names);
    for (name, value) in [
        ("enable", "0\n"),
        ("rtpi", "0x0\n"),
        ("dynamic_sessions", ""),
        ("attrib/authentication", "1\n"),
        ("attrib/generate_node_acls", "0\n"),
        ("attrib/demo_mode_write_protect", "1\n"),
        ("attrib/default_cmdsn_depth", "64\n"),
        ("param/AuthMethod", "CHAP\n"),
        ("param/HeaderDigest", "CRC32C,None\n"),
        ("param/TargetAlias", "LIO Target\n"),
        ("auth/userid", "\n"),
        ("auth/authenticate_target", "0\n"),
    ] {
        assert_eq!(get(&host, name), value, "{name}");
    }
    assert_eq!(host.list(&format!("{TPG}/attrib")).unwrap().len(), 13);
    assert_eq!(host.list(&format!("{TPG}/param")).unwrap().len(), 21);
}

#[test]
fn a_portal_group_may_be_told_to_be_as_it_is() {
    let (_script, host) = with_tpg();
    for value in ["0", "1", "1\n", "0", "off"] {
        set(&host, "enable", value).unwrap();
    }
    assert_eq!(refused(set(&host, "enable", "2")), Errno::EINVAL);
    assert_eq!(get(&host, "enable"), "0\n");
}

#[test]
fn an_old_kernel_refuses_to_be_told_so() {
    let (_script, host) = machine_with(LioKernel::v6_1().refusing_repeated_enable());
    make(&host, &[ISCSI, IQN, TPG]);
    assert_eq!(refused(set(&host, "enable", "0")), Errno::EINVAL);
    set(&host, "enable", "1").unwrap();
    assert_eq!(refused(set(&host, "enable", "1")), Errno::EINVAL);
    set(&host, "enable", "0").unwrap();
}

#[test]
fn an_enabled_portal_group_has_a_port_identifier_of_its_own() {
    let (_script, host) = with_tpg();
    let second = format!("{IQN}/tpgt_2");
    make(&host, &[&second]);
    set(&host, "rtpi", "0x10").unwrap();
    assert_eq!(refused(set(&host, "rtpi", "0")), Errno::EINVAL);
    set(&host, "enable", "1").unwrap();
    assert_eq!(refused(set(&host, "rtpi", "5")), Errno::EINVAL);
    host.write(&format!("{second}/rtpi"), "16").unwrap();
    assert_eq!(
        refused(host.write(&format!("{second}/enable"), "1")),
        Errno::EINVAL
    );
    host.write(&format!("{second}/rtpi"), "17").unwrap();
    host.write(&format!("{second}/enable"), "1").unwrap();
    assert_eq!(read(&host, &format!("{second}/rtpi")), "0x11\n");
}

#[test]
fn a_port_identifier_that_is_not_given_is_the_next_one() {
    let (_script, host) = with_tpg();
    set(&host, "enable", "1").unwrap();
    assert_eq!(get(&host, "rtpi"), "0x1\n");
}

#[test]
fn who_must_authenticate_is_not_offered_to_go_without() {
    let (_script, host) = with_tpg();
    for (method, offered) in [
        ("CHAP,None", "CHAP\n"),
        ("None,CHAP", "CHAP\n"),
        ("None", "CHAP\n"),
        ("CHAP", "CHAP\n"),
    ] {
        set(&host, "param/AuthMethod", method).unwrap();
        set(&host, "enable", "1").unwrap();
        assert_eq!(get(&host, "param/AuthMethod"), offered, "{method}");
        set(&host, "enable", "0").unwrap();
    }
}

#[test]
fn who_need_not_authenticate_is_offered_to_go_without() {
    let (_script, host) = with_tpg();
    set(&host, "attrib/authentication", "0").unwrap();
    assert_eq!(get(&host, "param/AuthMethod"), "CHAP,None\n");
    set(&host, "enable", "1").unwrap();
    assert_eq!(get(&host, "param/AuthMethod"), "CHAP,None\n");
    set(&host, "attrib/authentication", "1").unwrap();
    assert_eq!(get(&host, "param/AuthMethod"), "CHAP\n");
    assert_eq!(
        refused(set(&host, "attrib/authentication", "2")),
        Errno::EINVAL
    );
}

#[test]
fn attributes_of_a_portal_group_have_ranges() {
    let (_script, host) = with_tpg();
    for (name, good, bad) in [
        ("login_timeout", "5", "4"),
        ("login_timeout", "30", "31"),
        ("default_cmdsn_depth", "512", "513"),
        ("default_cmdsn_depth", "1", "0"),
        ("default_erl", "2", "3"),
        ("fabric_prot_type", "3", "2"),
        ("generate_node_acls", "1", "2"),
        ("demo_mode_write_protect", "0", "yes"),
        ("prod_mode_write_protect", "1", "-1"),
    ] {
        let name = format!("attrib/{name}");
        set(&host, &name, good).unwrap();
        assert_eq!(
            refused(set(&host, &name, bad)),
            Errno::EINVAL,
            "{name}={bad}"
        );
        assert_eq!(get(&host, &name), format!("{good}\n"));
    }
}

#[test]
fn initiators_that_are_let_in_unknown_are_remembered() {
    let (_script, host) = with_tpg();
    set(&host, "attrib/generate_node_acls", "1").unwrap();
    assert_eq!(get(&host, "attrib/cache_dynamic_acls"), "1\n");
    set(&host, "attrib/cache_dynamic_acls", "0").unwrap();
    assert_eq!(get(&host, "attrib/cache_dynamic_acls"), "1\n");
}

#[test]
fn keys_have_values() {
    let (_script, host) = with_tpg();
    for (name, good, bad) in [
        ("InitialR2T", "No", "no"),
        ("ImmediateData", "Yes\n", "1"),
        ("MaxConnections", "65535", "0"),
        ("MaxConnections", "1", "many"),
        ("MaxBurstLength", "512", "511"),
        ("MaxRecvDataSegmentLength", "16777215", "16777216"),
        ("DefaultTime2Wait", "3600", "3601"),
        ("ErrorRecoveryLevel", "2", "3"),
        ("AuthMethod", "CHAP,None", "CHAP, None"),
        ("HeaderDigest", "None", "MD5"),
        ("DataDigest", "CRC32C", "Reject"),
        ("TargetAlias", "tank of n1", "a,b"),
        ("IFMarkInt", "Reject", "NotUnderstood"),
    ] {
        let name = format!("param/{name}");
        set(&host, &name, good).unwrap();
        assert_eq!(
            refused(set(&host, &name, bad)),
            Errno::EINVAL,
            "{name}={bad}"
        );
        assert_eq!(get(&host, &name).trim_end(), good.trim_end(), "{name}");
    }
}

#[test]
fn of_a_number_only_the_beginning_is_looked_at() {
    let (_script, host) = with_tpg();
    set(&host, "param/DefaultTime2Retain", "20 seconds").unwrap();
    assert_eq!(get(&host, "param/DefaultTime2Retain"), "20 seconds\n");
}

#[test]
fn a_password_is_kept_with_its_newline() {
    let (_script, host) = with_tpg();
    make(&host, &[ACL]);
    for auth in [
        format!("{TPG}/auth"),
        format!("{ACL}/auth"),
        format!("{ISCSI}/discovery_auth"),
    ] {
        let password = format!("{auth}/password");
        host.write(&password, "secret").unwrap();
        assert_eq!(read(&host, &password), "secret\n");
        host.write(&password, "secret\n").unwrap();
        assert_eq!(read(&host, &password), "secret\n\n");
    }
}

#[test]
fn a_password_that_is_too_long_is_refused_or_cut_off() {
    let (_script, host) = with_tpg();
    make(&host, &[ACL]);
    let long = "x".repeat(256);
    assert_eq!(
        refused(host.write(&format!("{ACL}/auth/password"), &long)),
        Errno::EINVAL
    );
    host.write(&format!("{ACL}/auth/password"), &long[..255])
        .unwrap();
    set(&host, "auth/password", &long).unwrap();
    assert_eq!(get(&host, "auth/password").len(), 256);
}

#[test]
fn the_target_authenticates_itself_once_both_are_set() {
    let (_script, host) = with_tpg();
    set(&host, "auth/userid_mutual", "tank").unwrap();
    assert_eq!(get(&host, "auth/authenticate_target"), "0\n");
    set(&host, "auth/password_mutual", "secret").unwrap();
    assert_eq!(get(&host, "auth/authenticate_target"), "1\n");
    set(&host, "auth/userid_mutual", "NULL").unwrap();
    assert_eq!(get(&host, "auth/authenticate_target"), "0\n");
    assert_eq!(get(&host, "auth/userid_mutual"), "NULL\n");
    assert_eq!(
        refused(set(&host, "auth/authenticate_target", "1")),
        Errno::EACCES
    );
}

#[test]
fn a_portal_is_an_address_and_a_port() {
    let (_script, host) = with_tpg();
    let np = |name: &str| host.mkdir(&format!("{TPG}/np/{name}"));
    for name in [
        "192.0.2.1:3260",
        "[2001:db8::1]:3260",
        "[fe80::1%eth0]:3260",
        "0.0.0.0:3261",
    ] {
        np(name).unwrap();
        np(name).unwrap();
    }
    for name in [
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:port",
        "192.0.2.1:65536",
        "192.0.2.256:3260",
        "2001:db8::1",
        "2001:db8::1:3260",
        "[2001:db8::2]",
        "[2001:db8::2:3260",
        "n1.example.org:3260",
    ] {
        assert_eq!(refused(np(name)), Errno::EINVAL, "{name}");
    }
    assert_eq!(read(&host, &format!("{TPG}/np/192.0.2.1:3260/iser")), "0\n");
}

#[test]
fn two_portal_groups_of_a_target_cannot_share_a_portal() {
    let (_script, host) = with_tpg();
    let (second, other) = (format!("{IQN}/tpgt_2"), format!("{ISCSI}/iqn.other"));
    make(&host, &[&second, &other, &format!("{other}/tpgt_1")]);
    host.mkdir(&format!("{TPG}/np/192.0.2.1:3260")).unwrap();
    assert_eq!(
        refused(host.mkdir(&format!("{second}/np/192.0.2.1:3260"))),
        Errno::EINVAL
    );
    assert_eq!(
        refused(host.mkdir(&format!("{TPG}/np/192.0.2.1:0xcbc"))),
        Errno::EINVAL
    );
    host.mkdir(&format!("{other}/tpgt_1/np/192.0.2.1:3260"))
        .unwrap();
    host.mkdir(&format!("{second}/np/192.0.2.1:3261")).unwrap();
}

#[test]
fn all_addresses_and_one_of_them_exclude_each_other() {
    let (_script, host) = with_tpg();
    let np = |name: &str| host.mkdir(&format!("{TPG}/np/{name}"));
    np("192.0.2.1:3260").unwrap();
    assert_eq!(refused(np("0.0.0.0:3260")), Errno::EINVAL);
    assert_eq!(refused(np("[::]:3260")), Errno::EINVAL);
    np("0.0.0.0:3261").unwrap();
    assert_eq!(refused(np("192.0.2.1:3261")), Errno::EINVAL);
    np("[2001:db8::1]:3261").unwrap();
}

#[test]
fn a_portal_needs_a_port_that_nobody_else_has() {
    let (script, host) = with_tpg();
    script.lio().listened_on_by_others("0.0.0.0:3260");
    assert_eq!(
        refused(host.mkdir(&format!("{TPG}/np/192.0.2.1:3260"))),
        Errno::EINVAL
    );
    host.mkdir(&format!("{TPG}/np/192.0.2.1:3261")).unwrap();
}

#[test]
fn a_new_initiator_comes_with_all_its_files() {
    let (_script, host) = with_tpg();
    set(&host, "attrib/default_cmdsn_depth", "16").unwrap();
    set(&host, "attrib/default_erl", "1").unwrap();
    make(&host, &[ACL]);
    let names = [
        "attrib",
        "auth",
        "cmdsn_depth",
        "fabric_statistics",
        "info",
        "param",
        "tag",
    ];
    assert_eq!(host.list(ACL).unwrap(), names);
    for (name, value) in [
        ("cmdsn_depth", "16\n"),
        ("tag", ""),
        ("attrib/default_erl", "1\n"),
        ("attrib/authentication", "-1\n"),
        ("param/MaxConnections", "No Active iSCSI Session\n"),
        (
            "info",
            "No active iSCSI Session for Initiator Endpoint: iqn.2003-01.org.example:client\n",
        ),
    ] {
        assert_eq!(read(&host, &format!("{ACL}/{name}")), value, "{name}");
    }
}

#[test]
fn attributes_of_an_initiator_have_ranges() {
    let (_script, host) = with_tpg();
    make(&host, &[ACL]);
    for (name, good, bad) in [
        ("cmdsn_depth", "512", "513"),
        ("attrib/nopin_timeout", "0", "2"),
        ("attrib/nopin_timeout", "60", "61"),
        ("attrib/nopin_response_timeout", "3", "2"),
        ("attrib/dataout_timeout", "2", "1"),
        ("attrib/dataout_timeout_retries", "15", "16"),
        ("attrib/authentication", "-1", "-2"),
    ] {
        let name = format!("{ACL}/{name}");
        host.write(&name, good).unwrap();
        assert_eq!(
            refused(host.write(&name, bad)),
            Errno::EINVAL,
            "{name}={bad}"
        );
        assert_eq!(read(&host, &name), format!("{good}\n"));
    }
    host.write(&format!("{ACL}/cmdsn_depth"), "0").unwrap();
    assert_eq!(read(&host, &format!("{ACL}/cmdsn_depth")), "1\n");
}

#[test]
fn a_tag_is_kept_as_it_is_written() {
    let (_script, host) = with_tpg();
    make(&host, &[ACL]);
    let tag = format!("{ACL}/tag");
    host.write(&tag, "db\n").unwrap();
    assert_eq!(read(&host, &tag), "db\n");
    host.write(&tag, "db").unwrap();
    assert_eq!(read(&host, &tag), "db");
    assert_eq!(refused(host.write(&tag, &"x".repeat(64))), Errno::EINVAL);
    host.write(&tag, "NULL").unwrap();
    assert_eq!(read(&host, &tag), "");
}

#[test]
fn a_session_ends_when_its_portal_group_is_disabled_or_its_depth_changes() {
    let (script, host) = with_initiator();
    let info = || read(&host, &format!("{ACL}/info"));
    let logged_in = || info().contains("Session State: TARG_SESS_STATE_LOGGED_IN\n");
    set(&host, "enable", "1").unwrap();
    script.lio().log_in(ACL);
    assert!(logged_in());
    host.write(&format!("{ACL}/cmdsn_depth"), "64").unwrap();
    assert!(logged_in());
    host.write(&format!("{ACL}/cmdsn_depth"), "32").unwrap();
    assert!(!logged_in());
    script.lio().log_in(ACL);
    set(&host, "enable", "0").unwrap();
    assert!(!logged_in());
}
