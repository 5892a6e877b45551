//! What the cluster says about the host that had a pool last.

use std::time::Duration;

use host::CmdError;
use ocf::prelude::*;
use probe::attributes;
use quick_xml::Reader;
use quick_xml::events::Event;

/// The node attribute by which every node tells the hostid that ZFS knows it by.
const HOSTID: &str = "hastor-hostid";
const PATIENCE: Duration = Duration::from_secs(10);

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub online: bool,
    /// The cluster does not know what it does, and has not fenced it yet.
    pub unclean: bool,
}

/// The nodes of the cluster.
pub fn members(node: &Node) -> Result<Vec<Member>> {
    let output = node.run(
        &Cmd::new("crm_mon")
            .args(["--one-shot", "--output-as=xml", "--include=none,nodes"])
            .at_most(PATIENCE),
    )?;
    parse(&output.stdout).context("what crm_mon says")
}

fn parse(xml: &str) -> Result<Vec<Member>> {
    let mut reader = Reader::from_str(xml);
    let (mut members, mut inside) = (Vec::new(), false);
    loop {
        match reader.read_event()? {
            Event::Start(tag) if tag.name().as_ref() == b"nodes" => inside = true,
            Event::End(tag) if tag.name().as_ref() == b"nodes" => inside = false,
            Event::Start(tag) | Event::Empty(tag) if inside && tag.name().as_ref() == b"node" => {
                let text = |name: &str| -> Result<String> {
                    let value = tag
                        .try_get_attribute(name)?
                        .with_context(|| format!("a node without {name}"))?;
                    Ok(value.unescape_value()?.into_owned())
                };
                members.push(Member {
                    name: text("name")?,
                    online: text("online")? == "true",
                    unclean: text("unclean")? == "true",
                });
            }
            Event::Eof => break,
            _ => {}
        }
    }
    ensure!(!members.is_empty(), "no nodes in it");
    Ok(members)
}

/// What is known of the host that a pool's label names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// A node that is online.
    Online(String),
    /// A node that is offline, but not fenced yet.
    Unclean(String),
    /// A node that was fenced, or has left the cluster in order.
    Away(String),
    /// No node of this cluster.
    Stranger,
}

/// Looks for a host by the name and the hostid that a label has of it.
pub fn whereabouts(
    members: &[Member],
    hostids: &[(String, u32)],
    hostname: Option<&str>,
    hostid: Option<u32>,
) -> Whereabouts {
    let by_hostid = hostids
        .iter()
        .find(|(_, id)| Some(*id) == hostid)
        .map(|(name, _)| name.as_str());
    let is = |name: &str, member: &&Member| short(&member.name).eq_ignore_ascii_case(short(name));
    let found = by_hostid
        .and_then(|name| members.iter().find(|member| member.name == name))
        .or_else(|| hostname.and_then(|name| members.iter().find(|member| is(name, member))));
    match found {
        None => Whereabouts::Stranger,
        // Before "online": a node that is about to be fenced may count as online.
        Some(member) if member.unclean => Whereabouts::Unclean(member.name.clone()),
        Some(member) if member.online => Whereabouts::Online(member.name.clone()),
        Some(member) => Whereabouts::Away(member.name.clone()),
    }
}

/// A host's name without its domain.
fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Tells the cluster our hostid, and returns what all nodes have told: those that have imported a pool since they joined the
/// cluster. `is_us` knows this node by its name.
pub fn exchange_hostids(
    node: &Node,
    ours: u32,
    is_us: impl Fn(&str) -> bool,
) -> Result<Vec<(String, u32)>> {
    let ask = || -> Result<Vec<(String, u32)>, CmdError> {
        let told = attributes::told(node, HOSTID, PATIENCE)?;
        Ok(told.into_iter().filter_map(told_hostid).collect())
    };
    let told = match ask() {
        // As long as no node has told anything, the question is an error.
        Err(CmdError::Failed { .. }) => Vec::new(),
        told => told?,
    };
    if told.iter().any(|(name, id)| is_us(name) && *id == ours) {
        return Ok(told);
    }
    // Privately: the cluster is in the middle of a failover, and must not begin to decide anew.
    attributes::tell_privately(node, HOSTID, &format!("{ours:08x}"), PATIENCE)?;
    Ok(ask()?)
}

fn told_hostid((host, value): (String, String)) -> Option<(String, u32)> {
    Some((host, u32::from_str_radix(&value, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"<pacemaker-result api-version="2.30" request="crm_mon"><nodes>
        <node name="n1" id="1" online="true" standby="false" unclean="false" type="member"/>
        <node name="n2.example.com" id="2" online="false" unclean="false" type="member"/>
        <node name="n3" id="3" online="true" unclean="true" type="member"><x/></node>
      </nodes><status code="0" message="OK"/></pacemaker-result>"#;

    #[test]
    fn a_host_is_found_by_name_or_by_hostid() {
        let members = parse(SAID).unwrap();
        let told = told_hostid(("n1".to_owned(), "000000ff".to_owned())).unwrap();
        assert_eq!(told, ("n1".to_owned(), 255));
        let ids = [told];
        let look = |name, id| whereabouts(&members, &ids, name, id);
        assert_eq!(
            look(Some("N1.example.org"), Some(1)),
            Whereabouts::Online("n1".into())
        );
        assert_eq!(
            look(Some("other"), Some(255)),
            Whereabouts::Online("n1".into())
        );
        assert_eq!(
            look(Some("n2"), None),
            Whereabouts::Away("n2.example.com".into())
        );
        assert_eq!(look(Some("n3"), None), Whereabouts::Unclean("n3".into()));
        assert_eq!(look(Some("n4"), Some(7)), Whereabouts::Stranger);
        assert!(parse("<x/>").is_err());
    }
}
