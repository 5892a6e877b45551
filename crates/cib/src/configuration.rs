//! A stack put into the configuration of a cluster, and what that changes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::Element;

/// The attributes by which constraints name resources.
const REFERENCES: [&str; 5] = ["rsc", "rsc-pattern", "with-rsc", "first", "then"];

/// Meta attributes by which an administrator takes a resource out of service for a while: a stack does not end that.
const IN_SERVICE: [&str; 3] = ["target-role", "is-managed", "maintenance"];

/// What a resource is, as elements.
const KINDS: [&str; 5] = ["primitive", "group", "clone", "master", "bundle"];

/// Elements that have their place among others, and are compared as a whole.
const SECTIONS: [&str; 7] = [
    "nodes",
    "resources",
    "constraints",
    "tags",
    "fencing-topology",
    "alerts",
    "acls",
];

/// The `<configuration>` of a cluster whose CIB is `live`, once the stack of this name is as in the CIB `stack`.
///
/// Resources of the stack are those that its tag lists; its constraints have ids that begin with its name and a hyphen, and
/// name no resources but its own: those of a stack with a longer name are not its business.
/// They are replaced, added, or removed if the stack has them no longer; but a resource that an administrator has stopped,
/// or taken out of management, stays so. So are constraints that name a resource which is removed. Cluster properties
/// are set one by one. All else stays as it is, and so do the nodes, which number themselves; a cluster that has none
/// yet (a file that none has run with) gets those of the stack. Of nodes that are none of the stack's its resources are
/// kept away.
///
/// # Errors
/// A node of the stack that the cluster does not have; a cluster in which resources run only where they are told to
/// (symmetric-cluster=false); no `<configuration>`. Unless they may be taken over (`adopt`): resources with ids of the
/// stack's that are none of it.
pub fn merge(live: &Element, stack: &Element, name: &str, adopt: bool) -> Result<Element> {
    let stack = configuration(stack)?;
    let mut merged = configuration(live)?.clone();
    nodes(&mut merged, stack)?;
    properties(&mut merged, stack);
    ensure!(
        !merged.all().iter().any(|it| it.name == "nvpair"
            && it.word("name") == "symmetric-cluster"
            && !is_yes(it.word("value"))),
        "property symmetric-cluster is false; expected true, because what is on one node of a stack has to be allowed on the others"
    );
    let wanted = &kept_away(stack, &merged, name);

    let (before, ours) = (members(&merged, name), members(wanted, name));
    let ids = (&ours, &before);
    nothing_taken_over(&merged, wanted, ids, name, adopt)?;
    let gone = &before - &ours;
    let known = &before | &ours;
    replace(&mut merged, wanted, "resources", |old| {
        gone.contains(old.id())
    });
    let prefix = format!("{name}-");
    replace(&mut merged, wanted, "constraints", |old| {
        let named = named_by(old);
        let names_own = !named.is_empty() && named.iter().all(|it| known.contains(*it));
        let is_own = old.id().starts_with(&prefix) && names_own;
        is_own || named.iter().any(|it| gone.contains(*it))
    });
    replace(&mut merged, wanted, "tags", |old| old.id() == name);
    Ok(merged)
}

/// The resources that a constraint names.
fn named_by(constraint: &Element) -> Vec<&str> {
    let sets = constraint.all().into_iter().skip(1);
    let sets = sets.filter(|it| it.name == "resource_ref");
    let sets = sets.map(Element::id);
    let references = constraint.attributes.iter();
    let references = references.filter(|(key, _)| REFERENCES.contains(&key.as_str()));
    references
        .map(|(_, value)| value.as_str())
        .chain(sets)
        .collect()
}

/// Refuses to replace resources that the cluster has and that are none of the stack's, which has those in `ours` and had those
/// in `before`; with `adopt` only where one cannot just take the place of the other, because it is in a group.
fn nothing_taken_over(
    merged: &Element,
    wanted: &Element,
    (ours, before): (&BTreeSet<String>, &BTreeSet<String>),
    name: &str,
    adopt: bool,
) -> Result<()> {
    let stands_alone = |of: &Element, id: &str| {
        let mut all = of.children_named("resources").flat_map(|it| &it.children);
        all.any(|it| it.id() == id)
    };
    for it in merged.children_named("resources").flat_map(Element::all) {
        let (kind, id) = (&it.name, it.id());
        let is_known = !ours.contains(id) || before.contains(id);
        if is_known || !KINDS.contains(&kind.as_str()) {
            continue;
        }
        let replaceable = stands_alone(merged, id) && stands_alone(wanted, id);
        let way = match replaceable {
            true if adopt => continue,
            true => ", or --force, which replaces it",
            false => "",
        };
        bail!(
            "{kind} {id} is there already, and none of the stack {name}; expected other names{way}"
        );
    }
    Ok(())
}

