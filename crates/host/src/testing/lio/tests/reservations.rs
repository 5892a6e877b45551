//! Persistent reservations, and how they outlive the host.

use super::*;

const APTPL: &str = "/var/target/pr/aptpl_4711";
const ISID: &str = "00023d000001";

/// An initiator that sees a backstore with a serial number.
fn with_serial() -> (Script, Host) {
    let (script, host) = with_backstore();
    host.write(&format!("{VOL}/wwn/vpd_unit_serial"), "4711\n")
        .unwrap();
    map(&host);
    (script, host)
}

fn map(host: &Host) {
    make(host, &[ISCSI, IQN, TPG, LUN]);
    host.symlink(VOL, &format!("{LUN}/vol")).unwrap();
    make(host, &[ACL, MAPPED]);
    host.symlink(LUN, &format!("{MAPPED}/vol")).unwrap();
}

/// Removes all but the backstore, whose reservations are forgotten.
fn unmap(host: &Host) {
    host.remove(&format!("{MAPPED}/vol")).unwrap();
    host.rmdir(MAPPED).unwrap();
    host.rmdir(ACL).unwrap();
    host.remove(&format!("{LUN}/vol")).unwrap();
    host.rmdir(LUN).unwrap();
}

fn pr(host: &Host, name: &str) -> String {
    read(host, &format!("{VOL}/pr/{name}"))
}

fn reload(host: &Host, text: &str) -> anyhow::Result<()> {
    host.write(&format!("{VOL}/pr/res_aptpl_metadata"), text)
}

/// The lines of the file, as they are written back: one block, joined by commas.
fn blocks(file: &str) -> Vec<String> {
    let lines: Vec<&str> = file.trim_end_matches('\0').lines().collect();
    lines
        .split(|line| line.starts_with("PR_REG_START"))
        .filter(|block| !block.is_empty())
        .map(|block| block[..block.len() - 1].join(","))
        .collect()
}

#[test]
fn without_reservations_it_says_so() {
    let (_script, host) = with_serial();
    const NONE: &str = "No SPC-3 Reservation holder\n";
    for (name, text) in [
        ("res_holder", NONE),
        ("res_pr_all_tgt_pts", NONE),
        ("res_pr_holder_tg_port", NONE),
        ("res_pr_type", NONE),
        ("res_pr_generation", "0x00000000\n"),
        ("res_pr_registered_i_pts", "SPC-3 PR Registrations:\nNone\n"),
        ("res_type", "SPC3_PERSISTENT_RESERVATIONS\n"),
        ("res_aptpl_active", "APTPL Bit Status: Disabled\n"),
        (
            "res_aptpl_metadata",
            "Ready to process PR APTPL metadata..\n",
        ),
    ] {
        assert_eq!(pr(&host, name), text, "{name}");
    }
    assert_eq!(
        refused(host.write(&format!("{VOL}/pr/res_holder"), "x")),
        Errno::EACCES
    );
}

#[test]
fn a_registration_and_a_reservation_are_shown() {
    let (script, host) = with_serial();
    host.write(&format!("{TPG}/enable"), "1").unwrap();
    script
        .lio()
        .register(MAPPED, Some(ISID), 0x1234, true)
        .unwrap();
    script.lio().reserve(MAPPED, 5).unwrap();
    for (name, text) in [
        (
            "res_pr_registered_i_pts",
            "SPC-3 PR Registrations:\niSCSI Node: iqn.2003-01.org.example:client,i,0x00023d000001 Key: 0x0000000000001234 PRgen: 0x00000000\n",
        ),
        (
            "res_holder",
            "SPC-3 Reservation: iSCSI Initiator: iqn.2003-01.org.example:client,i,0x00023d000001\n",
        ),
        (
            "res_pr_type",
            "SPC-3 Reservation Type: Write Exclusive Access, Registrants Only\n",
        ),
        (
            "res_pr_holder_tg_port",
            "SPC-3 Reservation: iSCSI Target Node Endpoint: iqn.2003-01.org.example:tank\nSPC-3 Reservation: Relative Port Identifier Tag: 1 iSCSI Portal Group Tag: 1 iSCSI Logical Unit: 0\n",
        ),
        (
            "res_pr_all_tgt_pts",
            "SPC-3 Reservation: Single Target Port registration\n",
        ),
        ("res_pr_generation", "0x00000001\n"),
        ("res_aptpl_active", "APTPL Bit Status: Activated\n"),
    ] {
        assert_eq!(pr(&host, name), text, "{name}");
    }
}

