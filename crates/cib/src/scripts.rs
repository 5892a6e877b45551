//! A CIB as what an administrator would have typed: the configuration language of crmsh, and commands of pcs.
//!
//! Both say what a stack's CIB needs, and refuse what they do not know: nothing is left out silently.

use anyhow::{Result, bail, ensure};

use crate::Element;

/// The configuration as `crm configure load update FILE` takes it.
///
/// # Errors
/// An element that is not known here.
pub fn crm_script(cib: &Element) -> Result<String> {
    let mut lines = Vec::new();
    for thing in things(cib)? {
        let id = thing.id();
        let line = match thing.name.as_str() {
            "cluster_property_set" => {
                format!("property {id}:{}", crm_pairs(&pairs_of(thing)))
            }
            "meta_attributes" => format!("rsc_defaults {id}:{}", crm_pairs(&pairs_of(thing))),
            "primitive" => {
                let mut line = format!("primitive {id} {}", agent(thing));
                line += &crm_sets(thing);
                for operation in operations(thing) {
                    let kind = operation.word("name");
                    line += &format!(" \\\n    op {kind}{}", crm_pairs(&options(operation)?));
                }
                line
            }
            "group" => {
                let members: Vec<&str> =
                    thing.children_named("primitive").map(Element::id).collect();
                format!("group {id} {}{}", members.join(" "), crm_sets(thing))
            }
            "rsc_location" => {
                let (resource, node, score) = location(thing)?;
                let score = score.replace("INFINITY", "inf");
                format!("location {id} {resource} {score}: {node}")
            }
            "rsc_colocation" => {
                let (dependent, with, score) = colocation(thing)?;
                let score = score.replace("INFINITY", "inf");
                format!("colocation {id} {score}: {dependent} {with}")
            }
            "rsc_order" => {
                let ([first, first_action], [then, then_action], kind) = order(thing)?;
                format!("order {id} {kind}: {first}:{first_action} {then}:{then_action}")
            }
            "tag" => format!("tag {id}: {}", references(thing).join(" ")),
            other => bail!("<{other} id=\"{id}\">: not known how crm says this"),
        };
        lines.push(line + "\n");
    }
    Ok(lines.concat())
}

/// The configuration as a script of `pcs` commands, which change the CIB file that the script is given.
///
/// # Errors
/// An element that is not known here.
pub fn pcs_script(cib: &Element) -> Result<String> {
    let mut script = String::from(
        "#!/bin/sh
# For a cluster that has nothing of it yet: what is there is not changed, and nothing is removed (hastor apply does that).
# Usage, on a node of the cluster:
#
#     pcs cluster cib FILE
#     sh THIS-SCRIPT FILE
#     pcs cluster cib-push FILE
set -eu
file=${1:?the name of a CIB file is missing: see the head of this script}
",
    );
    for thing in things(cib)? {
        let id = word(thing.id());
        let line = match thing.name.as_str() {
            "cluster_property_set" => format!("property set{}", pcs_pairs(&pairs_of(thing))),
            "meta_attributes" => format!(
                "resource defaults set create id={id} meta{}",
                pcs_pairs(&pairs_of(thing))
            ),
            "primitive" => pcs_primitive(thing)?,
            "group" => {
                let members = thing.children_named("primitive").map(|it| word(it.id()));
                let members: Vec<String> = members.collect();
                let mut line = format!("resource group add {id} {}", members.join(" "));
                let meta = owned(thing.pairs("meta_attributes"));
                if !meta.is_empty() {
                    line += &format!("\npcs -f \"$file\" resource meta {id}{}", pcs_pairs(&meta));
                }
                line
            }
            "rsc_location" => {
                let (resource, node, score) = location(thing)?;
                // Behind "--", because a score may begin with a hyphen.
                format!("-- constraint location add {id} {resource} {node} {score}")
            }
            "rsc_colocation" => {
                let (dependent, with, score) = colocation(thing)?;
                format!("-- constraint colocation add {dependent} with {with} {score} id={id}")
            }
            "rsc_order" => {
                let ([first, first_action], [then, then_action], kind) = order(thing)?;
                format!(
                    "constraint order {first_action} {first} then {then_action} {then} kind={kind} id={id}"
                )
            }
            "tag" => format!("tag create {id} {}", references(thing).join(" ")),
            other => bail!(
                "<{other} id=\"{}\">: not known how pcs says this",
                thing.id()
            ),
        };
        script += &format!("pcs -f \"$file\" {line}\n");
    }
    Ok(script)
}

