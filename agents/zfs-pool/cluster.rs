//! What the cluster says about the host that had a pool last.

use std::time::Duration;

use host::CmdError;
use ocf::prelude::*;
use probe::attributes;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

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

/// A cluster, as far as it can say where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub members: Vec<Member>,
    /// Is fencing switched on? Otherwise a node that is lost never counts as unclean, and looks like one that has left.
    pub fences: bool,
}

/// Asks the cluster about its nodes.
pub fn ask(node: &Node) -> Result<Cluster> {
    let output = node.run(
        &Cmd::new("crm_mon")
            .args([
                "--one-shot",
                "--output-as=xml",
                "--include=none,nodes,options",
            ])
            .at_most(PATIENCE),
    )?;
    parse(&output.stdout).context("what crm_mon says")
}

fn parse(xml: &str) -> Result<Cluster> {
    let mut reader = Reader::from_str(xml);
    let (mut members, mut fences, mut inside) = (Vec::new(), false, false);
    loop {
        match reader.read_event()? {
            Event::Start(tag) if tag.name().as_ref() == b"nodes" => inside = true,
            Event::End(tag) if tag.name().as_ref() == b"nodes" => inside = false,
            // The newer name since Pacemaker 3.0.2, which says both.
            Event::Start(tag) | Event::Empty(tag) if tag.name().as_ref() == b"cluster_options" => {
                for name in ["stonith-enabled", "fencing-enabled"] {
                    fences |= text(&tag, name)?.as_deref() == Some("true");
                }
            }
            Event::Start(tag) | Event::Empty(tag) if inside && tag.name().as_ref() == b"node" => {
                let text = |name: &str| {
                    text(&tag, name)?.with_context(|| format!("a node without {name}"))
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
    Ok(Cluster { members, fences })
}

/// An element's attribute.
fn text(tag: &BytesStart, name: &str) -> Result<Option<String>> {
    let Some(value) = tag.try_get_attribute(name)? else {
        return Ok(None);
    };
    Ok(Some(value.unescape_value()?.into_owned()))
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
    /// It may be a node that runs: why that is not known.
    Unknown(String),
}

/// Looks for a host by the name and the hostid that a label has of it. `hostids` is what nodes have told, this one included.
pub fn whereabouts(
    cluster: &Cluster,
    hostids: &[(String, u32)],
    hostname: Option<&str>,
    hostid: Option<u32>,
) -> Whereabouts {
    let members = &cluster.members;
    let by_hostid = hostids
        .iter()
        .find(|(_, id)| Some(*id) == hostid)
        .and_then(|(name, _)| members.iter().find(|member| member.name == *name));
    let found = match (by_hostid, hostname) {
        (Some(member), _) => vec![member],
        (None, Some(name)) => by_name(members, name),
        (None, None) => Vec::new(),
    };
    match found[..] {
        [] => stranger(cluster, hostids),
        // Before "online": a node that is about to be fenced may count as online.
        [member] if member.unclean => Whereabouts::Unclean(member.name.clone()),
        [member] if member.online => Whereabouts::Online(member.name.clone()),
        [member] if cluster.fences => Whereabouts::Away(member.name.clone()),
        [member] => Whereabouts::Unknown(format!(
            "{} is offline, but fencing is switched off (stonith-enabled or fencing-enabled), so nobody has seen to it",
            member.name
        )),
        [..] => Whereabouts::Unknown(format!("it may be any of {}", names(&found))),
    }
}

/// A host that is no node by its name: is it none by its hostid either?
fn stranger(cluster: &Cluster, hostids: &[(String, u32)]) -> Whereabouts {
    let may_run = |member: &&Member| member.online || member.unclean || !cluster.fences;
    let has_told = |member: &&Member| hostids.iter().any(|(name, _)| *name == member.name);
    let silent: Vec<&Member> = cluster
        .members
        .iter()
        .filter(may_run)
        .filter(|member| !has_told(member))
        .collect();
    match silent.is_empty() {
        true => Whereabouts::Stranger,
        false => Whereabouts::Unknown(format!(
            "it may be {}: no node has that name, and a node tells its hostid only when it starts a pool",
            names(&silent)
        )),
    }
}

/// The member of that name; failing that, all that agree with it in the part before the first dot.
fn by_name<'a>(members: &'a [Member], host: &str) -> Vec<&'a Member> {
    let alike = |part: fn(&str) -> &str| -> Vec<&Member> {
        let is = |member: &&Member| part(&member.name).eq_ignore_ascii_case(part(host));
        members.iter().filter(is).collect()
    };
    match alike(|name| name) {
        exact if exact.is_empty() => alike(short),
        exact => exact,
    }
}

/// A host's name without its domain.
fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn names(members: &[&Member]) -> String {
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.join(", ")
}

/// Tells the cluster our hostid, and returns what all nodes have told: those that have started a pool since they joined the
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

    const SAID: &str = r#"<pacemaker-result api-version="2.30" request="crm_mon"><summary>
        <cluster_options stonith-enabled="true" symmetric-cluster="true"/></summary><nodes>
        <node name="n1" id="1" online="true" standby="false" unclean="false" type="member"/>
        <node name="n2.example.com" id="2" online="false" unclean="false" type="member"/>
        <node name="n3" id="3" online="true" unclean="true" type="member"><x/></node>
      </nodes><status code="0" message="OK"/></pacemaker-result>"#;

    #[test]
    fn a_host_is_found_by_name_or_by_hostid() {
        let cluster = parse(SAID).unwrap();
        let told = told_hostid(("n1".to_owned(), "000000ff".to_owned())).unwrap();
        assert_eq!(told, ("n1".to_owned(), 255));
        let ids = [told, ("n3".to_owned(), 3)];
        let look = |name, id| whereabouts(&cluster, &ids, name, id);
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

    fn unknown(cluster: &Cluster, ids: &[(String, u32)], host: &str) -> String {
        match whereabouts(cluster, ids, Some(host), Some(7)) {
            Whereabouts::Unknown(why) => why,
            other => panic!("{host}: {other:?}"),
        }
    }

    #[test]
    fn without_fencing_nobody_is_known_to_be_away() {
        let off = SAID.replace("stonith-enabled=\"true\"", "stonith-enabled=\"false\"");
        let newer = SAID.replace("stonith-enabled", "fencing-enabled");
        let neither = SAID.replace("stonith-enabled", "something");
        assert!(parse(SAID).unwrap().fences && parse(&newer).unwrap().fences);
        let ids = [("n1".to_owned(), 1), ("n3".to_owned(), 3)];
        for said in [off, neither] {
            let cluster = parse(&said).unwrap();
            let why = unknown(&cluster, &ids, "n2");
            assert!(why.contains("n2.example.com is offline"), "{why}");
            // Nor is it known that it is not the one that is offline.
            let why = unknown(&cluster, &ids, "n4");
            assert!(why.contains("may be n2.example.com:"), "{why}");
        }
    }

    #[test]
    fn a_stranger_is_one_that_no_node_can_be() {
        let cluster = parse(SAID).unwrap();
        let why = unknown(&cluster, &[("n1".to_owned(), 1)], "n4");
        assert!(why.contains("may be n3:"), "{why}");
        let why = unknown(&cluster, &[], "n4");
        assert!(why.contains("may be n1, n3:"), "{why}");
        // All others are fenced: only this node is left, and it knows its own.
        let alone = parse(&SAID.replace(
            r#"online="true" unclean="true""#,
            r#"online="false" unclean="false""#,
        ));
        let found = whereabouts(
            &alone.unwrap(),
            &[("n1".to_owned(), 1)],
            Some("n4"),
            Some(7),
        );
        assert_eq!(found, Whereabouts::Stranger);
    }

    #[test]
    fn a_full_name_counts_before_a_short_one() {
        let said = SAID
            .replace(r#"name="n1""#, r#"name="n.west""#)
            .replace(r#"name="n3""#, r#"name="n.east""#);
        let cluster = parse(&said).unwrap();
        let found = whereabouts(&cluster, &[], Some("n.east"), None);
        assert_eq!(found, Whereabouts::Unclean("n.east".into()));
        let why = unknown(&cluster, &[], "n");
        assert!(why.contains("any of n.west, n.east"), "{why}");
    }
}
