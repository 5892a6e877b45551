//! A stack put into the configuration of a cluster, and what that changes.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::Element;

/// The attributes by which constraints name resources, in themselves and in their resource sets.
const REFERENCES: [&str; 5] = ["rsc", "with-rsc", "first", "then", "id"];

/// Elements that have their place among others, and are compared as a whole.
const SECTIONS: [&str; 6] = [
    "nodes",
    "resources",
    "constraints",
    "tags",
    "fencing-topology",
    "alerts",
];

/// The `<configuration>` of a cluster whose CIB is `live`, once the stack of this name is as in the CIB `stack`.
///
/// Resources of the stack are those that its tag lists; its constraints have ids that begin with its name and a hyphen.
/// They are replaced, added, or removed if the stack has them no longer. So are constraints that name a resource which is
/// removed. Cluster properties are set one by one. All else stays as it is, and so do the nodes, which number
/// themselves; a cluster that has none yet (a file that none has run with) gets those of the stack.
///
/// # Errors
/// A node of the stack that the cluster does not have; no `<configuration>`.
pub fn merge(live: &Element, stack: &Element, name: &str) -> Result<Element> {
    let wanted = configuration(stack)?;
    let mut merged = configuration(live)?.clone();
    nodes(&mut merged, wanted)?;
    properties(&mut merged, wanted);

    let ours = members(wanted, name);
    let gone: BTreeSet<String> = &members(&merged, name) - &ours;
    replace(&mut merged, wanted, "resources", |old| {
        gone.contains(old.id())
    });
    let prefix = format!("{name}-");
    replace(&mut merged, wanted, "constraints", |old| {
        let named = old.all().into_iter().skip(1).chain([old]);
        old.id().starts_with(&prefix)
            || named
                .flat_map(|it| &it.attributes)
                .any(|(key, value)| REFERENCES.contains(&key.as_str()) && gone.contains(value))
    });
    replace(&mut merged, wanted, "tags", |old| old.id() == name);
    Ok(merged)
}

/// The configuration `before`, but with what `after` has no longer told to stop, and the ids of these primitives. What is just
/// taken out of a configuration is stopped without any order, a pool at the same time as what uses it; so this comes first.
/// Fencing devices are not told: they may be needed for it.
pub fn retire(before: &Element, after: &Element) -> (Element, Vec<String>) {
    let kept: BTreeSet<&str> = after
        .child("resources")
        .into_iter()
        .flat_map(Element::all)
        .map(Element::id)
        .collect();
    let mut retiring = before.clone();
    let mut ids = Vec::new();
    for resource in &mut retiring.child_or_new("resources").children {
        retire_in(resource, &kept, &mut ids);
    }
    (retiring, ids)
}

fn retire_in(resource: &mut Element, kept: &BTreeSet<&str>, ids: &mut Vec<String>) {
    const KINDS: [&str; 5] = ["primitive", "group", "clone", "master", "bundle"];
    if !KINDS.contains(&resource.name.as_str()) || resource.word("class") == "stonith" {
        return;
    }
    if kept.contains(resource.id()) {
        let children = resource.children.iter_mut();
        children.for_each(|child| retire_in(child, kept, ids));
        return;
    }
    let all = resource.all().into_iter();
    let primitives = all.filter(|it| it.name == "primitive");
    ids.extend(primitives.map(|it| it.id().to_owned()));
    let id = resource.id().to_owned();
    let pairs = resource.children.iter_mut();
    let pairs = pairs.filter(|set| set.name == "meta_attributes");
    let mut pairs = pairs.flat_map(|set| &mut set.children);
    if let Some(pair) = pairs.find(|pair| pair.word("name") == "target-role") {
        pair.set("value", "Stopped");
        return;
    }
    let mut set = Element::new("meta_attributes").with("id", &format!("{id}-retire"));
    let pair = Element::new("nvpair").with("id", &format!("{id}-retire-target-role"));
    set.children
        .push(pair.with("name", "target-role").with("value", "Stopped"));
    resource.children.insert(0, set);
}

