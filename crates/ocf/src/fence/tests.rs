use std::cell::Cell;
use std::time::Duration;

use anyhow::bail;
use clap::CommandFactory;
use host::testing::Script;

use super::*;
use crate::Secret;

/// Fences by a <file>
///
/// A machine is on if its file is there.
///
/// So much for that.
#[derive(clap::Parser, Debug)]
#[command(name = Self::NAME, version = "1.2.3", rename_all = "snake_case")]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Sample {
    #[command(flatten)]
    common: Common,
    /// Path of the file
    ///
    /// An absolute path.
    #[arg(short = 'a', long, visible_aliases = ["ipaddr", "address"])]
    ip: Option<String>,
    /// Password
    ///
    /// Any text.
    #[arg(short = 'p', long, visible_alias = "passwd")]
    password: Option<Secret>,
    /// Locked
    ///
    /// A flag with a letter.
    #[arg(short = 'P', long, default_value = "0")]
    locked: Flag,
    /// How it is done
    ///
    /// One way or the other.
    #[arg(long, default_value = "onoff")]
    way: Way,
}

#[derive(Clone, Debug, clap::ValueEnum)]
enum Way {
    Onoff,
    Cycle,
}

impl Fence for Sample {
    const NAME: &'static str = "fence_sample";
    const VENDOR_URL: &'static str = "https://example.com";
    const EXAMPLE: &'static [&'static str] = &["ip=ADDRESS"];

    fn common(&self) -> &Common {
        &self.common
    }

    fn remarks(&self, _: &Host) -> Vec<String> {
        vec!["remarkable".into()]
    }

    fn power(&self, task: &Task) -> Result<Power> {
        Ok(match task.read("/power")?.as_deref() {
            Some("on") => Power::On,
            Some("off") => Power::Off,
            other => bail!("the power is {other:?}"),
        })
    }

    fn off(&self, task: &Task) -> Result<()> {
        task.save("/power", "off")
    }

    fn on(&self, task: &Task) -> Result<()> {
        match self.locked.is_on() {
            true => bail!("it is locked"),
            false => task.save("/power", "on"),
        }
    }

    fn targets(&self) -> Result<Vec<Target>> {
        let target = |name: &str| Target {
            name: name.into(),
            alias: String::new(),
        };
        Ok(vec![target("n1"), target("n2")])
    }
}

fn lines(text: &str) -> Result<Request> {
    Request::from_lines(text, &Sample::command())
}

fn options(words: &[&str]) -> Result<Request> {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    Request::from_options(&words, &Sample::command())
}

fn machine(power: &str) -> Script {
    let script = Script::empty();
    script.write_file("/power", power);
    script
}

fn run(script: &Script, request: &Request) -> Outcome {
    execute::<Sample>(request, &script.host(Duration::from_secs(20)), &|| false)
}

fn act(script: &Script, text: &str) -> Outcome {
    run(script, &lines(text).unwrap())
}

#[test]
fn the_cluster_gives_lines() {
    let request = lines(
        "# comment\n\n action=OFF\r\nnodename=n1\nip=\"192.0.2.1\" \npassword= \"a=b\" \nlocked=yes\n",
    )
    .unwrap();
    assert_eq!(request.action, "OFF");
    assert_eq!(request.nodename.as_deref(), Some("n1"));
    assert_eq!(request.params["ip"], "192.0.2.1");
    assert_eq!(
        request.params["password"], " \"a=b\" ",
        "a secret stays as it is"
    );
    assert!(request.warnings.is_empty());
    assert_eq!(lines("").unwrap().action, "reboot");
}

#[test]
fn an_unknown_line_is_named_without_its_value() {
    let request = lines("passwrd=TypoS3cret\nTypoS3cret\nip=192.0.2.1\n").unwrap();
    assert_eq!(
        request.warnings,
        [
            "there is no parameter \"passwrd\": passed over",
            "line 2 of the input has no \"=\": passed over"
        ]
    );
    assert_eq!(request.params.len(), 1);
}

#[test]
fn a_person_gives_options() {
    for words in [
        &["-o", "off", "-a", "192.0.2.1", "-P", "--password=s=1"][..],
        &["-ooff", "-Pa192.0.2.1", "--passwd", "s=1"],
        &["--action=off", "--ip", "192.0.2.1", "--locked", "-p", "s=1"],
        &[
            "--action",
            "off",
            "--ipaddr=192.0.2.1",
            "--locked=1",
            "-ps=1",
        ],
    ] {
        let request = options(words).unwrap();
        assert_eq!(request.action, "off", "{words:?}");
        assert_eq!(request.params["ip"], "192.0.2.1", "{words:?}");
        assert_eq!(request.params["locked"], "1", "{words:?}");
        assert_eq!(request.params["password"], "s=1", "{words:?}");
    }
    let nodename = options(&["--nodename", "n1", "-o", "status"]).unwrap();
    assert_eq!(nodename.nodename.as_deref(), Some("n1"));
}

