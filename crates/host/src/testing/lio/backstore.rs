//! target/core: HBAs, backstores, the devices they open, and what can be said of these.

use std::fs;

use nix::errno::Errno;

use super::alua;
use super::engine::{Derived, Engine};
use super::items::{Backstore, Discards, Item, Kind, Opened, Plugin, Store};
use super::numbers::{flag, leading, number, number32};
use super::reservations::{self, Reserved};

/// The longest name of an HBA, and one.
const HBA_NAME: usize = 64;
/// The longest path or alias, with a byte for its end.
const PATH: usize = 512;
/// The longest serial number, with a byte for its end.
const SERIAL: usize = 254;
/// Blocks of a file that are unmapped at once.
const FILE_DISCARDS: Discards = Discards {
    blocks: 0x2000,
    granularity: 1,
};

/// mkdir core/iblock_0
pub(super) fn hba(engine: &Engine, name: &str) -> Result<Item, Errno> {
    if name.len() >= HBA_NAME {
        return Err(Errno::ENAMETOOLONG);
    }
    // The name of one plugin has an underscore in it, so a second one counts if there is one.
    let mut parts = name.splitn(3, '_');
    let (Some(first), Some(second)) = (parts.next(), parts.next()) else {
        return Err(Errno::EINVAL);
    };
    let (plugin, index) = match parts.next() {
        Some(third) => (format!("{first}_{second}"), third),
        None => (first.to_owned(), second),
    };
    number(index, u64::MAX)?;
    let plugin = Plugin::named(&plugin).ok_or(Errno::EINVAL)?;
    if engine.kernel.missing.contains(&module_of(plugin)) {
        return Err(Errno::EINVAL);
    }
    let info = format!(
        "HBA Index: {} plugin: {} version: v5.0",
        engine.next_hba,
        plugin.name()
    );
    Ok(Item::new(Kind::Hba { plugin })
        .attribute("hba_info", info, Store::Never)
        .attribute("hba_mode", 0, Store::By(|_, _, _, _| Err(Errno::EINVAL))))
}

/// The module that a plugin is in. Memory is built in.
fn module_of(plugin: Plugin) -> String {
    match plugin {
        Plugin::Iblock => "target_core_iblock".to_owned(),
        Plugin::Fileio => "target_core_file".to_owned(),
        Plugin::Ramdisk => String::new(),
    }
}

/// mkdir core/iblock_0/x
pub(super) fn new(engine: &Engine, plugin: Plugin) -> Result<Item, Errno> {
    let backstore = Backstore {
        plugin,
        path: None,
        size: None,
        buffered: false,
        asynchronous: false,
        read_only: 0,
        pages: None,
        null_io: false,
        queue_depth: 0,
        opened: None,
        reserved: Reserved::default(),
    };
    let statistics =
        Item::new(Kind::Statistics).with_plain(&["scsi_dev", "scsi_tgt_dev", "scsi_lu"]);
    let groups = Item::new(Kind::PortGroups { next_id: 1 })
        .with("default_tg_pt_gp", alua::port_group(Some(0)));
    Ok(Item::new(Kind::Backstore(Box::new(backstore)))
        .verbatim("info", "", Store::Never)
        .unreadable("control", Errno::EACCES, Store::By(control))
        .verbatim("alias", "", Store::By(set_path))
        .verbatim("udev_path", "", Store::By(set_path))
        .attribute("enable", 0, Store::By(enable))
        .verbatim("alua_lu_gp", "", Store::By(alua::set_lu_group))
        .verbatim("lba_map", "", Store::By(|_, _, _, _| Err(Errno::EINVAL)))
        .with("action", Item::new(Kind::Plain))
        .with("attrib", attrib(engine))
        .with("pr", reservations::files())
        .with("wwn", wwn(plugin))
        .with("alua", groups)
        .with("statistics", statistics))
}

