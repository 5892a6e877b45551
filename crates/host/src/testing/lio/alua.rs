//! Asymmetric access: groups of target ports and of logical units.

use nix::errno::Errno;

use super::engine::{Derived, Engine};
use super::items::{Item, Kind, Lun, PortGroup, Store};
use super::numbers::number;

/// The group that every new LUN is in.
pub(super) const DEFAULT: &str = "default_tg_pt_gp";
/// The longest name of a group, and one.
const NAME: usize = 256;

/// States by their numbers, the attribute that says whether they are supported, and how they are called.
const STATES: [(u64, &str, &str); 7] = [
    (0x0, "alua_support_active_optimized", "Active/Optimized"),
    (
        0x1,
        "alua_support_active_nonoptimized",
        "Active/NonOptimized",
    ),
    (0x2, "alua_support_standby", "Standby"),
    (0x3, "alua_support_unavailable", "Unavailable"),
    (0x4, LBA_DEPENDENT, "LBA Dependent"),
    (0xe, "alua_support_offline", "Offline"),
    (0xf, "alua_support_transitioning", "Transitioning"),
];
const LBA_DEPENDENT: &str = "alua_support_lba_dependent";

/// How a state came about, by its number.
const STATUS: [&str; 3] = [
    "None",
    "Altered by Explicit STPG",
    "Altered by Implicit ALUA",
];

/// mkdir core/iblock_0/x/alua/g
pub(super) fn port_group(id: Option<u16>) -> Item {
    let group = PortGroup {
        id,
        implicit: true,
        explicit: true,
    };
    let item = STATES.iter().fold(
        Item::new(Kind::PortGroup(group)),
        |item, (_, support, _)| {
            item.attribute(
                support,
                u8::from(*support != LBA_DEPENDENT),
                Store::By(set_support),
            )
        },
    );
    item.attribute("alua_access_state", 0, Store::By(set_state))
        .attribute("alua_access_status", STATUS[0], Store::By(set_status))
        .attribute(
            "alua_access_type",
            "Implicit and Explicit",
            Store::By(set_type),
        )
        .attribute("alua_write_metadata", 0, Store::By(set_number))
        .attribute("nonop_delay_msecs", 100, Store::By(set_number))
        .attribute("trans_delay_msecs", 0, Store::By(set_number))
        .attribute("implicit_trans_secs", 0, Store::By(set_number))
        .attribute("preferred", 0, Store::By(set_number))
        .verbatim("tg_pt_gp_id", "", Store::By(set_id))
        .verbatim("members", "", Store::Never)
}

/// A group of logical units.
pub(super) fn lu_group(id: Option<u16>) -> Item {
    Item::new(Kind::LuGroup { id })
        .verbatim("lu_gp_id", "", Store::By(set_lu_group_id))
        .verbatim("members", "", Store::Never)
}

fn group<'a>(engine: &'a mut Engine, place: &[String]) -> &'a mut PortGroup {
    match &mut engine.item_mut(place).kind {
        Kind::PortGroup(group) => group,
        _ => panic!("{} is no group of ports", place.join("/")),
    }
}

/// The place of the backstore that a group is of.
fn owner(place: &[String]) -> &[String] {
    &place[..place.len() - 2]
}

/// An identifier is given once; 0 is the next one that is free.
fn set_id(engine: &mut Engine, place: &[String], _: &'static str, text: &str) -> Result<(), Errno> {
    let wanted = u16::try_from(number(text, u64::MAX)?).map_err(|_| Errno::EINVAL)?;
    if group(engine, place).id.is_some() {
        return Err(Errno::EINVAL);
    }
    let groups = &place[..place.len() - 1];
    let Some(all) = engine.item(groups) else {
        return Err(Errno::ENOENT);
    };
    let used: Vec<u16> = all
        .children
        .values()
        .filter_map(|item| match &item.kind {
            Kind::PortGroup(group) => group.id,
            _ => None,
        })
        .collect();
    let mut id = wanted;
    if wanted == 0 {
        let Kind::PortGroups { next_id } = &mut engine.item_mut(groups).kind else {
            return Err(Errno::EINVAL);
        };
        while used.contains(next_id) {
            *next_id += 1;
        }
        id = *next_id;
        *next_id += 1;
    } else if used.contains(&wanted) {
        return Err(Errno::EINVAL);
    }
    group(engine, place).id = Some(id);
    Ok(())
}

fn needs_id(engine: &mut Engine, place: &[String]) -> Result<(), Errno> {
    group(engine, place).id.map(drop).ok_or(Errno::EINVAL)
}

