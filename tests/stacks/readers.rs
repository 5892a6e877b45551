//! What reads configurations, for real.

use std::fs;
use std::path::Path;

use cib::{Element, Stack, joined};

use super::{HASTOR, example, file};
use crate::metadata::room::{answer, in_room, on_host, quiet_answer, run};

#[test]
#[ignore = "needs pacemaker: cargo lab test"]
fn crm_verify_has_nothing_to_say() {
    for stack in Stack::names() {
        let dir = tempfile::tempdir().unwrap();
        let mut verify = on_host(dir.path(), "crm_verify");
        let cib = joined(&example(stack)).unwrap().to_string();
        let said = quiet_answer(verify.args(["--verbose", "--xml-pipe"]), &cib);
        assert_eq!(said, "", "{stack}");
    }
}

#[test]
#[ignore = "needs pcs, crmsh and pacemaker: cargo lab test"]
fn crmsh_and_pcs_read_the_example() {
    for stack in Stack::names() {
        let dir = tempfile::tempdir().unwrap();
        let path = put(dir.path(), &example(stack));
        let words = |text: &str| text.replace("\\\n", " ");
        let shown = words(&quiet_answer(
            in_room(dir.path(), "crm")
                .env("CIB_file", &path)
                .args(["configure", "show"]),
            "",
        ));
        // crmsh shows as XML what it has no words for.
        assert!(!shown.contains("xml <"), "{shown}");
        let config = quiet_answer(in_room(dir.path(), "pcs").args(["-f", &path, "config"]), "");
        for thing in example(stack).all() {
            if ["primitive", "group", "rsc_colocation", "rsc_order"].contains(&thing.name.as_str())
            {
                for text in [&shown, &config] {
                    assert!(
                        text.contains(thing.id()),
                        "{} is missing in\n{text}",
                        thing.id()
                    );
                }
            }
        }
    }
}

#[test]
#[ignore = "needs pcs, crmsh and pacemaker: cargo lab test"]
fn what_crm_makes_of_its_script_is_the_same_cib() {
    for stack in Stack::names() {
        let dir = tempfile::tempdir().unwrap();
        let path = put(dir.path(), &empty(&example(stack)));
        let script = dir.path().join("stack.crm").to_str().unwrap().to_owned();
        fs::write(&script, rendered(dir.path(), stack, "crm")).unwrap();
        let mut crm = in_room(dir.path(), "crm");
        let crm = crm.env("CIB_file", &path);
        let output = run(crm.args(["configure", "load", "update", &script]), "");
        assert!(output.status.success(), "{output:?}");
        is_same(&example(stack), &take(&path));
    }
}

#[test]
#[ignore = "needs pcs, crmsh and pacemaker: cargo lab test"]
fn what_pcs_makes_of_its_script_is_the_same_cib() {
    for stack in Stack::names() {
        let dir = tempfile::tempdir().unwrap();
        let path = put(dir.path(), &empty(&example(stack)));
        let script = dir.path().join("stack.sh").to_str().unwrap().to_owned();
        fs::write(&script, rendered(dir.path(), stack, "pcs")).unwrap();
        answer(in_room(dir.path(), "sh").args([&script, &path]), "");
        is_same(&example(stack), &take(&path));
    }
}

fn rendered(dir: &Path, stack: &str, form: &str) -> String {
    let mut hastor = on_host(dir, HASTOR);
    let values = file(stack, "values.toml");
    quiet_answer(
        hastor.args(["render", stack, "--values", &values, "--as", form]),
        "",
    )
}

/// A cluster with the same nodes and nothing else.
pub(super) fn empty(cib: &Element) -> Element {
    let mut cib = cib.clone();
    // pcs cannot change a CIB that has none; a cluster's has.
    cib.set("crm_feature_set", "3.15.1");
    let nodes = cib
        .child("configuration")
        .unwrap()
        .child("nodes")
        .unwrap()
        .clone();
    let configuration = cib.child_or_new("configuration");
    configuration.children = vec![
        Element::new("crm_config"),
        nodes,
        Element::new("resources"),
        Element::new("constraints"),
    ];
    cib
}

pub(super) fn put(dir: &Path, cib: &Element) -> String {
    let path = dir.join("cib.xml").to_str().unwrap().to_owned();
    fs::write(&path, cib.to_string()).unwrap();
    path
}

pub(super) fn take(path: &str) -> Element {
    Element::parse(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Do two CIBs say the same? Names that no other element uses do not count, nor does the order of pairs and operations.
fn is_same(one: &Element, other: &Element) {
    let plain = |cib: &Element| {
        let mut plain = cib.child("configuration").unwrap().clone();
        simplify(&mut plain);
        plain.to_string()
    };
    let (one, other) = (plain(one), plain(other));
    let lost = one.lines().filter(|line| !other.contains(line.trim()));
    let strange = other.lines().filter(|line| !one.contains(line.trim()));
    let (lost, strange): (Vec<_>, Vec<_>) = (lost.collect(), strange.collect());
    assert!(
        one == other,
        "only here: {lost:#?}\nonly there: {strange:#?}"
    );
}

fn simplify(element: &mut Element) {
    let nameless = [
        "cluster_property_set",
        "instance_attributes",
        "meta_attributes",
        "nvpair",
        "op",
    ];
    if nameless.contains(&element.name.as_str()) {
        element.attributes.retain(|(name, _)| name != "id");
    }
    element.attributes.sort();
    element.children.iter_mut().for_each(simplify);
    // The members of a group are the only ones whose order means something.
    if element.name == "group" {
        element
            .children
            .sort_by_key(|it| it.name != "meta_attributes");
    } else {
        element.children.sort_by_key(ToString::to_string);
    }
}