fn attrib(engine: &Engine) -> Item {
    let frozen = Store::By(set_frozen);
    let all = Item::new(Kind::Plain)
        .attribute("emulate_model_alias", 0, Store::By(set_model_alias))
        .attribute("emulate_dpo", 1, Store::Ignored)
        .attribute("emulate_fua_write", 1, Store::Flag)
        .attribute("emulate_fua_read", 1, Store::Ignored)
        .attribute("emulate_write_cache", 0, Store::By(set_write_cache))
        .attribute("emulate_ua_intlck_ctrl", 0, frozen)
        .attribute("emulate_tas", 1, frozen)
        .attribute("emulate_tpu", 0, Store::By(set_unmap))
        .attribute("emulate_tpws", 0, Store::By(set_unmap))
        .attribute("emulate_caw", 1, Store::Flag)
        .attribute("emulate_3pc", 1, Store::Flag)
        .attribute("emulate_pr", 1, Store::Flag)
        .attribute("pi_prot_type", 0, Store::By(set_protection))
        .attribute("hw_pi_prot_type", 0, Store::Never)
        .attribute("pi_prot_format", 0, Store::By(format_protection))
        .attribute(
            "pi_prot_verify",
            0,
            Store::By(|_, _, _, text| flag(text).map(drop)),
        )
        .attribute("enforce_pr_isids", 1, Store::Flag)
        .attribute("is_nonrot", 0, Store::Flag)
        .attribute("emulate_rest_reord", 0, Store::By(refuse_yes))
        .attribute("force_pr_aptpl", 0, frozen)
        .attribute("hw_block_size", 0, Store::Never)
        .attribute("block_size", 0, frozen)
        .attribute("hw_max_sectors", 0, Store::Never)
        .attribute("optimal_sectors", 0, frozen)
        .attribute("hw_queue_depth", 0, Store::Never)
        .attribute("queue_depth", 0, frozen)
        .attribute("max_unmap_lba_count", 0, Store::Number(0, u32::MAX))
        .attribute("max_unmap_block_desc_count", 0, Store::Number(0, u32::MAX))
        .attribute("unmap_granularity", 0, Store::Number(0, u32::MAX))
        .attribute("unmap_granularity_alignment", 0, Store::Number(0, u32::MAX))
        .attribute("unmap_zeroes_data", 0, Store::By(set_unmap))
        .attribute("max_write_same_len", 0, Store::Number(0, u32::MAX))
        .attribute("alua_support", 1, Store::By(set_support))
        .attribute("pgr_support", 1, Store::By(set_support));
    match engine.kernel.is_newer_than(6, 1) {
        true => all.attribute("emulate_rsoc", 1, Store::Flag).attribute(
            "submit_type",
            0,
            Store::Number(0, 2),
        ),
        false => all,
    }
}

fn wwn(plugin: Plugin) -> Item {
    Item::new(Kind::Plain)
        .attribute("vendor_id", "LIO-ORG", Store::By(set_inquiry))
        .attribute("product_id", plugin.product(), Store::By(set_inquiry))
        .attribute("revision", "4.0", Store::By(set_inquiry))
        .attribute("company_id", "0x001405", Store::By(set_company))
        .attribute(
            "vpd_unit_serial",
            "T10 VPD Unit Serial Number: ",
            Store::By(set_serial),
        )
        .verbatim("vpd_protocol_identifier", "", Store::Never)
        .verbatim("vpd_assoc_logical_unit", "", Store::Never)
        .verbatim("vpd_assoc_target_port", "", Store::Never)
        .verbatim("vpd_assoc_scsi_target_device", "", Store::Never)
}

/// The place of the backstore whose directory this is in.
fn owner(place: &[String]) -> &[String] {
    &place[..place.len() - 1]
}

fn may_change(engine: &Engine, backstore: &[String]) -> Result<(), Errno> {
    match engine.exports(backstore).is_empty() {
        true => Ok(()),
        false => Err(Errno::EINVAL),
    }
}

