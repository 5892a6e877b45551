//! target/core.

use super::*;

fn control(host: &Host, text: &str) -> anyhow::Result<()> {
    host.write(&format!("{VOL}/control"), text)
}

fn enable(host: &Host) -> anyhow::Result<()> {
    host.write(&format!("{VOL}/enable"), "1\n")
}

fn set(host: &Host, attribute: &str, text: &str) -> anyhow::Result<()> {
    host.write(&format!("{VOL}/{attribute}"), text)
}

fn get(host: &Host, attribute: &str) -> String {
    read(host, &format!("{VOL}/{attribute}"))
}

#[test]
fn the_engine_is_there_before_anything_is_configured() {
    let (_script, host) = machine();
    let version = read(&host, "/sys/kernel/config/target/version");
    assert!(version.starts_with("Target Engine Core ConfigFS Infrastructure v5.0 on Linux/"));
    assert_eq!(
        read(&host, "/sys/kernel/config/target/dbroot"),
        "/var/target\n"
    );
    assert_eq!(
        host.list("/sys/kernel/config/target").unwrap(),
        ["core", "dbroot", "version"]
    );
    assert_eq!(host.list(CORE).unwrap(), ["alua"]);
    assert_eq!(
        read(&host, &format!("{CORE}/alua/lu_gps/default_lu_gp/lu_gp_id")),
        "0\n"
    );
}

#[test]
fn the_engine_is_there_once_its_module_is_loaded() {
    let (script, host) = machine_with(LioKernel::v6_12().not_loaded());
    assert!(host.list("/sys/kernel/config").unwrap().is_empty());
    assert_eq!(
        refused(host.mkdir("/sys/kernel/config/target")),
        Errno::EPERM
    );
    script.lio().load();
    script.lio().load();
    assert_eq!(
        host.list("/sys/kernel/config/target").unwrap(),
        ["core", "dbroot", "version"]
    );
}

#[test]
fn the_database_is_in_etc_if_that_is_there_when_the_module_is_loaded() {
    let script = Script::empty();
    script.tree().mkdir("/etc/target");
    let script = script.with_lio(LioKernel::v6_12());
    let dbroot = script.read_file("/sys/kernel/config/target/dbroot");
    assert_eq!(dbroot.unwrap(), "/etc/target\n");
}

#[test]
fn the_database_moves_only_to_a_directory_and_only_without_backstores() {
    const DBROOT: &str = "/sys/kernel/config/target/dbroot";
    let (script, host) = machine();
    script.write_file("/srv/file", "");
    script.tree().mkdir("/srv/lio");
    assert_eq!(refused(host.write(DBROOT, "/nowhere\n")), Errno::ENOENT);
    assert_eq!(refused(host.write(DBROOT, "/srv/file\n")), Errno::ENOTDIR);
    host.write(DBROOT, "/srv/lio\n").unwrap();
    assert_eq!(read(&host, DBROOT), "/srv/lio\n");
    make(&host, &[HBA, VOL]);
    assert_eq!(refused(host.write(DBROOT, "/var/target\n")), Errno::EINVAL);
    host.rmdir(VOL).unwrap();
    host.write(DBROOT, "/var/target\n").unwrap();
}

#[test]
fn a_shorter_path_of_the_database_without_a_newline_keeps_the_end_of_the_longer_one() {
    let (script, host) = machine();
    script.tree().mkdir("/srv");
    host.write("/sys/kernel/config/target/dbroot", "/srv")
        .unwrap();
    assert_eq!(
        read(&host, "/sys/kernel/config/target/dbroot"),
        "/srv/target\n"
    );
}

#[test]
fn an_hba_is_named_by_its_plugin_and_a_number() {
    let (_script, host) = machine();
    make(
        &host,
        &[
            HBA,
            &format!("{CORE}/fileio_7"),
            &format!("{CORE}/rd_mcp_1"),
        ],
    );
    assert_eq!(
        read(&host, &format!("{HBA}/hba_info")),
        "HBA Index: 1 plugin: iblock version: v5.0\n"
    );
    assert_eq!(
        read(&host, &format!("{CORE}/rd_mcp_1/hba_info")),
        "HBA Index: 3 plugin: rd_mcp version: v5.0\n"
    );
    let mkdir = |name: &str| refused(host.mkdir(&format!("{CORE}/{name}")));
    for name in [
        "iblock",
        "iblock_",
        "iblock_x",
        "iblock_0_1",
        "nothing_0",
        "rd_0",
    ] {
        assert_eq!(mkdir(name), Errno::EINVAL, "{name}");
    }
    assert_eq!(
        mkdir(&format!("iblock_{}", "0".repeat(64))),
        Errno::ENAMETOOLONG
    );
    assert_eq!(
        refused(host.write(&format!("{HBA}/hba_mode"), "1")),
        Errno::EINVAL
    );
}