fn pcs_primitive(primitive: &Element) -> Result<String> {
    let fencing = primitive.word("class") == "stonith";
    let (kind, agent) = match fencing {
        true => ("stonith", primitive.word("type").to_owned()),
        false => ("resource", agent(primitive)),
    };
    let mut line = format!("{kind} create {} {agent}", word(primitive.id()));
    line += &pcs_pairs(&owned(primitive.pairs("instance_attributes")));
    let operations = operations(primitive);
    for (number, operation) in operations.iter().enumerate() {
        let begin = if number == 0 {
            " \\\n    op"
        } else {
            " \\\n      "
        };
        let kind = operation.word("name");
        line += &format!("{begin} {kind}{}", pcs_pairs(&options(operation)?));
    }
    let meta = owned(primitive.pairs("meta_attributes"));
    if !meta.is_empty() {
        line += &format!(" \\\n    meta{}", pcs_pairs(&meta));
    }
    // Otherwise the agent's own suggestions are added.
    Ok(if fencing {
        line
    } else {
        line + " \\\n    --no-default-ops"
    })
}

/// What stands in a CIB, in an order in which everything is there before it is named; members before their groups.
fn things(cib: &Element) -> Result<Vec<&Element>> {
    let configuration = cib.child("configuration").unwrap_or(cib);
    let mut things = Vec::new();
    for section in &configuration.children {
        for thing in &section.children {
            match (section.name.as_str(), thing.name.as_str()) {
                // The cluster knows its nodes.
                ("nodes", _) if thing.children.is_empty() => {}
                ("resources", "group") => {
                    things.extend(thing.children_named("primitive"));
                    things.push(thing);
                }
                ("crm_config" | "resources" | "constraints" | "tags" | "rsc_defaults", _) => {
                    things.push(thing);
                }
                (section, kind) => bail!("<{kind}> in <{section}>: not known how this is said"),
            }
        }
    }
    // Tags may stand before resources, and constraints too.
    let rank = |thing: &&Element| match thing.name.as_str() {
        "cluster_property_set" | "meta_attributes" => 0,
        "primitive" | "group" => 1,
        "tag" => 3,
        _ => 2,
    };
    things.sort_by_key(rank);
    Ok(things)
}

fn agent(primitive: &Element) -> String {
    let parts = ["class", "provider", "type"];
    let parts: Vec<&str> = parts
        .iter()
        .filter_map(|part| primitive.get(part))
        .collect();
    parts.join(":")
}

type Pairs = Vec<(String, String)>;

