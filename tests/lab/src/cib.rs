//! Writing the CIBs of the lab, and fitting a CIB file to a running cluster.

use std::fmt::Write;

use anyhow::{Context, Result};
use roxmltree::{Document, Node};

use crate::{bmc, layout};

/// A CIB for the lab: fencing, and as many floating addresses as wanted.
pub struct Cib {
    agent: String,
    monitor: u32,
    nodes: Vec<String>,
    fencing: String,
    timeout: u32,
    resources: String,
}

impl Cib {
    /// Fencing through the lab's fence agent, and nothing else. `agent` is the type of the floating addresses to
    /// come: `ocf:hastor:vip`.
    pub fn new(nodes: &[String], agent: &str) -> Cib {
        Cib {
            agent: agent.to_owned(),
            monitor: 5,
            nodes: nodes.to_vec(),
            fencing: by_the_room(nodes),
            timeout: 30,
            resources: String::new(),
        }
    }

    /// Fencing by the nodes' BMCs instead, each by a device of its own; that of `favoured` waits for some seconds, so
    /// that in a race that node is faster.
    pub fn fenced_by_bmcs(mut self, favoured: Option<(&str, u32)>) -> Cib {
        (self.fencing, self.timeout) = (String::new(), 60);
        for (node, number) in self.nodes.iter().zip(1..) {
            let delay = favoured.filter(|(name, _)| name == node);
            let delay = delay.map(|(_, seconds)| ("pcmk_delay_base", format!("{seconds}s")));
            let attributes = [
                ("hostname", node.clone()),
                ("ip", layout::bmc_address(number)),
                ("system_guid", bmc::guid(number)),
                ("username", bmc::USER.to_owned()),
                ("password", bmc::PASSWORD.to_owned()),
            ];
            let mut pairs = String::new();
            for (name, value) in attributes.into_iter().chain(delay) {
                let _ = write!(
                    pairs,
                    r#"
          <nvpair id="fence-{node}-{name}" name="{name}" value="{value}"/>"#
                );
            }
            let _ = write!(
                self.fencing,
                r#"
      <primitive id="fence-{node}" class="stonith" type="fence_hastor_ipmi">
        <instance_attributes id="fence-{node}-params">{pairs}
        </instance_attributes>
        <operations>
          <op id="fence-{node}-start" name="start" interval="0s" timeout="20s"/>
          <op id="fence-{node}-monitor" name="monitor" interval="60s" timeout="20s"/>
        </operations>
      </primitive>"#
            );
        }
        self
    }

    /// Adds resources, as XML.
    pub fn resources(mut self, xml: &str) -> Cib {
        self.resources += xml;
        self
    }

    /// Seconds between two monitors of the addresses added from now on.
    pub fn monitor_every(mut self, seconds: u32) -> Cib {
        self.monitor = seconds;
        self
    }

    /// Adds a floating address on the service network.
    pub fn vip(mut self, id: &str, address: &str) -> Cib {
        let mut parts = self.agent.splitn(3, ':');
        let (class, provider, kind) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let monitor = self.monitor;
        let prefix = if address.contains(':') { 64 } else { 24 };
        // Writing to a String cannot fail.
        let _ = write!(
            self.resources,
            r#"
      <primitive id="{id}" class="{class}" provider="{provider}" type="{kind}">
        <instance_attributes id="{id}-params">
          <nvpair id="{id}-ip" name="ip" value="{address}"/>
          <nvpair id="{id}-cidr_netmask" name="cidr_netmask" value="{prefix}"/>
          <nvpair id="{id}-nic" name="nic" value="lan0"/>
        </instance_attributes>
        <operations>
          <op id="{id}-start" name="start" interval="0s" timeout="20s"/>
          <op id="{id}-stop" name="stop" interval="0s" timeout="20s" on-fail="fence"/>
          <op id="{id}-monitor" name="monitor" interval="{monitor}s" timeout="20s"/>
        </operations>
      </primitive>"#
        );
        self
    }