#[test]
fn a_wrong_option_is_refused_without_its_value() {
    for (words, expected) in [
        (
            &["--passwrd=S3cret"][..],
            "there is no option --passwrd; see --help",
        ),
        (&["-z"], "there is no option -z; see --help"),
        (&["-o"], "-o needs a value"),
        (&["--ip"], "--ip needs a value"),
        (
            &["off", "S3cret"],
            "there is a word that belongs to no option; see --help",
        ),
    ] {
        assert_eq!(options(words).err().unwrap().to_string(), expected);
    }
}

#[test]
fn the_newer_name_counts_and_a_contradiction_names_both_but_no_value() {
    let request = lines("address=192.0.2.1\nip=192.0.2.1\n").unwrap();
    assert_eq!(request.params.len(), 1);
    let error = |text| lines(text).err().unwrap().to_string();
    assert_eq!(
        error("passwd=OneS3cret\npassword=TwoS3cret\n"),
        "parameters password and passwd are one, and have different values; expected one of them"
    );
    assert_eq!(
        error("address=192.0.2.3\nipaddr=192.0.2.2\n"),
        "parameters ipaddr and address are one, and have different values; expected one of them"
    );
    assert_eq!(
        error("password=OneS3cret\npassword=TwoS3cret\n"),
        "parameter password: given twice, with different values; expected one of them"
    );
}

#[test]
fn dashes_and_underscores_are_the_same() {
    let request = lines("debug-file=/tmp/x\n").unwrap();
    assert_eq!(request.params["debug_file"], "/tmp/x");
    assert_eq!(
        options(&["--debug-file=/tmp/x"]).unwrap().params,
        request.params
    );
    assert_eq!(
        options(&["--debug_file", "/tmp/x"]).unwrap().params,
        request.params
    );
}

#[test]
fn exit_codes_are_those_of_the_fencer() {
    let on = machine("on");
    assert_eq!(act(&on, "action=status\n").code, 0);
    assert_eq!(act(&on, "action=off\n").code, 0);
    assert_eq!(act(&on, "action=status\n").code, 2);
    assert_eq!(act(&on, "action=monitor\n").code, 0, "never 2");
    assert_eq!(act(&on, "action=reboot\n").code, 0);
    assert_eq!(on.read_file("/power").unwrap(), "on");
    let broken = machine("odd");
    for action in ["status", "monitor"] {
        let outcome = act(&broken, &format!("action={action}\n"));
        assert_eq!(outcome.code, 1);
        assert_eq!(outcome.reason.unwrap(), "the power is Some(\"odd\")");
    }
}

#[test]
fn a_reboot_that_was_off_has_fenced() {
    let script = machine("on");
    assert_eq!(act(&script, "action=reboot\nlocked=1\n").code, 0);
    assert_eq!(script.read_file("/power").unwrap(), "off");
    assert_eq!(act(&script, "action=on\nlocked=1\n").code, 1);
}

#[test]
fn a_delay_comes_before_off_and_reboot_only() {
    for (action, waits) in [
        ("off", true),
        ("reboot", true),
        ("on", false),
        ("status", false),
    ] {
        let script = machine("on");
        let begun = script.host(Duration::from_secs(20)).now();
        assert_eq!(
            act(&script, &format!("action={action}\ndelay=2.5\n")).code,
            0
        );
        let took = script.host(Duration::from_secs(20)).now() - begun;
        assert_eq!(
            took,
            Duration::from_millis(if waits { 2500 } else { 0 }),
            "{action}"
        );
    }
}

#[test]
fn a_signal_during_the_delay_calls_it_off() {
    let script = machine("on");
    let looks = Cell::new(0);
    let host = script.host(Duration::from_secs(20));
    let interrupted = || {
        looks.set(looks.get() + 1);
        looks.get() > 3
    };
    let request = lines("action=off\ndelay=10\n").unwrap();
    let outcome = execute::<Sample>(&request, &host, &interrupted);
    assert_eq!(outcome.code, 1);
    assert_eq!(
        outcome.reason.unwrap(),
        "during the delay: interrupted by a signal"
    );
    assert_eq!(script.read_file("/power").unwrap(), "on");
}

#[test]
fn an_unknown_action_is_called_so() {
    let outcome = act(&machine("on"), "action=frobnicate\n");
    assert_eq!(outcome.code, 1);
    let reason = outcome.reason.unwrap();
    assert!(
        reason.starts_with(
            "parameter action: \"frobnicate\" is an unrecognised action; expected one of on, off,"
        ),
        "{reason}"
    );
}