/// The stack, with its resources kept away from nodes of the cluster that are none of its own.
fn kept_away(stack: &Element, cluster: &Element, name: &str) -> Element {
    let names = |of: &Element| -> Vec<String> {
        let nodes = of.children_named("nodes").flat_map(|it| &it.children);
        nodes.map(|node| node.word("uname").to_owned()).collect()
    };
    let (own, all) = (names(stack), names(cluster));
    let mut wanted = stack.clone();
    // It does not say where it belongs.
    if own.is_empty() {
        return wanted;
    }
    let resources = stack.children_named("resources");
    let resources = resources.flat_map(|it| &it.children);
    for resource in resources.filter(|it| it.word("class") != "stonith") {
        for node in all.iter().filter(|node| !own.contains(node)) {
            let id = format!("{name}-{}-not-on-{node}", resource.id());
            let away = Element::new("rsc_location")
                .with("id", &id)
                .with("rsc", resource.id())
                .with("node", node)
                .with("score", "-INFINITY");
            wanted.child_or_new("constraints").children.push(away);
        }
    }
    wanted
}

/// As Pacemaker reads a boolean.
fn is_yes(text: &str) -> bool {
    let yes = ["true", "on", "yes", "y", "1"];
    yes.iter().any(|word| text.eq_ignore_ascii_case(word))
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
    if !KINDS.contains(&resource.name.as_str()) || resource.word("class") == "stonith" {
        return;
    }
    if kept.contains(resource.id()) {
        let children = resource.children.iter_mut();
        children.for_each(|child| retire_in(child, kept, ids));
        return;
    }
    ids.extend(resource.primitives().map(|it| it.id().to_owned()));
    if stop_where_told(resource) {
        return;
    }
    let id = resource.id().to_owned();
    let mut set = Element::new("meta_attributes").with("id", &format!("{id}-retire"));
    let pair = Element::new("nvpair").with("id", &retirement(&id));
    set.children
        .push(pair.with("name", "target-role").with("value", "Stopped"));
    resource.children.insert(0, set);
}

/// The configuration `after` with the fencing devices that only `before` has, with what binds them and the tags they are in, and
/// their ids. Until all else has been done they may be needed for it.
pub fn with_devices_of(before: &Element, after: &Element) -> (Element, Vec<String>) {
    let kept: BTreeSet<&str> = after.all().into_iter().map(Element::id).collect();
    let resources = before
        .children_named("resources")
        .flat_map(|it| &it.children);
    let lost = resources.filter(|it| it.word("class") == "stonith" && !kept.contains(it.id()));
    let lost: Vec<&Element> = lost.collect();
    let ids: Vec<String> = lost.iter().map(|it| it.id().to_owned()).collect();
    let mut all = after.clone();
    if ids.is_empty() {
        return (all, ids);
    }
    let there = &mut all.child_or_new("resources").children;
    there.extend(lost.into_iter().cloned());
    let is_lost = |id: &str| ids.iter().any(|it| it == id);
    for constraint in before
        .children_named("constraints")
        .flat_map(|it| &it.children)
    {
        let named = named_by(constraint);
        let binds = named.iter().any(|id| is_lost(id));
        let all_there = named.iter().all(|id| kept.contains(id) || is_lost(id));
        if binds && all_there && !kept.contains(constraint.id()) {
            let there = &mut all.child_or_new("constraints").children;
            there.push(constraint.clone());
        }
    }
    for old in before.children_named("tags").flat_map(|it| &it.children) {
        for reference in &old.children {
            if !is_lost(reference.id()) {
                continue;
            }
            let tags = all.child_or_new("tags");
            let tag = tags.child_with_id("tag", old.id());
            tag.children.push(reference.clone());
        }
    }
    (all, ids)
}

