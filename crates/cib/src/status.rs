//! What `crm_mon --output-as=xml` says.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::Element;

/// The cluster as one of its nodes sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The node that decides, if one is elected.
    pub dc: Option<String>,
    /// Whether this partition has quorum.
    pub quorate: bool,
    /// Whether failed nodes are fenced.
    pub fencing_enabled: bool,
    /// The nodes, in the order of crm_mon.
    pub nodes: Vec<Node>,
    /// The primitives, fencing devices included.
    pub resources: Vec<Resource>,
    /// Failed actions that the history has.
    pub failures: Vec<Failure>,
    /// Fencings that are waited for: of each node the one that goes on, and the last one that ended if it failed.
    pub fencings: Vec<Fencing>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Fully joined, clean and not about to leave.
    pub online: bool,
    /// Its failure or absence is not dealt with yet: what it had stays down until it is fenced.
    pub unclean: bool,
    /// In words: `online`, `standby`, `UNCLEAN`, `offline` and so on.
    pub state: String,
}

/// A primitive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// Its id in the CIB.
    pub id: String,
    /// `ocf:hastor:vip`
    pub agent: String,
    /// `Started`, `Stopped`, `Starting` and so on.
    pub role: String,
    /// The role that it is told to have (`target-role`), if it is told one.
    pub target_role: Option<String>,
    /// Its last action failed.
    pub failed: bool,
    /// Nothing more is done about it before somebody intervenes.
    pub blocked: bool,
    /// Whether Pacemaker manages it.
    pub managed: bool,
    /// The action that is being done.
    pub pending: Option<String>,
    /// Where it is active, as far as is known.
    pub nodes: Vec<String>,
    /// Those of these nodes that are not there, with their state: nobody knows whether it still runs on them.
    pub lost: BTreeMap<String, String>,
}

/// A failed action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The resource's id.
    pub resource: String,
    /// `start`, `monitor` and so on.
    pub action: String,
    /// The node.
    pub node: String,
    /// In one line: what Pacemaker calls it, and the agent's reason.
    pub reason: String,
}

/// A fencing that has not succeeded: nothing of the node is taken over before one has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fencing {
    /// The node that is to be fenced.
    pub node: String,
    /// `failed` or `pending`.
    pub state: String,
    /// When it ended, as Pacemaker writes it, if it has.
    pub completed: Option<String>,
    /// Why it failed, if Pacemaker knows: what a fence agent says is only in its log.
    pub reason: Option<String>,
    /// The node that tried, and has that log.
    pub by: Option<String>,
}

impl Status {
    /// Reads the XML.
    ///
    /// # Errors
    /// What is no XML of crm_mon, or says that crm_mon failed.
    pub fn parse(text: &str) -> Result<Status> {
        let answer = Element::parse_answer(text).context("what crm_mon says")?;
        let all = answer.all();
        let dc = all.iter().find(|it| it.name == "current_dc");
        let dc = dc.context("crm_mon says nothing about a designated controller (current_dc)")?;
        let options = all.iter().find(|it| it.name == "cluster_options");
        let nodes = answer.children_named("nodes");
        let failures = all.iter().filter(|it| it.name == "failure");
        let resources = all
            .iter()
            .filter(|it| it.name == "resource" && it.get("role").is_some());
        let nodes: Vec<Node> = nodes
            .flat_map(|nodes| nodes.children_named("node"))
            .map(node)
            .collect();
        Ok(Status {
            resources: resources.map(|it| resource(it, &nodes)).collect(),
            dc: dc.get("name").map(str::to_owned),
            quorate: yes(dc, "with_quorum"),
            fencing_enabled: options
                .is_some_and(|it| yes(it, "stonith-enabled") || yes(it, "fencing-enabled")),
            nodes,
            failures: failures.map(|it| failure(it)).collect(),
            fencings: fencings(&all),
        })
    }

    /// A resource by its id.
    pub fn resource(&self, id: &str) -> Option<&Resource> {
        self.resources.iter().find(|it| it.id == id)
    }
}

impl Resource {
    /// The node where it is started, on that node only, which is there, without failure and without anything being done to it.
    /// An instance of a promotable clone is, whether promoted or not.
    pub fn runs_on(&self) -> Option<&str> {
        let roles = ["Started", "Promoted", "Unpromoted", "Master", "Slave"];
        let runs = roles.contains(&self.role.as_str());
        let well =
            runs && !self.failed && !self.blocked && self.pending.is_none() && self.lost.is_empty();
        match &self.nodes[..] {
            [node] if well => Some(node),
            _ => None,
        }
    }

    /// Its id in the configuration: an instance of a clone has its number behind it.
    pub fn base(&self) -> &str {
        self.id.split(':').next().unwrap_or_default()
    }

