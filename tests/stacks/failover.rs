//! What Pacemaker does with a stack, as crm_simulate foresees it.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use cib::{Element, Simulation, Stack, joined};

use super::{example, is_committed};
use crate::metadata::room::{answer, on_host};

#[test]
#[ignore = "needs pacemaker: cargo lab test"]
fn pacemaker_does_what_the_committed_orders_say() {
    for stack in Stack::names() {
        is_committed(stack, "failover.txt", &story(&example(stack)));
    }
}

/// All that can happen, told in sections.
fn story(cib: &Element) -> String {
    let mut told = String::from(
        "What Pacemaker does with example.xml, as crm_simulate foresees it. Generated: UPDATE=1 cargo test stacks -- --ignored\n\
         Of resources with the same agent, one fails for all. Monitors are left out; what has no order may happen at once.\n",
    );
    let mut tell = |title: &str, simulations: &[Simulation]| {
        writeln!(told, "\n{title}").unwrap();
        let told_of = simulations.iter().map(ToString::to_string);
        told += &told_of.collect::<Vec<_>>().join("  then:\n");
    };
    let (up, begin) = until_settled(&joined(cib).unwrap(), &[]);
    tell("The cluster starts", &begin);

    let nodes = &cib
        .child("configuration")
        .unwrap()
        .child("nodes")
        .unwrap()
        .children;
    for node in nodes.iter().map(|node| node.word("uname")) {
        let (left, leaving) = until_settled(&standby(&up, node, "on"), &[]);
        tell(&format!("{node} goes into standby"), &leaving);
        let (_, back) = until_settled(&standby(&left, node, "off"), &[]);
        tell(&format!("{node} comes back from standby"), &back);
        let (lost, losing) = until_settled(&up, &["--node-fail", node]);
        tell(&format!("{node} loses power"), &losing);
        let (_, back) = until_settled(&lost, &["--node-up", node]);
        tell(&format!("{node} comes back after that"), &back);
    }

    for (id, node) in one_of_each_agent(cib, &begin) {
        let interval = monitor_interval(cib, &id);
        let fails = format!("{id}_monitor_{interval}@{node}=1");
        let (_, once) = until_settled(&up, &["--op-inject", &fails]);
        tell(&format!("{id} fails on {node}"), &once);

        let counted = with_failures(&up, &id, &node, &format!("monitor_{interval}"), "2");
        let (_, thrice) = until_settled(&counted, &["--op-inject", &fails]);
        tell(&format!("{id} fails on {node} for the third time"), &thrice);

        let start = format!("{id}_start_0@{node}=1");
        let (after, mut start_fails) = one(&up, &["--op-inject", &fails, "--op-fail", &start]);
        // start-failure-is-fatal: the controller does this, and the simulator does not.
        let fatal = with_failures(&after, &id, &node, "start_0", "INFINITY");
        start_fails.extend(until_settled(&fatal, &[]).1);
        tell(
            &format!("{id} fails on {node} and does not start again"),
            &start_fails,
        );

        // The stop of a fencing device calls no agent.
        if id.starts_with("fence-") {
            continue;
        }
        let stop = format!("{id}_stop_0@{node}=1");
        let (after, mut stop_fails) = one(&up, &["--op-inject", &fails, "--op-fail", &stop]);
        stop_fails.extend(until_settled(&after, &[]).1);
        tell(
            &format!("{id} fails on {node} and does not stop"),
            &stop_fails,
        );
    }
    told
}

/// The first resource of each agent, with the node on which it was started.
fn one_of_each_agent(cib: &Element, begin: &[Simulation]) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for primitive in cib.all().into_iter().filter(|it| it.name == "primitive") {
        if !seen.contains(&primitive.word("type")) {
            seen.push(primitive.word("type"));
            let start = format!("start {} on ", primitive.id());
            let mut steps = begin.iter().flat_map(|it| &it.steps);
            let node = steps.find_map(|step| step.strip_prefix(&start)).unwrap();
            found.push((primitive.id().to_owned(), node.to_owned()));
        }
    }
    found
}