fn set_support(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    needs_id(engine, place)?;
    match number(text, u64::MAX) {
        Ok(value @ 0..=1) => {
            engine.show(place, name, format!("{value}\n"));
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

fn set_state(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    needs_id(engine, place)?;
    let configured = engine
        .backstore(owner(place))
        .is_some_and(|backstore| backstore.opened.is_some());
    if !configured {
        return Err(Errno::ENODEV);
    }
    let wanted = number(text, u64::MAX)?;
    let group = group(engine, place);
    let lba_dependent = wanted == 0x4 && group.explicit;
    let state = STATES.iter().find(|(state, _, _)| *state == wanted);
    let (true, false, Some((_, support, _))) = (group.implicit, lba_dependent, state) else {
        return Err(Errno::EINVAL);
    };
    if engine.shows(place, support) != "1" {
        return Err(Errno::EINVAL);
    }
    let wanted = wanted.to_string();
    if engine.shows(place, name) != wanted {
        engine.show(place, name, wanted + "\n");
        engine.show(place, "alua_access_status", format!("{}\n", STATUS[2]));
    }
    Ok(())
}

fn set_status(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    needs_id(engine, place)?;
    let status = usize::try_from(number(text, u64::MAX)?).unwrap_or(usize::MAX);
    let status = STATUS.get(status).ok_or(Errno::EINVAL)?;
    engine.show(place, name, format!("{status}\n"));
    Ok(())
}

fn set_type(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let (kind, called) = match number(text, u64::MAX)? {
        0 => ((false, false), "None"),
        1 => ((true, false), "Implicit"),
        2 => ((false, true), "Explicit"),
        3 => ((true, true), "Implicit and Explicit"),
        _ => return Err(Errno::EINVAL),
    };
    let group = group(engine, place);
    (group.implicit, group.explicit) = kind;
    engine.show(place, name, format!("{called}\n"));
    Ok(())
}

fn set_number(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let most = match name {
        "nonop_delay_msecs" => 10_000,
        "trans_delay_msecs" => 30_000,
        "implicit_trans_secs" => 255,
        _ => 1,
    };
    let value = number(text, u64::MAX)?;
    if value > most {
        return Err(Errno::EINVAL);
    }
    engine.show(place, name, format!("{value}\n"));
    Ok(())
}

fn set_lu_group_id(
    engine: &mut Engine,
    place: &[String],
    _: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let wanted = u16::try_from(number(text, u64::MAX)?).map_err(|_| Errno::EINVAL)?;
    let used: Vec<u16> = engine
        .items()
        .iter()
        .filter_map(|(_, item)| match item.kind {
            Kind::LuGroup { id } => id,
            _ => None,
        })
        .collect();
    let id = match wanted {
        0 => (1..=u16::MAX).find(|id| !used.contains(id)),
        wanted => Some(wanted).filter(|id| !used.contains(id)),
    };
    let Kind::LuGroup { id: own } = &mut engine.item_mut(place).kind else {
        return Err(Errno::EINVAL);
    };
    if own.is_some() {
        return Err(Errno::EINVAL);
    }
    *own = Some(id.ok_or(Errno::EINVAL)?);
    Ok(())
}

/// A backstore moves to another group of logical units.
pub(super) fn set_lu_group(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    if engine.shows(place, "enable") != "1" {
        return Ok(());
    }
    if text.len() > NAME {
        return Err(Errno::EINVAL);
    }
    let wanted = text.trim();
    let info = match wanted {
        "NULL" => String::new(),
        _ => {
            let groups = ["target", "core", "alua", "lu_gps", wanted].map(str::to_owned);
            match engine.item(&groups).map(|item| &item.kind) {
                Some(Kind::LuGroup { id: Some(id) }) => lu_group_info(wanted, *id),
                _ => return Err(Errno::ENODEV),
            }
        }
    };
    engine.show(place, name, info);
    Ok(())
}

/// What a backstore says of the group that it is in.
pub(super) fn lu_group_info(name: &str, id: u16) -> String {
    format!("LU Group Alias: {name}\nLU Group ID: {id}\n")
}

pub(super) fn derived_of_lu_group(engine: &Engine, place: &[String], id: Option<u16>) -> Derived {
    let id = id.map_or(String::new(), |id| format!("{id}\n"));
    let members = lu_group_members(engine, place)
        .iter()
        .map(|backstore| format!("{}\n", backstore[2..].join("/")))
        .collect();
    vec![(&[], "lu_gp_id", Ok(id)), (&[], "members", Ok(members))]
}

fn lu_group_members(engine: &Engine, group: &[String]) -> Vec<Vec<String>> {
    let name = group.last().map(String::as_str).unwrap_or_default();
    let alias = format!("LU Group Alias: {name}\n");
    let backstores = engine.items().into_iter().filter(|(place, item)| {
        matches!(item.kind, Kind::Backstore(_))
            && engine.shows(place, "alua_lu_gp").starts_with(&alias)
    });
    backstores.map(|(place, _)| place).collect()
}

/// A group of logical units is no more: who was in it is in the first one again.
pub(super) fn disband_lu_group(engine: &mut Engine, place: &[String]) {
    for backstore in lu_group_members(engine, place) {
        engine.show(&backstore, "alua_lu_gp", lu_group_info("default_lu_gp", 0));
    }
}

pub(super) fn derived_of_group(engine: &Engine, place: &[String], group: &PortGroup) -> Derived {
    let id = group.id.map_or(String::new(), |id| format!("{id}\n"));
    // Each line ends with a zero byte, too.
    let members = engine
        .exports(owner(place))
        .into_iter()
        .filter(|lun| engine.lun(lun).map(|lun| &lun.group) == place.last())
        .map(|lun| match lun.as_slice() {
            [_, _, iqn, tpg, _, lun] => format!("iSCSI/{iqn}/{tpg}/{lun}\n\0"),
            _ => String::new(),
        })
        .collect();
    vec![(&[], "tg_pt_gp_id", Ok(id)), (&[], "members", Ok(members))]
}

/// The files of a LUN that are about asymmetric access.
pub(super) fn lun_files(lun: Item) -> Item {
    lun.unreadable("alua_tg_pt_gp", Errno::ENODEV, Store::By(move_to_group))
        .unreadable(
            "alua_tg_pt_offline",
            Errno::ENODEV,
            Store::By(set_secondary),
        )
        .unreadable("alua_tg_pt_status", Errno::ENODEV, Store::By(set_secondary))
        .unreadable(
            "alua_tg_pt_write_md",
            Errno::ENODEV,
            Store::By(set_secondary),
        )
}

fn set_secondary(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    if engine.lun(place).is_none_or(|lun| lun.backstore.is_none()) {
        return Err(Errno::ENODEV);
    }
    let most = if name == "alua_tg_pt_status" { 2 } else { 1 };
    let value = number(text, u64::MAX)?;
    if value > most {
        return Err(Errno::EINVAL);
    }
    engine.show(place, name, format!("{value}\n"));
    if name == "alua_tg_pt_offline" {
        engine.show(place, "alua_tg_pt_status", "2\n");
    }
    Ok(())
}

fn move_to_group(
    engine: &mut Engine,
    place: &[String],
    _: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let backstore = engine.lun(place).and_then(|lun| lun.backstore.clone());
    let mut group = backstore.ok_or(Errno::ENODEV)?;
    if text.len() > NAME {
        return Err(Errno::EINVAL);
    }
    let name = match text.trim() {
        "NULL" => DEFAULT,
        name => name,
    };
    group.extend(["alua".to_owned(), name.to_owned()]);
    match engine.item(&group).map(|item| &item.kind) {
        Some(Kind::PortGroup(PortGroup { id: Some(_), .. })) => {}
        _ => return Err(Errno::ENODEV),
    }
    engine.lun_mut(place).group = name.to_owned();
    Ok(())
}

/// A group is no more: who was in it is in the first one again.
pub(super) fn disband(engine: &mut Engine, place: &[String]) {
    for lun in engine.exports(owner(place)) {
        let lun = engine.lun_mut(&lun);
        if Some(&lun.group) == place.last() {
            lun.group = DEFAULT.to_owned();
        }
    }
}

pub(super) fn derived_of_lun(engine: &Engine, place: &[String], lun: &Lun) -> Derived {
    let secondary = |name| match engine.shows(place, name) {
        "" => "0",
        value => value,
    };
    let offline = secondary("alua_tg_pt_offline");
    let status = secondary("alua_tg_pt_status");
    let of_export = |value: String| lun.backstore.as_ref().map(|_| value).ok_or(Errno::ENODEV);
    let group = lun.backstore.as_ref().ok_or(Errno::ENODEV);
    vec![
        (
            &[],
            "alua_tg_pt_gp",
            group.map(|backstore| group_of(engine, backstore, lun, offline, status)),
        ),
        (&[], "alua_tg_pt_offline", of_export(format!("{offline}\n"))),
        (&[], "alua_tg_pt_status", of_export(format!("{status}\n"))),
        (
            &[],
            "alua_tg_pt_write_md",
            of_export(format!("{}\n", secondary("alua_tg_pt_write_md"))),
        ),
    ]
}

fn group_of(
    engine: &Engine,
    backstore: &[String],
    lun: &Lun,
    offline: &str,
    status: &str,
) -> String {
    let mut group = backstore.to_vec();
    group.extend(["alua".to_owned(), lun.group.clone()]);
    let id = match engine.item(&group).map(|item| &item.kind) {
        Some(Kind::PortGroup(PortGroup { id: Some(id), .. })) => *id,
        _ => 0,
    };
    let state = STATES
        .iter()
        .find(|(state, _, _)| state.to_string() == engine.shows(&group, "alua_access_state"))
        .map_or("Unknown", |(_, _, called)| called);
    format!(
        "TG Port Alias: {}\nTG Port Group ID: {id}\nTG Port Primary Access State: {state}\nTG Port Primary Access Status: {}\nTG Port Secondary Access State: {}\nTG Port Secondary Access Status: {}\n",
        lun.group,
        engine.shows(&group, "alua_access_status"),
        if offline == "1" { "Offline" } else { "None" },
        status
            .parse()
            .ok()
            .and_then(|status: usize| STATUS.get(status))
            .unwrap_or(&"Unknown"),
    )
}
