//! The values of a stack: what `values.toml` declares, and what somebody gives.
//!
//! `values.toml` is at once the explanation, the example and the declaration. Above each value stands `#: KIND`, with
//! `default`, `optional` or `unique` behind commas; above a list of tables, how many entries it may have.

mod kind;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use kind::Kind;

/// What values a stack has.
#[derive(Debug)]
pub(crate) struct Declaration {
    fields: Vec<(String, Shape)>,
}

/// What stands behind a name.
#[derive(Debug)]
enum Shape {
    Leaf(Leaf),
    Table(Vec<(String, Shape)>),
    List(RangeInclusive<usize>, Vec<(String, Shape)>),
}

#[derive(Debug)]
struct Leaf {
    kind: Kind,
    presence: Presence,
    unique: bool,
}

#[derive(Debug)]
enum Presence {
    Required,
    Optional,
    Default(Value),
}

/// A value that was given, with what it is called in errors and how it is declared.
struct Given<'a> {
    /// `pools.tank1.home`
    called: String,
    /// `pools.home`
    declared: String,
    leaf: &'a Leaf,
    text: String,
}

impl Declaration {
    /// Reads `values.toml`.
    pub fn parse(text: &str) -> Result<Declaration> {
        let example = table(text)?;
        let mut fields = Vec::new();
        let mut notes = Vec::new();
        let mut path: Vec<&str> = Vec::new();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            let here = || format!("line {number}: {line:?}");
            if let Some(note) = line.strip_prefix("#:") {
                notes.push(note.trim());
            } else if line.starts_with('#') || line.is_empty() {
            } else if let Some(name) = header(line, "[[", "]]") {
                path = name.split('.').collect();
                let list = place(&mut fields, &path, &|| Shape::List(0..=0, Vec::new()))
                    .with_context(here)?;
                // Only the first entry has a note.
                if let (Shape::List(count, _), Some(note)) = (list, notes.pop()) {
                    *count = kind::range(note).with_context(here)?;
                }
            } else if let Some(name) = header(line, "[", "]") {
                path = name.split('.').collect();
                place(&mut fields, &path, &|| Shape::Table(Vec::new())).with_context(here)?;
            } else {
                let name = line.split('=').next().unwrap_or_default().trim();
                let full = [&path[..], &[name]].concat();
                if let Some(note) = notes.pop() {
                    let leaf = leaf(note, find(&example, &full)).with_context(here)?;
                    let slot = place(&mut fields, &full, &|| Shape::Table(Vec::new()));
                    *slot.with_context(here)? = Shape::Leaf(leaf);
                }
            }
            if !line.starts_with('#') {
                ensure!(notes.is_empty(), "{}: \"#:\" twice; expected once", here());
            }
        }
        Ok(Declaration { fields })
    }

    /// Checks the values of the text `given`, with those in `changed` instead; all values, with the defaults.
    pub fn check(&self, given: &str, changed: &[(String, String)]) -> Result<Map<String, Value>> {
        let mut values = table(given)?;
        for (name, value) in changed {
            self.change(&mut values, name, value)?;
        }
        let mut found = Vec::new();
        let checked = fields(&self.fields, "", "", values, &mut found)?;
        for (at, it) in found.iter().enumerate() {
            // An address can be one thing's only, whatever it is.
            let is_address = |it: &Given| it.leaf.kind == Kind::Address;
            let twin = found[..at].iter().find(|twin| {
                let alike = twin.declared == it.declared || (is_address(twin) && is_address(it));
                alike && twin.text == it.text
            });
            if let (true, Some(twin)) = (it.leaf.unique, twin) {
                bail!(
                    "value {}: {} is that of {} already; expected another one",
                    it.called,
                    it.text,
                    twin.called
                );
            }
            if let Kind::OneOf(source) = &it.leaf.kind {
                let others = found.iter().filter(|other| other.declared == *source);
                let texts: Vec<&str> = others.map(|other| other.text.as_str()).collect();
                ensure!(
                    texts.contains(&it.text.as_str()),
                    "value {}: {:?}; expected one of {source}: {}",
                    it.called,
                    it.text,
                    texts.join(", ")
                );
            }
        }
        Ok(checked)
    }

    /// Sets one value by its name; an entry of a list goes by its first value (`pools.tank1.home`) or its number from 0.
    fn change(&self, values: &mut Map<String, Value>, name: &str, text: &str) -> Result<()> {
        let unknown = || anyhow!("value {name}: there is no such value");
        let mut shapes = &self.fields;
        let mut values = values;
        let mut rest = Some(name);
        loop {
            let (part, behind) = match rest.with_context(unknown)?.split_once('.') {
                Some((part, behind)) => (part, Some(behind)),
                None => (rest.with_context(unknown)?, None),
            };
            let shape = shapes.iter().find(|(it, _)| it == part);
            let (_, shape) = shape.with_context(unknown)?;
            match shape {
                Shape::Leaf(leaf) => {
                    ensure!(behind.is_none(), unknown());
                    values.insert(part.to_owned(), leaf.kind.read(text));
                    return Ok(());
                }
                Shape::Table(fields) => {
                    let slot = values.entry(part).or_insert_with(|| Map::new().into());
                    values = slot.as_object_mut().with_context(unknown)?;
                    (shapes, rest) = (fields, behind);
                }
                Shape::List(_, fields) => {
                    let entries = values.get_mut(part).and_then(Value::as_array_mut);
                    let behind = behind.with_context(unknown)?;
                    let first = fields.first().map_or("", |(name, _)| name.as_str());
                    // Names can have dots, as those of nodes: the longest that fits is meant.
                    let named = entries.into_iter().flatten().enumerate();
                    let named = named.filter_map(|(number, entry)| {
                        let own = entry.get(first).and_then(Value::as_str).unwrap_or_default();
                        let fits = |name: &str| behind.strip_prefix(name)?.strip_prefix('.');
                        let rest = fits(own).or_else(|| fits(&number.to_string()))?;
                        Some((rest, entry.as_object_mut()?))
                    });
                    let entry = named.min_by_key(|(rest, _)| rest.len());
                    let (behind, entry) = entry.with_context(|| {
                        let wanted = behind.rsplit_once('.').map_or(behind, |(wanted, _)| wanted);
                        format!("value {name}: the values have no {wanted} in {part}")
                    })?;
                    (values, shapes, rest) = (entry, fields, Some(behind));
                }
            }
        }
    }
}