    /// Its state in a few words.
    pub fn told(&self) -> String {
        let mut words = vec![self.role.to_lowercase()];
        if !self.nodes.is_empty() {
            let nodes = self.nodes.iter().map(|node| match self.lost.get(node) {
                Some(state) => format!("{node} ({state})"),
                None => node.clone(),
            });
            words.push(format!("on {}", nodes.collect::<Vec<_>>().join(" and ")));
        }
        if let Some(pending) = &self.pending {
            words.push(format!("({}...)", pending.to_lowercase()));
        }
        if self.target_role.as_deref() == Some("Stopped") {
            words.push("(told to stop)".to_owned());
        }
        for (is, word) in [
            (self.failed, "FAILED"),
            (self.blocked, "BLOCKED"),
            (!self.managed, "(unmanaged)"),
        ] {
            if is {
                words.push(word.to_owned());
            }
        }
        words.join(" ")
    }
}

fn yes(element: &Element, name: &str) -> bool {
    element.get(name) == Some("true")
}

fn node(node: &Element) -> Node {
    let states = [
        ("unclean", "UNCLEAN"),
        ("pending", "joining"),
        ("shutdown", "leaving"),
    ];
    let mut words: Vec<&str> = states
        .iter()
        .filter(|(name, _)| yes(node, name))
        .map(|(_, word)| *word)
        .collect();
    let online = yes(node, "online") && words.is_empty();
    if !yes(node, "online") {
        words.push("offline");
    }
    for (name, word) in [
        ("standby", "standby"),
        ("standby_onfail", "standby after a failure"),
        ("maintenance", "in maintenance"),
    ] {
        if yes(node, name) {
            words.push(word);
        }
    }
    Node {
        name: node.word("name").to_owned(),
        online,
        unclean: yes(node, "unclean"),
        state: match words.is_empty() {
            true => "online".to_owned(),
            false => words.join(", "),
        },
    }
}

fn resource(resource: &Element, all: &[Node]) -> Resource {
    let text = |name: &str| resource.word(name).to_owned();
    let nodes: Vec<String> = resource
        .children_named("node")
        .map(|node| node.word("name").to_owned())
        .collect();
    let absent = all
        .iter()
        .filter(|node| node.unclean || node.state.contains("offline"));
    let lost = absent.filter(|node| nodes.contains(&node.name));
    Resource {
        id: text("id"),
        agent: text("resource_agent"),
        role: text("role"),
        target_role: resource.get("target_role").map(str::to_owned),
        failed: yes(resource, "failed"),
        blocked: yes(resource, "blocked"),
        managed: resource.get("managed") != Some("false"),
        pending: resource.get("pending").map(str::to_owned),
        lost: lost
            .map(|node| (node.name.clone(), node.state.clone()))
            .collect(),
        nodes,
    }
}

fn failure(failure: &Element) -> Failure {
    // "vip_monitor_10000", or a fencing device's "monitor" with the id apart, or none at all for a fenced node.
    let key = failure.get("op_key").unwrap_or(failure.word("id"));
    let (rest, _) = key.rsplit_once('_').unwrap_or((key, ""));
    let (resource, action) = rest.rsplit_once('_').unwrap_or((rest, ""));
    let task = failure.get("task").unwrap_or(action);
    let words = [failure.word("exitstatus"), failure.word("exitreason")];
    let mut words: Vec<&str> = words.into_iter().filter(|it| !it.is_empty()).collect();
    if !["", "complete"].contains(&failure.word("status")) {
        words.insert(0, failure.word("status"));
    }
    Failure {
        resource: resource.to_owned(),
        action: task.to_owned(),
        node: failure.word("node").to_owned(),
        reason: words.join(": "),
    }
}