/// The CIB with another configuration.
pub fn with_configuration(cib: &Element, configuration: &Element) -> Element {
    let mut cib = cib.clone();
    *cib.child_or_new("configuration") = configuration.clone();
    cib
}

fn configuration(cib: &Element) -> Result<&Element> {
    let found = match cib.name.as_str() {
        "configuration" => Some(cib),
        _ => cib.child("configuration"),
    };
    found.with_context(|| format!("<{}> has no <configuration>", cib.name))
}

/// The resources that a tag lists.
fn members(configuration: &Element, tag: &str) -> BTreeSet<String> {
    let tags = configuration.children_named("tags");
    let tags = tags.flat_map(|tags| tags.children_named("tag"));
    tags.filter(|it| it.id() == tag)
        .flat_map(|tag| &tag.children)
        .map(|reference| reference.id().to_owned())
        .collect()
}

fn nodes(merged: &mut Element, wanted: &Element) -> Result<()> {
    let Some(wanted) = wanted.child("nodes") else {
        return Ok(());
    };
    let there = merged.child_or_new("nodes");
    if there.children.is_empty() {
        there.children.clone_from(&wanted.children);
        return Ok(());
    }
    let names: Vec<&str> = there.children.iter().map(|it| it.word("uname")).collect();
    for node in &wanted.children {
        let name = node.word("uname");
        ensure!(
            names.contains(&name),
            "the cluster has no node {name}; expected one of {}",
            names.join(", ")
        );
    }
    Ok(())
}

/// Sets the stack's properties, each where the cluster has it already, or else in the set that all tools use.
fn properties(merged: &mut Element, wanted: &Element) {
    let Some(wanted) = wanted.child("crm_config") else {
        return;
    };
    for set in &wanted.children {
        for pair in set.children_named("nvpair") {
            let there = merged.child_or_new("crm_config");
            let mut pairs = there.children.iter_mut().flat_map(|set| &mut set.children);
            match pairs.find(|it| it.name == "nvpair" && it.get("name") == pair.get("name")) {
                Some(old) => old.set("value", pair.word("value")),
                None => {
                    let sets = &mut there.children;
                    let at = sets.iter().position(|it| it.id() == set.id());
                    let at = at.unwrap_or_else(|| {
                        sets.push(Element::new(&set.name).with("id", set.id()));
                        sets.len() - 1
                    });
                    sets[at].children.push(pair.clone());
                }
            }
        }
    }
}

/// Puts the elements that the stack has in a section in the place of those with their ids, or behind the others; takes
/// away those others that are `obsolete`.
fn replace(
    merged: &mut Element,
    wanted: &Element,
    section: &str,
    obsolete: impl Fn(&Element) -> bool,
) {
    let wanted: &[Element] = wanted.child(section).map_or(&[], |it| &it.children);
    if wanted.is_empty() && merged.child(section).is_none() {
        return;
    }
    let there = &mut merged.child_or_new(section).children;
    there.retain(|old| wanted.iter().any(|new| new.id() == old.id()) || !obsolete(old));
    for new in wanted {
        match there.iter_mut().find(|old| old.id() == new.id()) {
            Some(old) => old.clone_from(new),
            None => there.push(new.clone()),
        }
    }
}

/// One thing that is different between two configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `added`, `changed` or `removed`
    pub what: &'static str,
    /// `primitive vip-tank1-san1`, `property stonith-enabled`
    pub element: String,
    /// Of what is changed, what exactly, if that can be said in a few words.
    pub details: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8} {}", self.what, self.element)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details.join(", "))?;
        }
        Ok(())
    }
}

