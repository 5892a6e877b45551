//! What `crm_simulate --output-as=xml` says that Pacemaker would do.

use std::fmt;

use anyhow::{Context, Result, ensure};

use crate::Element;

/// One transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// What is decided, each in one line: `move pool-tank1 from head1 to head2`.
    pub decisions: Vec<String>,
    /// What is then done, in an order in which it can be: `start pool-tank1 on head2`. Monitors are left out. Only there if
    /// it was simulated (`--simulate`).
    pub steps: Vec<String>,
}

impl Simulation {
    /// Reads the XML.
    ///
    /// # Errors
    /// What is no XML of crm_simulate, or says that it failed.
    pub fn parse(text: &str) -> Result<Simulation> {
        let answer = Element::parse_answer(text).context("what crm_simulate says")?;
        let status = answer.child("status").map(|it| it.word("code"));
        ensure!(status == Some("0"), "crm_simulate failed: {text}");
        let in_section = |name: &str| {
            let sections = answer.children.iter().filter(|it| it.name == name);
            sections.flat_map(|it| &it.children).collect::<Vec<_>>()
        };
        let steps = in_section("transition");
        Ok(Simulation {
            decisions: in_section("actions").into_iter().map(decision).collect(),
            steps: steps.into_iter().filter_map(step).collect(),
        })
    }
}

/// The decisions, then the steps under a line of their own.
impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.decisions.is_empty() {
            return writeln!(f, "  nothing is done");
        }
        for decision in &self.decisions {
            writeln!(f, "  {decision}")?;
        }
        if !self.steps.is_empty() {
            writeln!(f, "  in this order:")?;
        }
        self.steps
            .iter()
            .try_for_each(|step| writeln!(f, "    {step}"))
    }
}

fn decision(action: &Element) -> String {
    let (node, source, dest) = (
        action.word("node"),
        action.word("source"),
        action.word("dest"),
    );
    let (what, object) = match action.name.as_str() {
        "node_action" => (action.word("task").to_lowercase(), node.to_owned()),
        _ => {
            let place = match (source, dest) {
                ("", "") => format!(" on {node}"),
                (source, "") => format!(" on {source}"),
                ("", dest) => format!(" on {dest}"),
                (source, dest) if source == dest => format!(" on {dest}"),
                (source, dest) => format!(" from {source} to {dest}"),
            };
            let what = action.word("action").replace('_', " ");
            (what, format!("{}{place}", action.word("resource")))
        }
    };
    match action.word("reason") {
        "" => format!("{what} {object}"),
        reason => format!("{what} {object}, because of {reason:?}"),
    }
}

fn step(action: &Element) -> Option<String> {
    let (op, node) = (action.word("op"), action.word("node"));
    match action.name.as_str() {
        "fencing_action" => Some(format!("fence {} ({op})", action.word("target"))),
        "rsc_action" if op != "monitor" => {
            Some(format!("{op} {} on {node}", action.word("resource")))
        }
        _ => None,
    }
}

/// What a cluster of Pacemaker 2.1 writes into its CIB. Without any, failures are looked for under names that Pacemaker 1.1
/// gave them.
const FEATURE_SET: &str = "3.15.1";

/// The CIB as it is right after all its nodes have joined, before anything was done: for looking at a configuration
/// without the state of a cluster.
///
/// # Errors
/// No `<nodes>`.
pub fn joined(cib: &Element) -> Result<Element> {
    let mut cib = cib.clone();
    let configuration = cib.child("configuration");
    let nodes = configuration.and_then(|it| it.child("nodes"));
    let nodes = nodes.context("the CIB has no <nodes>")?.children.clone();
    let status = cib.child_or_new("status");
    status.children.clear();
    for node in &nodes {
        let id = node.id();
        let mut state = Element::new("node_state")
            .with("id", id)
            .with("uname", node.word("uname"))
            .with("in_ccm", "true")
            .with("crmd", "online")
            .with("join", "member")
            .with("expected", "member");
        let mut history = Element::new("lrm").with("id", id);
        history.children.push(Element::new("lrm_resources"));
        state.children.push(history);
        status.children.push(state);
    }
    if cib.get("crm_feature_set").is_none() {
        cib.set("crm_feature_set", FEATURE_SET);
    }
    cib.set("have-quorum", "1");
    cib.set("dc-uuid", nodes.first().map_or("1", |node| node.id()));
    Ok(cib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_and_steps_are_told_in_words() {
        let text = r#"<pacemaker-result><actions>
            <node_action task="Fence (reboot)" node="a" reason="x failed there"/>
            <rsc_action action="move" resource="x" source="a" dest="b"/>
            <rsc_action action="restart" resource="y" source="a" reason="required x start"/>
            <rsc_action action="start" resource="z" node="b"/></actions>
            <transition><pseudo_action task="g_start_0"/><rsc_action resource="x" op="monitor" node="b"/>
            <fencing_action target="a" op="reboot"/><rsc_action resource="x" op="start" node="b"/></transition>
            <status code="0" message="OK"/></pacemaker-result>"#;
        assert_eq!(
            Simulation::parse(text).unwrap().to_string(),
            "  fence (reboot) a, because of \"x failed there\"\n  move x from a to b\n  \
             restart y on a, because of \"required x start\"\n  start z on b\n  in this order:\n    \
             fence a (reboot)\n    start x on b\n"
        );
    }

    #[test]
    fn nothing_to_do_is_said_and_a_failure_is_one() {
        let nothing = r#"<r><actions/><status code="0"/></r>"#;
        let simulation = Simulation::parse(nothing).unwrap();
        assert_eq!(simulation.to_string(), "  nothing is done\n");
        assert!(Simulation::parse(r#"<r><status code="70" message="bug"/></r>"#).is_err());
    }
}
