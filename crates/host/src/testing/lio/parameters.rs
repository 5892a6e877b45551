//! What a portal group and an initiator can be told: their attributes, and the keys of iSCSI.

use nix::errno::Errno;

use super::engine::Engine;
use super::items::{Item, Kind, Store};
use super::numbers::{leading, number32};

/// The directory attrib of a portal group.
pub(super) fn attrib(engine: &Engine) -> Item {
    let yes_no = Store::Number(0, 1);
    let item = Item::new(Kind::Plain)
        .attribute("authentication", 1, Store::By(set_authentication))
        .attribute("login_timeout", 15, Store::Number(5, 30))
        .attribute("generate_node_acls", 0, Store::By(set_dynamic))
        .attribute("default_cmdsn_depth", 64, Store::Number(1, 512))
        .attribute("cache_dynamic_acls", 0, Store::By(set_dynamic))
        .attribute("demo_mode_write_protect", 1, yes_no)
        .attribute("prod_mode_write_protect", 0, yes_no)
        .attribute("demo_mode_discovery", 1, yes_no)
        .attribute("default_erl", 0, Store::Number(0, 2))
        .attribute("t10_pi", 0, yes_no)
        .attribute("fabric_prot_type", 0, Store::By(set_protection))
        .attribute("tpg_enabled_sendtargets", 1, yes_no)
        .attribute("login_keys_workaround", 1, yes_no);
    match engine.kernel.is_newer_than(6, 1) {
        true => item,
        false => item.attribute("netif_timeout", 2, Store::Number(2, 15)),
    }
}