#[test]
fn a_plugin_whose_module_is_missing_has_no_hba() {
    let (_script, host) = machine_with(LioKernel::v6_12().without_module("target_core_iblock"));
    assert_eq!(refused(host.mkdir(HBA)), Errno::EINVAL);
    host.mkdir(&format!("{CORE}/fileio_0")).unwrap();
}

#[test]
fn a_new_backstore_comes_with_all_its_files() {
    let (_script, host) = machine();
    make(&host, &[HBA, VOL]);
    let names = [
        "action",
        "alias",
        "alua",
        "alua_lu_gp",
        "attrib",
        "control",
        "enable",
        "info",
        "lba_map",
        "pr",
        "statistics",
        "udev_path",
        "wwn",
    ];
    assert_eq!(host.list(VOL).unwrap(), names);
    assert_eq!(get(&host, "enable"), "0\n");
    assert_eq!(get(&host, "udev_path"), "");
    assert_eq!(
        get(&host, "wwn/vpd_unit_serial"),
        "T10 VPD Unit Serial Number: \n"
    );
    assert_eq!(get(&host, "wwn/vendor_id"), "LIO-ORG\n");
    assert_eq!(get(&host, "wwn/product_id"), "IBLOCK\n");
    assert_eq!(get(&host, "wwn/revision"), "4.0\n");
    assert_eq!(get(&host, "wwn/company_id"), "0x001405\n");
    assert_eq!(get(&host, "attrib/block_size"), "0\n");
    assert_eq!(get(&host, "attrib/emulate_caw"), "1\n");
    assert_eq!(get(&host, "attrib/emulate_rsoc"), "1\n");
    assert_eq!(host.list(&format!("{VOL}/attrib")).unwrap().len(), 36);
    assert_eq!(
        get(&host, "info"),
        "Status: DEACTIVATED  Max Queue Depth: 0  SectorSize: 0  HwMaxSectors: 0\n          readonly: 0\n        Major: 0 Minor: 0\n"
    );
}

#[test]
fn an_older_kernel_lacks_attributes() {
    let (_script, host) = machine_with(LioKernel::v6_1().without(&["company_id"]));
    make(&host, &[HBA, VOL, ISCSI, IQN, TPG]);
    for path in [
        &format!("{VOL}/attrib/emulate_rsoc"),
        &format!("{VOL}/attrib/submit_type"),
        &format!("{VOL}/wwn/company_id"),
        &format!("{TPG}/rtpi"),
    ] {
        assert_eq!(host.read(path).unwrap(), None);
        assert_eq!(refused(host.write(path, "1")), Errno::ENOENT);
    }
    assert_eq!(read(&host, &format!("{TPG}/attrib/netif_timeout")), "2\n");
    host.write(&format!("{TPG}/enable"), "1").unwrap();
}

#[test]
fn a_backstore_without_a_device_cannot_be_enabled() {
    let (_script, host) = machine();
    make(&host, &[HBA, VOL]);
    assert_eq!(refused(enable(&host)), Errno::EINVAL);
    assert_eq!(refused(set(&host, "enable", "0")), Errno::EINVAL);
}

#[test]
fn control_cannot_be_read_and_passes_over_what_it_does_not_know() {
    let (_script, host) = machine();
    make(&host, &[HBA, VOL]);
    control(&host, "exclusive=1,udev_path=,readonly=x").unwrap();
    assert_eq!(refused(enable(&host)), Errno::EINVAL);
    let error = host.read(&format!("{VOL}/control")).unwrap_err();
    assert!(format!("{error:#}").ends_with("Permission denied (os error 13)"));
}

#[test]
fn a_path_ends_at_a_comma() {
    let (script, host) = machine();
    script.write_file("/dev/zvol/tank/a,b", "");
    make(&host, &[HBA, VOL]);
    control(&host, "udev_path=/dev/zvol/tank/a,b").unwrap();
    assert_eq!(refused(enable(&host)), Errno::ENOENT);
}

