//! Is an agent's declaration sound? What the compiler cannot see: that names written twice are
//! the same, and that metadata and manual page have something to say.

use clap::{Arg, Command};

use crate::declaration::COMMON_OPERATIONS;
use crate::{Agent, Operation, Parameter, ParameterKind, parameters};

/// Checks what `A` declares. Panics with the first thing that is wrong.
pub fn check_declaration<A: Agent>() {
    let command = A::command();
    assert_eq!(
        command.get_name(),
        A::NAME,
        "the command's name is not the agent's"
    );
    command.clone().debug_assert();
    check_command(&command);
    let parameters = parameters::<A>();
    assert!(
        !parameters.is_empty(),
        "there is no parameter; OCF wants at least one"
    );
    for parameter in &parameters {
        check_parameter(parameter);
        check_default(&command, parameter);
    }
    check_names::<A>(&parameters);
    check_operations(A::OPERATIONS);
    let reloads = A::OPERATIONS
        .iter()
        .any(|operation| operation.name == "reload-agent");
    assert_eq!(
        reloads,
        !A::RELOADABLE.is_empty(),
        "reload-agent in OPERATIONS and names in RELOADABLE go together"
    );
}

fn check_command(command: &Command) {
    let name = command.get_name();
    assert!(is_word(name, '-'), "the name {name:?} is not in kebab-case");
    assert!(
        command.get_version().is_some(),
        "the agent has no version: #[command(version)]"
    );
    assert!(
        command.get_about().is_some(),
        "the agent's struct has no doc comment"
    );
    assert!(
        command.get_long_about().is_some(),
        "the agent's doc comment has one paragraph only"
    );
    for arg in command.get_arguments() {
        check_argument(arg);
    }
}

fn check_argument(arg: &Arg) {
    let name = arg.get_id().as_str();
    assert!(
        arg.get_long() == Some(name),
        "parameter {name}: give it #[arg(long)], under the field's own name"
    );
    assert!(
        arg.get_action().takes_values(),
        "parameter {name}: a bool takes no value; use Flag"
    );
}

fn check_parameter(parameter: &Parameter) {
    let Parameter {
        name,
        summary,
        description,
        ..
    } = parameter;
    assert!(
        is_word(name, '_'),
        "parameter {name}: the name is not in snake_case"
    );
    assert!(
        !name.starts_with("crm_meta"),
        "parameter {name}: that name is the cluster's"
    );
    assert!(!summary.trim().is_empty(), "parameter {name}: no summary");
    assert!(
        !summary.contains('\n'),
        "parameter {name}: the summary has more than one line"
    );
    assert!(
        !description.trim().is_empty(),
        "parameter {name}: no description"
    );
    assert!(
        description.trim() != summary.trim(),
        "parameter {name}: no description besides its summary: a second paragraph of the doc comment"
    );
    assert!(
        !(parameter.required && parameter.default.is_some()),
        "parameter {name}: required, and with a default"
    );
    if let (ParameterKind::Select(values), Some(default)) = (&parameter.kind, &parameter.default) {
        assert!(
            values.contains(default),
            "parameter {name}: the default is none of its values"
        );
    }
}

/// A default is text until somebody leaves the parameter out.
fn check_default(command: &Command, parameter: &Parameter) {
    let Some(default) = &parameter.default else {
        return;
    };
    let given = [
        command.get_name().to_owned(),
        format!("--{}={default}", parameter.name),
    ];
    let lenient = command.clone().mut_args(|arg| arg.required(false));
    if let Err(error) = lenient.try_get_matches_from(given) {
        panic!(
            "parameter {}: its default does not parse: {error}",
            parameter.name
        );
    }
}

fn check_names<A: Agent>(parameters: &[Parameter]) {
    let known = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
    let mut grouped: Vec<&str> = Vec::new();
    for (index, (group, members)) in A::UNIQUE.iter().enumerate() {
        assert!(!members.is_empty(), "UNIQUE: group {group} has no members");
        let again = A::UNIQUE[..index]
            .iter()
            .any(|(earlier, _)| earlier == group);
        assert!(!again, "UNIQUE: group {group} stands there twice");
        for member in *members {
            assert!(known(member), "UNIQUE: there is no parameter {member}");
            assert!(
                !grouped.contains(member),
                "UNIQUE: {member} is in more than one group"
            );
            grouped.push(member);
        }
    }
    for name in A::RELOADABLE {
        assert!(known(name), "RELOADABLE: there is no parameter {name}");
    }
    for (old, new) in A::DEPRECATED {
        assert!(known(old), "DEPRECATED: there is no parameter {old}");
        assert!(
            known(new) && old != new,
            "DEPRECATED: {old} cannot be replaced with {new}"
        );
    }
}

