//! Writing a definition as `lio.toml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::draft::Data;
use super::{default_portal, rules, volumes};
use crate::wanted::{Access, Backing, Chap, Initiator, Mapped, Target, Unit, Wanted};

/// Where [`to_toml`] says that passwords are.
const PASSWORDS: &str = "/etc/hastor/chap";

/// The definition as a `lio.toml` that says everything, so that reading it looks at no pool. Passwords are not in it:
/// `password_file` names a file that somebody has to write. Attributes and parameters are sorted by their names.
pub fn to_toml(wanted: &Wanted) -> String {
    let mut text = String::new();
    for unit in &wanted.units {
        write_unit(&mut text, unit);
    }
    if wanted.targets.is_empty() {
        text.insert_str(0, "target = []\n");
    }
    for target in &wanted.targets {
        write_target(&mut text, target);
    }
    text.trim_start().to_owned()
}

/// One line, `key = value`. Nothing can go wrong when a text grows.
macro_rules! line {
    ($text:expr, $($part:tt)*) => {{
        let _ = writeln!($text, $($part)*);
    }};
}

fn write_unit(text: &mut String, unit: &Unit) {
    let mut attributes = sorted(&unit.attributes);
    let volume = match &unit.backing {
        // A volume has a block size, see UnitDraft::settle.
        Backing::Block { path, .. } if attributes.contains_key("block_size") => {
            volumes::of_link(path)
        }
        _ => None,
    };
    line!(text, "\n[[unit]]");
    let data = match (&volume, &unit.backing) {
        (
            Some(name),
            Backing::Block {
                read_only,
                write_back,
                ..
            },
        ) => {
            line!(text, "volume = {}", quoted(name));
            Data::Volume {
                name: name.clone(),
                read_only: *read_only,
                write_back: *write_back,
            }
        }
        (_, backing) => {
            let key = match backing {
                Backing::Block { .. } => "device",
                Backing::File { .. } => "file",
                Backing::Scsi { .. } => "scsi",
            };
            line!(text, "{key} = {}", quoted(backing.path()));
            Data::Backing(backing.clone())
        }
    };
    if unit.name != data.name() {
        line!(text, "name = {}", quoted(&unit.name));
    }
    match &unit.backing {
        Backing::Block {
            read_only,
            write_back,
            ..
        } => {
            if *read_only {
                line!(text, "read_only = true");
            }
            if *write_back {
                line!(text, "write_back = true");
            }
        }
        Backing::File {
            size, write_back, ..
        } => {
            if let Some(size) = size {
                line!(text, "size = {size}");
            }
            if *write_back {
                line!(text, "write_back = true");
            }
        }
        _ => {}
    }
    match rules::identity(unit).guid() {
        Some(guid) => line!(text, "guid = {}", quoted(&guid)),
        None => {
            line!(text, "serial = {}", quoted(&unit.serial));
            if let Some(company) = unit.company_id {
                line!(text, "company_id = \"{company:06x}\"");
            }
        }
    }
    let inquiry = [
        ("vendor", &unit.vendor),
        ("product", &unit.product),
        ("revision", &unit.revision),
    ];
    for (key, value) in inquiry {
        if let Some(value) = value {
            line!(text, "{key} = {}", quoted(value));
        }
    }
    if let Some(size) = attributes.remove("block_size") {
        line!(text, "block_size = {size}");
    }
    write_settings(text, "attributes", &attributes);
}