#[test]
fn an_enabled_backstore_says_what_it_has() {
    let (script, host) = with_backstore();
    set(&host, "udev_path", "/dev/zvol/tank/vol\n").unwrap();
    assert_eq!(get(&host, "udev_path"), "/dev/zvol/tank/vol\n");
    assert_eq!(get(&host, "enable"), "1\n");
    assert_eq!(
        get(&host, "info"),
        "Status: DEACTIVATED  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 32768\n        iBlock device: zd0  UDEV PATH: /dev/zvol/tank/vol  readonly: 0\n        Major: 230 Minor: 0  CLAIMED: IBLOCK\n"
    );
    for (name, value) in [
        ("hw_block_size", "512\n"),
        ("block_size", "512\n"),
        ("hw_queue_depth", "128\n"),
        ("optimal_sectors", "32768\n"),
        ("is_nonrot", "1\n"),
        ("max_unmap_block_desc_count", "1\n"),
    ] {
        assert_eq!(get(&host, &format!("attrib/{name}")), value, "{name}");
    }
    assert_eq!(
        get(&host, "alua_lu_gp"),
        "LU Group Alias: default_lu_gp\nLU Group ID: 0\n"
    );
    assert_eq!(script.lio().held(), ["/dev/zd0"]);
    assert!(script.lio().holds("/dev/zvol/tank/vol"));
    assert!(!script.lio().holds("/dev/zd16"));
}

#[test]
fn a_backstore_is_enabled_once() {
    let (_script, host) = with_backstore();
    assert_eq!(refused(enable(&host)), Errno::EEXIST);
    assert_eq!(
        refused(control(&host, "udev_path=/dev/zd16")),
        Errno::EEXIST
    );
    control(&host, "readonly=1").unwrap();
}

#[test]
fn a_device_that_is_not_there_cannot_be_opened() {
    let (script, host) = machine();
    script.tree().mkdir("/dev/dir");
    script.write_file("/srv/file", "");
    make(&host, &[HBA, VOL]);
    for (path, expected) in [
        ("/dev/zd1", Errno::ENOENT),
        ("/dev/dir", Errno::ENOTBLK),
        ("/srv/file", Errno::ENOTBLK),
    ] {
        control(&host, &format!("udev_path={path}")).unwrap();
        assert_eq!(refused(enable(&host)), expected, "{path}");
        assert_eq!(get(&host, "enable"), "0\n");
    }
    control(&host, "udev_path=/dev/zd0\n").unwrap();
    enable(&host).unwrap();
}

#[test]
fn a_device_is_opened_exclusively() {
    let (script, host) = with_backstore();
    let other = format!("{HBA}/other");
    make(&host, &[&other]);
    host.write(&format!("{other}/control"), "udev_path=/dev/zd0")
        .unwrap();
    assert_eq!(
        refused(host.write(&format!("{other}/enable"), "1")),
        Errno::EBUSY
    );
    host.rmdir(VOL).unwrap();
    assert!(script.lio().held().is_empty());
    host.write(&format!("{other}/enable"), "1").unwrap();
    assert_eq!(script.lio().held(), ["/dev/zd0"]);
}

#[test]
fn a_device_is_held_also_when_its_path_is_gone() {
    let (script, _host) = with_backstore();
    script.remove("/dev/zd0");
    assert!(script.lio().holds("/dev/zd0"));
    assert_eq!(script.lio().held(), ["/dev/zd0"]);
}

#[test]
fn a_machine_that_is_started_again_has_nothing_configured() {
    let (script, host) = with_target();
    let lio = script.with_lio(LioKernel::v6_12()).lio();
    assert!(lio.held().is_empty());
    assert_eq!(host.list(CORE).unwrap(), ["alua"]);
    make_backstore(&host);
}

#[test]
fn a_device_that_somebody_else_uses_is_busy() {
    let (script, host) = machine();
    make(&host, &[HBA, VOL]);
    control(&host, "udev_path=/dev/zvol/tank/vol").unwrap();
    script.write_file(
        "/proc/self/mountinfo",
        "29 1 230:0 / /mnt rw - ext4 /dev/zd0 rw\n",
    );
    assert_eq!(refused(enable(&host)), Errno::EBUSY);
    script.write_file("/proc/self/mountinfo", "");
    let lio = script.lio();
    script.busy(move |path| path == "/dev/zd0" && lio.held().is_empty());
    assert_eq!(refused(enable(&host)), Errno::EBUSY);
    assert_eq!(get(&host, "enable"), "0\n");
}

