//! What reads the fence agents' metadata and manual pages, for real.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::examples::EXAMPLES;
use super::gates::{attribute, configure, follows, has, parameters, renders, write_empty_cib};
use super::room::{answer, in_room, on_host, quiet_answer, run};
use super::{FENCE_AGENTS, told};

/// The rules of fence-agents itself, and those that pcs holds the metadata against.
const RULES: &[&str] = &[
    "/usr/share/cluster/relaxng/metadata.rng",
    "/usr/share/pcs/data/ocf-1.0.rng",
];

/// What belongs to the cluster or to people, and to no configuration.
const NOT_CONFIGURED: &[&str] = &["action", "plug", "version", "help"];

/// Each fence agent's name, executable and metadata, in a directory to work in.
fn each(gate: impl Fn(&Path, &str, &str, &str)) {
    for (agent, executable) in FENCE_AGENTS {
        let dir = tempfile::tempdir().unwrap();
        let metadata = told(executable, &["-o", "metadata"]);
        gate(dir.path(), agent, executable, &metadata);
    }
}

fn examples(agent: &str) -> &'static [(&'static str, &'static str)] {
    let found = EXAMPLES.iter().find(|(name, _)| *name == agent);
    found.map(|(_, table)| *table).unwrap()
}

/// The parameters in a metadata, but for the older names of others.
fn current(metadata: &str) -> impl Iterator<Item = &str> {
    let lines = metadata.lines().map(str::trim_start);
    lines
        .filter(|line| line.starts_with("<parameter ") && !line.contains(" deprecated="))
        .filter_map(|line| attribute(line, "name"))
}

#[test]
fn every_parameter_has_an_example_or_a_reason() {
    each(|_, agent, executable, metadata| {
        let table = examples(agent);
        for name in current(metadata) {
            let known = table.iter().any(|(it, _)| *it == name) || NOT_CONFIGURED.contains(&name);
            // Of several that give the same, one is in the table.
            assert!(
                known || ["password_script", "password_file", "target"].contains(&name),
                "{name}"
            );
        }
        let words = table
            .iter()
            .map(|(name, value)| format!("--{name}={value}"));
        let mut validate = Command::new(executable);
        validate.args(["-o", "validate-all"]).args(words);
        answer(&mut validate, "");
    });
}