/// What is different in configuration `after`.
pub fn changes(before: &Element, after: &Element) -> Vec<Change> {
    let (before, after) = (things(before), things(after));
    let mut changes = Vec::new();
    for (name, old) in &before {
        if !after.iter().any(|(it, _)| it == name) {
            changes.push(Change {
                what: "removed",
                element: name.clone(),
                details: details(Some(old), None),
            });
        }
    }
    for (name, new) in &after {
        match before.iter().find(|(it, _)| it == name) {
            Some((_, old)) if old == new => {}
            old => changes.push(Change {
                what: if old.is_some() { "changed" } else { "added" },
                element: name.clone(),
                details: details(old.map(|(_, old)| *old), Some(new)),
            }),
        }
    }
    changes
}

/// The things of a configuration that are compared, with their names.
fn things(configuration: &Element) -> Vec<(String, &Element)> {
    let mut things = Vec::new();
    for section in &configuration.children {
        if SECTIONS.contains(&section.name.as_str()) {
            let name = |it: &Element| match it.name.as_str() {
                "node" => format!("node {}", it.word("uname")),
                kind => format!("{} {}", kind.replace("rsc_", ""), it.id()),
            };
            things.extend(section.children.iter().map(|it| (name(it), it)));
        } else {
            let sets = section.children.iter();
            let pairs = sets.flat_map(|set| set.children.iter().map(move |pair| (set, pair)));
            things.extend(pairs.map(|(set, pair)| {
                let of = match section.name.as_str() {
                    "crm_config" => "property".to_owned(),
                    other => format!("{other} {}", set.id()),
                };
                (format!("{of} {}", pair.word("name")), pair)
            }));
        }
    }
    things
}