/// Attributes that stay as they are while the backstore is exported.
fn set_frozen(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let hardware = |name| engine.shows(place, name).parse::<u32>().unwrap_or(0);
    let value = match name {
        "emulate_tas" | "force_pr_aptpl" => flag(text)?.into(),
        _ => number32(text)?,
    };
    may_change(engine, owner(place))?;
    let allowed = match name {
        "emulate_ua_intlck_ctrl" => value <= 2,
        "block_size" => [512, 1024, 2048, 4096].contains(&value),
        "optimal_sectors" => value <= hardware("hw_max_sectors"),
        "queue_depth" => {
            value != 0 && value <= hardware("hw_queue_depth").max(hardware("queue_depth"))
        }
        _ => true,
    };
    if !allowed {
        return Err(Errno::EINVAL);
    }
    if name == "queue_depth" {
        engine.backstore_mut(owner(place)).queue_depth = value;
    }
    engine.show(place, name, format!("{value}\n"));
    Ok(())
}

fn set_model_alias(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    may_change(engine, owner(place))?;
    let alias = flag(text)?;
    let (Some(backstore), Some(own)) = (engine.backstore(owner(place)), owner(place).last()) else {
        return Err(Errno::EINVAL);
    };
    let product = match alias {
        true => own.chars().take(15).collect(),
        false => backstore.plugin.product().to_owned(),
    };
    engine.show(&sibling(place, "wwn"), "product_id", format!("{product}\n"));
    engine.show(place, name, format!("{}\n", u8::from(alias)));
    Ok(())
}

fn sibling(place: &[String], name: &str) -> Vec<String> {
    let mut sibling = owner(place).to_vec();
    sibling.push(name.to_owned());
    sibling
}

/// A block device has a cache or has none; that is not for us to say.
fn set_write_cache(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let cache = flag(text)?;
    let plugin = engine
        .backstore(owner(place))
        .map(|backstore| backstore.plugin);
    if cache && plugin == Some(Plugin::Iblock) {
        return Err(Errno::EINVAL);
    }
    engine.show(place, name, format!("{}\n", u8::from(cache)));
    Ok(())
}

fn set_unmap(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let wanted = flag(text)?;
    if name == "unmap_zeroes_data" {
        may_change(engine, owner(place))?;
    }
    if wanted && engine.shows(place, "max_unmap_block_desc_count") == "0" {
        let backstore = engine.backstore(owner(place));
        let discards = match backstore {
            Some(backstore) if backstore.plugin == Plugin::Ramdisk => None,
            Some(backstore) => match &backstore.opened {
                // Older kernels (6.1) did not look, and crashed.
                None => return Err(Errno::ENODEV),
                Some(opened) => opened.discards,
            },
            None => None,
        };
        show_discards(engine, place, discards.ok_or(Errno::ENOSYS)?);
    }
    engine.show(place, name, format!("{}\n", u8::from(wanted)));
    Ok(())
}

fn show_discards(engine: &mut Engine, attrib: &[String], discards: Discards) {
    engine.show(
        attrib,
        "max_unmap_lba_count",
        format!("{}\n", discards.blocks),
    );
    engine.show(attrib, "max_unmap_block_desc_count", "1\n");
    engine.show(
        attrib,
        "unmap_granularity",
        format!("{}\n", discards.granularity),
    );
    engine.show(attrib, "unmap_granularity_alignment", "0\n");
}

/// Protection information: none of these backstores has any here, and 0 says so.
fn set_protection(_: &mut Engine, _: &[String], _: &'static str, text: &str) -> Result<(), Errno> {
    match number32(text)? {
        0 => Ok(()),
        1..=3 => Err(Errno::ENOSYS),
        _ => Err(Errno::EINVAL),
    }
}

fn format_protection(
    _: &mut Engine,
    _: &[String],
    _: &'static str,
    text: &str,
) -> Result<(), Errno> {
    match flag(text)? {
        true => Err(Errno::ENOSYS),
        false => Ok(()),
    }
}

fn refuse_yes(_: &mut Engine, _: &[String], _: &'static str, text: &str) -> Result<(), Errno> {
    match flag(text)? {
        true => Err(Errno::ENOSYS),
        false => Ok(()),
    }
}

fn set_support(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let wanted = format!("{}\n", u8::from(flag(text)?));
    if engine.shows(place, name) == wanted.trim_end() {
        return Ok(());
    }
    let plugin = engine
        .backstore(owner(place))
        .map(|backstore| backstore.plugin);
    if name != "pgr_support" || plugin != Some(Plugin::Iblock) {
        return Err(Errno::ENOSYS);
    }
    engine.show(place, name, wanted);
    Ok(())
}