#[test]
fn a_device_can_refuse_to_be_opened() {
    let (script, host) = machine();
    let secondary = Disk {
        refuses: Some(Errno::EMEDIUMTYPE),
        ..Disk::default()
    };
    script.lio().disk("/dev/zd0", secondary);
    make(&host, &[HBA, VOL]);
    control(&host, "udev_path=/dev/zd0").unwrap();
    assert_eq!(refused(enable(&host)), Errno::EMEDIUMTYPE);
}

#[test]
fn a_step_that_fails_changes_nothing() {
    let (script, host) = machine();
    make(&host, &[HBA, VOL]);
    control(&host, "udev_path=/dev/zd0").unwrap();
    let before = script.lio().snapshot();
    script.clear_steps();
    script.inject(0, crate::testing::Fault::Fail);
    assert_eq!(refused(enable(&host)), Errno::EIO);
    assert_eq!(script.lio().snapshot(), before);
    assert_eq!(script.steps(), [format!("writing {VOL}/enable")]);
}

#[test]
fn a_file_is_made_and_shared() {
    let (script, host) = machine();
    script.tree().mkdir("/tank");
    let [first, second] = ["first", "second"].map(|name| format!("{CORE}/fileio_0/{name}"));
    make(&host, &[&format!("{CORE}/fileio_0"), &first, &second]);
    for store in [&first, &second] {
        host.write(&format!("{store}/control"), "fd_dev_name=/tank/disk")
            .unwrap();
        assert_eq!(
            refused(host.write(&format!("{store}/enable"), "1")),
            Errno::EINVAL
        );
        assert!(script.tree().exists("/tank/disk"));
        host.write(&format!("{store}/control"), "fd_dev_size=1048576")
            .unwrap();
        host.write(&format!("{store}/enable"), "1").unwrap();
    }
    assert!(read(&host, &format!("{first}/info")).ends_with(
        "TCM FILEIO ID: 0        File: /tank/disk  Size: 1048576  Mode: O_DSYNC Async: 0\n"
    ));
    assert!(script.lio().held().is_empty());
    assert!(script.lio().holds("/tank/disk"));
}

#[test]
fn a_file_that_is_served_keeps_its_file_system_mounted() {
    let (script, host) = machine();
    script.tree().mkdir("/tank");
    script.write_file(
        "/proc/self/mountinfo",
        "29 1 0:40 / /tank rw - zfs tank rw\n",
    );
    let store = format!("{CORE}/fileio_0/disk");
    make(&host, &[&format!("{CORE}/fileio_0"), &store]);
    host.write(
        &format!("{store}/control"),
        "fd_dev_name=/tank/disk,fd_dev_size=512",
    )
    .unwrap();
    host.write(&format!("{store}/enable"), "1").unwrap();
    assert!(host.unmount("/tank").is_err());
    host.rmdir(&store).unwrap();
    host.unmount("/tank").unwrap();
}

#[test]
fn a_file_buffers_only_when_told_to() {
    let (script, host) = machine();
    script.tree().mkdir("/tank");
    let store = format!("{CORE}/fileio_0/disk");
    make(&host, &[&format!("{CORE}/fileio_0"), &store]);
    let control = |text: &str| host.write(&format!("{store}/control"), text);
    assert_eq!(refused(control("fd_buffered_io=0")), Errno::EINVAL);
    assert_eq!(refused(control("fd_dev_size=big")), Errno::EINVAL);
    control("fd_dev_name=/tank/disk,fd_dev_size=512,fd_buffered_io=1").unwrap();
    host.write(&format!("{store}/enable"), "1").unwrap();
    assert!(read(&host, &format!("{store}/info")).contains("Mode: Buffered-WCE"));
    assert_eq!(
        read(&host, &format!("{store}/attrib/emulate_write_cache")),
        "1\n"
    );
    host.write(&format!("{store}/attrib/emulate_write_cache"), "0")
        .unwrap();
}

