//! Reading what `crm_mon --output-as=xml` says.

use anyhow::{Context, Result, bail};
use roxmltree::{Document, Node};

/// The cluster as one of its nodes sees it.
#[derive(Debug, Default)]
pub struct Status {
    /// The node that decides, if one is elected.
    pub dc: Option<String>,
    /// Whether this partition has quorum.
    pub quorate: bool,
    /// Nodes, in the order of crm_mon.
    pub members: Vec<Member>,
    /// Primitives, fence devices included.
    pub resources: Vec<Resource>,
    /// Failed actions in the history, one text each.
    pub failures: Vec<String>,
}

/// A node.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// n1, n2, ...
    pub name: String,
    /// Fully joined, clean and not about to leave.
    pub online: bool,
    /// Runs nothing by request.
    pub standby: bool,
}

/// A primitive.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its id in the CIB.
    pub id: String,
    /// `ocf:hastor:vip`
    pub agent: String,
    /// Started, Stopped, Starting, ...
    pub role: String,
    /// Failed or blocked.
    pub failed: bool,
    /// Where it is active.
    pub nodes: Vec<String>,
}

impl Status {
    /// Reads the XML.
    pub fn parse(text: &str) -> Result<Status> {
        let document = Document::parse(text).context("crm_mon's XML")?;
        let root = document.root_element();
        let dc = root
            .descendants()
            .find(|node| node.has_tag_name("current_dc"));
        let dc = dc.with_context(|| format!("crm_mon: no current_dc in {text:?}"))?;
        let mut status = Status {
            dc: dc.attribute("name").map(str::to_owned),
            quorate: is_true(dc, "with_quorum"),
            ..Status::default()
        };
        for node in root
            .children()
            .filter(|node| node.has_tag_name("nodes"))
            .flat_map(|node| node.children())
        {
            if node.has_tag_name("node") {
                status.members.push(member(node)?);
            }
        }
        for node in root
            .descendants()
            .filter(|node| node.has_tag_name("resource") && node.has_attribute("role"))
        {
            status.resources.push(resource(node)?);
        }
        for node in root
            .descendants()
            .filter(|node| node.has_tag_name("failure"))
        {
            let word = |name| node.attribute(name).unwrap_or("?");
            let operation = node.attribute("op_key").unwrap_or(word("id"));
            let (place, outcome) = (word("node"), word("exitstatus"));
            status.failures.push(format!(
                "{operation} on {place}: {outcome}: {}",
                word("exitreason")
            ));
        }
        Ok(status)
    }

    /// Names of the nodes that are online.
    pub fn online(&self) -> Vec<&str> {
        self.members
            .iter()
            .filter(|member| member.online)
            .map(|member| member.name.as_str())
            .collect()
    }

    /// The node on which a resource is started, on that node only, without failure.
    pub fn runs_on(&self, id: &str) -> Result<String> {
        let resource = self.resources.iter().find(|resource| resource.id == id);
        let resource = resource.with_context(|| format!("no resource {id} in the cluster"))?;
        match &resource.nodes[..] {
            [node] if resource.role == "Started" && !resource.failed => Ok(node.clone()),
            nodes => bail!(
                "{id} is {} on {nodes:?}{}",
                resource.role,
                if resource.failed { ", failed" } else { "" }
            ),
        }
    }
}

/// Actions in a CIB's history that did not end as Pacemaker expected, one text each; pending ones are no failures.
pub fn failed_actions(cib: &str) -> Result<Vec<String>> {
    let document = Document::parse(cib).context("the cluster's CIB is no XML")?;
    let mut failed = Vec::new();
    for action in document
        .descendants()
        .filter(|node| node.has_tag_name("lrm_rsc_op"))
    {
        let word = |name| action.attribute(name).unwrap_or_default();
        // The third part of "action:transition:expected:uuid".
        let expected = word("transition-key").split(':').nth(2).unwrap_or("0");
        let (code, status) = (word("rc-code"), word("op-status"));
        if status != "-1" && (status != "0" || code != expected) {
            let (key, node) = (word("operation_key"), word("on_node"));
            failed.push(format!(
                "{key} on {node}: code {code}, expected {expected}, status {status}"
            ));
        }
    }
    Ok(failed)
}

fn member(node: Node) -> Result<Member> {
    let name = node
        .attribute("name")
        .context("crm_mon: a node without name")?
        .to_owned();
    let away = ["pending", "unclean", "shutdown"]
        .iter()
        .any(|what| is_true(node, what));
    Ok(Member {
        name,
        online: is_true(node, "online") && !away,
        standby: is_true(node, "standby"),
    })
}

fn resource(node: Node) -> Result<Resource> {
    let word = |name: &str| node.attribute(name).unwrap_or_default().to_owned();
    let nodes = node.children().filter(|child| child.has_tag_name("node"));
    Ok(Resource {
        id: node
            .attribute("id")
            .context("crm_mon: a resource without id")?
            .to_owned(),
        agent: word("resource_agent"),
        role: word("role"),
        failed: is_true(node, "failed") || is_true(node, "blocked"),
        nodes: nodes
            .filter_map(|child| child.attribute("name"))
            .map(str::to_owned)
            .collect(),
    })
}

fn is_true(node: Node, name: &str) -> bool {
    node.attribute(name) == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"<pacemaker-result api-version="2.25" request="crm_mon -1 --output-as=xml">
  <summary><current_dc present="true" version="2.1.5" name="n2" id="2" with_quorum="true" mixed_version="false"/></summary>
  <nodes>
    <node name="n1" id="1" online="true" standby="false" pending="true" unclean="false" shutdown="false"/>
    <node name="n2" id="2" online="true" standby="true" pending="false" unclean="false" shutdown="false"/>
  </nodes>
  <resources>
    <resource id="vip" resource_agent="ocf:hastor:vip" role="Started" active="true" blocked="false" failed="false">
      <node name="n2" id="2" cached="true"/>
    </resource>
    <resource id="late" resource_agent="ocf:hastor:vip" role="Stopped" active="false" blocked="false" failed="false"/>
  </resources>
  <failures><failure op_key="vip_monitor_0" node="n1" exitstatus="error" exitreason="no such NIC" exitcode="1"/></failures>
</pacemaker-result>"#;

    #[test]
    fn history() {
        let action = |code, status| {
            format!(
                r#"<lrm_rsc_op operation_key="vip_start_0" on_node="n1" transition-key="5:2:0:x" rc-code="{code}" op-status="{status}"/>"#
            )
        };
        let cib = |code, status| format!("<cib><status>{}</status></cib>", action(code, status));
        assert!(failed_actions(&cib("0", "0")).unwrap().is_empty());
        assert!(failed_actions(&cib("193", "-1")).unwrap().is_empty());
        assert_eq!(
            failed_actions(&cib("1", "0")).unwrap(),
            ["vip_start_0 on n1: code 1, expected 0, status 0"]
        );
        assert_eq!(failed_actions(&cib("0", "2")).unwrap().len(), 1);
    }

    #[test]
    fn reads_nodes_resources_and_failures() {
        let status = Status::parse(TEXT).unwrap();
        assert_eq!(status.dc.as_deref(), Some("n2"));
        assert!(status.quorate);
        assert_eq!(status.online(), ["n2"]);
        assert!(status.members[1].standby);
        assert_eq!(status.runs_on("vip").unwrap(), "n2");
        assert!(
            status
                .runs_on("late")
                .unwrap_err()
                .to_string()
                .contains("Stopped")
        );
        assert_eq!(status.failures, ["vip_monitor_0 on n1: error: no such NIC"]);
    }
}
