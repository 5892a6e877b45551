use super::*;
use crate::prelude::*;

/// Keeps a "thing" <in> place & time
///
/// A longer description, whose lines
/// make up one paragraph.
///
/// .profile starts this one: it's 5 % back\slash, `some-code`, é.
#[derive(clap::Parser)]
#[command(name = Self::NAME, version = "1.2.3", rename_all = "snake_case")]
pub(crate) struct Sample {
    /// Name of the thing
    ///
    /// Any name.
    #[arg(long)]
    name: String,
    /// Port it listens on
    ///
    /// Together with the name.
    #[arg(long, default_value_t = 3260)]
    port: u16,
    /// How it is made
    ///
    /// Either way.
    #[arg(long, default_value = "thin")]
    form: Form,
    /// Whether it is "loud" & clear
    ///
    /// Or not.
    #[arg(long, default_value_t = Flag::from(false))]
    loud: Flag,
    /// Old name of the name
    ///
    /// Older than the other.
    #[arg(long)]
    title: Option<String>,
    /// Serial number
    ///
    /// Counted by hand.
    #[arg(long)]
    serial: Option<u32>,
}

#[derive(Clone, clap::ValueEnum)]
enum Form {
    Thin,
    ThickAndSlow,
}

impl Agent for Sample {
    const NAME: &'static str = "some-thing";
    const OPERATIONS: &'static [Operation] = &[
        Operation::start(20),
        Operation::stop(30),
        Operation::promote(40),
        Operation::demote(40),
        Operation::notify(10),
        Operation::monitor(20).every(10),
        Operation::monitor(40).every(60).at_depth(10),
        Operation::monitor(20).every(9).in_role("Promoted"),
        Operation::reload_agent(25),
    ];
    const UNIQUE: &'static [(&'static str, &'static [&'static str])] =
        &[("endpoint", &["name", "port"]), ("serial", &["serial"])];
    const RELOADABLE: &'static [&'static str] = &["loud"];
    const DEPRECATED: &'static [(&'static str, &'static str)] = &[("title", "name")];

    fn monitor(&self, _: &Node, _: Depth) -> Result<State> {
        Ok(State::Stopped)
    }

    fn start(&self, _: &Node) -> Result<()> {
        Ok(())
    }

    fn stop(&self, _: &Node) -> Result<()> {
        Ok(())
    }
}

/// The lines of the element that begins with `start`, without their indentation.
fn element(start: &str) -> Vec<String> {
    let xml = metadata::<Sample>();
    let end = format!(
        "</{}>",
        start
            .trim_start_matches('<')
            .split([' ', '>'])
            .next()
            .unwrap()
    );
    let mut lines = Vec::new();
    for line in xml
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with(start))
    {
        lines.push(line.to_owned());
        if line == end {
            break;
        }
    }
    lines
}

#[test]
fn the_document_says_version_and_grammar_but_no_encoding() {
    let xml = metadata::<Sample>();
    assert!(xml.starts_with(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE resource-agent SYSTEM \
         \"/usr/lib/ocf/lib/hastor/ra-api-1.1.dtd\">\n<resource-agent name=\"some-thing\" \
         version=\"1.2.3\">\n  <version>1.1</version>\n"
    ));
    assert!(xml.ends_with("  </actions>\n</resource-agent>\n"));
}

#[test]
fn texts_are_escaped_and_paragraphs_stay_apart() {
    let xml = metadata::<Sample>();
    assert!(xml.contains(
        "<longdesc lang=\"en\">Keeps a \"thing\" &lt;in&gt; place &amp; time.\n\nA longer \
         description, whose lines make up one paragraph.\n\n.profile starts this one: it's 5 % \
         back\\slash, `some-code`, é.</longdesc>\n  <shortdesc lang=\"en\">Keeps a \"thing\" \
         &lt;in&gt; place &amp; time</shortdesc>\n"
    ));
}

#[test]
fn a_required_parameter_in_a_group_of_two_is_not_unique_on_its_own() {
    assert_eq!(
        element("<parameter name=\"name\""),
        [
            "<parameter name=\"name\" unique-group=\"endpoint\" required=\"1\" reloadable=\"0\">",
            "<longdesc lang=\"en\">Name of the thing.",
            "",
            "Any name.</longdesc>",
            "<shortdesc lang=\"en\">Name of the thing</shortdesc>",
            "<content type=\"string\"/>",
            "</parameter>",
        ]
    );
}

#[test]
fn a_parameter_alone_in_its_group_is_unique_in_the_old_word_too() {
    assert_eq!(
        element("<parameter name=\"serial\"")[0],
        "<parameter name=\"serial\" unique-group=\"serial\" unique=\"1\" required=\"0\" reloadable=\"0\">"
    );
}

#[test]
fn a_value_enum_is_a_select_with_its_options() {
    assert_eq!(
        element("<content type=\"select\""),
        [
            "<content type=\"select\" default=\"thin\">",
            "<option value=\"thin\"/>",
            "<option value=\"thick-and-slow\"/>",
            "</content>",
        ]
    );
}

#[test]
fn types_defaults_and_reloadable_come_from_the_fields() {
    let port = element("<parameter name=\"port\"");
    assert!(port.contains(&"<content type=\"integer\" default=\"3260\"/>".to_owned()));
    let loud = element("<parameter name=\"loud\"");
    assert_eq!(
        loud[0],
        "<parameter name=\"loud\" required=\"0\" reloadable=\"1\">"
    );
    assert!(loud.contains(&"<content type=\"boolean\" default=\"false\"/>".to_owned()));
}

#[test]
fn a_deprecated_parameter_names_its_successor_first() {
    assert_eq!(
        element("<parameter name=\"title\"")[1..4],
        [
            "<deprecated>",
            "<replaced-with name=\"name\"/>",
            "</deprecated>"
        ]
    );
}

#[test]
fn actions_are_the_agents_then_status_then_everybodys() {
    assert_eq!(
        element("<actions>"),
        [
            "<actions>",
            "<action name=\"start\" timeout=\"20s\"/>",
            "<action name=\"stop\" timeout=\"30s\"/>",
            "<action name=\"promote\" timeout=\"40s\"/>",
            "<action name=\"demote\" timeout=\"40s\"/>",
            "<action name=\"notify\" timeout=\"10s\"/>",
            "<action name=\"monitor\" timeout=\"20s\" interval=\"10s\" depth=\"0\"/>",
            "<action name=\"monitor\" timeout=\"40s\" interval=\"60s\" depth=\"10\"/>",
            "<action name=\"monitor\" timeout=\"20s\" interval=\"9s\" depth=\"0\" role=\"Promoted\"/>",
            "<action name=\"reload-agent\" timeout=\"25s\"/>",
            "<action name=\"status\" timeout=\"20s\" interval=\"10s\" depth=\"0\"/>",
            "<action name=\"validate-all\" timeout=\"20s\"/>",
            "<action name=\"meta-data\" timeout=\"5s\"/>",
            "</actions>",
        ]
    );
}

#[test]
fn a_title_on_its_own_stays_a_title() {
    assert_eq!(paragraphs("Name of the thing"), ["Name of the thing"]);
    assert_eq!(paragraphs("Is it?\n\nIt is."), ["Is it?", "It is."]);
}