#[test]
fn memory_needs_a_size() {
    let (_script, host) = machine();
    let store = format!("{CORE}/rd_mcp_0/disk");
    make(&host, &[&format!("{CORE}/rd_mcp_0"), &store]);
    assert_eq!(
        refused(host.write(&format!("{store}/enable"), "1")),
        Errno::EINVAL
    );
    host.write(&format!("{store}/control"), "rd_pages=4096,rd_nullio=1")
        .unwrap();
    host.write(&format!("{store}/enable"), "1").unwrap();
    assert!(
        read(&host, &format!("{store}/info"))
            .contains("PAGES/PAGE_SIZE: 4096*4096  SG_table_count: 3  nullio: 1")
    );
    assert_eq!(
        refused(host.write(&format!("{store}/attrib/emulate_tpu"), "1")),
        Errno::ENOSYS
    );
}

#[test]
fn an_identity_is_given_again_until_it_is_exported() {
    let (_script, host) = with_backstore();
    set(&host, "wwn/vpd_unit_serial", "first\n").unwrap();
    set(&host, "wwn/vpd_unit_serial", " second ").unwrap();
    assert_eq!(
        get(&host, "wwn/vpd_unit_serial"),
        "T10 VPD Unit Serial Number: second\n"
    );
    set(&host, "wwn/company_id", "0x00144f").unwrap();
    assert_eq!(get(&host, "wwn/company_id"), "0x00144f\n");
    set(&host, "wwn/vendor_id", "HASTOR\n").unwrap();
    assert_eq!(get(&host, "wwn/vendor_id"), "HASTOR\n");
}

#[test]
fn an_identity_has_a_length() {
    let (_script, host) = with_backstore();
    for (name, longest) in [
        ("vendor_id", 8),
        ("product_id", 16),
        ("revision", 4),
        ("vpd_unit_serial", 253),
    ] {
        let name = format!("wwn/{name}");
        set(&host, &name, &"x".repeat(longest)).unwrap();
        assert_eq!(
            refused(set(&host, &name, &"x".repeat(longest + 1))),
            Errno::EOVERFLOW,
            "{name}"
        );
    }
    assert_eq!(
        refused(set(&host, "wwn/company_id", "0x1000000")),
        Errno::EOVERFLOW
    );
    assert_eq!(refused(set(&host, "wwn/company_id", "xyz")), Errno::EINVAL);
    assert_eq!(refused(set(&host, "wwn/product_id", "a\tb")), Errno::EINVAL);
}

#[test]
fn an_exported_backstore_keeps_its_identity() {
    let (_script, host) = with_target();
    let before = get(&host, "info");
    assert!(before.starts_with("Status: ACTIVATED  "));
    for (name, value) in [
        ("wwn/vpd_unit_serial", "other"),
        ("wwn/vendor_id", "other"),
        ("wwn/product_id", "other"),
        ("wwn/revision", "1"),
        ("wwn/company_id", "1"),
        ("attrib/block_size", "512"),
        ("attrib/emulate_model_alias", "1"),
        ("attrib/emulate_tas", "1"),
        ("attrib/emulate_ua_intlck_ctrl", "0"),
        ("attrib/force_pr_aptpl", "1"),
        ("attrib/optimal_sectors", "8"),
        ("attrib/queue_depth", "8"),
        ("attrib/unmap_zeroes_data", "0"),
        (
            "pr/res_aptpl_metadata",
            "initiator_node=a,target_node=b,sa_res_key=1",
        ),
    ] {
        assert_eq!(refused(set(&host, name, value)), Errno::EINVAL, "{name}");
    }
    set(&host, "attrib/emulate_caw", "0").unwrap();
    set(&host, "attrib/emulate_tpu", "1").unwrap();
    host.remove(&format!("{LUN}/vol")).unwrap();
    set(&host, "wwn/vpd_unit_serial", "other").unwrap();
}