/// Every way to ask for it gives the same, without configuration, environment or rights.
#[test]
fn metadata_is_a_constant() {
    each(|_, _, executable, metadata| {
        for words in [
            &["--action=metadata"][..],
            &["-o", "meta-data", "--ip", "x y"],
        ] {
            assert_eq!(told(executable, words), metadata);
        }
        let mut ask = Command::new(executable);
        let lines = "nodename=n1\naction=metadata\nipport=many\nno_such=1\n";
        assert_eq!(quiet_answer(ask.env_clear(), lines), metadata);
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker, fence-agents and mandoc: cargo lab test"]
fn the_rules_of_fence_agents_and_pcs() {
    each(|dir, _, _, metadata| {
        for rules in RULES {
            follows(dir, rules, metadata);
        }
    });
}

/// Every name that fence_ipmilan and external/ipmi have, ours has, too.
#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker, fence-agents and mandoc: cargo lab test"]
fn the_names_of_the_peers_are_ours_too() {
    let ours = told(FENCE_AGENTS[0].1, &["-o", "metadata"]);
    let ours: Vec<&str> = parameters(&ours).collect();
    let dir = tempfile::tempdir().unwrap();
    let theirs = answer(
        on_host(dir.path(), "fence_ipmilan").args(["-o", "metadata"]),
        "",
    );
    let external = on_host(dir.path(), "/usr/lib/stonith/plugins/external/ipmi")
        .arg("getconfignames")
        .output()
        .unwrap();
    let external = String::from_utf8(external.stdout).unwrap();
    let more = ["passwd_method", "priv", "ipmitool"];
    let names: Vec<&str> = parameters(&theirs)
        .chain(external.split_whitespace())
        .chain(more)
        .collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(ours.contains(&name), "there is no {name}");
    }
    for action in theirs.lines().filter(|line| line.contains("<action ")) {
        let name = attribute(action, "name").unwrap();
        let ours = told(FENCE_AGENTS[0].1, &["-o", "metadata"]);
        assert!(
            has(&ours, "action", &[("name", name)]),
            "there is no {name}"
        );
    }
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker, fence-agents and mandoc: cargo lab test"]
fn pacemaker_lists_and_reads_it() {
    each(|dir, agent, _, metadata| {
        let mut list = in_room(dir, "crm_resource");
        let listed = quiet_answer(list.args(["--list-agents", "stonith"]), "");
        assert!(listed.lines().any(|line| line == agent), "{listed}");
        let mut show = in_room(dir, "crm_resource");
        show.args(["--show-metadata", &format!("stonith:{agent}")]);
        let shown = answer(&mut show, "");
        for name in parameters(metadata) {
            assert!(
                has(&shown, "parameter", &[("name", name)]),
                "{name}: {shown}"
            );
        }
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker, fence-agents and mandoc: cargo lab test"]
fn pcs_describes_and_creates_a_device_with_every_parameter() {
    each(|dir, agent, _, metadata| {
        let mut describe = in_room(dir, "pcs");
        let described = answer(describe.args(["stonith", "describe", agent, "--full"]), "");
        for name in current(metadata).filter(|name| !["version", "help"].contains(name)) {
            let is_of = |line: &str| line.trim_start().split([' ', ':']).next() == Some(name);
            assert!(
                described.lines().any(is_of),
                "{name} is not in\n{described}"
            );
        }
        let create = |settings: &[String]| {
            let mut create = in_room(dir, "pcs");
            create.args(["-f", "cib.xml", "stonith", "create", "fence-n1", agent]);
            create.args(settings);
            create
        };
        let settings: Vec<String> = examples(agent)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        write_empty_cib(dir);
        answer(&mut create(&settings), "");
        let cib = fs::read_to_string(dir.join("cib.xml")).unwrap();
        for (name, value) in examples(agent) {
            assert!(
                has(&cib, "nvpair", &[("name", name), ("value", value)]),
                "{name}: {cib}"
            );
        }
        // As a device of fence_ipmilan or external/ipmi had it.
        write_empty_cib(dir);
        let old = [
            "ipaddr=192.0.2.9",
            "userid=fence",
            "passwd=x",
            "priv=OPERATOR",
            "interface=lan",
        ];
        answer(&mut create(&old.map(str::to_owned)), "");
        write_empty_cib(dir);
        assert!(
            !run(&mut create(&["no_such_parameter=1".into()]), "")
                .status
                .success()
        );
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker, fence-agents and mandoc: cargo lab test"]
fn crmsh_describes_and_configures_a_device_with_every_parameter() {
    each(|dir, agent, _, metadata| {
        let mut info = in_room(dir, "crm");
        let described = answer(info.args(["ra", "info", &format!("stonith:{agent}")]), "");
        for name in parameters(metadata).filter(|name| !["action", "plug", "port"].contains(name)) {
            let is_of = |line: &str| line.split(['*', ' ']).next() == Some(name);
            assert!(
                described.lines().any(is_of),
                "{name} is not in\n{described}"
            );
        }
        let primitive = || {
            let mut crm = in_room(dir, "crm");
            crm.env("CIB_file", dir.join("cib.xml"));
            crm.args([
                "configure",
                "primitive",
                "fence-n1",
                &format!("stonith:{agent}"),
                "params",
            ]);
            let values = examples(agent).iter();
            crm.args(values.map(|(name, value)| format!("{name}={value}")));
            crm
        };
        write_empty_cib(dir);
        configure(&mut primitive(), "");
        let cib = fs::read_to_string(dir.join("cib.xml")).unwrap();
        for (name, value) in examples(agent) {
            assert!(
                has(&cib, "nvpair", &[("name", name), ("value", value)]),
                "{name}: {cib}"
            );
        }
        write_empty_cib(dir);
        assert!(
            !run(primitive().arg("no_such_parameter=1"), "")
                .status
                .success()
        );
    });
}

/// What stands under EXAMPLE can be pasted, once the words in capitals are values.
#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker, fence-agents and mandoc: cargo lab test"]
fn the_examples_of_the_fence_agents_pages_work() {
    each(|dir, agent, executable, _| {
        let page = told(executable, &["-o", "manpage"]);
        let mut codes = page.split(".EX\n").skip(1).map(|code| {
            let code = code.split(".EE\n").next().unwrap();
            let mut code = code
                .replace("\\-", "-")
                .replace("\\e", "\\")
                .replace("NODE", "n1");
            for (name, value) in examples(agent) {
                code = code.replace(
                    &format!(" {name}={}", name.to_uppercase()),
                    &format!(" {name}={value}"),
                );
            }
            code.replace("ADDRESS", "192.0.2.9")
        });
        let (crm, pcs) = (codes.next().unwrap(), codes.next().unwrap());
        write_empty_cib(dir);
        let mut load = in_room(dir, "crm");
        load.env("CIB_file", dir.join("cib.xml")).arg("configure");
        configure(&mut load, &format!("{crm}commit\n"));
        let cib = fs::read_to_string(dir.join("cib.xml")).unwrap();
        assert!(
            has(&cib, "primitive", &[("type", agent), ("class", "stonith")]),
            "{cib}"
        );
        write_empty_cib(dir);
        let pcs = pcs.replacen("pcs ", "pcs -f cib.xml ", 1);
        answer(in_room(dir, "sh").args(["-euc", &pcs]), "");
        quiet_answer(on_host(dir, "crm_verify").args(["-x", "cib.xml"]), "");
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker, fence-agents and mandoc: cargo lab test"]
fn the_fence_agents_pages_render_without_a_warning() {
    each(|_, agent, executable, _| {
        let shown = renders(agent, 8, &told(executable, &["-o", "manpage"]), "all");
        assert!(
            shown.contains(&format!("NAME\n       {agent} - ")),
            "{shown}"
        );
    });
}