fn set_inquiry(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let longest = match name {
        "vendor_id" => 8,
        "product_id" => 16,
        _ => 4,
    };
    let stripped = text.trim();
    if text.len() >= longest + 2 || stripped.len() > longest {
        return Err(Errno::EOVERFLOW);
    }
    if !stripped.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
        return Err(Errno::EINVAL);
    }
    may_change(engine, owner(place))?;
    engine.show(place, name, format!("{stripped}\n"));
    Ok(())
}

fn set_company(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let company = number32(text)?;
    if company >= 0x100_0000 {
        return Err(Errno::EOVERFLOW);
    }
    may_change(engine, owner(place))?;
    engine.show(place, name, format!("{company:#08x}\n"));
    Ok(())
}

fn set_serial(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    if text.len() >= SERIAL {
        return Err(Errno::EOVERFLOW);
    }
    may_change(engine, owner(place))?;
    engine.show(
        place,
        name,
        format!("T10 VPD Unit Serial Number: {}\n", text.trim()),
    );
    Ok(())
}

/// What is only remembered for those who read it: alias and udev_path.
fn set_path(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    if text.len() >= PATH {
        return Err(Errno::EINVAL);
    }
    let path = text.strip_suffix('\n').unwrap_or(text);
    engine.show(place, name, format!("{path}\n"));
    Ok(())
}

/// Options, separated by commas or newlines. One that is not known, or that has not the form it should have, is passed
/// over without a word.
fn control(
    engine: &mut Engine,
    place: &[String],
    _: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let backstore = engine.backstore_mut(place);
    for option in text.split([',', '\n']) {
        let Some((key, value)) = option
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
        else {
            continue;
        };
        let whole = || match leading(value) {
            (number, "") => Some(number),
            _ => None,
        };
        match (backstore.plugin, key) {
            (Plugin::Iblock, "udev_path") if backstore.opened.is_some() => {
                return Err(Errno::EEXIST);
            }
            (Plugin::Iblock, "udev_path") => backstore.path = Some(cut(value, PATH)),
            (Plugin::Iblock, "readonly") => {
                if let Some(value) = whole() {
                    backstore.read_only = value;
                }
            }
            (Plugin::Fileio, "fd_dev_name") => backstore.path = Some(cut(value, 256)),
            (Plugin::Fileio, "fd_dev_size") => backstore.size = Some(number(value, u64::MAX)?),
            (Plugin::Fileio, "fd_buffered_io" | "fd_async_io") => match whole() {
                None => {}
                Some(1) if key == "fd_buffered_io" => backstore.buffered = true,
                Some(1) => backstore.asynchronous = true,
                Some(_) => return Err(Errno::EINVAL),
            },
            (Plugin::Ramdisk, "rd_pages") => {
                if let Some(pages) = whole() {
                    backstore.pages = Some(pages as u32);
                }
            }
            (Plugin::Ramdisk, "rd_nullio") => backstore.null_io |= whole() == Some(1),
            _ => {}
        }
    }
    Ok(())
}

/// As much of a text as there is room for.
fn cut(text: &str, room: usize) -> String {
    String::from_utf8_lossy(&text.as_bytes()[..text.len().min(room - 1)]).into_owned()
}