#[test]
fn what_shall_outlive_the_host_is_in_a_file() {
    let (script, _host) = with_serial();
    script.lio().register(MAPPED, Some(ISID), 1, true).unwrap();
    script.lio().reserve(MAPPED, 3).unwrap();
    let text = "PR_REG_START: 0\ninitiator_fabric=iSCSI\ninitiator_node=iqn.2003-01.org.example:client\ninitiator_sid=00023d000001\nsa_res_key=1\nres_holder=1\nres_type=03\nres_scope=00\nres_all_tg_pt=0\nmapped_lun=5\ntarget_fabric=iSCSI\ntarget_node=iqn.2003-01.org.example:tank\ntpgt=1\nport_rtpi=0\ntarget_lun=0\nPR_REG_END: 0\n\0";
    assert_eq!(script.read_file(APTPL).unwrap(), text);
}

#[test]
fn what_shall_not_outlive_the_host_empties_the_file() {
    let (script, host) = with_serial();
    script.lio().register(MAPPED, None, 1, true).unwrap();
    script.lio().register(MAPPED, None, 2, false).unwrap();
    assert_eq!(
        script.read_file(APTPL).unwrap(),
        "No Registrations or Reservations\n\0"
    );
    assert_eq!(
        pr(&host, "res_aptpl_active"),
        "APTPL Bit Status: Disabled\n"
    );
    assert!(pr(&host, "res_pr_registered_i_pts").contains("Key: 0x0000000000000002"));
}

#[test]
fn every_registration_can_be_made_to_outlive_the_host() {
    let (script, host) = with_backstore();
    host.write(&format!("{VOL}/wwn/vpd_unit_serial"), "4711")
        .unwrap();
    host.write(&format!("{VOL}/attrib/force_pr_aptpl"), "1")
        .unwrap();
    map(&host);
    script.lio().register(MAPPED, None, 1, false).unwrap();
    assert!(
        script
            .read_file(APTPL)
            .unwrap()
            .starts_with("PR_REG_START: 0\n")
    );
    script.lio().register(MAPPED, None, 0, false).unwrap();
    assert_eq!(
        script.read_file(APTPL).unwrap(),
        "No Registrations or Reservations\0"
    );
}

#[test]
fn without_the_directory_nobody_can_register() {
    let (script, _host) = with_serial();
    script.remove("/var/target/pr");
    let lio = script.lio();
    assert_eq!(lio.register(MAPPED, None, 1, true), Err(Errno::ENOENT));
    assert_eq!(lio.register(MAPPED, None, 1, false), Err(Errno::ENOENT));
}

#[test]
fn reservations_are_forgotten_with_the_mapping_but_not_in_the_file() {
    let (script, host) = with_serial();
    script.lio().register(MAPPED, None, 1, true).unwrap();
    let file = script.read_file(APTPL);
    host.remove(&format!("{MAPPED}/vol")).unwrap();
    assert_eq!(
        pr(&host, "res_pr_registered_i_pts"),
        "SPC-3 PR Registrations:\nNone\n"
    );
    assert_eq!(script.read_file(APTPL), file);
    host.symlink(LUN, &format!("{MAPPED}/vol")).unwrap();
    script.lio().register(MAPPED, None, 1, true).unwrap();
    host.remove(&format!("{LUN}/vol")).unwrap();
    assert_eq!(
        pr(&host, "res_pr_registered_i_pts"),
        "SPC-3 PR Registrations:\nNone\n"
    );
}

#[test]
fn what_is_read_back_counts_once_the_initiator_is_mapped_again() {
    let (script, host) = with_serial();
    script.lio().register(MAPPED, Some(ISID), 7, true).unwrap();
    script.lio().reserve(MAPPED, 7).unwrap();
    let shown = pr(&host, "res_pr_registered_i_pts");
    let file = script.read_file(APTPL).unwrap();
    unmap(&host);
    for block in blocks(&file) {
        reload(&host, &block).unwrap();
    }
    assert_eq!(
        pr(&host, "res_pr_registered_i_pts"),
        "SPC-3 PR Registrations:\nNone\n"
    );
    map(&host);
    assert_eq!(
        pr(&host, "res_pr_registered_i_pts"),
        shown.replace("PRgen: 0x00000000", "PRgen: 0x00000001")
    );
    assert!(pr(&host, "res_holder").contains("iqn.2003-01.org.example:client"));
    assert_eq!(
        pr(&host, "res_aptpl_active"),
        "APTPL Bit Status: Activated\n"
    );
}