#[test]
fn a_wrong_value_is_named_and_a_secret_one_is_not() {
    let reason = |text| act(&machine("on"), text).reason.unwrap();
    assert_eq!(
        reason("action=status\nway=round\n"),
        "parameter way: \"round\" is not one of onoff, cycle"
    );
    assert_eq!(
        reason("action=status\ndelay=soon\n"),
        "parameter delay: \"soon\" is not a time from 0 to 300 seconds"
    );
    assert!(!format!("{:?}", Secret::new("S3cret")).contains("S3cret"));
}

#[test]
fn lists_are_read_by_the_fencer() {
    let script = machine("off");
    assert_eq!(act(&script, "action=list\n").stdout, "n1,\nn2,\n");
    assert_eq!(
        act(&script, "action=list-status\n").stdout,
        "n1,,OFF\nn2,,OFF\n"
    );
    let outcome = act(&machine("odd"), "action=list_status\n");
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (1, "n1,,UNKNOWN\nn2,,UNKNOWN\n")
    );
}

#[test]
fn metadata_page_help_and_version_need_nothing_and_take_anything() {
    let script = Script::empty();
    for (text, start) in [
        (
            "action=metadata\nway=round\n",
            "<?xml version=\"1.0\"?>\n<resource-agent name=\"fence_sample\" shortdesc=\"Fences by a &lt;file&gt;\">\n",
        ),
        ("action=meta-data\n", "<?xml"),
        ("action=manpage\n", ".TH FENCE_SAMPLE 8 "),
        ("help=1\n", "Fences by a <file>\n\nusage: fence_sample "),
        ("version=1\n", "fence_sample 1.2.3\n"),
    ] {
        let outcome = act(&script, text);
        assert_eq!(outcome.code, 0, "{text}");
        assert!(outcome.stdout.starts_with(start), "{}", outcome.stdout);
    }
}

#[test]
fn every_name_of_a_parameter_is_in_the_metadata() {
    let xml = metadata::<Sample>();
    for part in [
        "<parameter name=\"ip\" unique=\"0\" required=\"0\" obsoletes=\"ipaddr\">\n      <getopt mixed=\"-a, --ip=[ip]\"/>\n      <content type=\"string\"/>\n      <shortdesc lang=\"en\">Path of the file. An absolute path.</shortdesc>\n",
        "<parameter name=\"ipaddr\" unique=\"0\" required=\"0\" deprecated=\"1\">\n      <getopt mixed=\"-a, --ip=[ip]\"/>",
        "<parameter name=\"address\" unique=\"0\" required=\"0\" deprecated=\"1\">",
        "<parameter name=\"locked\" unique=\"0\" required=\"0\">\n      <getopt mixed=\"-P, --locked\"/>\n      <content type=\"boolean\" default=\"0\"/>",
        "<content type=\"second\" default=\"0\"/>",
        "<content type=\"select\" default=\"onoff\">\n        <option value=\"onoff\"/>\n        <option value=\"cycle\"/>\n",
        "<action name=\"on\" automatic=\"0\"/>\n    <action name=\"off\"/>\n    <action name=\"reboot\"/>\n",
    ] {
        assert!(xml.contains(part), "{part}\nis not in\n{xml}");
    }
    assert!(
        !xml.contains("<version>"),
        "pcs would read it by other rules"
    );
}

#[test]
fn times_have_a_range_and_no_surprises() {
    let read = crate::seconds(0..=60);
    assert_eq!(read("0.5").unwrap().duration(), Duration::from_millis(500));
    assert_eq!(read("60s").unwrap().duration(), Duration::from_secs(60));
    for wrong in ["", "61", "-1", "1e1", "inf", "NaN", "1 0", "1h", "."] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

proptest::proptest! {
    /// Whatever is given, reading it does not panic, and what it says of it has no value in it.
    #[test]
    fn any_input_is_read_or_refused_without_its_values(
        given in proptest::collection::vec(("[ -~]{0,12}", "\\PC{0,12}"), 0..8),
        noise in "\\PC{0,80}",
    ) {
        // No name is that long, so it can only be told from a value.
        let marker = "VALUE-THAT-NOBODY-MAY-SEE";
        let mut text = String::new();
        for (name, value) in &given {
            let name = name.replace(['=', '#'], "");
            text.push_str(&format!("{name}={value}{marker}\n"));
        }
        text.push_str(&noise);
        match lines(&text) {
            Ok(request) => {
                let said = request.warnings.join("\n");
                assert!(!said.contains(marker), "{said}");
            }
            Err(error) => assert!(!error.to_string().contains(marker), "{error}"),
        }
        // A value that is itself an unknown option is named, as one.
        let words = text.split_whitespace();
        let words = words.filter(|word| !word.starts_with("--") || word.contains('='));
        let words: Vec<String> = words.map(str::to_owned).collect();
        if let Err(error) = Request::from_options(&words, &Sample::command()) {
            assert!(!error.to_string().contains(marker), "{error}");
        }
    }
}
