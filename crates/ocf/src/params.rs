//! From names and values to an agent's typed parameters, through its clap declaration.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, FromArgMatches};

use crate::declaration::is_secret;
use crate::{Agent, Exit, Failure};

/// Reads an agent's parameters. What the agent does not declare is passed over, since Pacemaker
/// and its tools add names of their own. An error is one line that names the parameter, the
/// value and what was expected, and is [`Exit::NotConfigured`].
pub fn parse<A: Agent>(given: &BTreeMap<String, String>) -> Result<A, Failure> {
    parse_typed(given, &[])
}

/// The same, where the names in `typed` came from a person: an unknown one among those is a
/// mistake, and [`Exit::Args`].
pub(crate) fn parse_typed<A: Agent>(
    given: &BTreeMap<String, String>,
    typed: &[String],
) -> Result<A, Failure> {
    // Making it takes longer than all else that a monitor does: once is enough.
    let mut command = A::command();
    let known = |name: &str| command.get_arguments().any(|arg| arg.get_id() == name);
    if let Some(name) = typed.iter().find(|name| !known(name)) {
        return Err(Exit::Args.because(format!("there is no parameter \"{name}\"")));
    }
    fill(&mut command, given).map_err(|reason| Exit::NotConfigured.because(reason))
}

/// Fills a declaration with values, by the names of its fields. An error is one line.
pub(crate) fn fill<P: FromArgMatches>(
    command: &mut Command,
    given: &BTreeMap<String, String>,
) -> Result<P, String> {
    let mut line = vec![command.get_name().to_owned()];
    for arg in command.get_arguments() {
        if let (Some(long), Some(value)) = (arg.get_long(), given.get(arg.get_id().as_str())) {
            line.push(format!("--{long}={value}"));
        }
    }
    command
        .try_get_matches_from_mut(line)
        .and_then(|matches| P::from_arg_matches(&matches))
        .map_err(|error| one_line(&error, command))
}

/// What is wrong, from the parts of clap's error rather than from its many lines.
fn one_line(error: &clap::Error, command: &Command) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    // "--cidr_netmask <CIDR_NETMASK>" is cidr_netmask.
    let names: Vec<String> = text(ContextKind::InvalidArg)
        .split(", ")
        .map(|arg| {
            arg.trim_start_matches('-')
                .split([' ', '='])
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    let name = names.join(", ");
    let secret = |arg: &clap::Arg| is_secret(arg) && names.iter().any(|name| arg.get_id() == name);
    let value = match command.get_arguments().any(secret) {
        true => "***".to_owned(),
        false => text(ContextKind::InvalidValue),
    };
    match error.kind() {
        ErrorKind::MissingRequiredArgument => format!("parameter {name}: required, but not given"),
        ErrorKind::InvalidValue => {
            format!(
                "parameter {name}: \"{value}\" is not one of {}",
                text(ContextKind::ValidValue)
            )
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("parameter {name}: \"{value}\" {why}")
        }
        kind => format!("parameter {name}: {kind}"),
    }
}

/// Reads a whole number in a range: `#[arg(value_parser = ocf::number(0..=100))]`.
pub fn number(
    range: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let (first, last) = (range.start(), range.end());
            Err(format!("is not a whole number from {first} to {last}"))
        }
    }
}

/// Yes or no, in any of the spellings that OCF agents take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(bool);

impl Flag {
    /// Is it yes?
    pub fn is_on(self) -> bool {
        self.0
    }
}

impl From<bool> for Flag {
    fn from(on: bool) -> Flag {
        Flag(on)
    }
}

impl FromStr for Flag {
    type Err = String;

    fn from_str(text: &str) -> Result<Flag, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" | "y" | "ja" => Ok(Flag(true)),
            "false" | "no" | "off" | "0" | "n" | "nein" => Ok(Flag(false)),
            _ => Err("is neither true nor false".into()),
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A time that a parameter gives, in seconds: `20`, `0.5` or `20s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(Duration);

impl Seconds {
    /// The time.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Duration {
        seconds.0
    }
}

/// Reads a time in a range of whole seconds: `#[arg(value_parser = ocf::seconds(0..=60))]`.
pub fn seconds(
    range: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<Seconds, String> + Clone + Send + Sync + 'static {
    move |text| {
        let (first, last) = (*range.start(), *range.end());
        let number = text.strip_suffix('s').unwrap_or(text);
        // What Rust reads beyond digits and a dot (1e3, inf, -0) no administrator means.
        let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
        match number.parse::<f64>() {
            Ok(count) if plain && (f64::from(first)..=f64::from(last)).contains(&count) => {
                Ok(Seconds(Duration::from_secs_f64(count)))
            }
            _ => Err(format!("is not a time from {first} to {last} seconds")),
        }
    }
}