/// How a thing differs: its values, as far as they have names. Of what is there only before or only after, nothing but
/// the value of a property is worth telling.
fn details(old: Option<&Element>, new: Option<&Element>) -> Vec<String> {
    let values = |it: Option<&Element>| -> Vec<(String, String)> {
        let all = it.into_iter().flat_map(Element::all);
        all.flat_map(|element| match element.name.as_str() {
            "nvpair" => vec![(
                element.word("name").to_owned(),
                element.word("value").to_owned(),
            )],
            // By their own names, which say whose they are: an operation is "tank-start timeout".
            _ => {
                let named = element.attributes.iter().filter(|(key, _)| key != "id");
                let id = element.id();
                named
                    .map(|(key, value)| (format!("{id} {key}"), value.clone()))
                    .collect()
            }
        })
        .collect()
    };
    match (old, new) {
        (Some(old), Some(new)) if old.name == "nvpair" && new.name == "nvpair" => {
            vec![format!("{} -> {}", old.word("value"), new.word("value"))]
        }
        (Some(_), Some(_)) => {
            let (old, new) = (values(old), values(new));
            let mut told: Vec<String> = Vec::new();
            for (name, value) in &new {
                match old.iter().find(|(it, _)| it == name) {
                    Some((_, before)) if before == value => {}
                    Some((_, before)) => told.push(format!("{name} {before} -> {value}")),
                    None => told.push(format!("+{name}={value}")),
                }
            }
            let lost = old
                .iter()
                .filter(|(name, _)| !new.iter().any(|(it, _)| it == name));
            told.extend(lost.map(|(name, value)| format!("-{name}={value}")));
            told
        }
        (old, new) => old
            .or(new)
            .filter(|it| it.name == "nvpair")
            .map(|it| it.word("value").to_owned())
            .into_iter()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cib(inside: &str) -> Element {
        Element::parse(&format!(
            "<cib><configuration>{inside}</configuration></cib>"
        ))
        .unwrap()
    }

    const STACK: &str = r#"<crm_config><cluster_property_set id="cib-bootstrap-options">
        <nvpair id="p1" name="stonith-enabled" value="true"/><nvpair id="p2" name="stonith-timeout" value="120s"/>
        </cluster_property_set></crm_config>
        <nodes><node id="1" uname="a"/></nodes>
        <resources><primitive id="x" type="new"/><primitive id="y"/></resources>
        <constraints><rsc_location id="s-y" rsc="y" node="a"/></constraints>
        <tags><tag id="s"><obj_ref id="x"/><obj_ref id="y"/></tag></tags>"#;

    #[test]
    fn an_empty_cluster_gets_all_of_it() {
        let merged = merge(&cib(""), &cib(STACK), "s").unwrap();
        assert_eq!(changes(&merged, configuration(&cib(STACK)).unwrap()), []);
    }

    #[test]
    fn what_others_made_stays_and_what_the_stack_lost_goes() {
        let live = cib(
            r#"<crm_config><cluster_property_set id="mine"><nvpair id="q" name="stonith-enabled" value="false"/>
            </cluster_property_set></crm_config>
            <nodes><node id="7" uname="a"/><node id="8" uname="b"/></nodes>
            <resources><primitive id="other"/><primitive id="x" type="old"/><primitive id="z"/></resources>
            <constraints><rsc_order id="s-old" first="x" then="other"/><rsc_location id="mine-x" rsc="x" node="a"/>
            <rsc_colocation id="mine-z"><resource_set id="set"><resource_ref id="z"/></resource_set></rsc_colocation>
            </constraints>
            <tags><tag id="s"><obj_ref id="x"/><obj_ref id="z"/></tag></tags>
            <fencing-topology><fencing-level id="l" target="a" index="2" devices="pdu"/></fencing-topology>"#,
        );
        let merged = merge(&live, &cib(STACK), "s").unwrap();
        let told: Vec<String> = changes(configuration(&live).unwrap(), &merged)
            .iter()
            .map(Change::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "removed  primitive z",
                "removed  order s-old",
                "removed  colocation mine-z",
                "changed  property stonith-enabled: false -> true",
                "added    property stonith-timeout: 120s",
                "changed  primitive x: x type old -> new",
                "added    primitive y",
                "added    location s-y",
                "changed  tag s",
            ]
        );
    }

    #[test]
    fn what_goes_is_told_to_stop_except_fencing_devices() {
        let before = cib(
            r#"<resources><primitive id="f" class="stonith"/><group id="g"><meta_attributes id="m">
            <nvpair id="t" name="target-role" value="Started"/></meta_attributes><primitive id="a"/><primitive id="b"/></group>
            <group id="h"><primitive id="c"/><primitive id="d"/></group><primitive id="e"/></resources>"#,
        );
        let after = cib(r#"<resources><group id="h"><primitive id="c"/></group></resources>"#);
        let (before, after) = (
            configuration(&before).unwrap(),
            configuration(&after).unwrap(),
        );
        let (retiring, ids) = retire(before, after);
        assert_eq!(ids, ["a", "b", "d", "e"]);
        let told: Vec<String> = changes(before, &retiring)
            .iter()
            .map(Change::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "changed  group g: target-role Started -> Stopped",
                "changed  group h: +target-role=Stopped",
                "changed  primitive e: +target-role=Stopped",
            ]
        );
        assert_eq!(retire(before, before), (before.clone(), Vec::new()));
    }

    #[test]
    fn once_there_nothing_changes() {
        let live = with_configuration(&cib(""), &merge(&cib(""), &cib(STACK), "s").unwrap());
        let again = merge(&live, &cib(STACK), "s").unwrap();
        assert_eq!(configuration(&live).unwrap(), &again);
    }

    #[test]
    fn nodes_have_to_be_there() {
        let live = cib(r#"<nodes><node id="1" uname="c"/></nodes>"#);
        assert_eq!(
            merge(&live, &cib(STACK), "s").unwrap_err().to_string(),
            "the cluster has no node a; expected one of c"
        );
        assert_eq!(
            merge(&Element::new("html"), &cib(STACK), "s")
                .unwrap_err()
                .to_string(),
            "<html> has no <configuration>"
        );
    }
}