/// The values of a table. `declared` and `called` are its names, with a dot behind them unless they are empty.
fn fields<'a>(
    shapes: &'a [(String, Shape)],
    declared: &str,
    called: &str,
    mut given: Map<String, Value>,
    found: &mut Vec<Given<'a>>,
) -> Result<Map<String, Value>> {
    if let Some(name) = given
        .keys()
        .find(|name| !shapes.iter().any(|(it, _)| it == *name))
    {
        let names: Vec<&str> = shapes.iter().map(|(name, _)| name.as_str()).collect();
        bail!(
            "value {called}{name}: there is no such value; expected one of {}",
            names.join(", ")
        );
    }
    let mut all = Map::new();
    for (name, shape) in shapes {
        let (declared, called) = (format!("{declared}{name}"), format!("{called}{name}"));
        let value = match (shape, given.remove(name)) {
            (Shape::Leaf(leaf), given) => one(leaf, declared, called, given, found)?,
            (Shape::Table(shapes), given) => {
                let given = match given {
                    Some(Value::Object(given)) => given,
                    Some(other) => bail!("value {called}: {other}; expected a table"),
                    None => Map::new(),
                };
                let (declared, called) = (format!("{declared}."), format!("{called}."));
                fields(shapes, &declared, &called, given, found)?.into()
            }
            (Shape::List(count, shapes), given) => {
                let entries = match given {
                    Some(Value::Array(entries)) => entries,
                    Some(other) => bail!("value {called}: {other}; expected tables [[{called}]]"),
                    None => Vec::new(),
                };
                ensure!(
                    count.contains(&entries.len()),
                    "value {called}: {} entries; expected {}",
                    entries.len(),
                    kind::told(count)
                );
                let mut list = Vec::new();
                for (number, entry) in entries.into_iter().enumerate() {
                    let Value::Object(entry) = entry else {
                        bail!("value {called}: {entry}; expected tables [[{called}]]");
                    };
                    let first = shapes.first().and_then(|(name, _)| entry.get(name));
                    let label = match first.and_then(Value::as_str) {
                        Some(name) => name.to_owned(),
                        None => number.to_string(),
                    };
                    let (declared, called) = (format!("{declared}."), format!("{called}.{label}."));
                    list.push(fields(shapes, &declared, &called, entry, found)?.into());
                }
                Value::Array(list)
            }
        };
        all.insert(name.clone(), value);
    }
    Ok(all)
}