fn set_protection(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    match number32(text)? {
        value @ (0 | 1 | 3) => {
            engine.show(place, name, format!("{value}\n"));
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Initiators that are not known are remembered whenever they are let in.
fn set_dynamic(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = number32(text)?;
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    let generates = engine.shows(place, "generate_node_acls") == "1";
    match (name, value) {
        ("cache_dynamic_acls", 0) if generates => return Ok(()),
        ("generate_node_acls", 1) => engine.show(place, "cache_dynamic_acls", "1\n"),
        _ => {}
    }
    engine.show(place, name, format!("{value}\n"));
    Ok(())
}

fn set_authentication(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = number32(text)?;
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    let tpg = &place[..place.len() - 1];
    offer(engine, tpg, value == 0);
    engine.show(place, name, format!("{value}\n"));
    Ok(())
}

/// A portal group that is enabled and shall authenticate does not offer to go without.
pub(super) fn require_authentication(engine: &mut Engine, tpg: &[String]) {
    if engine.shows(&directory(tpg, "attrib"), "authentication") != "1" {
        return;
    }
    let param = directory(tpg, "param");
    if engine.shows(&param, "AuthMethod") == "None" {
        engine.show(&param, "AuthMethod", "CHAP\n");
    }
    offer(engine, tpg, false);
}

/// Adds None to the methods of authentication, or takes it away. Alone it stays.
fn offer(engine: &mut Engine, tpg: &[String], none: bool) {
    let param = directory(tpg, "param");
    let methods = engine.shows(&param, "AuthMethod").to_owned();
    let offered = match (none, methods.contains("None")) {
        (true, false) => format!("{methods},None"),
        (false, true) if methods != "None" => {
            let others: Vec<&str> = methods
                .split(',')
                .filter(|method| *method != "None")
                .collect();
            others.join(",")
        }
        _ => methods,
    };
    engine.show(&param, "AuthMethod", offered + "\n");
}

fn directory(tpg: &[String], name: &str) -> Vec<String> {
    let mut directory = tpg.to_vec();
    directory.push(name.to_owned());
    directory
}

/// What a key may be.
#[derive(Clone, Copy)]
enum Value {
    Boolean,
    /// A number from, and to.
    Number(i32, i32),
    /// Some of these, separated by commas.
    Some(&'static [&'static str]),
    Text,
}

const METHODS: &[&str] = &["KRB5", "SPKM1", "SPKM2", "SRP", "CHAP", "None"];
const DIGESTS: &[&str] = &["CRC32C", "None"];

const KEYS: [(&str, &str, Value); 21] = [
    ("AuthMethod", "CHAP", Value::Some(METHODS)),
    ("HeaderDigest", "CRC32C,None", Value::Some(DIGESTS)),
    ("DataDigest", "CRC32C,None", Value::Some(DIGESTS)),
    ("MaxConnections", "1", Value::Number(1, 65535)),
    ("TargetAlias", "LIO Target", Value::Text),
    ("InitialR2T", "Yes", Value::Boolean),
    ("ImmediateData", "Yes", Value::Boolean),
    (
        "MaxRecvDataSegmentLength",
        "8192",
        Value::Number(512, 16_777_215),
    ),
    (
        "MaxXmitDataSegmentLength",
        "262144",
        Value::Number(512, 16_777_215),
    ),
    ("MaxBurstLength", "262144", Value::Number(512, 16_777_215)),
    ("FirstBurstLength", "65536", Value::Number(512, 16_777_215)),
    ("DefaultTime2Wait", "2", Value::Number(0, 3600)),
    ("DefaultTime2Retain", "20", Value::Number(0, 3600)),
    ("MaxOutstandingR2T", "1", Value::Number(1, 65535)),
    ("DataPDUInOrder", "Yes", Value::Boolean),
    ("DataSequenceInOrder", "Yes", Value::Boolean),
    ("ErrorRecoveryLevel", "0", Value::Number(0, 2)),
    ("IFMarker", "No", Value::Boolean),
    ("OFMarker", "No", Value::Boolean),
    ("IFMarkInt", "Reject", Value::Text),
    ("OFMarkInt", "Reject", Value::Text),
];

/// The directory param of a portal group.
pub(super) fn param() -> Item {
    KEYS.iter()
        .fold(Item::new(Kind::Plain), |item, (key, value, _)| {
            item.attribute(key, value, Store::By(set_key))
        })
}

/// One character of white space may follow. Of a number only the beginning is looked at, but all of it is kept.
fn set_key(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = text
        .strip_suffix(|end: char| end.is_ascii_whitespace())
        .unwrap_or(text);
    let known = KEYS.iter().find(|(key, _, _)| *key == name);
    let (_, _, kind) = known.ok_or(Errno::EINVAL)?;
    let accepted = match value {
        "Reject" => name.ends_with("MarkInt"),
        "Irrelevant" => true,
        "NotUnderstood" => false,
        _ => value.split(',').all(|part| part.len() <= 255) && kind.accepts(value),
    };
    if !accepted {
        return Err(Errno::EINVAL);
    }
    engine.show(place, name, format!("{value}\n"));
    Ok(())
}

impl Value {
    fn accepts(self, value: &str) -> bool {
        match self {
            Value::Some(known) => value.split(',').all(|one| known.contains(&one)),
            _ if value.contains(',') => false,
            Value::Boolean => value == "Yes" || value == "No",
            Value::Number(from, to) => (from..=to).contains(&(leading(value).0 as i32)),
            Value::Text => true,
        }
    }
}

/// The directory attrib of an initiator.
pub(super) fn acl_attrib(error_recovery_level: &str) -> Item {
    let yes_no = Store::Number(0, 1);
    Item::new(Kind::Plain)
        .attribute("dataout_timeout", 3, Store::Number(2, 60))
        .attribute("dataout_timeout_retries", 5, Store::Number(1, 15))
        .attribute("default_erl", error_recovery_level, Store::Number(0, 2))
        .attribute("nopin_timeout", 15, Store::By(set_nopin))
        .attribute("nopin_response_timeout", 30, Store::Number(3, 60))
        .attribute("random_datain_pdu_offsets", 0, yes_no)
        .attribute("random_datain_seq_offsets", 0, yes_no)
        .attribute("random_r2t_offsets", 0, yes_no)
        .attribute("authentication", -1, Store::By(set_own_authentication))
}

fn set_nopin(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    match number32(text)? {
        value @ (0 | 3..=60) => {
            engine.show(place, name, format!("{value}\n"));
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Yes, no, or -1: as its portal group does.
fn set_own_authentication(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = text.strip_suffix('\n').unwrap_or(text);
    if value != "-1" && number32(value)? > 1 {
        return Err(Errno::EINVAL);
    }
    engine.show(place, name, format!("{value}\n"));
    Ok(())
}

/// The directory param of an initiator: what was agreed upon with it.
pub(super) fn acl_param() -> Item {
    const KEYS: [&str; 11] = [
        "MaxConnections",
        "InitialR2T",
        "ImmediateData",
        "MaxBurstLength",
        "FirstBurstLength",
        "DefaultTime2Wait",
        "DefaultTime2Retain",
        "MaxOutstandingR2T",
        "DataPDUInOrder",
        "DataSequenceInOrder",
        "ErrorRecoveryLevel",
    ];
    Item::new(Kind::Plain).constants(&KEYS, "No Active iSCSI Session")
}
