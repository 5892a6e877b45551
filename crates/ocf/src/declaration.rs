//! What an agent declares, read off its clap declaration: once, for metadata and man page alike.

use std::any::TypeId;

use clap::{Arg, Command};

use crate::{Agent, Flag, Seconds, Secret};

/// An operation that an agent advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The action's name.
    pub name: &'static str,
    /// Suggested timeout, in seconds.
    pub timeout: u32,
    /// Of a monitor: suggested interval, in seconds. No two monitors may have the same.
    pub interval: Option<u32>,
    /// Of a monitor: its `OCF_CHECK_LEVEL`.
    pub depth: Option<u32>,
    /// Of a monitor: the role it is for, `Promoted` or `Unpromoted`.
    pub role: Option<&'static str>,
}

impl Operation {
    const fn new(name: &'static str, timeout: u32) -> Operation {
        Operation {
            name,
            timeout,
            interval: None,
            depth: None,
            role: None,
        }
    }

    /// The start action.
    pub const fn start(timeout: u32) -> Operation {
        Operation::new("start", timeout)
    }

    /// The stop action.
    pub const fn stop(timeout: u32) -> Operation {
        Operation::new("stop", timeout)
    }

    /// A monitor, at depth 0 until [`Operation::at_depth`] says otherwise.
    pub const fn monitor(timeout: u32) -> Operation {
        Operation {
            depth: Some(0),
            ..Operation::new("monitor", timeout)
        }
    }

    /// The promote action.
    pub const fn promote(timeout: u32) -> Operation {
        Operation::new("promote", timeout)
    }

    /// The demote action.
    pub const fn demote(timeout: u32) -> Operation {
        Operation::new("demote", timeout)
    }

    /// The notify action.
    pub const fn notify(timeout: u32) -> Operation {
        Operation::new("notify", timeout)
    }

    /// The reload-agent action.
    pub const fn reload_agent(timeout: u32) -> Operation {
        Operation::new("reload-agent", timeout)
    }

    /// The same, repeated every so many seconds.
    pub const fn every(self, interval: u32) -> Operation {
        Operation {
            interval: Some(interval),
            ..self
        }
    }

    /// The same, at this `OCF_CHECK_LEVEL`.
    pub const fn at_depth(self, depth: u32) -> Operation {
        Operation {
            depth: Some(depth),
            ..self
        }
    }

    /// The same, in this role.
    pub const fn in_role(self, role: &'static str) -> Operation {
        Operation {
            role: Some(role),
            ..self
        }
    }
}

/// Operations that every agent has, as this crate implements them.
pub(crate) const COMMON_OPERATIONS: &[Operation] = &[
    Operation::new("validate-all", 20),
    Operation::new("meta-data", 5),
];

/// A parameter, as its field declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The field's name.
    pub name: String,
    /// The first paragraph of its doc comment.
    pub summary: String,
    /// Its whole doc comment.
    pub description: String,
    /// Must it be given?
    pub required: bool,
    /// The value it has if it is not given.
    pub default: Option<String>,
    /// What its values look like.
    pub kind: ParameterKind,
    /// The unique group it belongs to: [`Agent::UNIQUE`].
    pub unique_group: Option<&'static str>,
    /// Is it alone in that group?
    pub unique_alone: bool,
    /// May it change without a restart?
    pub reloadable: bool,
    /// What to use instead, if it is kept only for old configurations.
    pub deprecated: Option<&'static str>,
    /// Other names for it, kept only for old configurations, the most usual first.
    pub aliases: Vec<String>,
    /// The letter that stands for it on a command line.
    pub short: Option<char>,
    /// Is its value nobody's business?
    pub secret: bool,
}

/// What a parameter's values look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Yes or no.
    Boolean,
    /// A whole number.
    Integer,
    /// A time in seconds.
    Seconds,
    /// Any text.
    String,
    /// One of these.
    Select(Vec<String>),
}

/// The parameters of an agent, in the order of its fields.
pub fn parameters<A: Agent>() -> Vec<Parameter> {
    let mut parameters = declared(&A::command());
    for parameter in &mut parameters {
        let name = parameter.name.as_str();
        let group = A::UNIQUE
            .iter()
            .find(|(_, members)| members.contains(&name));
        parameter.unique_group = group.map(|(group, _)| *group);
        parameter.unique_alone = group.is_some_and(|(_, members)| members.len() == 1);
        parameter.reloadable = A::RELOADABLE.contains(&name);
        parameter.deprecated = A::DEPRECATED
            .iter()
            .find(|(old, _)| *old == name)
            .map(|(_, new)| *new);
    }
    parameters
}

/// What the fields alone say.
pub(crate) fn declared(command: &Command) -> Vec<Parameter> {
    command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some())
        .map(parameter)
        .collect()
}

fn parameter(arg: &Arg) -> Parameter {
    let summary = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let aliases = arg.get_all_aliases().unwrap_or_default();
    Parameter {
        name: arg.get_id().to_string(),
        description: arg
            .get_long_help()
            .map(ToString::to_string)
            .unwrap_or_else(|| summary.clone()),
        summary,
        required: arg.is_required_set(),
        default: arg
            .get_default_values()
            .first()
            .map(|value| value.to_string_lossy().into_owned()),
        kind: kind(arg),
        unique_group: None,
        unique_alone: false,
        reloadable: false,
        deprecated: None,
        aliases: aliases.into_iter().map(str::to_owned).collect(),
        short: arg.get_short(),
        secret: is_secret(arg),
    }
}

/// Is what this argument takes nobody's business?
pub(crate) fn is_secret(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<Secret>()
}

fn kind(arg: &Arg) -> ParameterKind {
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    let kind = arg.get_value_parser().type_id();
    let is = |types: &[TypeId]| types.iter().any(|one| kind == *one);
    if is(&[TypeId::of::<Flag>()]) {
        ParameterKind::Boolean
    } else if is(&[TypeId::of::<Seconds>()]) {
        ParameterKind::Seconds
    } else if !values.is_empty() {
        ParameterKind::Select(values)
    } else if is(&[
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<i64>(),
    ]) {
        ParameterKind::Integer
    } else {
        ParameterKind::String
    }
}