/// Sets each target-role that stands in a resource, or in what it contains, to Stopped: one of a member counts more than that
/// of its group. Whether the resource itself has one.
fn stop_where_told(resource: &mut Element) -> bool {
    let mut told = false;
    let retirement = retirement(resource.id());
    for child in &mut resource.children {
        if child.name == "meta_attributes" {
            let pairs = child.children.iter_mut();
            for pair in pairs.filter(|pair| pair.word("name") == "target-role") {
                pair.set("id", &retirement);
                pair.set("value", "Stopped");
                told = true;
            }
        } else {
            stop_where_told(child);
        }
    }
    told
}

/// Gives a resource, and what it contains, those of the old one's meta attributes that say whether it is in service, unless
/// it has them itself.
fn keep_out_of_service(new: &mut Element, old: &Element) {
    let sets = old.children.iter().enumerate();
    let sets = sets.filter(|(_, it)| it.name == "meta_attributes");
    let pairs = sets.flat_map(|(at, set)| {
        let pairs = set.children_named("nvpair");
        pairs.map(move |it| (at, set, it))
    });
    for (before, set, pair) in pairs {
        let name = pair.word("name");
        let has = new
            .pairs("meta_attributes")
            .iter()
            .any(|(it, _)| *it == name);
        // What is being removed was told to stop by this program, not by an administrator.
        let is_ours = pair.id() == retirement(old.id());
        if !IN_SERVICE.contains(&name) || has || is_ours {
            continue;
        }
        let sets = &mut new.children;
        // In its place, so that what is the same as before looks the same.
        let at = sets.iter().position(|it| it.id() == set.id());
        let at = at.unwrap_or_else(|| {
            let at = before.min(sets.len());
            // With its score, and the rule that says when it counts.
            let mut set = set.clone();
            set.children.retain(|it| it.name != "nvpair");
            sets.insert(at, set);
            at
        });
        sets[at].children.push(pair.clone());
    }
    for child in new.children.iter_mut().filter(|it| !it.id().is_empty()) {
        let id = child.id().to_owned();
        let kinds = ["primitive", "group", "clone"];
        let before = old.children.iter().find(|it| it.id() == id);
        if let Some(before) = before.filter(|it| kinds.contains(&it.name.as_str())) {
            keep_out_of_service(child, before);
        }
    }
}

/// The id of the target-role that stops a resource before it is removed.
fn retirement(id: &str) -> String {
    format!("{id}-retire-target-role")
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
pub fn members(configuration: &Element, tag: &str) -> BTreeSet<String> {
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
            let pairs = there.children.iter_mut().flat_map(|set| &mut set.children);
            let is_it = |it: &&mut Element| {
                it.name == "nvpair"
                    && in_new_words(it.word("name")) == in_new_words(pair.word("name"))
            };
            let mut is_there = false;
            for old in pairs.filter(is_it) {
                old.set("value", pair.word("value"));
                is_there = true;
            }
            if !is_there {
                let set = there.child_with_id(&set.name, set.id());
                set.children.push(pair.clone());
            }
        }
    }
}

/// A property's name as newer Pacemakers have it, for which the older one counts less: fencing-enabled, once stonith-enabled.
fn in_new_words(property: &str) -> String {
    property.replacen("stonith-", "fencing-", 1)
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
            Some(old) => {
                let mut new = new.clone();
                keep_out_of_service(&mut new, old);
                *old = new;
            }
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
    for old in &before {
        if !after.iter().any(|it| it.key == old.key) {
            changes.push(Change {
                what: "removed",
                element: old.name.clone(),
                details: details(Some(&old.element), None),
            });
        }
    }
    for new in &after {
        match before.iter().find(|it| it.key == new.key) {
            Some(old) if old.element == new.element => {}
            old => changes.push(Change {
                what: if old.is_some() { "changed" } else { "added" },
                element: new.name.clone(),
                details: details(old.map(|old| &*old.element), Some(&new.element)),
            }),
        }
    }
    changes
}

/// A thing of a configuration that is compared with another one's.
struct Thing<'a> {
    /// By which it is found there: names can be twice, as one property in two sets.
    key: [&'a str; 4],
    name: String,
    element: Cow<'a, Element>,
}