/// In milliseconds, of the first repeated monitor.
fn monitor_interval(cib: &Element, id: &str) -> u64 {
    let all = cib.all();
    let primitive = all
        .iter()
        .find(|it| it.name == "primitive" && it.id() == id)
        .unwrap();
    let operations = &primitive.child("operations").unwrap().children;
    let monitor = operations
        .iter()
        .find(|it| it.word("name") == "monitor")
        .unwrap();
    let seconds = monitor.word("interval").strip_suffix('s').unwrap();
    seconds.parse::<u64>().unwrap() * 1000
}

/// Transitions until nothing more is to be done; the last, which does nothing, is told only if it is the only one.
fn until_settled(cib: &Element, options: &[&str]) -> (Element, Vec<Simulation>) {
    let (mut cib, mut all) = one(cib, options);
    for _ in 0..8 {
        let (after, next) = one(&cib, &[]);
        if next.iter().all(|it| it.steps.is_empty()) {
            return (cib, all);
        }
        all.extend(next);
        cib = after;
    }
    panic!("not settled after eight transitions: {all:?}");
}

/// One transition. What happens to the cluster is put into its CIB before: with Pacemaker 3.0.0, crm_simulate's XML ends
/// behind that, and tells of no transition.
fn one(cib: &Element, options: &[&str]) -> (Element, Vec<Simulation>) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let simulate = |from: &str, words: &[&str]| {
        let mut command = on_host(dir.path(), "crm_simulate");
        command.args(["--output-as=xml", "--xml-file", &path(from)]);
        answer(command.args(words), "")
    };
    fs::write(path("before.xml"), cib.to_string()).unwrap();
    let (during, happens): (Vec<&[&str]>, Vec<&[&str]>) = options
        .chunks(2)
        .partition(|option| option[0] == "--op-fail");
    let mut begin = "before.xml";
    if !happens.is_empty() {
        let save = path("happened.xml");
        simulate(
            begin,
            &[&happens.concat()[..], &["--save-input", &save]].concat(),
        );
        begin = "happened.xml";
    }
    let save = path("after.xml");
    let text = simulate(
        begin,
        &[
            &during.concat()[..],
            &["--simulate", "--save-output", &save],
        ]
        .concat(),
    );
    (
        read(Path::new(&save)),
        vec![Simulation::parse(&text).unwrap()],
    )
}

fn read(path: &Path) -> Element {
    Element::parse(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The CIB with a node in standby, or no more.
fn standby(cib: &Element, node: &str, value: &str) -> Element {
    let mut cib = cib.clone();
    let nodes = cib.child_or_new("configuration").child_or_new("nodes");
    let node = nodes
        .children
        .iter_mut()
        .find(|it| it.word("uname") == node)
        .unwrap();
    let id = node.id().to_owned();
    node.children.clear();
    let set = node.child_or_new("instance_attributes");
    set.set("id", &format!("nodes-{id}"));
    let pair = Element::new("nvpair").with("id", &format!("nodes-{id}-standby"));
    set.children
        .push(pair.with("name", "standby").with("value", value));
    cib
}

/// The CIB with so many failures of an operation counted.
fn with_failures(
    cib: &Element,
    resource: &str,
    node: &str,
    operation: &str,
    count: &str,
) -> Element {
    let mut cib = cib.clone();
    let states = &mut cib.child_or_new("status").children;
    let state = states
        .iter_mut()
        .find(|it| it.word("uname") == node)
        .unwrap();
    let id = state.id().to_owned();
    let attributes = state.child_or_new("transient_attributes");
    attributes.set("id", &id);
    let set = attributes.child_or_new("instance_attributes");
    set.set("id", &format!("status-{id}"));
    let name = format!("fail-count-{resource}#{operation}");
    set.children.retain(|it| it.word("name") != name);
    let pair = Element::new("nvpair").with(
        "id",
        &format!("status-{id}-fail-count-{resource}.{operation}"),
    );
    set.children
        .push(pair.with("name", &name).with("value", count));
    cib
}