fn one<'a>(
    leaf: &'a Leaf,
    declared: String,
    called: String,
    given: Option<Value>,
    found: &mut Vec<Given<'a>>,
) -> Result<Value> {
    let value = match (given, &leaf.presence) {
        (Some(given), _) => given,
        (None, Presence::Default(value)) => value.clone(),
        (None, Presence::Optional) => return Ok(Value::Null),
        (None, Presence::Required) => {
            bail!("value {called}: missing; expected {}", leaf.kind.told())
        }
    };
    let Some(value) = leaf.kind.check(&value) else {
        bail!("value {called}: {value}; expected {}", leaf.kind.told());
    };
    let text = match &value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // An address can be written in several ways.
    let text = text
        .parse::<IpAddr>()
        .map_or(text, |address| address.to_string());
    found.push(Given {
        called,
        declared,
        leaf,
        text,
    });
    Ok(value)
}

fn leaf(note: &str, example: Option<&Value>) -> Result<Leaf> {
    let mut words = note.split(',').map(str::trim);
    let kind = Kind::parse(words.next().unwrap_or_default())?;
    let example = example.context("declared without a value; expected one as an example")?;
    ensure!(
        kind.check(example).is_some(),
        "{example}; expected {}, as it says itself",
        kind.told()
    );
    let mut leaf = Leaf {
        kind,
        presence: Presence::Required,
        unique: false,
    };
    for word in words {
        match word {
            "default" => leaf.presence = Presence::Default(example.clone()),
            "optional" => leaf.presence = Presence::Optional,
            "unique" => leaf.unique = true,
            _ => bail!("\"{word}\"; expected default, optional or unique"),
        }
    }
    Ok(leaf)
}

/// The name in a line such as `[cluster]`.
fn header<'a>(line: &'a str, open: &str, close: &str) -> Option<&'a str> {
    line.strip_prefix(open)?.strip_suffix(close)
}

/// The shape at a path, of which the last part is made if it is not there.
fn place<'a>(
    fields: &'a mut Vec<(String, Shape)>,
    path: &[&str],
    new: &dyn Fn() -> Shape,
) -> Result<&'a mut Shape> {
    let (name, rest) = path.split_first().context("a name is missing")?;
    let at = fields.iter().position(|(it, _)| it == name);
    let at = at.unwrap_or_else(|| {
        fields.push(((*name).to_owned(), new()));
        fields.len() - 1
    });
    let (_, shape) = &mut fields[at];
    match (rest, shape) {
        ([], shape) => Ok(shape),
        (_, Shape::Table(fields) | Shape::List(_, fields)) => place(fields, rest, new),
        (_, Shape::Leaf(_)) => bail!("{name} is a value already; expected a table"),
    }
}

/// The first value in the example with this path.
fn find<'a>(values: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (name, rest) = path.split_first()?;
    match values.get(*name)? {
        value if rest.is_empty() => Some(value),
        Value::Object(inner) => find(inner, rest),
        Value::Array(entries) => entries
            .iter()
            .filter_map(Value::as_object)
            .find_map(|entry| find(entry, rest)),
        _ => None,
    }
}