fn fencings(all: &[&Element]) -> Vec<Fencing> {
    let events = all.iter().filter(|it| it.name == "fence_event");
    let mut events: Vec<Fencing> = events
        .map(|event| Fencing {
            node: event.word("target").to_owned(),
            state: event.word("status").to_owned(),
            completed: event.get("completed").map(str::to_owned),
            reason: event.get("exit-reason").map(str::to_owned),
            by: event.get("delegate").map(str::to_owned),
        })
        .collect();
    // Those of one node together, the newest first; the times are written so that they sort as text.
    events.sort_by(|a, b| (&a.node, &b.completed).cmp(&(&b.node, &a.completed)));
    let (pending, mut ended): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|it| it.state == "pending");
    ended.dedup_by(|later, first| later.node == first.node);
    ended.retain(|it| it.state == "failed");
    ended.extend(pending);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"<pacemaker-result api-version="2.25" request="crm_mon -1 --output-as=xml">
  <summary><current_dc present="true" version="2.1.5" name="n2" id="2" with_quorum="true" mixed_version="false"/>
    <cluster_options stonith-enabled="true" symmetric-cluster="true" no-quorum-policy="stop"/></summary>
  <nodes>
    <node name="n1" id="1" online="true" standby="false" pending="true" unclean="true" shutdown="false"/>
    <node name="n2" id="2" online="true" standby="true" pending="false" unclean="false" shutdown="false"/>
    <node name="n3" id="3" online="false" standby="false" pending="false" unclean="false" shutdown="false"/>
  </nodes>
  <resources>
    <group id="g" number_resources="1"><resource id="vip" resource_agent="ocf:hastor:vip" role="Started" active="true"
      blocked="false" managed="true" failed="false"><node name="n2" id="2" cached="true"/></resource></group>
    <resource id="late" resource_agent="ocf:hastor:vip" role="Stopped" target_role="Stopped" blocked="true" managed="false"
      failed="true" pending="Starting"/>
  </resources>
  <failures><failure op_key="vip-a_b_monitor_10000" node="n1" exitstatus="error" exitreason="no such NIC" exitcode="1"
    status="complete" task="monitor"/>
    <failure op_key="x_start_0" node="n1" exitstatus="error" exitreason="" exitcode="1" status="Timed Out"/></failures>
  <status code="0" message="OK"/>
</pacemaker-result>"#;

    #[test]
    fn nodes_resources_and_failures_are_read() {
        let status = Status::parse(TEXT).unwrap();
        assert_eq!(status.dc.as_deref(), Some("n2"));
        assert!(status.quorate && status.fencing_enabled);
        let nodes = status.nodes.iter().map(|it| (it.state.as_str(), it.online));
        assert_eq!(
            nodes.collect::<Vec<_>>(),
            [
                ("UNCLEAN, joining", false),
                ("standby", true),
                ("offline", false)
            ]
        );
        let (vip, late) = (&status.resources[0], &status.resources[1]);
        assert_eq!((vip.runs_on(), &*vip.told()), (Some("n2"), "started on n2"));
        assert_eq!(late.runs_on(), None);
        assert_eq!(
            late.told(),
            "stopped (starting...) (told to stop) FAILED BLOCKED (unmanaged)"
        );
        let failures: Vec<_> = status
            .failures
            .iter()
            .map(|it| (it.resource.as_str(), it.action.as_str(), it.reason.as_str()))
            .collect();
        assert_eq!(
            failures,
            [
                ("vip-a_b", "monitor", "error: no such NIC"),
                ("x", "start", "Timed Out: error")
            ]
        );
    }

    #[test]
    fn what_is_on_a_node_that_is_lost_does_not_run() {
        let text = TEXT
            .replace(
                r#"name="n2" id="2" online="true" standby="true" pending="false" unclean="false""#,
                r#"name="n2" id="2" online="false" standby="false" pending="false" unclean="true""#,
            )
            .replace(r#"cached="true""#, r#"cached="false""#);
        let status = Status::parse(&text).unwrap();
        let vip = &status.resources[0];
        assert_eq!(vip.runs_on(), None);
        assert_eq!(vip.told(), "started on n2 (UNCLEAN, offline)");
    }

    #[test]
    fn fencings_that_have_not_succeeded_are_told() {
        let event = |words: &str| format!("<fence_event action=\"reboot\" {words}/>");
        let text = [
            event(r#"target="n2" status="pending""#),
            event(
                r#"target="n2" status="failed" completed="2026-11-28 10:00:09Z" exit-reason="no answer""#,
            ),
            event(r#"target="n2" status="success" completed="2026-11-28 10:00:01Z""#),
            event(r#"target="n1" status="failed" completed="2026-11-28 09:00:00Z""#),
            event(r#"target="n1" status="success" completed="2026-11-28 09:00:05Z""#),
        ];
        let text = TEXT.replace(
            "<failures>",
            &format!(
                "<fence_history status=\"0\">{}</fence_history><failures>",
                text.concat()
            ),
        );
        let fencings = Status::parse(&text).unwrap().fencings;
        let told: Vec<_> = fencings
            .iter()
            .map(|it| (it.node.as_str(), it.state.as_str(), it.reason.as_deref()))
            .collect();
        assert_eq!(
            told,
            [("n2", "failed", Some("no answer")), ("n2", "pending", None)]
        );
    }

    #[test]
    fn what_is_no_status_is_an_error() {
        assert!(Status::parse("Connection to cluster failed").is_err());
        let error = Status::parse("<pacemaker-result/>").unwrap_err();
        assert!(error.to_string().contains("current_dc"), "{error}");
    }
}