fn write_target(text: &mut String, target: &Target) {
    line!(text, "\n[[target]]");
    line!(text, "iqn = {}", quoted(&target.iqn));
    if target.tag != 1 {
        line!(text, "tag = {}", target.tag);
    }
    if target.portals != [default_portal()] {
        let portals = target.portals.iter().map(|portal| match portal.iser {
            true => format!("iser:{portal}"),
            false => portal.to_string(),
        });
        line!(text, "portals = {}", list(portals));
    }
    write_settings(text, "attributes", &sorted(&target.attributes));
    write_settings(text, "parameters", &sorted(&target.parameters));
    write_chap(text, target.chap.as_ref(), &target.iqn);
    if let Access::Only(initiators) = &target.access {
        if initiators.iter().all(|one| is_plain(one, target)) {
            line!(
                text,
                "initiators = {}",
                list(initiators.iter().map(|one| one.name.clone()))
            );
        }
    }
    match target.luns.is_empty() {
        true => line!(text, "lun = []"),
        false => line!(text, "lun = ["),
    }
    for lun in &target.luns {
        line!(
            text,
            "  {{ number = {}, unit = {} }},",
            lun.number,
            quoted(&lun.unit)
        );
    }
    if !target.luns.is_empty() {
        line!(text, "]");
    }
    if let Access::Only(initiators) = &target.access {
        if !initiators.iter().all(|one| is_plain(one, target)) {
            for initiator in initiators {
                write_initiator(text, initiator, target);
            }
        }
    }
}

fn write_initiator(text: &mut String, initiator: &Initiator, target: &Target) {
    line!(text, "\n[[target.initiator]]");
    line!(text, "name = {}", quoted(&initiator.name));
    let whose = format!("{}@{}", target.iqn, initiator.name);
    write_chap(text, initiator.chap.as_ref(), &whose);
    if let Some(depth) = initiator.depth {
        line!(text, "depth = {depth}");
    }
    if initiator.luns == all(target, false) {
        return;
    }
    if initiator.luns == all(target, true) {
        line!(text, "read_only = true");
        return;
    }
    let view = initiator.luns.iter().map(|mapped| {
        let Mapped {
            number,
            lun,
            read_only,
        } = mapped;
        match (number == lun, read_only) {
            (true, false) => number.to_string(),
            (true, true) => format!("{{ lun = {lun}, read_only = true }}"),
            (false, false) => format!("{{ number = {number}, lun = {lun} }}"),
            (false, true) => format!("{{ number = {number}, lun = {lun}, read_only = true }}"),
        }
    });
    line!(text, "view = [{}]", view.collect::<Vec<_>>().join(", "));
}

/// Is there nothing to be said of it but its name?
fn is_plain(initiator: &Initiator, target: &Target) -> bool {
    initiator.chap.is_none() && initiator.depth.is_none() && initiator.luns == all(target, false)
}

/// All LUNs of a target under their own numbers.
fn all(target: &Target, read_only: bool) -> Vec<Mapped> {
    let mut luns: Vec<Mapped> = target
        .luns
        .iter()
        .map(|lun| Mapped {
            number: lun.number,
            lun: lun.number,
            read_only,
        })
        .collect();
    luns.sort_by_key(|lun| lun.number);
    luns
}

fn write_chap(text: &mut String, chap: Option<&Chap>, whose: &str) {
    let Some(chap) = chap else { return };
    let mut keys = format!(
        "user = {}, password_file = {}",
        quoted(&chap.user),
        quoted(&format!("{PASSWORDS}/{whose}"))
    );
    if let Some((user, _)) = &chap.mutual {
        let _ = write!(
            keys,
            ", mutual_user = {}, mutual_password_file = {}",
            quoted(user),
            quoted(&format!("{PASSWORDS}/{whose}.mutual"))
        );
    }
    line!(text, "chap = {{ {keys} }}");
}

fn write_settings(text: &mut String, key: &str, settings: &BTreeMap<&str, &str>) {
    if settings.is_empty() {
        return;
    }
    let pairs = settings.iter().map(|(name, value)| {
        let is_number = value
            .parse::<i64>()
            .is_ok_and(|number| number.to_string() == *value);
        match is_number {
            true => format!("{name} = {value}"),
            false => format!("{name} = {}", quoted(value)),
        }
    });
    line!(
        text,
        "{key} = {{ {} }}",
        pairs.collect::<Vec<_>>().join(", ")
    );
}

fn sorted(settings: &[(String, String)]) -> BTreeMap<&str, &str> {
    settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.map(|word| quoted(&word)).collect();
    match words.iter().map(String::len).sum::<usize>() > 80 {
        true => format!("[\n  {},\n]", words.join(",\n  ")),
        false => format!("[{}]", words.join(", ")),
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