/// The values that a text has.
fn table(text: &str) -> Result<Map<String, Value>> {
    let table = DeTable::parse(text).map_err(|error| {
        let before = text.get(..error.span().map_or(0, |span| span.start));
        let line = before.unwrap_or_default().matches('\n').count() + 1;
        anyhow!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    plain_table(table.get_ref())
}

fn plain_table(table: &DeTable) -> Result<Map<String, Value>> {
    let fields = table.iter();
    fields
        .map(|(name, value)| {
            let name: &str = name.get_ref();
            Ok((name.to_owned(), plain(value.get_ref())?))
        })
        .collect()
}

fn plain(value: &DeValue) -> Result<Value> {
    Ok(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => {
            let text = number.as_str();
            // The GUID of a pool has 64 bits, and no sign.
            match (
                i64::from_str_radix(text, number.radix()),
                u64::from_str_radix(text, number.radix()),
            ) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => bail!("the number {text} is too large; expected at most 64 bits"),
            }
        }
        DeValue::Boolean(yes) => (*yes).into(),
        DeValue::Array(entries) => {
            let entries = entries.iter().map(|entry| plain(entry.get_ref()));
            Value::Array(entries.collect::<Result<_>>()?)
        }
        DeValue::Table(table) => plain_table(table)?.into(),
        DeValue::Float(number) => bail!("{}; expected no number with a fraction", number.as_str()),
        DeValue::Datetime(time) => bail!("{time}; expected no time of day"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = r#"
# How long.
#: time 1s..60s, default
[[heads]]
"#;

    const EXAMPLE: &str = r#"
[cluster]
#: one of heads.name
preferred = "a"
#: time 1s..60s, default
delay = "10s"
#: 1..2
[[heads]]
#: node, unique
name = "a"
#: address, unique
ip = "192.0.2.1"
#: integer 1..10, optional
weight = 3
[[heads]]
name = "b"
ip = "192.0.2.2"
"#;

    fn check(text: &str, changed: &[(&str, &str)]) -> Result<String> {
        let changed: Vec<_> = changed
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let declaration = Declaration::parse(EXAMPLE)?;
        Ok(Value::from(declaration.check(text, &changed)?).to_string())
    }

    fn refused(changed: &[(&str, &str)]) -> String {
        check(EXAMPLE, changed).unwrap_err().to_string()
    }

    #[test]
    fn defaults_fill_in_and_what_is_optional_is_null() {
        let text = "[cluster]\npreferred = \"x\"\n[[heads]]\nname = \"x\"\nip = \"2001:db8::1\"";
        assert_eq!(
            check(text, &[]).unwrap(),
            concat!(
                r#"{"cluster":{"delay":"10s","preferred":"x"},"#,
                r#""heads":[{"ip":"2001:db8::1","name":"x","weight":null}]}"#
            )
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        let error = |text: &str| check(text, &[]).unwrap_err().to_string();
        assert_eq!(
            error("[cluster]\nprefered = \"a\""),
            "value cluster.prefered: there is no such value; expected one of preferred, delay"
        );
        assert_eq!(
            error(""),
            "value cluster.preferred: missing; expected one of heads.name"
        );
        assert_eq!(
            error("[cluster]\npreferred = \"a\""),
            "value heads: 0 entries; expected 1 to 2"
        );
        assert_eq!(
            error("[cluster]\npreferred = \"a\"\n[[heads]]\nname = \"a\""),
            "value heads.a.ip: missing; expected an IPv4 or IPv6 address"
        );
        assert_eq!(
            error("heads = 1\n[cluster]\npreferred = \"a\""),
            "value heads: 1; expected tables [[heads]]"
        );
        assert!(error("a = ").starts_with("line 1: "), "{}", error("a = "));
    }

    #[test]
    fn single_values_are_changed_by_name() {
        let changed = [("heads.b.weight", "7"), ("cluster.delay", "1min")];
        let text = check(EXAMPLE, &changed).unwrap();
        assert!(text.contains(r#""delay":"1min""#) && text.contains(r#""weight":7"#));
        assert_eq!(
            refused(&[("heads.b.weight", "11")]),
            "value heads.b.weight: 11; expected an integer, 1 to 10"
        );
        assert_eq!(
            refused(&[("heads.c.weight", "1")]),
            "value heads.c.weight: the values have no c in heads"
        );
        for unknown in ["heads", "cluster.x", "cluster.delay.x", ""] {
            assert_eq!(
                refused(&[(unknown, "1")]),
                format!("value {unknown}: there is no such value")
            );
        }
    }

    #[test]
    fn names_with_dots_are_told_apart() {
        let dotted = EXAMPLE.replace("\"b\"", "\"a.example.com\"");
        let changed = [("heads.a.example.com.weight", "7"), ("heads.a.weight", "5")];
        let text = check(&dotted, &changed).unwrap();
        let (a, b) = text.split_once("a.example.com").unwrap();
        assert!(
            a.contains(r#""weight":5"#) && b.contains(r#""weight":7"#),
            "{text}"
        );
    }

    #[test]
    fn values_are_held_against_each_other() {
        assert_eq!(
            refused(&[("cluster.preferred", "c")]),
            "value cluster.preferred: \"c\"; expected one of heads.name: a, b"
        );
        assert_eq!(
            refused(&[("heads.1.ip", "192.0.2.1")]),
            "value heads.b.ip: 192.0.2.1 is that of heads.a.ip already; expected another one"
        );
    }

    #[test]
    fn a_declaration_has_to_keep_its_own_word() {
        let error = |text: &str| format!("{:#}", Declaration::parse(text).unwrap_err());
        assert_eq!(
            error("#: time 1s..2s\na = \"3s\""),
            "line 2: \"a = \\\"3s\\\"\": \"3s\"; expected a time, 1s to 2s, as it says itself"
        );
        assert_eq!(
            error("#: word, often\na = \"3s\""),
            "line 2: \"a = \\\"3s\\\"\": \"often\"; expected default, optional or unique"
        );
        assert!(Declaration::parse(DECLARED).is_err());
    }
}