    /// The CIB as XML, without nodes: those of the running cluster are put in when it is loaded.
    pub fn to_xml(&self) -> String {
        let (fencing, timeout, resources) = (&self.fencing, self.timeout, &self.resources);
        format!(
            r#"<cib validate-with="pacemaker-3.7" epoch="1" num_updates="0" admin_epoch="0">
  <configuration>
    <crm_config>
      <cluster_property_set id="lab-properties">
        <nvpair id="lab-stonith-enabled" name="stonith-enabled" value="true"/>
        <nvpair id="lab-stonith-timeout" name="stonith-timeout" value="{timeout}s"/>
        <nvpair id="lab-concurrent-fencing" name="concurrent-fencing" value="true"/>
        <nvpair id="lab-no-quorum-policy" name="no-quorum-policy" value="stop"/>
        <nvpair id="lab-dc-deadtime" name="dc-deadtime" value="2s"/>
        <nvpair id="lab-load-threshold" name="load-threshold" value="1000%"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources>{fencing}{resources}
    </resources>
    <constraints/>
    <rsc_defaults>
      <meta_attributes id="lab-defaults">
        <nvpair id="lab-stickiness" name="resource-stickiness" value="100"/>
        <nvpair id="lab-threshold" name="migration-threshold" value="1"/>
      </meta_attributes>
    </rsc_defaults>
  </configuration>
  <status/>
</cib>
"#
        )
    }
}

/// A resource of storage agents as XML, with time enough for emulated nodes; `monitor` is interval and timeout.
pub fn primitive(
    id: &str,
    provider: &str,
    kind: &str,
    parameters: &[(&str, &str)],
    monitor: (&str, &str),
) -> String {
    primitive_within("180s", id, provider, kind, parameters, monitor)
}

/// A resource of the peers' agents: a start that calls targetcli five times has taken more than three minutes.
pub fn peers_primitive(
    id: &str,
    kind: &str,
    parameters: &[(&str, &str)],
    monitor: (&str, &str),
) -> String {
    primitive_within("900s", id, "heartbeat", kind, parameters, monitor)
}