/// The things of a configuration that are compared.
fn things(configuration: &Element) -> Vec<Thing<'_>> {
    let mut things = Vec::new();
    for section in &configuration.children {
        if SECTIONS.contains(&section.name.as_str()) {
            things.extend(section.children.iter().map(|it| {
                // Nodes number themselves.
                let id = match it.name.as_str() {
                    "node" => it.word("uname"),
                    _ => it.id(),
                };
                Thing {
                    key: [&section.name, "", &it.name, id],
                    name: format!("{} {id}", it.name.replace("rsc_", "")),
                    element: Cow::Borrowed(it),
                }
            }));
            continue;
        }
        for set in &section.children {
            // That it is there does not matter; how it counts, does.
            if set.attributes.iter().any(|(name, _)| name != "id") {
                let mut bare = set.clone();
                bare.children.clear();
                things.push(Thing {
                    key: [&section.name, set.id(), "", ""],
                    name: format!("{} {}", set.name, set.id()),
                    element: Cow::Owned(bare),
                });
            }
            let of = match section.name.as_str() {
                "crm_config" => "property".to_owned(),
                other => format!("{other} {}", set.id()),
            };
            things.extend(set.children.iter().map(|it| {
                let name = if it.word("name").is_empty() {
                    it.id()
                } else {
                    it.word("name")
                };
                // It may refer to one that stands elsewhere.
                let id = it.get("id").or(it.get("id-ref")).unwrap_or_default();
                Thing {
                    key: [&section.name, set.id(), &it.name, id],
                    name: format!("{of} {name}"),
                    element: Cow::Borrowed(it),
                }
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
            vec![match is_secret(new.word("name")) {
                true => "another one".to_owned(),
                false => format!("{} -> {}", old.word("value"), new.word("value")),
            }]
        }
        (Some(_), Some(_)) => {
            let (old, new) = (values(old), values(new));
            let mut told: Vec<String> = Vec::new();
            for (name, value) in &new {
                match old.iter().find(|(it, _)| it == name) {
                    Some((_, before)) if before == value => {}
                    Some(_) if is_secret(name) => told.push(format!("{name} another one")),
                    None if is_secret(name) => told.push(format!("+{name}")),
                    Some((_, before)) => told.push(format!("{name} {before} -> {value}")),
                    None => told.push(format!("+{name}={value}")),
                }
            }
            let lost = old
                .iter()
                .filter(|(name, _)| !new.iter().any(|(it, _)| it == name));
            told.extend(lost.map(|(name, value)| match is_secret(name) {
                true => format!("-{name}"),
                false => format!("-{name}={value}"),
            }));
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

/// Is the value of a parameter of this name nobody's business? That of `password_file` is only where to find it.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let secrets = ["passw", "secret", "community"];
    let elsewhere = ["_file", "_script"];
    secrets.iter().any(|word| name.contains(word))
        && !elsewhere.iter().any(|ending| name.ends_with(ending))
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
        let merged = merge(&cib(""), &cib(STACK), "s", false).unwrap();
        assert_eq!(changes(&merged, configuration(&cib(STACK)).unwrap()), []);
    }

    #[test]
    fn what_others_made_stays_and_what_the_stack_lost_goes() {
        let live = cib(
            r#"<crm_config><cluster_property_set id="mine"><nvpair id="q" name="stonith-enabled" value="false"/>
            </cluster_property_set></crm_config>
            <nodes><node id="7" uname="a"/><node id="8" uname="b"/></nodes>
            <resources><primitive id="other"/><primitive id="x" type="old"/><primitive id="z"/></resources>
            <constraints><rsc_order id="s-old" first="x" then="z"/><rsc_order id="s-too-old" first="x" then="other"/>
            <rsc_location id="s-many" rsc-pattern="." node="a"/><rsc_location id="mine-x" rsc="x" node="a"/>
            <rsc_colocation id="mine-z"><resource_set id="set"><resource_ref id="z"/></resource_set></rsc_colocation>
            </constraints>
            <tags><tag id="s"><obj_ref id="x"/><obj_ref id="z"/></tag></tags>
            <fencing-topology><fencing-level id="l" target="a" index="2" devices="pdu"/></fencing-topology>"#,
        );
        let merged = merge(&live, &cib(STACK), "s", false).unwrap();
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
                "added    location s-x-not-on-b",
                "added    location s-y-not-on-b",
                "changed  tag s",
            ]
        );
    }

    #[test]
    fn what_goes_is_told_to_stop_except_fencing_devices() {
        let before = cib(
            r#"<resources><primitive id="f" class="stonith"/><group id="g"><meta_attributes id="m">
            <nvpair id="t" name="target-role" value="Started"/></meta_attributes><primitive id="a"><meta_attributes id="n">
            <nvpair id="u" name="target-role" value="Started"/></meta_attributes></primitive><primitive id="b"/></group>
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
                "changed  group g: target-role Started -> Stopped, target-role Started -> Stopped",
                "changed  group h: +target-role=Stopped",
                "changed  primitive e: +target-role=Stopped",
            ]
        );
        assert_eq!(retire(before, before), (before.clone(), Vec::new()));
    }

    #[test]
    fn a_fencing_device_stays_until_all_else_is_done() {
        let before = cib(
            r#"<resources><primitive id="f" class="stonith"/><primitive id="x"/></resources>
            <constraints><rsc_location id="s-f" rsc="f" node="a"/><rsc_location id="s-x" rsc="x" node="a"/></constraints>
            <tags><tag id="s"><obj_ref id="f"/><obj_ref id="x"/></tag></tags>"#,
        );
        let before = configuration(&before).unwrap();
        let bare = configuration(&cib("")).unwrap().clone();
        let (kept, devices) = with_devices_of(before, &bare);
        assert_eq!(devices, ["f"]);
        let told = changes(&bare, &kept);
        let told: Vec<String> = told.iter().map(Change::to_string).collect();
        assert_eq!(
            told,
            [
                "added    primitive f",
                "added    location s-f",
                "added    tag s"
            ]
        );
        assert_eq!(with_devices_of(before, before), (before.clone(), vec![]));
    }

    #[test]
    fn a_configuration_does_not_differ_from_itself() {
        let rules = r#"<rule id="r1" score="1"><expression id="e1" attribute="a" operation="defined"/></rule>"#;
        let all = cib(&format!(
            r#"<crm_config><cluster_property_set id="c1" score="2"><nvpair id="q1" name="stonith-timeout" value="1s"/>{rules}
            </cluster_property_set><cluster_property_set id="c2"><nvpair id="q2" name="stonith-timeout" value="2s"/>
            <nvpair id-ref="q1"/></cluster_property_set></crm_config>
            <acls><acl_role id="o"><acl_permission id="o1" kind="read" xpath="/cib"/><acl_permission id="o2" kind="write"
            xpath="//status"/></acl_role><acl_target id="joe"><role id="o"/></acl_target></acls>
            <rsc_defaults><meta_attributes id="d"><nvpair id="d1" name="resource-stickiness" value="1"/></meta_attributes>
            </rsc_defaults><op_defaults><meta_attributes id="od"><nvpair id="od1" name="timeout" value="1"/></meta_attributes>
            </op_defaults><alerts><alert id="al" path="/x"/></alerts>"#
        ));
        let all = configuration(&all).unwrap();
        assert_eq!(changes(all, all), []);
        // What is different anywhere is told.
        let other = |a: &str, b: &str| {
            let other = Element::parse(&all.to_string().replace(a, b)).unwrap();
            let told = changes(all, &other);
            told.iter().map(Change::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            other("score=\"2\"", "score=\"3\""),
            ["changed  cluster_property_set c1: c1 score 2 -> 3"]
        );
        assert_eq!(
            other("2s", "3s"),
            ["changed  property stonith-timeout: 2s -> 3s"]
        );
        assert_eq!(
            other("//status", "/cib"),
            ["changed  acl_role o: o2 xpath //status -> /cib"]
        );
    }

    #[test]
    fn what_is_no_part_of_the_stack_is_not_taken_over() {
        let live = cib(
            r#"<resources><group id="g"><primitive id="x" type="theirs"/></group></resources>"#,
        );
        let error = merge(&live, &cib(STACK), "s", false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "primitive x is there already, and none of the stack s; expected other names"
        );
        assert!(merge(&live, &cib(STACK), "s", true).is_err());
        let live = cib(r#"<resources><primitive id="x" type="theirs"/></resources>"#);
        let error = merge(&live, &cib(STACK), "s", false).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("other names, or --force, which replaces it")
        );
        assert!(merge(&live, &cib(STACK), "s", true).is_ok());
    }

    #[test]
    fn nodes_of_others_get_nothing_of_it() {
        let live = cib(r#"<nodes><node id="1" uname="a"/><node id="2" uname="q"/></nodes>"#);
        let merged = merge(&live, &cib(STACK), "s", false).unwrap();
        let told: Vec<String> = changes(configuration(&live).unwrap(), &merged)
            .iter()
            .map(Change::to_string)
            .filter(|it| it.contains("location"))
            .collect();
        let expected = [
            "location s-y",
            "location s-x-not-on-q",
            "location s-y-not-on-q",
        ];
        assert_eq!(told, expected.map(|it| format!("added    {it}")));
        let opt_in = cib(
            r#"<crm_config><cluster_property_set id="c"><nvpair id="o" name="symmetric-cluster" value="no"/>
            </cluster_property_set></crm_config>"#,
        );
        let error = merge(&opt_in, &cib(STACK), "s", false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("symmetric-cluster"), "{error}");
    }

    #[test]
    fn what_an_administrator_has_stopped_stays_so() {
        let with = |meta: &str| {
            cib(&format!(
                r#"<resources><group id="g">{meta}<primitive id="x" type="t"/></group></resources>
                <tags><tag id="s"><obj_ref id="g"/><obj_ref id="x"/></tag></tags>"#
            ))
        };
        let set = r#"<meta_attributes id="m"><nvpair id="n" name="target-role" value="Stopped"/></meta_attributes>"#;
        let live = with(set);
        assert_eq!(
            &merge(&live, &with(""), "s", false).unwrap(),
            configuration(&live).unwrap()
        );
        let own = with(&set.replace("Stopped", "Started"));
        assert_eq!(
            &merge(&live, &own, "s", false).unwrap(),
            configuration(&own).unwrap()
        );
        // One that this program has told to stop, and was hindered to remove, comes back if it is wanted again.
        let (retiring, _) = retire(
            configuration(&with("")).unwrap(),
            configuration(&cib("")).unwrap(),
        );
        let left = with_configuration(&cib(""), &retiring);
        assert_eq!(
            &merge(&left, &with(""), "s", false).unwrap(),
            configuration(&with("")).unwrap()
        );
    }

    #[test]
    fn a_property_is_known_by_its_newer_name() {
        let live = cib(
            r#"<crm_config><cluster_property_set id="c"><nvpair id="o" name="fencing-enabled" value="false"/>
            </cluster_property_set></crm_config>"#,
        );
        let merged = merge(&live, &cib(STACK), "s", false).unwrap();
        let told = changes(configuration(&live).unwrap(), &merged);
        assert!(
            told.iter()
                .any(|it| it.to_string() == "changed  property fencing-enabled: false -> true"),
            "{told:?}"
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        let fence = |pairs: &str| {
            cib(&format!(
                r#"<resources><primitive id="f"><instance_attributes id="i">{pairs}</instance_attributes></primitive></resources>"#
            ))
        };
        let one = fence(
            r#"<nvpair id="p" name="password" value="one"/><nvpair id="q" name="password_file" value="/a"/>"#,
        );
        let two = fence(
            r#"<nvpair id="p" name="password" value="two"/><nvpair id="q" name="password_file" value="/b"/>"#,
        );
        let none = fence("");
        let told = |a: &Element, b: &Element| {
            changes(configuration(a).unwrap(), configuration(b).unwrap())[0].to_string()
        };
        assert_eq!(
            told(&one, &two),
            "changed  primitive f: password another one, password_file /a -> /b"
        );
        assert_eq!(
            told(&one, &none),
            "changed  primitive f: -password, -password_file=/a"
        );
        assert_eq!(
            told(&none, &one),
            "changed  primitive f: +password, +password_file=/a"
        );
    }

    #[test]
    fn once_there_nothing_changes() {
        let live = with_configuration(&cib(""), &merge(&cib(""), &cib(STACK), "s", false).unwrap());
        let again = merge(&live, &cib(STACK), "s", false).unwrap();
        assert_eq!(configuration(&live).unwrap(), &again);
    }

    #[test]
    fn nodes_have_to_be_there() {
        let live = cib(r#"<nodes><node id="1" uname="c"/></nodes>"#);
        assert_eq!(
            merge(&live, &cib(STACK), "s", false)
                .unwrap_err()
                .to_string(),
            "the cluster has no node a; expected one of c"
        );
        assert_eq!(
            merge(&Element::new("html"), &cib(STACK), "s", false)
                .unwrap_err()
                .to_string(),
            "<html> has no <configuration>"
        );
    }
}