fn check_operations(operations: &[Operation]) {
    let has = |name| operations.iter().any(|operation| operation.name == name);
    for name in ["start", "stop", "monitor"] {
        assert!(has(name), "OPERATIONS: {name} is missing");
    }
    assert_eq!(
        has("promote"),
        has("demote"),
        "OPERATIONS: promote and demote go together"
    );
    for (index, operation) in operations.iter().enumerate() {
        let Operation { name, timeout, .. } = operation;
        let common = COMMON_OPERATIONS.iter().any(|common| common.name == *name);
        assert!(!common, "OPERATIONS: every agent has {name}");
        assert!(*timeout > 0, "OPERATIONS: {name} has a timeout of 0");
        let earlier = &operations[..index];
        if *name == "monitor" {
            check_monitor(operation, earlier);
        } else {
            let again = earlier.iter().any(|earlier| earlier.name == *name);
            assert!(!again, "OPERATIONS: {name} stands there twice");
            assert!(
                operation.interval.is_none()
                    && operation.depth.is_none()
                    && operation.role.is_none(),
                "OPERATIONS: only a monitor has interval, depth and role, {name} has not"
            );
        }
    }
    let plain = |it: &Operation| it.name == "monitor" && it.depth == Some(0);
    assert!(
        operations.iter().any(plain),
        "OPERATIONS: no monitor at depth 0"
    );
}

/// Pacemaker tells the monitors of a resource apart by their intervals.
fn check_monitor(monitor: &Operation, earlier: &[Operation]) {
    let interval = monitor.interval.unwrap_or(0);
    assert!(interval > 0, "OPERATIONS: a monitor has no interval");
    let again = earlier
        .iter()
        .any(|earlier| earlier.interval == monitor.interval);
    assert!(
        !again,
        "OPERATIONS: two monitors have the interval {interval}"
    );
    assert!(
        matches!(monitor.role, None | Some("Promoted" | "Unpromoted")),
        "OPERATIONS: a monitor's role is Promoted or Unpromoted"
    );
}

fn is_word(name: &str, joint: char) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == joint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::tests::Sample;

    #[test]
    fn an_agent_with_one_of_everything_is_sound() {
        check_declaration::<Sample>();
    }

    #[test]
    #[should_panic(expected = "two monitors have the interval 10")]
    fn two_monitors_with_one_interval_are_found() {
        check_operations(&[
            Operation::start(1),
            Operation::stop(1),
            Operation::monitor(1).every(10),
            Operation::monitor(1).every(10).at_depth(10),
        ]);
    }

    #[test]
    #[should_panic(expected = "RELOADABLE: there is no parameter prot")]
    fn a_misspelt_name_is_found() {
        check_names::<Misspelt>(&parameters::<Misspelt>());
    }

    #[test]
    #[should_panic(expected = "parameter port: its default does not parse")]
    fn a_default_out_of_range_is_found() {
        check_default(
            &<Misspelt as clap::CommandFactory>::command(),
            &parameters::<Misspelt>()[0],
        );
    }

    #[derive(clap::Parser)]
    struct Misspelt {
        /// Port
        #[arg(long, default_value = "65536")]
        port: u16,
    }

    impl Agent for Misspelt {
        const NAME: &'static str = "misspelt";
        const OPERATIONS: &'static [Operation] = &[];
        const RELOADABLE: &'static [&'static str] = &["prot"];

        fn monitor(&self, _: &crate::Node, _: crate::Depth) -> anyhow::Result<crate::State> {
            Ok(crate::State::Stopped)
        }

        fn start(&self, _: &crate::Node) -> anyhow::Result<()> {
            Ok(())
        }

        fn stop(&self, _: &crate::Node) -> anyhow::Result<()> {
            Ok(())
        }
    }
}