/// With so much time for a start and for a stop.
fn primitive_within(
    most: &str,
    id: &str,
    provider: &str,
    kind: &str,
    parameters: &[(&str, &str)],
    monitor: (&str, &str),
) -> String {
    let pairs: String = parameters
        .iter()
        .map(|(name, value)| format!(r#"<nvpair id="{id}-{name}" name="{name}" value="{value}"/>"#))
        .collect();
    let (interval, timeout) = monitor;
    format!(
        r#"<primitive id="{id}" class="ocf" provider="{provider}" type="{kind}">
  <instance_attributes id="{id}-params">{pairs}</instance_attributes>
  <operations>
    <op id="{id}-start" name="start" interval="0s" timeout="{most}"/>
    <op id="{id}-stop" name="stop" interval="0s" timeout="{most}" on-fail="fence"/>
    <op id="{id}-monitor" name="monitor" interval="{interval}" timeout="{timeout}"/>
  </operations>
</primitive>"#
    )
}

/// One device for all nodes: the machine room itself.
fn by_the_room(nodes: &[String]) -> String {
    let hosts = nodes.join(" ");
    format!(
        r#"
      <primitive id="power" class="stonith" type="fence_hastor_lab">
        <instance_attributes id="power-params">
          <nvpair id="power-hosts" name="pcmk_host_list" value="{hosts}"/>
          <nvpair id="power-check" name="pcmk_host_check" value="static-list"/>
        </instance_attributes>
        <operations>
          <op id="power-start" name="start" interval="0s" timeout="20s"/>
          <op id="power-monitor" name="monitor" interval="300s" timeout="20s"/>
        </operations>
      </primitive>"#
    )
}

/// The configuration section of a CIB file, with the nodes of the running cluster: Pacemaker numbers them itself, and
/// a file cannot know how. Attributes that the file gives to a node, by its name, are kept.
pub fn fit(file: &str, live: &str) -> Result<String> {
    let wanted = Document::parse(file).context("the CIB file is no XML")?;
    let running = Document::parse(live).context("the cluster's CIB is no XML")?;
    let wanted = configuration(&wanted).context("the CIB file has no <configuration>")?;
    let running = configuration(&running).context("the cluster's CIB has no <configuration>")?;
    let nodes = section(running, "nodes").context("the cluster's CIB has no <nodes>")?;

    let mut text = String::from("<nodes>");
    for node in nodes.children().filter(Node::is_element) {
        let (id, name) = (
            node.attribute("id").unwrap_or_default(),
            node.attribute("uname").unwrap_or_default(),
        );
        let declared = section(wanted, "nodes")
            .into_iter()
            .flat_map(|nodes| nodes.children());
        let inside: String = declared
            .filter(|declared| declared.attribute("uname") == Some(name))
            .flat_map(|declared| declared.children().filter(Node::is_element))
            .map(|attributes| source(attributes).to_owned())
            .collect();
        let _ = write!(text, r#"<node id="{id}" uname="{name}">{inside}</node>"#);
    }
    text += "</nodes>";

    // The schema wants these two first, in this order.
    let mut sections = vec![properties(wanted, running), text];
    let rest = wanted.children().filter(|node| node.is_element());
    let rest = rest.filter(|node| !node.has_tag_name("nodes") && !node.has_tag_name("crm_config"));
    sections.extend(rest.map(|node| source(node).to_owned()));
    Ok(format!(
        "<configuration>{}</configuration>",
        sections.concat()
    ))
}

/// The file's properties, and those that Pacemaker itself has set.
fn properties(wanted: Node, running: Node) -> String {
    const ITS_OWN: [&str; 4] = [
        "cluster-infrastructure",
        "cluster-name",
        "dc-version",
        "have-watchdog",
    ];
    let sets = section(wanted, "crm_config");
    let mut text: String = sets
        .into_iter()
        .flat_map(|sets| sets.children())
        .filter(Node::is_element)
        .map(|set| source(set))
        .collect();
    let named = |node: &Node, name: &str| {
        node.has_tag_name("nvpair") && node.attribute("name") == Some(name)
    };
    let live = |name: &&str| {
        section(running, "crm_config")?
            .descendants()
            .find(|node| named(node, name))
    };
    let kept: String = ITS_OWN
        .iter()
        .filter(|name| !wanted.descendants().any(|node| named(&node, name)))
        .filter_map(live)
        .map(source)
        .collect();
    if !kept.is_empty() {
        let _ = write!(
            text,
            r#"<cluster_property_set id="hastor-lab-kept">{kept}</cluster_property_set>"#
        );
    }
    format!("<crm_config>{text}</crm_config>")
}

fn configuration<'a>(document: &'a Document) -> Option<Node<'a, 'a>> {
    document
        .root()
        .descendants()
        .find(|node| node.has_tag_name("configuration"))
}

fn section<'a>(configuration: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    configuration
        .children()
        .find(|node| node.has_tag_name(name))
}

fn source<'a>(node: Node<'a, 'a>) -> &'a str {
    &node.document().input_text()[node.range()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_nodes_replace_those_of_the_file() {
        let file = r#"<cib><configuration><crm_config/><nodes><node id="9" uname="n2"><instance_attributes id="a"/></node>
            <node id="10" uname="gone"/></nodes><resources/></configuration></cib>"#;
        let live = r#"<cib><configuration><nodes><node id="1" uname="n1"><instance_attributes id="old"/></node>
            <node id="2" uname="n2"/></nodes></configuration><status/></cib>"#;
        let expected = concat!(
            r#"<configuration><crm_config></crm_config><nodes><node id="1" uname="n1"></node>"#,
            r#"<node id="2" uname="n2"><instance_attributes id="a"/></node></nodes><resources/></configuration>"#
        );
        assert_eq!(fit(file, live).unwrap(), expected);
    }

    #[test]
    fn what_pacemaker_set_itself_is_kept() {
        let live = r#"<cib><configuration><crm_config><cluster_property_set id="x">
            <nvpair id="v" name="dc-version" value="2.1.5"/><nvpair id="o" name="other" value="1"/>
            </cluster_property_set></crm_config><nodes/></configuration></cib>"#;
        let file = "<cib><configuration><resources/></configuration></cib>";
        let expected = concat!(
            r#"<configuration><crm_config><cluster_property_set id="hastor-lab-kept">"#,
            r#"<nvpair id="v" name="dc-version" value="2.1.5"/></cluster_property_set></crm_config>"#,
            "<nodes></nodes><resources/></configuration>"
        );
        assert_eq!(fit(file, live).unwrap(), expected);
    }

    #[test]
    fn built_cib_is_xml_with_every_address() {
        let nodes = ["n1".to_owned(), "n2".to_owned()];
        let xml = Cib::new(&nodes, "ocf:hastor:vip")
            .vip("a", "192.0.2.10")
            .vip("b", "192.0.2.11")
            .to_xml();
        let document = Document::parse(&xml).unwrap();
        let kinds: Vec<_> = document
            .descendants()
            .filter_map(|node| node.attribute("type"))
            .collect();
        assert_eq!(kinds, ["fence_hastor_lab", "vip", "vip"]);
        assert!(!xml.contains("crm_feature_set"));
    }
}
