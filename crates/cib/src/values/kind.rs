//! What a single value has to be.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The kinds that `#:` can name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `name`: becomes part of an id in the CIB.
    Name,
    /// `node`: the name of a node.
    Node,
    /// `address`: IPv4 or IPv6, without prefix and zone.
    Address,
    /// `interface`: of the network.
    Interface,
    /// `iqn`: the name of an iSCSI node.
    Iqn,
    /// `path`: absolute.
    Path,
    /// `word`: without blanks.
    Word,
    /// `words`: on one line.
    Words,
    /// `hexadecimal 32`: so many digits; hyphens do not count.
    Hexadecimal(usize),
    /// `boolean`
    Boolean,
    /// `integer 1..10`
    Integer(RangeInclusive<u64>),
    /// `time 1s..60s`: as Pacemaker takes it, with its unit.
    Time([String; 2]),
    /// `both or none`
    Choice(Vec<String>),
    /// `one of heads.name`: the value of another one.
    OneOf(String),
}

impl Kind {
    pub fn parse(text: &str) -> Result<Kind> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Ok(match (word, rest) {
            ("name", "") => Kind::Name,
            ("node", "") => Kind::Node,
            ("address", "") => Kind::Address,
            ("interface", "") => Kind::Interface,
            ("iqn", "") => Kind::Iqn,
            ("path", "") => Kind::Path,
            ("word", "") => Kind::Word,
            ("words", "") => Kind::Words,
            ("boolean", "") => Kind::Boolean,
            ("hexadecimal", digits) => Kind::Hexadecimal(digits.parse().context("how many?")?),
            ("integer", limits) => {
                let (low, high) = limits.split_once("..").context("expected LOW..HIGH")?;
                Kind::Integer(low.parse().context("LOW")?..=high.parse().context("HIGH")?)
            }
            ("time", limits) => {
                let (low, high) = limits.split_once("..").context("expected LOW..HIGH")?;
                ensure!(
                    time(low).is_some() && time(high).is_some(),
                    "\"{limits}\"; expected times such as 10s..5min"
                );
                Kind::Time([low.to_owned(), high.to_owned()])
            }
            ("one", source) => Kind::OneOf(
                source
                    .strip_prefix("of ")
                    .context("expected \"one of\" and a name")?
                    .to_owned(),
            ),
            _ if text.contains(" or ") => {
                Kind::Choice(text.split(" or ").map(str::to_owned).collect())
            }
            _ => bail!("\"{text}\" is no kind of value"),
        })
    }

    /// The value that a word on a command line is.
    pub fn read(&self, text: &str) -> Value {
        let value = match self {
            Kind::Integer(_) => text.parse().map(|number: u64| number.into()).ok(),
            Kind::Boolean => text.parse().map(|yes: bool| yes.into()).ok(),
            _ => None,
        };
        value.unwrap_or_else(|| text.into())
    }

    /// The value, if it is one of this kind.
    pub fn check(&self, value: &Value) -> Option<Value> {
        let right = match self {
            Kind::Boolean => value.is_boolean(),
            Kind::Integer(range) => value.as_u64().is_some_and(|it| range.contains(&it)),
            _ => value.as_str().is_some_and(|text| self.check_text(text)),
        };
        right.then(|| value.clone())
    }

    fn check_text(&self, text: &str) -> bool {
        let starts_with_letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let only = |more: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            !text.is_empty() && text.chars().all(fits)
        };
        match self {
            Kind::Name => starts_with_letter && only("_-.") && text.len() <= 63,
            Kind::Node => only("-._") && !text.starts_with(['-', '.']) && text.len() <= 255,
            Kind::Address => text.parse::<IpAddr>().is_ok(),
            Kind::Interface => {
                let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '/';
                // Alternative names are longer than the 15 bytes of the name.
                (1..=127).contains(&text.len())
                    && !text.contains(wrong)
                    && ![".", ".."].contains(&text)
            }
            // RFC 7143, 4.2.7.
            Kind::Iqn => {
                let known = ["iqn.", "eui.", "naa."];
                let lower = !text.contains(|c: char| c.is_ascii_uppercase());
                let typed = known.iter().any(|kind| text.starts_with(kind));
                typed && only(".-:") && text.len() <= 223 && (lower || !text.starts_with("iqn."))
            }
            Kind::Path => text.starts_with('/') && one_line(text) && text.len() > 1,
            Kind::Word => one_line(text) && !text.contains(char::is_whitespace),
            Kind::Words => one_line(text),
            Kind::Hexadecimal(count) => {
                let mut digits = text.chars().filter(|c| *c != '-');
                digits.clone().count() == *count && digits.all(|c| c.is_ascii_hexdigit())
            }
            Kind::Time([low, high]) => {
                let (low, high) = (time(low), time(high));
                time(text).is_some_and(|it| low <= Some(it) && Some(it) <= high)
            }
            Kind::Choice(words) => words.iter().any(|word| word == text),
            // What it may be is seen when all values are there.
            Kind::OneOf(_) => true,
            Kind::Boolean | Kind::Integer(_) => false,
        }
    }

    /// What is expected, in words.
    pub fn told(&self) -> String {
        match self {
            Kind::Name => "a name of letters, digits, \"_\", \"-\" and \".\" that begins with a letter, at most 63".into(),
            Kind::Node => "the name of a node".into(),
            Kind::Address => "an IPv4 or IPv6 address".into(),
            Kind::Interface => "the name of a network interface".into(),
            Kind::Iqn => "an iSCSI name in small letters, such as iqn.2026-01.com.example:tank".into(),
            Kind::Path => "an absolute path".into(),
            Kind::Word => "a word without blanks".into(),
            Kind::Words => "words on one line".into(),
            Kind::Hexadecimal(count) => format!("{count} hexadecimal digits"),
            Kind::Boolean => "true or false".into(),
            Kind::Integer(range) => format!("an integer, {} to {}", range.start(), range.end()),
            Kind::Time([low, high]) => format!("a time, {low} to {high}"),
            Kind::Choice(words) => words.join(" or "),
            Kind::OneOf(source) => format!("one of {source}"),
        }
    }
}

