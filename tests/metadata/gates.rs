//! What reads the agents' metadata and manual pages, for real.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::examples::{EXAMPLES, LEFT_OUT};
use super::room::{PROVIDER, answer, in_room, on_host, quiet_answer, run};
use super::{AGENTS, told};

/// pcs's rules, which a metadata has to pass before pcs does anything with it.
const PCS_RULES: &[&str] = &[
    "/usr/share/pcs/data/ocf-1.1.rng",
    "/usr/lib/pcs/data/ocf-1.1.rng",
];
/// Pacemaker's rules, which are those of OCF 1.1 to the letter: see `the_rules_of_ocf`.
const PACEMAKER_RULES: &str = "/usr/share/pacemaker/api/ocf-ra-1.1.rng";

/// What is always said of a cluster without fencing.
const UNFENCED: &str = "Blind faith: not fencing unseen nodes";

/// The names of the parameters in a metadata, in our own form of it.
pub(super) fn parameters(metadata: &str) -> impl Iterator<Item = &str> {
    let lines = metadata.lines().map(str::trim_start);
    lines
        .filter(|line| line.starts_with("<parameter "))
        .filter_map(|line| attribute(line, "name"))
}

pub(super) fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

/// The example values of an agent, in the order of its parameters.
pub(super) fn examples(agent: &str, metadata: &str) -> Vec<(String, &'static str)> {
    let table = EXAMPLES
        .iter()
        .find(|(name, _)| *name == agent)
        .map(|(_, table)| *table);
    let table = table.unwrap_or_else(|| panic!("EXAMPLES has nothing on {agent}"));
    for (name, _) in table {
        assert!(
            parameters(metadata).any(|it| it == *name),
            "{agent} has no parameter {name}"
        );
    }
    let value = |name: &str| {
        table
            .iter()
            .find(|(it, _)| *it == name)
            .map(|(_, value)| *value)
    };
    parameters(metadata)
        .map(|name| {
            let value = value(name).unwrap_or_else(|| panic!("EXAMPLES has no {agent} {name}"));
            (name.to_owned(), value)
        })
        .collect()
}

/// Each agent's name and metadata, in a directory to work in.
fn each_agent(gate: impl Fn(&Path, &str, &str)) {
    for (agent, executable) in AGENTS {
        let dir = tempfile::tempdir().unwrap();
        gate(dir.path(), agent, &told(executable, &["meta-data"]));
    }
}

#[test]
fn every_parameter_has_an_example_that_its_agent_takes() {
    for (agent, executable) in AGENTS {
        let examples = examples(agent, &told(executable, &["meta-data"]));
        let left_out = LEFT_OUT.iter().filter(|(name, _)| name == agent);
        let mut left_out: Vec<&[&str]> = left_out.map(|(_, names)| *names).collect();
        if left_out.is_empty() {
            left_out.push(&[]);
        }
        for left_out in left_out {
            let variables = examples
                .iter()
                .filter(|(name, _)| !left_out.contains(&name.as_str()))
                .map(|(name, value)| (format!("OCF_RESKEY_{name}"), value));
            let mut validate = Command::new(executable);
            quiet_answer(validate.arg("validate-all").env_clear().envs(variables), "");
        }
    }
}

