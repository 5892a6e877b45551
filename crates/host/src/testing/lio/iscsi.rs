//! target/iscsi: targets, portal groups, portals, LUNs and initiators.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use super::alua;
use super::engine::{Derived, Engine};
use super::items::{Acl, Auth, Item, Kind, Lun, Portal, Seen, Store, Tpg};
use super::numbers::{flag, number, number16, number32};
use super::parameters;

/// The longest name of a target, and one.
const NAME: usize = 224;
/// The longest user name or password, and one.
const SECRET: usize = 256;
/// The longest tag of an initiator, and one.
const TAG: usize = 64;

/// mkdir target/iscsi
pub(super) fn fabric(engine: &Engine, name: &str) -> Result<Item, Errno> {
    if name != "iscsi" || engine.kernel.missing.contains("iscsi_target_mod") {
        return Err(Errno::EINVAL);
    }
    let discovery = auth(false).attribute("enforce_discovery_auth", 0, Store::By(set_enforced));
    Ok(Item::new(Kind::Fabric)
        .attribute(
            "lio_version",
            "Datera Inc. iSCSI Target v4.1.0",
            Store::Never,
        )
        .attribute("cpus_allowed_list", "0-7", Store::By(set_cpus))
        .with("discovery_auth", discovery))
}

fn set_enforced(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    match number32(text) {
        Ok(value @ 0..=1) => {
            engine.show(place, name, format!("{value}\n"));
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

fn set_cpus(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let list = text.trim_end();
    if !list
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b",-".contains(&byte))
    {
        return Err(Errno::EINVAL);
    }
    engine.show(place, name, format!("{list}\n"));
    Ok(())
}

/// mkdir iscsi/iqn.x: any name will do that is not too long.
pub(super) fn target(engine: &Engine, name: &str) -> Result<Item, Errno> {
    if name.len() >= NAME {
        return Err(Errno::EINVAL);
    }
    const STATISTICS: [&str; 5] = [
        "iscsi_instance",
        "iscsi_sess_err",
        "iscsi_tgt_attr",
        "iscsi_login_stats",
        "iscsi_logout_stats",
    ];
    let param =
        Item::new(Kind::Plain).attribute("cmd_completion_affinity", -1, Store::By(set_affinity));
    let param = match engine.kernel.is_newer_than(6, 1) {
        true => param.constants(&["default_submit_type", "direct_submit_supported"], 1),
        false => param,
    };
    Ok(Item::new(Kind::Iqn)
        .with(
            "fabric_statistics",
            Item::new(Kind::Plain).with_plain(&STATISTICS),
        )
        .with("param", param))
}

fn set_affinity(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = text.trim_end();
    match value.parse::<i32>() {
        Ok(-2..=7) => {
            engine.show(place, name, format!("{value}\n"));
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// mkdir iqn.x/tpgt_1
pub(super) fn tpg(engine: &Engine, name: &str) -> Result<Item, Errno> {
    let (_, tag) = name.split_once("tpgt_").ok_or(Errno::EINVAL)?;
    let tag = number16(tag).map_err(|_| Errno::EINVAL)?;
    let tpg = Tpg {
        tag,
        enabled: false,
        rtpi: 0,
        rtpi_was_set: false,
    };
    let item = Item::new(Kind::Tpg(tpg))
        .verbatim("dynamic_sessions", "", Store::Never)
        .attribute("enable", 0, Store::By(enable))
        .with("lun", Item::new(Kind::Luns))
        .with("np", Item::new(Kind::Portals))
        .with("acls", Item::new(Kind::Acls))
        .with("attrib", parameters::attrib(engine))
        .with("auth", auth(true))
        .with("param", parameters::param());
    Ok(match engine.kernel.is_newer_than(6, 1) {
        true => item.attribute("rtpi", "0x0", Store::By(set_rtpi)),
        false => item,
    })
}

fn enable(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let wanted = flag(text)?;
    let tpg = engine.tpg_mut(place);
    if tpg.enabled == wanted {
        return match engine.kernel.refuses_repeated_enable {
            true => Err(Errno::EINVAL),
            false => Ok(()),
        };
    }
    if wanted {
        let (own, was_set) = (tpg.rtpi, tpg.rtpi_was_set);
        let used: Vec<u16> = engine
            .items()
            .iter()
            .filter_map(|(_, item)| match &item.kind {
                Kind::Tpg(tpg) if tpg.enabled => Some(tpg.rtpi),
                _ => None,
            })
            .collect();
        let rtpi = match was_set {
            true => Some(own).filter(|own| !used.contains(own)),
            false => (1..=u16::MAX).find(|rtpi| !used.contains(rtpi)),
        };
        let rtpi = rtpi.ok_or(Errno::EINVAL)?;
        engine.tpg_mut(place).rtpi = rtpi;
        engine.show(place, "rtpi", format!("{rtpi:#x}\n"));
        parameters::require_authentication(engine, place);
    } else {
        end_sessions(engine, place);
    }
    engine.tpg_mut(place).enabled = wanted;
    engine.show(place, name, format!("{}\n", u8::from(wanted)));
    Ok(())
}

fn end_sessions(engine: &mut Engine, tpg: &[String]) {
    let mut acls = tpg.to_vec();
    acls.push("acls".to_owned());
    for child in engine.item_mut(&acls).children.values_mut() {
        if let Kind::Acl(acl) = &mut child.kind {
            acl.session = false;
        }
    }
}

fn set_rtpi(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let rtpi = number16(text)?;
    let tpg = engine.tpg_mut(place);
    if rtpi == 0 || tpg.enabled {
        return Err(Errno::EINVAL);
    }
    (tpg.rtpi, tpg.rtpi_was_set) = (rtpi, true);
    engine.show(place, name, format!("{rtpi:#x}\n"));
    Ok(())
}

/// User names and passwords.
fn auth(cuts: bool) -> Item {
    let auth = Auth {
        cuts,
        ..Auth::default()
    };
    ["userid", "password", "userid_mutual", "password_mutual"]
        .into_iter()
        .fold(Item::new(Kind::Auth(auth)), |item, name| {
            item.attribute(name, "", Store::By(set_secret))
        })
        .attribute("authenticate_target", 0, Store::Never)
}

/// All that was written, the newline, too. A value that begins with NULL is kept, but does not count as set.
fn set_secret(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let Kind::Auth(auth) = &mut engine.item_mut(place).kind else {
        return Err(Errno::EINVAL);
    };
    if text.len() >= SECRET && !auth.cuts {
        return Err(Errno::EINVAL);
    }
    let kept = String::from_utf8_lossy(&text.as_bytes()[..text.len().min(SECRET - 1)]).into_owned();
    let counts = !kept.starts_with("NULL");
    match name {
        "userid_mutual" => auth.userid_mutual = counts,
        "password_mutual" => auth.password_mutual = counts,
        _ => {}
    }
    let both = auth.userid_mutual && auth.password_mutual;
    engine.show(
        place,
        "authenticate_target",
        format!("{}\n", u8::from(both)),
    );
    engine.show(place, name, kept + "\n");
    Ok(())
}

/// mkdir np/10.0.0.1:3260. The kernel has several reasons to refuse one, and the same word for all.
pub(super) fn portal(engine: &Engine, place: &[String], name: &str) -> Result<Item, Errno> {
    let portal = Portal::parse(name).ok_or(Errno::EINVAL)?;
    let own_target = &place[..place.len() - 2];
    for (other, item) in engine.items() {
        let Kind::Portal(taken) = &item.kind else {
            continue;
        };
        let on_same_target = other.starts_with(own_target);
        if (on_same_target && *taken == portal) || taken.excludes(&portal) {
            return Err(Errno::EINVAL);
        }
    }
    let others = &engine.others_listen;
    if others
        .iter()
        .any(|taken| *taken == portal || taken.excludes(&portal))
    {
        return Err(Errno::EINVAL);
    }
    Ok(Item::new(Kind::Portal(portal))
        .attribute("iser", 0, Store::By(set_transport))
        .attribute("cxgbit", 0, Store::By(set_transport)))
}

/// There is no hardware for other transports here.
fn set_transport(_: &mut Engine, _: &[String], _: &'static str, text: &str) -> Result<(), Errno> {
    match number32(text)? {
        0 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

impl Portal {
    /// `10.0.0.1:3260` or `[fd00::1]:3260`; digits of the port as in C.
    pub(super) fn parse(name: &str) -> Option<Portal> {
        let (ip, port) = match name.split_once('[') {
            Some((_, rest)) => {
                let (ip, rest) = rest.split_once(']')?;
                (ip, rest.split_once(':')?.1)
            }
            None => name.split_once(':')?,
        };
        let ip = match ip.parse::<Ipv4Addr>() {
            Ok(ip) => IpAddr::V4(ip),
            Err(_) => IpAddr::V6(ip.split('%').next()?.parse::<Ipv6Addr>().ok()?),
        };
        Some(Portal(SocketAddr::new(ip, number16(port).ok()?)))
    }

    /// Can the other not listen while this one does, although it is another one? An address of all addresses and any
    /// single one exclude each other on a port; all of IPv6 include all of IPv4.
    fn excludes(&self, other: &Portal) -> bool {
        let (Portal(own), Portal(other)) = (self, other);
        let all = |one: &SocketAddr, other: &SocketAddr| {
            one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
        };
        own.port() == other.port() && own.ip() != other.ip() && (all(own, other) || all(other, own))
    }
}

/// mkdir lun/lun_0
pub(super) fn lun(name: &str) -> Result<Item, Errno> {
    let lun = Lun {
        number: lun_number(name)?,
        backstore: None,
        group: alua::DEFAULT.to_owned(),
    };
    const STATISTICS: [&str; 3] = ["scsi_port", "scsi_tgt_port", "scsi_transport"];
    let item = Item::new(Kind::Lun(lun)).with(
        "statistics",
        Item::new(Kind::Statistics).with_plain(&STATISTICS),
    );
    Ok(alua::lun_files(item))
}

fn lun_number(name: &str) -> Result<u64, Errno> {
    let digits = name.strip_prefix("lun_").ok_or(Errno::EINVAL)?;
    number(digits, u64::MAX)
}

/// ln -s core/iblock_0/x lun/lun_0/x
pub(super) fn export(engine: &mut Engine, lun: &[String], target: &[String]) -> Result<(), Errno> {
    let backstore = engine.backstore(target).ok_or(Errno::EFAULT)?;
    if backstore.opened.is_none() {
        return Err(Errno::ENODEV);
    }
    let lun = engine.lun_mut(lun);
    if lun.backstore.is_some() {
        return Err(Errno::EEXIST);
    }
    lun.backstore = Some(target.to_vec());
    lun.group = alua::DEFAULT.to_owned();
    Ok(())
}

/// The LUN is not there any more, and no initiator sees it. The links in acls/ stay, and lead to nothing.
pub(super) fn unexport(engine: &mut Engine, lun: &[String]) {
    let mapped: Vec<Vec<String>> = engine
        .items()
        .into_iter()
        .filter(|(_, item)| {
            matches!(item.kind, Kind::Mapped { .. })
                && item.links.values().any(|target| target == lun)
        })
        .map(|(place, _)| place)
        .collect();
    mapped.iter().for_each(|mapped| unmap(engine, mapped, lun));
    engine.lun_mut(lun).backstore = None;
}

/// mkdir acls/iqn.y: any name will do.
pub(super) fn acl(engine: &Engine, place: &[String]) -> Result<Item, Errno> {
    let mut attrib = place[..place.len() - 1].to_vec();
    attrib.push("attrib".to_owned());
    let depth = engine.shows(&attrib, "default_cmdsn_depth").to_owned();
    let level = engine.shows(&attrib, "default_erl").to_owned();
    let statistics = Item::new(Kind::Plain).with_plain(&["iscsi_sess_stats"]);
    Ok(Item::new(Kind::Acl(Acl::default()))
        .verbatim("info", "", Store::Never)
        .attribute("cmdsn_depth", depth, Store::By(set_depth))
        .verbatim("tag", "", Store::By(set_tag))
        .with("attrib", parameters::acl_attrib(&level))
        .with("auth", auth(false))
        .with("param", parameters::acl_param())
        .with("fabric_statistics", statistics))
}

/// Another depth ends the initiator's session.
fn set_depth(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let depth = number32(text)?;
    if depth > 512 {
        return Err(Errno::EINVAL);
    }
    let depth = depth.max(1).to_string();
    if engine.shows(place, name) != depth {
        engine.show(place, name, depth + "\n");
        if let Kind::Acl(acl) = &mut engine.item_mut(place).kind {
            acl.session = false;
        }
    }
    Ok(())
}

/// All that was written, the newline, too. One that begins with NULL is none.
fn set_tag(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    if text.len() >= TAG {
        return Err(Errno::EINVAL);
    }
    let tag = if text.starts_with("NULL") { "" } else { text };
    engine.show(place, name, tag);
    Ok(())
}

/// mkdir acls/iqn.y/lun_0
pub(super) fn mapped_lun(name: &str) -> Result<Item, Errno> {
    let number = lun_number(name)?;
    const STATISTICS: [&str; 2] = ["scsi_auth_intr", "scsi_att_intr_port"];
    Ok(Item::new(Kind::Mapped { number })
        .verbatim("write_protect", "", Store::By(set_write_protect))
        .with(
            "statistics",
            Item::new(Kind::Statistics).with_plain(&STATISTICS),
        ))
}

/// ln -s lun/lun_0 acls/iqn.y/lun_0/x, both of one portal group.
pub(super) fn map(engine: &mut Engine, mapped: &[String], target: &[String]) -> Result<(), Errno> {
    let lun = engine.lun(target).ok_or(Errno::EFAULT)?;
    let backstore = lun.backstore.as_ref().ok_or(Errno::EINVAL)?;
    let read_only = engine
        .backstore(backstore)
        .is_some_and(|backstore| backstore.read_only != 0);
    let (acl, tpg) = (&mapped[..mapped.len() - 1], &mapped[..mapped.len() - 3]);
    if !target.starts_with(tpg) {
        return Err(Errno::EINVAL);
    }
    let mut attrib = tpg.to_vec();
    attrib.push("attrib".to_owned());
    let read_only = read_only || engine.shows(&attrib, "prod_mode_write_protect") == "1";
    let seen = Seen {
        lun: target.to_vec(),
        read_only,
    };
    let number = number_of(engine, mapped)?;
    let Kind::Acl(acl) = &mut engine.item_mut(acl).kind else {
        return Err(Errno::EINVAL);
    };
    if acl.seen.contains_key(&number) {
        return Err(Errno::EINVAL);
    }
    acl.seen.insert(number, seen);
    engine.restore_registrations(mapped);
    Ok(())
}

/// The initiator does not see the LUN any more, and what it had registered is forgotten.
pub(super) fn unmap(engine: &mut Engine, mapped: &[String], lun: &[String]) {
    let nexus = engine.nexus(mapped);
    let Ok(number) = number_of(engine, mapped) else {
        return;
    };
    let Kind::Acl(acl) = &mut engine.item_mut(&mapped[..mapped.len() - 1]).kind else {
        return;
    };
    if acl.seen.get(&number).is_none_or(|seen| seen.lun != lun) {
        return;
    }
    acl.seen.remove(&number);
    if let Some(nexus) = nexus {
        engine.forget_registrations(&nexus);
    }
}

fn number_of(engine: &Engine, mapped: &[String]) -> Result<u64, Errno> {
    match engine.item(mapped).map(|item| &item.kind) {
        Some(Kind::Mapped { number }) => Ok(*number),
        _ => Err(Errno::EINVAL),
    }
}

/// Without a LUN there is nothing to protect: it is accepted and changes nothing.
fn set_write_protect(
    engine: &mut Engine,
    place: &[String],
    _: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = number(text, u64::MAX)?;
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    let number = number_of(engine, place)?;
    if let Kind::Acl(acl) = &mut engine.item_mut(&place[..place.len() - 1]).kind {
        if let Some(seen) = acl.seen.get_mut(&number) {
            seen.read_only = value == 1;
        }
    }
    Ok(())
}

pub(super) fn derived_of_acl(place: &[String], acl: &Acl) -> Derived {
    let name = place.last().map(String::as_str).unwrap_or_default();
    let info = match acl.session {
        false => format!("No active iSCSI Session for Initiator Endpoint: {name}\n"),
        true => format!(
            "InitiatorName: {name}\nInitiatorAlias: \nLIO Session ID: 1   ISID: 0x00 02 3d 00 00 00  TSIH: 1  SessionType: Normal\nSession State: TARG_SESS_STATE_LOGGED_IN\n---------------------[iSCSI Session Values]-----------------------\n  CmdSN/WR  :  CmdSN/WC  :  ExpCmdSN  :  MaxCmdSN  :     ITT    :     TTT\n 0x00000040   0x00000040   0x00000001   0x00000040   0x00000000   0x00000000\n----------------------[iSCSI Connections]-------------------------\nCID: 0  Connection State: TARG_CONN_STATE_LOGGED_IN\n   Address 192.0.2.99 TCP  StatSN: 0x00000001\n"
        ),
    };
    vec![(&[], "info", Ok(info))]
}

pub(super) fn derived_of_mapped(engine: &Engine, place: &[String], number: u64) -> Derived {
    let seen = match engine
        .item(&place[..place.len() - 1])
        .map(|item| &item.kind)
    {
        Some(Kind::Acl(acl)) => acl.seen.get(&number),
        _ => None,
    };
    let text = seen.map_or(String::new(), |seen| {
        format!("{}\n", u8::from(seen.read_only))
    });
    vec![(&[], "write_protect", Ok(text))]
}