fn one_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control) && text.trim() == text
}

/// A time as Pacemaker takes it; a bare number, which it takes for seconds, is none: people take it for something else.
fn time(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "s" | "sec" => 1,
        "m" | "min" => 60,
        "h" | "hr" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

/// How many entries: `2` or `1..16`.
pub(super) fn range(text: &str) -> Result<RangeInclusive<usize>> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let count = |text: &str| {
        text.parse::<usize>()
            .with_context(|| format!("\"{text}\"; expected a number of entries"))
    };
    Ok(count(low)?..=count(high)?)
}

/// A range in words.
pub(super) fn told(range: &RangeInclusive<usize>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{} to {}", range.start(), range.end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_take_what_they_should_and_nothing_else() {
        for (kind, good, bad) in [
            (
                "name",
                &["tank", "a-1_b.c"][..],
                &["", "1a", "a b", "ä", "a/b"][..],
            ),
            ("node", &["n1", "1.example.com"], &["", "-n", "n 1"]),
            (
                "address",
                &["192.0.2.1", "2001:db8::1"],
                &["192.0.2.1/24", "fe80::1%a", "host"],
            ),
            ("interface", &["eth0", "bond0.12"], &["", ".", "a b", "a/b"]),
            (
                "iqn",
                &["iqn.2026-01.com.example:tank", "eui.02004567A425678D"],
                &["iqn", "tank", "iqn.2026-01.com.example:Tank", "iqn.a b"],
            ),
            ("path", &["/a", "/a b"], &["a", "/", "", "/a\n"]),
            ("word", &["a"], &["", "a b"]),
            ("words", &["a b"], &["", "a\nb", " a"]),
            (
                "hexadecimal 4",
                &["00fF", "00-ff"],
                &["00f", "00fg", "00ff0"],
            ),
            (
                "time 1s..2min",
                &["1s", "60s", "2min", "2m"],
                &["0s", "3min", "60", "1 s", "s", "1h"],
            ),
            ("none or wero", &["none", "wero"], &["None", ""]),
        ] {
            let kind = Kind::parse(kind).unwrap();
            for text in good {
                assert!(kind.check(&(*text).into()).is_some(), "{kind:?} {text:?}");
            }
            for text in bad {
                assert!(kind.check(&(*text).into()).is_none(), "{kind:?} {text:?}");
            }
            assert!(kind.check(&1.into()).is_none(), "{kind:?}");
        }
    }

    #[test]
    fn numbers_have_limits_and_are_no_text() {
        let kind = Kind::parse("integer 1..18446744073709551615").unwrap();
        assert!(kind.check(&u64::MAX.into()).is_some());
        assert!(kind.check(&0.into()).is_none());
        assert!(kind.check(&(-1).into()).is_none());
        assert!(kind.check(&"1".into()).is_none());
        assert_eq!(kind.read("7"), Value::from(7));
        assert_eq!(kind.read("seven"), Value::from("seven"));
    }

    #[test]
    fn what_is_no_kind_is_an_error() {
        for text in [
            "",
            "nam",
            "integer",
            "integer 1",
            "time 1..2",
            "one heads",
            "hexadecimal x",
        ] {
            assert!(Kind::parse(text).is_err(), "{text:?}");
        }
    }
}
