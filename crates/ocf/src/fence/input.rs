//! What a fence agent is given: lines on standard input by the cluster, options by a person.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use clap::Command;

use super::Action;
use crate::declaration::declared;
use crate::{Parameter, ParameterKind};

/// One request, as it was given. Names are those of the fields.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// What was asked for, as written; `reboot` if nothing was.
    pub action: String,
    /// The cluster's name for the node it is about (`nodename`), if it was given.
    pub nodename: Option<String>,
    /// The parameters that were given a value.
    pub params: BTreeMap<String, String>,
    /// What is worth a warning, once there is a log. No value is in it.
    pub warnings: Vec<String>,
}

/// The cluster's own key. It is no parameter: nobody configures it.
const NODENAME: &str = "nodename";
/// The one parameter that the fencer sets by itself, to the node's name or alias, also beside an
/// older name that a configuration has: that is no contradiction.
const PLUG: &str = "plug";

/// What was given, name by name, in the words it was given in.
struct Given<'a> {
    parameters: &'a [Parameter],
    /// By the name that was used: two names of one parameter may contradict each other.
    values: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Request {
    /// Reads `name=value` lines. Empty ones and those that begin with `#` mean nothing. Names that
    /// are not known are passed over with a warning, for the cluster's tools add some of their
    /// own.
    ///
    /// A value is taken without the blanks around it and without one pair of quotation marks, as by
    /// other fence agents; that of a secret is taken as it is.
    pub fn from_lines(text: &str, command: &Command) -> Result<Request> {
        let parameters = declared(command);
        let mut given = Given::new(&parameters);
        for (index, line) in text.lines().enumerate() {
            let start = line.trim_start();
            if start.is_empty() || start.starts_with('#') {
                continue;
            }
            let Some((name, value)) = start.split_once('=') else {
                // It may be a secret that lost its name.
                given.warn(format!("line {} of the input has no \"=\"", index + 1));
                continue;
            };
            let name = canonical(name);
            match given.parameter(&name) {
                Some(parameter) if parameter.secret => given.set(&name, value)?,
                Some(_) => given.set(&name, unquoted(value.trim()))?,
                None if name == NODENAME => given.set(&name, unquoted(value.trim()))?,
                None => given.warn(format!("there is no parameter \"{}\"", printable(&name))),
            }
        }
        given.into_request()
    }

    /// Reads options as getopt does: `-a ADDRESS`, `-aADDRESS`, `--ip ADDRESS`, `--ip=ADDRESS`;
    /// what is yes or no takes a value only behind `=`. An unknown one is an error.
    pub fn from_options(words: &[String], command: &Command) -> Result<Request> {
        let parameters = declared(command);
        let mut given = Given::new(&parameters);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                };
                let name = canonical(name);
                let Some(parameter) = given.parameter(&name) else {
                    if name != NODENAME {
                        bail!(
                            "there is no option --{}; see --help",
                            printable(long_name(long))
                        );
                    }
                    let value = value.or_else(|| words.next().map(String::as_str));
                    given.set(&name, value.unwrap_or_default())?;
                    continue;
                };
                let value = match (value, &parameter.kind) {
                    (Some(value), _) => value,
                    (None, ParameterKind::Boolean) => "1",
                    (None, _) => match words.next() {
                        Some(value) => value,
                        None => bail!("--{} needs a value", parameter.name),
                    },
                };
                given.set(&name, value)?;
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                short_options(letters, &mut words, &mut given)?;
            } else {
                // Not printed: it may be a password with a blank in it.
                bail!("there is a word that belongs to no option; see --help");
            }
        }
        given.into_request()
    }
}

/// `-vP`, `-a ADDRESS` and `-aADDRESS`.
fn short_options<'w>(
    letters: &'w str,
    words: &mut impl Iterator<Item = &'w String>,
    given: &mut Given<'_>,
) -> Result<()> {
    let mut rest = letters.chars();
    while let Some(letter) = rest.next() {
        let parameters = given.parameters;
        let parameter = parameters.iter().find(|it| it.short == Some(letter));
        let Some(parameter) = parameter else {
            bail!(
                "there is no option -{}; see --help",
                letter.escape_default()
            );
        };
        if parameter.kind == ParameterKind::Boolean {
            given.set(&parameter.name, "1")?;
            continue;
        }
        let attached = rest.as_str();
        let value = match attached.is_empty() {
            false => attached,
            true => match words.next() {
                Some(value) => value,
                None => bail!("-{letter} needs a value"),
            },
        };
        return given.set(&parameter.name, value);
    }
    Ok(())
}

impl<'a> Given<'a> {
    fn new(parameters: &'a [Parameter]) -> Given<'a> {
        Given {
            parameters,
            values: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// The parameter of this name, its own or an older one.
    fn parameter(&self, name: &str) -> Option<&'a Parameter> {
        let is = |it: &&Parameter| it.name == name || it.aliases.iter().any(|alias| alias == name);
        self.parameters.iter().find(is)
    }

    fn warn(&mut self, what: String) {
        self.warnings.push(format!("{what}: passed over"));
    }

    /// An empty value is how tools write "not set".
    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        let before = self.values.insert(name.to_owned(), value.to_owned());
        let same = before.is_none_or(|before| before == value);
        ensure!(
            same || self
                .parameter(name)
                .is_some_and(|it| it.kind == ParameterKind::Boolean),
            "parameter {name}: given twice, with different values; expected one of them"
        );
        Ok(())
    }

    /// One value for each parameter: that of its own name before those of older ones, in their
    /// order. Lines come in any order, so which came last means nothing.
    fn into_request(mut self) -> Result<Request> {
        let mut request = Request {
            nodename: self.values.remove(NODENAME),
            warnings: std::mem::take(&mut self.warnings),
            ..Request::default()
        };
        for parameter in self.parameters {
            let names = std::iter::once(&parameter.name).chain(&parameter.aliases);
            let mut chosen: Option<(&String, String)> = None;
            for name in names {
                let Some(value) = self.values.remove(name) else {
                    continue;
                };
                match &chosen {
                    None => chosen = Some((name, value)),
                    Some((first, other)) => ensure!(
                        *other == value || parameter.name == PLUG,
                        "parameters {first} and {name} are one, and have different values; expected one of them"
                    ),
                }
            }
            if let Some((_, value)) = chosen {
                request.params.insert(parameter.name.clone(), value);
            }
        }
        request.action = match request.params.get("action") {
            Some(action) => action.clone(),
            None => Action::Reboot.name().to_owned(),
        };
        Ok(request)
    }
}

/// A name as the fields have it: people write `power-timeout`, too.
fn canonical(name: &str) -> String {
    name.trim().replace('-', "_")
}

fn long_name(long: &str) -> &str {
    long.split('=').next().unwrap_or_default()
}

/// A name that somebody mistyped, short and without control characters.
fn printable(name: &str) -> String {
    name.chars()
        .take(64)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

fn unquoted(value: &str) -> &str {
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(value)
}