/// Anything with a 1 in it opens the device, once.
fn enable(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    if !text.contains('1') {
        return Err(Errno::EINVAL);
    }
    let Some(backstore) = engine.backstore(place) else {
        return Err(Errno::EINVAL);
    };
    if backstore.opened.is_some() {
        return Err(Errno::EEXIST);
    }
    let opened = match backstore.plugin {
        Plugin::Iblock => open_exclusively(engine, backstore)?,
        Plugin::Fileio => open_file(engine, backstore)?,
        Plugin::Ramdisk => match backstore.pages {
            None => return Err(Errno::EINVAL),
            Some(_) => Opened {
                path: String::new(),
                number: (0, 0),
                block: false,
                discards: None,
            },
        },
    };
    let (plugin, buffered) = (backstore.plugin, backstore.buffered);
    let disk = engine.disk(&opened.path);
    let (block_size, sectors, depth, write_same, nonrot) = match (plugin, opened.block) {
        (Plugin::Iblock, _) => (
            disk.block_size,
            disk.max_sectors,
            disk.queue_depth,
            0xffff,
            !disk.rotational,
        ),
        (Plugin::Fileio, true) => (
            disk.block_size,
            8_388_608 / disk.block_size,
            128,
            0xffff,
            !disk.rotational,
        ),
        (Plugin::Fileio, false) => (512, 16384, 128, 0x1000, false),
        (Plugin::Ramdisk, _) => (512, u32::MAX - 7, 128, 0, true),
    };
    let mut attrib = place.to_vec();
    attrib.push("attrib".to_owned());
    for (name, value) in [
        ("hw_block_size", block_size),
        ("block_size", block_size),
        ("hw_max_sectors", sectors),
        ("optimal_sectors", sectors),
        ("hw_queue_depth", depth),
        ("queue_depth", depth),
        ("max_write_same_len", write_same),
    ] {
        engine.show(&attrib, name, format!("{value}\n"));
    }
    if nonrot {
        engine.show(&attrib, "is_nonrot", "1\n");
    }
    if buffered {
        engine.show(&attrib, "emulate_write_cache", "1\n");
    }
    if let Some(discards) = opened.discards {
        show_discards(engine, &attrib, discards);
    }
    engine.show(place, name, "1\n");
    engine.show(place, "alua_lu_gp", alua::lu_group_info("default_lu_gp", 0));
    engine.backstore_mut(place).opened = Some(opened);
    Ok(())
}