fn owned(pairs: Vec<(&str, &str)>) -> Pairs {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The pairs of a set.
fn pairs_of(set: &Element) -> Pairs {
    let pairs = set.children_named("nvpair");
    owned(
        pairs
            .map(|pair| (pair.word("name"), pair.word("value")))
            .collect(),
    )
}

fn operations(primitive: &Element) -> Vec<&Element> {
    let all = primitive.children_named("operations");
    all.flat_map(|it| it.children_named("op")).collect()
}

/// The options of an operation, and its check level, which is an instance attribute in the CIB.
fn options(operation: &Element) -> Result<Pairs> {
    let attributes = operation.attributes.iter().cloned();
    let mut options: Pairs = attributes
        .filter(|(name, _)| !["id", "name"].contains(&name.as_str()))
        .collect();
    let more = owned(operation.pairs("instance_attributes"));
    for (name, _) in &more {
        ensure!(
            name == "OCF_CHECK_LEVEL",
            "operation {}: not known how to say {name}",
            operation.id()
        );
    }
    options.extend(more);
    Ok(options)
}

fn references(tag: &Element) -> Vec<&str> {
    tag.children_named("obj_ref").map(Element::id).collect()
}

/// The attributes of a constraint besides its id; any other and anything in it is an error.
fn exactly<const N: usize>(constraint: &Element, names: [&str; N]) -> Result<[String; N]> {
    let known = |name: &String| name == "id" || names.contains(&name.as_str());
    let id = constraint.id();
    ensure!(
        constraint.children.is_empty(),
        "constraint {id}: not known how to say what is in it"
    );
    if let Some((name, _)) = constraint.attributes.iter().find(|(name, _)| !known(name)) {
        bail!("constraint {id}: not known how to say {name}");
    }
    for name in names {
        ensure!(
            constraint.get(name).is_some(),
            "constraint {id}: {name} is missing; expected it to be said"
        );
    }
    Ok(names.map(|name| constraint.word(name).to_owned()))
}

fn location(constraint: &Element) -> Result<(String, String, String)> {
    let [resource, node, score] = exactly(constraint, ["rsc", "node", "score"])?;
    Ok((resource, node, score))
}

fn colocation(constraint: &Element) -> Result<(String, String, String)> {
    let [dependent, with, score] = exactly(constraint, ["rsc", "with-rsc", "score"])?;
    Ok((dependent, with, score))
}

type Acting = [String; 2];

fn order(constraint: &Element) -> Result<(Acting, Acting, String)> {
    let names = ["first", "first-action", "then", "then-action", "kind"];
    let [first, first_action, then, then_action, kind] = exactly(constraint, names)?;
    Ok(([first, first_action], [then, then_action], kind))
}

fn crm_sets(thing: &Element) -> String {
    let sets = [
        ("params", "instance_attributes"),
        ("meta", "meta_attributes"),
    ];
    let set = |(keyword, set)| match owned(thing.pairs(set)) {
        pairs if pairs.is_empty() => String::new(),
        pairs => format!(" \\\n    {keyword}{}", crm_pairs(&pairs)),
    };
    sets.map(set).concat()
}

fn crm_pairs(pairs: &Pairs) -> String {
    let pair = |(name, value): &(String, String)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!(" {name}=\"{value}\"")
    };
    pairs.iter().map(pair).collect()
}

fn pcs_pairs(pairs: &Pairs) -> String {
    let pair = |(name, value): &(String, String)| format!(" {}", word(&format!("{name}={value}")));
    pairs.iter().map(pair).collect()
}

/// A word as a shell takes it.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cib(section: &str, inside: &str) -> Element {
        Element::parse(&format!(
            "<cib><configuration><{section}>{inside}</{section}></configuration></cib>"
        ))
        .unwrap()
    }

    fn primitive() -> Element {
        let text = r#"<primitive id="x" class="ocf" provider="hastor" type="vip"><instance_attributes id="p">
            <nvpair id="a" name="a" value="it's &quot;1&quot;"/></instance_attributes>
            <operations><op id="m" name="monitor" interval="10s"><instance_attributes id="l">
            <nvpair id="c" name="OCF_CHECK_LEVEL" value="10"/></instance_attributes></op></operations></primitive>"#;
        cib("resources", text)
    }

    #[test]
    fn values_are_quoted_as_each_tool_reads_them() {
        assert_eq!(
            crm_script(&primitive()).unwrap(),
            "primitive x ocf:hastor:vip \\\n    params a=\"it's \\\"1\\\"\" \\\n    \
             op monitor interval=\"10s\" OCF_CHECK_LEVEL=\"10\"\n"
        );
        let script = pcs_script(&primitive()).unwrap();
        let line = script.split_once("script}\n").unwrap().1;
        assert_eq!(
            line,
            "pcs -f \"$file\" resource create x ocf:hastor:vip 'a=it'\\''s \"1\"' \\\n    \
             op monitor interval=10s OCF_CHECK_LEVEL=10 \\\n    --no-default-ops\n"
        );
    }

    #[test]
    fn what_is_not_known_is_not_left_out() {
        for (section, inside, error) in [
            (
                "resources",
                r#"<bundle id="b"/>"#,
                "<bundle id=\"b\">: not known how crm says this",
            ),
            (
                "alerts",
                r#"<alert id="b"/>"#,
                "<alert> in <alerts>: not known how this is said",
            ),
            (
                "constraints",
                r#"<rsc_location id="b" rsc="x" node="n" score="1" resource-discovery="never"/>"#,
                "constraint b: not known how to say resource-discovery",
            ),
            (
                "constraints",
                r#"<rsc_order id="b" first="x" then="y" kind="Mandatory"/>"#,
                "constraint b: first-action is missing; expected it to be said",
            ),
        ] {
            let refused = crm_script(&cib(section, inside)).unwrap_err();
            assert_eq!(refused.to_string(), error);
        }
    }
}
