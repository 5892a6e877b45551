//! What an agent says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roxmltree::{Document, ParsingOptions};

/// Pacemaker's default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// The part of a meta-data that matters here.
#[derive(Debug)]
pub struct Metadata {
    /// Names of the parameters that have to be given.
    pub required: Vec<String>,
    timeouts: BTreeMap<String, Duration>,
}

impl Metadata {
    /// Reads a meta-data: an error if it is not well-formed, or not that of a resource agent.
    pub fn parse(text: &str) -> Result<Metadata> {
        let options = ParsingOptions {
            allow_dtd: true,
            ..ParsingOptions::default()
        };
        let document = Document::parse_with_options(text, options);
        let document = document.context("the meta-data is not well-formed")?;
        let root = document.root_element();
        let name = root.tag_name().name();
        ensure!(
            name == "resource-agent",
            "the meta-data is that of a {name}, expected a resource-agent"
        );
        let all = |name: &'static str| {
            root.descendants()
                .filter(move |node| node.has_tag_name(name))
        };
        let required = all("parameter").filter(|node| node.attribute("required") == Some("1"));
        let required = required.filter_map(|node| node.attribute("name"));
        let timeouts = all("action").filter_map(|node| {
            let timeout = parse_time(node.attribute("timeout")?)?;
            Some((node.attribute("name")?.to_owned(), timeout))
        });
        // Several monitors, for roles and depths: the longest covers them all.
        let mut longest = BTreeMap::new();
        for (name, timeout) in timeouts {
            let known = longest.entry(name).or_insert(timeout);
            *known = timeout.max(*known);
        }
        ensure!(!longest.is_empty(), "the meta-data has no action");
        Ok(Metadata {
            required: required.map(str::to_owned).collect(),
            timeouts: longest,
        })
    }

    /// The timeout that is advertised for an action.
    pub fn timeout(&self, action: &str) -> Duration {
        let action = if action == "probe" { "monitor" } else { action };
        let known = self.timeouts.get(action).copied();
        known.unwrap_or(DEFAULT_TIMEOUT)
    }
}

/// A time as Pacemaker writes it: a number, of seconds if no unit follows.
fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "ms" | "msec" => 1,
        "" | "s" | "sec" => 1000,
        "m" | "min" => 60_000,
        "h" | "hr" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_of_a_metadata() {
        let metadata = Metadata::parse(
            r#"<?xml version="1.0"?>
            <!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
            <resource-agent name="x"><parameters>
            <parameter name="a" required="1"/><parameter name="b" required="0"/><parameter name="c"/>
            </parameters><actions>
            <action name="start" timeout="90"/><action name="stop" timeout="100s"/>
            <action name="monitor" timeout="20s"/><action name="monitor" timeout="1min" depth="10"/>
            </actions></resource-agent>"#,
        )
        .unwrap();
        assert_eq!(metadata.required, ["a"]);
        let seconds = |action| metadata.timeout(action).as_secs();
        assert_eq!((seconds("start"), seconds("stop")), (90, 100));
        assert_eq!((seconds("probe"), seconds("monitor")), (60, 60));
        assert_eq!(seconds("validate-all"), 20);
    }

    #[test]
    fn what_is_none() {
        for (text, error) in [
            ("", "the meta-data is not well-formed"),
            ("<resource-agent>", "the meta-data is not well-formed"),
            (
                "<pacemaker-result/>",
                "the meta-data is that of a pacemaker-result, expected a resource-agent",
            ),
            ("<resource-agent/>", "the meta-data has no action"),
        ] {
            assert_eq!(Metadata::parse(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn times() {
        for (text, millis) in [
            ("20", 20_000),
            ("500ms", 500),
            ("3 min", 180_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                parse_time(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "-1", "1.5s", "20 parsecs", "99999999999999999999"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