/// A block device, which nobody else has then.
fn open_exclusively(engine: &Engine, backstore: &Backstore) -> Result<Opened, Errno> {
    let path = backstore.path.as_deref().ok_or(Errno::EINVAL)?;
    let opened = block_device(engine, path)?;
    let disk = engine.disk(&opened.path);
    if let Some(refused) = disk.refuses {
        return Err(refused);
    }
    let taken = engine
        .opened()
        .any(|(backstore, other)| backstore.plugin == Plugin::Iblock && other.path == opened.path);
    let mounts = engine.tree.read("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts
        .lines()
        .filter_map(|line| line.split(" - ").nth(1)?.split(' ').nth(1))
        .any(|source| source == path || source == opened.path);
    match taken || mounted {
        true => Err(Errno::EBUSY),
        false => Ok(opened),
    }
}

fn block_device(engine: &Engine, path: &str) -> Result<Opened, Errno> {
    let path = engine.real_path(path).ok_or(Errno::ENOENT)?;
    if !path.starts_with("/dev/") || engine.tree.path(&path).is_dir() {
        return Err(Errno::ENOTBLK);
    }
    let disk = engine.disk(&path);
    Ok(Opened {
        number: number_of(engine, &path),
        block: true,
        discards: disk.discards.then_some(Discards {
            blocks: 524_288 / (disk.block_size / 512),
            granularity: 16384 / disk.block_size,
        }),
        path,
    })
}

/// What sysfs says of a device.
fn number_of(engine: &Engine, path: &str) -> (u32, u32) {
    let name = path.rsplit('/').next().unwrap_or_default();
    let text = engine.tree.read(&format!("/sys/class/block/{name}/dev"));
    let text = text.or_else(|| engine.tree.read(&format!("/sys/block/{name}/dev")));
    let number = text.as_deref().and_then(|text| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    number.unwrap_or_else(|| {
        panic!("the test has a device {path}, but no /sys/class/block/{name}/dev with its number")
    })
}

/// A file, or a device like a file: anybody else may have it, too.
fn open_file(engine: &Engine, backstore: &Backstore) -> Result<Opened, Errno> {
    let path = backstore.path.as_deref().ok_or(Errno::EINVAL)?;
    if path.starts_with("/dev/") {
        return block_device(engine, path);
    }
    let at = engine.tree.path(path);
    if at.is_dir() {
        return Err(Errno::EISDIR);
    }
    let file = fs::OpenOptions::new().append(true).create(true).open(&at);
    file.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    // The file stays, as it does when the kernel finds out that late.
    backstore.size.ok_or(Errno::EINVAL)?;
    Ok(Opened {
        path: engine.real_path(path).ok_or(Errno::ENOENT)?,
        number: (0, 0),
        block: false,
        discards: Some(FILE_DISCARDS),
    })
}

impl Engine {
    /// A path with no links in it, if it leads to something.
    pub(super) fn real_path(&self, path: &str) -> Option<String> {
        let root = fs::canonicalize(self.tree.path("/")).ok()?;
        let real = fs::canonicalize(self.tree.path(path)).ok()?;
        let inside = real.strip_prefix(root).ok()?;
        Some(format!("/{}", inside.to_string_lossy()))
    }

    /// All that backstores have opened.
    pub(super) fn opened(&self) -> impl Iterator<Item = (&Backstore, &Opened)> {
        self.items()
            .into_iter()
            .filter_map(|(_, item)| match &item.kind {
                Kind::Backstore(backstore) => Some((&**backstore, backstore.opened.as_ref()?)),
                _ => None,
            })
    }

    /// The device that a write would open exclusively, if it would.
    pub(super) fn would_open(&self, path: &[String], text: &str) -> Option<String> {
        let (name, place) = path.split_last()?;
        let backstore = self.backstore(place)?;
        let opens = name == "enable" && text.contains('1') && backstore.opened.is_none();
        let path = backstore.path.as_deref()?;
        (opens && backstore.plugin == Plugin::Iblock).then(|| path.to_owned())
    }
}

/// What info, and the files below pr/, show.
pub(super) fn derived(engine: &Engine, place: &[String], backstore: &Backstore) -> Derived {
    let mut attrib = place.to_vec();
    attrib.push("attrib".to_owned());
    let exports = engine.exports(place).len();
    let mut all: Derived = vec![(&[], "info", Ok(info(engine, &attrib, backstore, exports)))];
    all.extend(reservations::derived(engine, &attrib, backstore));
    all
}

fn info(engine: &Engine, attrib: &[String], backstore: &Backstore, exports: usize) -> String {
    let status = if exports > 0 {
        "ACTIVATED"
    } else {
        "DEACTIVATED"
    };
    let state = format!(
        "Status: {status}  Max Queue Depth: {}  SectorSize: {}  HwMaxSectors: {}\n        ",
        backstore.queue_depth,
        engine.shows(attrib, "block_size"),
        engine.shows(attrib, "hw_max_sectors"),
    );
    let path = backstore.path.as_deref().unwrap_or_default();
    let opened = backstore.opened.as_ref();
    let rest = match backstore.plugin {
        Plugin::Iblock => {
            let device = opened.map_or(String::new(), |opened| {
                format!(
                    "iBlock device: {}",
                    opened.path.rsplit('/').next().unwrap_or_default()
                )
            });
            let udev = match &backstore.path {
                Some(path) => format!("  UDEV PATH: {path}"),
                None => String::new(),
            };
            let number = match opened {
                Some(Opened {
                    number: (major, minor),
                    ..
                }) => {
                    format!("Major: {major} Minor: {minor}  CLAIMED: IBLOCK\n")
                }
                None => "Major: 0 Minor: 0\n".to_owned(),
            };
            format!(
                "{device}{udev}  readonly: {}\n        {number}",
                backstore.read_only
            )
        }
        Plugin::Fileio => format!(
            "TCM FILEIO ID: 0        File: {path}  Size: {}  Mode: {} Async: {}\n",
            backstore.size.unwrap_or(0),
            if backstore.buffered {
                "Buffered-WCE"
            } else {
                "O_DSYNC"
            },
            u8::from(backstore.asynchronous),
        ),
        Plugin::Ramdisk => {
            let pages = backstore.pages.unwrap_or(0);
            format!(
                "TCM RamDisk ID: 0  RamDisk Makeup: rd_mcp\n        PAGES/PAGE_SIZE: {pages}*4096  SG_table_count: {}  nullio: {} dummy: 0\n",
                opened.map_or(0, |_| pages / 2048 + 1),
                u8::from(backstore.null_io),
            )
        }
    };
    state + &rest
}