#[test]
fn what_is_read_back_is_for_one_initiator_on_one_lun() {
    let (_script, host) = with_backstore();
    let with = |changed: &str| {
        format!(
            "initiator_node=iqn.2003-01.org.example:client,sa_res_key=1,mapped_lun=5,target_node=iqn.2003-01.org.example:tank,tpgt=1,target_lun=0,{changed}"
        )
    };
    for changed in [
        "initiator_node=iqn.2003-01.org.example:other",
        "mapped_lun=0",
        "target_node=iqn.2003-01.org.example:other",
        "tpgt=2",
        "target_lun=1",
    ] {
        reload(&host, &with(changed)).unwrap();
    }
    map(&host);
    assert_eq!(
        pr(&host, "res_pr_registered_i_pts"),
        "SPC-3 PR Registrations:\nNone\n"
    );
    unmap(&host);
    reload(&host, &with("res_holder=0")).unwrap();
    map(&host);
    assert!(pr(&host, "res_pr_registered_i_pts").contains("Key: 0x0000000000000001"));
    assert_eq!(pr(&host, "res_holder"), "No SPC-3 Reservation holder\n");
}

#[test]
fn what_is_read_back_at_once_is_one_registration() {
    let (_script, host) = with_backstore();
    let one = "initiator_node=iqn.2003-01.org.example:client,mapped_lun=5,target_node=iqn.2003-01.org.example:tank,tpgt=1,target_lun=0";
    reload(&host, &format!("{one},sa_res_key=1\n{one},sa_res_key=2\n")).unwrap();
    map(&host);
    let shown = pr(&host, "res_pr_registered_i_pts");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains("Key: 0x0000000000000002"), "{shown}");
}

#[test]
fn what_is_read_back_must_be_whole() {
    let (_script, host) = with_backstore();
    for text in [
        "initiator_node=a,target_node=b",
        "initiator_node=a,sa_res_key=1",
        "target_node=b,sa_res_key=1",
        "initiator_node=a,target_node=b,sa_res_key=0",
        "initiator_node=a,target_node=b,sa_res_key=x",
        "initiator_node=a,target_node=b,sa_res_key=1,res_holder=1",
        "initiator_node=,target_node=b,sa_res_key=1",
        "No Registrations or Reservations",
    ] {
        assert_eq!(refused(reload(&host, text)), Errno::EINVAL, "{text}");
    }
    reload(
        &host,
        "initiator_node=a,target_node=b,sa_res_key=0xff,res_holder=1,res_type=05",
    )
    .unwrap();
}

#[test]
fn the_type_of_all_registrants_is_not_read_back_as_it_was_written() {
    let (script, host) = with_serial();
    script.lio().register(MAPPED, None, 1, true).unwrap();
    script.lio().reserve(MAPPED, 8).unwrap();
    let file = script.read_file(APTPL).unwrap();
    unmap(&host);
    let block = blocks(&file).remove(0);
    assert!(block.contains("res_type=08"));
    assert_eq!(refused(reload(&host, &block)), Errno::EINVAL);
    reload(&host, &block.replace("res_type=08", "res_type=8")).unwrap();
}

#[test]
fn where_reservations_are_not_emulated_nothing_is_read_back() {
    let (_script, host) = with_target();
    host.write(&format!("{VOL}/attrib/pgr_support"), "0")
        .unwrap();
    assert_eq!(pr(&host, "res_type"), "SPC_PASSTHROUGH\n");
    reload(&host, "nonsense").unwrap();
    host.write(&format!("{VOL}/attrib/emulate_pr"), "0")
        .unwrap();
    assert_eq!(pr(&host, "res_holder"), "SPC_RESERVATIONS_DISABLED\n");
    assert_eq!(pr(&host, "res_aptpl_active"), "");
}