/// As `ocf-tester` does it, by the grammar that is installed with the agents, which is as strict as OCF 1.1: order of elements,
/// required attributes, 0 or 1.
#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn the_rules_of_ocf() {
    let grammar = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/ocf/ra-api-1.1.dtd");
    each_agent(|dir, _, metadata| {
        let lint = || {
            let mut lint = on_host(dir, "xmllint");
            lint.args(["--noout", "--valid", "-"]);
            lint
        };
        let metadata = &metadata.replace(
            "/usr/lib/ocf/lib/hastor/ra-api-1.1.dtd",
            &grammar.to_string_lossy(),
        );
        quiet_answer(&mut lint(), metadata);
        let wrong = metadata.replacen("required=\"", "required=\"true", 1);
        assert!(
            !run(&mut lint(), &wrong).status.success(),
            "the grammar takes anything"
        );
        // Installed since Pacemaker 2.1.8. pcs's rules, below, are laxer.
        if Path::new(PACEMAKER_RULES).exists() {
            follows(dir, PACEMAKER_RULES, metadata);
        }
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn the_rules_of_pcs() {
    let rules = PCS_RULES.iter().find(|rules| Path::new(rules).exists());
    let rules = rules.unwrap_or_else(|| panic!("none of {PCS_RULES:?} is there"));
    each_agent(|dir, _, metadata| follows(dir, rules, metadata));
}

pub(super) fn follows(dir: &Path, rules: &str, metadata: &str) {
    let lint = || {
        let mut lint = on_host(dir, "xmllint");
        lint.args(["--noout", "--nonet", "--relaxng", rules, "-"]);
        lint
    };
    answer(&mut lint(), metadata);
    let wrong = metadata.replacen("required=\"", "required=\"true", 1);
    assert!(
        !run(&mut lint(), &wrong).status.success(),
        "{rules} takes anything"
    );
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn nobody_can_ask_without_an_environment() {
    each_agent(|dir, agent, metadata| {
        let mut ask = in_room(dir, "setpriv");
        ask.args([
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "--no-new-privs",
        ]);
        ask.args(["env", "-i", &format!("{PROVIDER}/{agent}"), "meta-data"]);
        assert_eq!(quiet_answer(&mut ask, ""), metadata);
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn crm_resource_shows_it_as_it_is() {
    each_agent(|dir, agent, metadata| {
        let mut show = in_room(dir, "crm_resource");
        show.args(["--show-metadata", &format!("ocf:hastor:{agent}")]);
        assert_eq!(quiet_answer(&mut show, "").trim(), metadata.trim());
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn pcs_describes_every_parameter() {
    each_agent(|dir, agent, metadata| {
        let mut describe = in_room(dir, "pcs");
        describe.args([
            "resource",
            "describe",
            &format!("ocf:hastor:{agent}"),
            "--full",
        ]);
        let described = quiet_answer(&mut describe, "");
        for name in parameters(metadata) {
            let is_of = |line: &str| line.trim_start().split([' ', ':']).next() == Some(name);
            assert!(
                described.lines().any(is_of),
                "{name} is not in\n{described}"
            );
        }
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn pcs_creates_a_resource_with_every_parameter_and_operation() {
    each_agent(|dir, agent, metadata| {
        let examples = examples(agent, metadata);
        let create = |id: &str, settings: &[String]| {
            let mut create = in_room(dir, "pcs");
            create.args(["-f", "cib.xml", "resource", "create", id]);
            create.arg(format!("ocf:hastor:{agent}")).args(settings);
            create
        };
        let settings: Vec<String> = examples
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        write_empty_cib(dir);
        answer(&mut create("one", &settings), "");
        let cib = fs::read_to_string(dir.join("cib.xml")).unwrap();
        for (name, value) in &examples {
            assert!(
                has(&cib, "nvpair", &[("name", name), ("value", value)]),
                "{name}: {cib}"
            );
        }
        for action in metadata
            .lines()
            .filter(|line| line.trim_start().starts_with("<action "))
        {
            let name = attribute(action, "name").unwrap();
            if !["status", "validate-all", "meta-data"].contains(&name) {
                let timeout = attribute(action, "timeout").unwrap();
                let interval = attribute(action, "interval").unwrap_or("0s");
                let wanted = [("name", name), ("timeout", timeout), ("interval", interval)];
                assert!(has(&cib, "op", &wanted), "{wanted:?}: {cib}");
            }
        }
        // The same again under another name, which what is unique forbids, and a misspelling.
        write_empty_cib(dir);
        let misspelt = [settings.clone(), vec!["no_such_parameter=1".into()]].concat();
        assert!(!run(&mut create("two", &misspelt), "").status.success());
        if metadata.contains("unique-group=") {
            answer(&mut create("one", &settings), "");
            assert!(!run(&mut create("two", &settings), "").status.success());
        }
    });
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn crmsh_describes_and_configures_every_parameter() {
    each_agent(|dir, agent, metadata| {
        let mut info = in_room(dir, "crm");
        let described = quiet_answer(
            info.args(["ra", "info", &format!("ocf:hastor:{agent}")]),
            "",
        );
        for name in parameters(metadata) {
            let is_of = |line: &str| line.split(['*', ' ']).next() == Some(name);
            assert!(
                described.lines().any(is_of),
                "{name} is not in\n{described}"
            );
        }
        let examples = examples(agent, metadata);
        let primitive = || {
            let mut crm = in_room(dir, "crm");
            crm.env("CIB_file", dir.join("cib.xml"));
            crm.args([
                "configure",
                "primitive",
                "one",
                &format!("ocf:hastor:{agent}"),
                "params",
            ]);
            crm.args(
                examples
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            );
            crm
        };
        write_empty_cib(dir);
        configure(&mut primitive(), "");
        let cib = fs::read_to_string(dir.join("cib.xml")).unwrap();
        for (name, value) in &examples {
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
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn the_examples_of_the_manual_page_work() {
    for (agent, executable) in AGENTS {
        let (dir, metadata) = (
            tempfile::tempdir().unwrap(),
            told(executable, &["meta-data"]),
        );
        let dir = dir.path();
        let page = told(executable, &["man"]);
        let (_, page) = page.split_once(".SH EXAMPLE\n").unwrap();
        let mut codes = page.split(".EX\n").skip(1).map(|code| {
            let code = code.split(".EE\n").next().unwrap();
            let mut code = code.replace("\\-", "-").replace("\\e", "\\");
            for (name, value) in examples(agent, &metadata) {
                let word = format!(" {name}={}", name.to_uppercase());
                code = code.replace(&word, &format!(" {name}={value}"));
            }
            code
        });
        let (crm, pcs) = (codes.next().unwrap(), codes.next().unwrap());
        let verify = || quiet_answer(on_host(dir, "crm_verify").args(["-x", "cib.xml"]), "");
        write_empty_cib(dir);
        let mut load = in_room(dir, "crm");
        load.env("CIB_file", dir.join("cib.xml")).arg("configure");
        configure(&mut load, &format!("{crm}commit\n"));
        let cib = fs::read_to_string(dir.join("cib.xml")).unwrap();
        assert!(has(&cib, "primitive", &[("type", agent)]), "{cib}");
        verify();
        write_empty_cib(dir);
        let pcs = pcs.replacen("pcs ", "pcs -f cib.xml ", 1);
        answer(in_room(dir, "sh").args(["-euc", &pcs]), "");
        verify();
    }
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn the_manual_page_renders_without_a_warning() {
    for (agent, executable) in AGENTS {
        let page = told(executable, &["man"]);
        let name = format!("ocf_hastor_{agent}");
        let shown = renders(&name, 7, &page, "all");
        assert!(
            shown.contains(&format!("NAME\n       {name} - ")),
            "{shown}"
        );
    }
}

#[test]
#[ignore = "needs pcs, crmsh, libxml2-utils, pacemaker and mandoc: cargo lab test"]
fn the_pages_of_hastor_render() {
    let hastor = env!("CARGO_BIN_EXE_hastor");
    renders("hastor", 8, &told(hastor, &["man"]), "warning");
    for (verb, level) in [
        ("values", "warning"),
        // Of empty lines around lists of values, which clap_mangen makes, mandoc warns.
        ("render", "error"),
        ("apply", "warning"),
        ("status", "warning"),
    ] {
        let page = told(hastor, &["man", verb]);
        renders(&format!("hastor-{verb}"), 8, &page, level);
    }
}

/// A page as `man` shows it. Whatever else reads pages has to take it, and mandoc to have no remark of this level or above.
pub(super) fn renders(name: &str, section: u8, text: &str, level: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join(format!("{name}.{section}"));
    fs::write(&page, text).unwrap();
    let tool = |program: &str, arguments: &[&str]| -> String {
        let mut tool: Command = on_host(dir.path(), program);
        quiet_answer(tool.args(arguments).arg(&page), "")
    };
    assert_eq!(tool("mandoc", &["-T", "lint", "-W", level]), "");
    assert_eq!(tool("groff", &["-man", "-ww", "-z", "-T", "utf8"]), "");
    // What mandb would put into the index for whatis and apropos.
    assert!(tool("lexgrog", &[]).contains(&format!(": \"{name} - ")));
    tool("man", &["-l"])
}

/// A cluster without nodes. It has quorum and no fencing, or tools would speak of nothing else.
pub(super) fn write_empty_cib(dir: &Path) {
    let empty = answer(on_host(dir, "cibadmin").arg("--empty"), "");
    let properties = "<crm_config><cluster_property_set id=\"properties\">\
         <nvpair id=\"no-fencing\" name=\"stonith-enabled\" value=\"false\"/>\
         </cluster_property_set></crm_config>";
    let cib = empty.replacen("<crm_config/>", properties, 1);
    let cib = cib.replacen("<cib ", "<cib have-quorum=\"1\" ", 1);
    fs::write(dir.join("cib.xml"), cib).unwrap();
}

/// Gives crmsh something to configure, about which it must have nothing to remark.
pub(super) fn configure(crm: &mut Command, input: &str) {
    let output = run(crm, input);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success(),
        "{crm:?}: {}\n{said}",
        output.status
    );
    let remark = said.lines().find(|line| {
        ["WARNING", "ERROR"]
            .iter()
            .any(|level| line.contains(level))
            && !line.contains(UNFENCED)
    });
    assert_eq!(remark, None, "{crm:?}: {said}");
}

/// Is there an element with these attributes?
pub(super) fn has(xml: &str, element: &str, attributes: &[(&str, &str)]) -> bool {
    xml.split('<').any(|it| {
        it.split_whitespace().next() == Some(element)
            && attributes
                .iter()
                .all(|(name, value)| attribute(it, name) == Some(*value))
    })
}
