//! What agents say of their parameters: crm_verify and crm_simulate do not look at them, and what an agent refuses stops the
//! service that has it.

use std::time::Duration;

use cib::{Element, is_secret};
use host::cmd::Output;
use host::{Cmd, CmdError, Host};

/// For an agent that looks at nothing but its parameters.
const A_WHILE: Duration = Duration::from_secs(20);

/// What the agents have answered.
#[derive(Default)]
pub struct Answers {
    /// What they have against the parameters, in one line for each resource.
    pub refusals: Vec<String>,
    /// Those that are not installed on this node.
    pub absent: Vec<String>,
}

/// Asks our own agents about the parameters of those primitives whose parameters are others than in the configuration
/// `before`. At their first level, they look at nothing of the node that asks.
pub fn ask(host: &Host, before: &Element, wanted: &Element) -> Answers {
    let old: Vec<&Element> = before.primitives().collect();
    let mut answers = Answers::default();
    for primitive in wanted.primitives() {
        let same = |it: &&Element| told(it) == told(primitive) && it.id() == primitive.id();
        let Some(command) = question(primitive).filter(|_| !old.iter().any(same)) else {
            continue;
        };
        match host.ask(&command.at_most(A_WHILE)) {
            Ok(output) if output.success() => {}
            Ok(output) => {
                let line = format!("{}: {}", primitive.id(), reason(&output));
                answers.refusals.push(line);
            }
            Err(CmdError::Missing { program }) => answers.absent.push(program),
            // Going back must not depend on it.
            Err(error) => {
                let line = format!("{}: the agent cannot be asked: {error}", primitive.id());
                answers.refusals.push(line);
            }
        }
    }
    answers.absent.sort();
    answers.absent.dedup();
    answers
}

/// What an agent is told: its type and its parameters.
fn told(primitive: &Element) -> (&str, Vec<&Element>) {
    let sets = primitive.children_named("instance_attributes");
    (primitive.word("type"), sets.collect())
}

/// How one of our agents is asked. Parameters that a rule chooses, or that stand elsewhere, are known only when they count.
fn question(primitive: &Element) -> Option<Cmd> {
    let (kind, sets) = told(primitive);
    let mut all = sets.iter().flat_map(|set| set.all());
    if all.any(|it| it.name == "rule" || it.get("id-ref").is_some()) {
        return None;
    }
    let parameters = primitive.pairs("instance_attributes");
    let class = [primitive.word("class"), primitive.word("provider"), kind];
    match class {
        ["ocf", "hastor", kind] => {
            let command = Cmd::new(format!("/usr/lib/ocf/resource.d/hastor/{kind}"))
                .arg("validate-all")
                .env("OCF_ROOT", "/usr/lib/ocf")
                .env("OCF_RESOURCE_INSTANCE", primitive.id());
            Some(parameters.iter().fold(command, |command, (name, value)| {
                let variable = format!("OCF_RESKEY_{name}");
                match is_secret(name) {
                    true => command.secret_env(&variable, value),
                    false => command.env(&variable, value),
                }
            }))
        }
        ["stonith", "", "fence_hastor_ipmi"] => {
            let own = parameters
                .iter()
                .filter(|(name, _)| !name.starts_with("pcmk_"));
            let lines = own.map(|(name, value)| format!("{name}={value}\n"));
            let input = lines.collect::<String>() + "action=validate-all\n";
            Some(Cmd::new(format!("/usr/sbin/{kind}")).input(input))
        }
        _ => None,
    }
}

/// The agent's own words.
fn reason(output: &Output) -> String {
    let lines = output.stderr.lines().rev();
    let mut lines = lines.filter(|line| !line.trim().is_empty());
    let last = lines.next().map(|line| {
        let line = line.strip_prefix("ocf-exit-reason:").unwrap_or(line);
        line.trim().to_owned()
    });
    last.unwrap_or_else(|| format!("the agent ended with {}", output.status))
}