#[test]
fn attributes_have_ranges() {
    let (_script, host) = with_backstore();
    for (name, value, expected) in [
        ("block_size", "520", Errno::EINVAL),
        ("block_size", "4k", Errno::EINVAL),
        ("block_size", "4294967296", Errno::ERANGE),
        ("queue_depth", "0", Errno::EINVAL),
        ("queue_depth", "129", Errno::EINVAL),
        ("optimal_sectors", "32769", Errno::EINVAL),
        ("emulate_ua_intlck_ctrl", "3", Errno::EINVAL),
        ("emulate_caw", "2", Errno::EINVAL),
        ("emulate_write_cache", "1", Errno::EINVAL),
        ("emulate_rest_reord", "1", Errno::ENOSYS),
        ("pi_prot_type", "1", Errno::ENOSYS),
        ("pi_prot_type", "4", Errno::EINVAL),
        ("pi_prot_format", "1", Errno::ENOSYS),
        ("alua_support", "0", Errno::ENOSYS),
        ("submit_type", "3", Errno::EINVAL),
        ("hw_block_size", "512", Errno::EACCES),
        ("hw_queue_depth", "1", Errno::EACCES),
        ("no_such_thing", "1", Errno::ENOENT),
    ] {
        assert_eq!(
            refused(set(&host, &format!("attrib/{name}"), value)),
            expected,
            "{name}={value}"
        );
    }
    set(&host, "attrib/block_size", "4096").unwrap();
    set(&host, "attrib/queue_depth", "64").unwrap();
    assert!(get(&host, "info").contains("Max Queue Depth: 64  SectorSize: 4096"));
}

#[test]
fn obsolete_attributes_accept_everything_and_change_nothing() {
    let (_script, host) = with_backstore();
    for name in ["attrib/emulate_dpo", "attrib/emulate_fua_read"] {
        set(&host, name, "0").unwrap();
        assert_eq!(get(&host, name), "1\n");
    }
}

#[test]
fn what_cannot_discard_cannot_unmap() {
    let (script, host) = machine();
    make(&host, &[HBA, VOL]);
    assert_eq!(
        refused(set(&host, "attrib/emulate_tpu", "1")),
        Errno::ENODEV
    );
    let disk = Disk {
        discards: false,
        ..Disk::default()
    };
    script.lio().disk("/dev/zd0", disk);
    control(&host, "udev_path=/dev/zd0").unwrap();
    enable(&host).unwrap();
    assert_eq!(
        refused(set(&host, "attrib/emulate_tpu", "1")),
        Errno::ENOSYS
    );
    assert_eq!(
        refused(set(&host, "attrib/emulate_tpws", "1")),
        Errno::ENOSYS
    );
    set(&host, "attrib/emulate_tpu", "0").unwrap();
    assert_eq!(get(&host, "attrib/max_unmap_lba_count"), "0\n");
}

#[test]
fn the_product_can_be_the_name() {
    let (_script, host) = with_backstore();
    set(&host, "attrib/emulate_model_alias", "1").unwrap();
    assert_eq!(get(&host, "wwn/product_id"), "vol\n");
    set(&host, "attrib/emulate_model_alias", "0").unwrap();
    assert_eq!(get(&host, "wwn/product_id"), "IBLOCK\n");
}

#[test]
fn a_path_or_alias_has_a_length() {
    let (_script, host) = with_backstore();
    for name in ["alias", "udev_path"] {
        set(&host, name, &"x".repeat(511)).unwrap();
        assert_eq!(refused(set(&host, name, &"x".repeat(512))), Errno::EINVAL);
    }
}

#[test]
fn a_backstore_is_in_a_group_of_logical_units() {
    let (_script, host) = with_backstore();
    let group = format!("{CORE}/alua/lu_gps/mine");
    host.mkdir(&group).unwrap();
    assert_eq!(refused(set(&host, "alua_lu_gp", "mine")), Errno::ENODEV);
    host.write(&format!("{group}/lu_gp_id"), "7").unwrap();
    assert_eq!(
        refused(host.write(&format!("{group}/lu_gp_id"), "8")),
        Errno::EINVAL
    );
    set(&host, "alua_lu_gp", "mine\n").unwrap();
    assert_eq!(
        get(&host, "alua_lu_gp"),
        "LU Group Alias: mine\nLU Group ID: 7\n"
    );
    assert_eq!(read(&host, &format!("{group}/members")), "iblock_0/vol\n");
    host.rmdir(&group).unwrap();
    assert_eq!(
        get(&host, "alua_lu_gp"),
        "LU Group Alias: default_lu_gp\nLU Group ID: 0\n"
    );
}

#[test]
fn a_text_that_is_too_long_is_two_values() {
    let (_script, host) = with_backstore();
    set(&host, "attrib/emulate_caw", &("0".repeat(4095) + "1")).unwrap();
    assert_eq!(get(&host, "attrib/emulate_caw"), "1\n");
}
