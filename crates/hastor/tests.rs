//! The program on a scripted cluster of two nodes, whose CIB is in the file /cib.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use host::testing::{Reply, Script};

use crate::arguments::Arguments;
use crate::verbs::carry_out;

const EMPTY: &str = r#"<cib><configuration><crm_config/><nodes><node id="1" uname="a"/></nodes><resources/><constraints/>
    </configuration><status/></cib>"#;
const TEMPLATE: &str = r#"<cib><configuration><resources><primitive id="x" class="ocf" provider="hastor" type="lio-target">
    <instance_attributes id="p"><nvpair id="p1" name="iqn" value="{{ iqn }}"/></instance_attributes></primitive></resources>
    <tags><tag id="s"><obj_ref id="x"/></tag></tags></configuration></cib>"#;
const VALUES: &str = "#: iqn\niqn = \"iqn.2026-01.com.example:x\"\n";
const DECIDED: &str = r#"<r><actions><rsc_action action="start" resource="x" node="a"/></actions><status code="0"/></r>"#;

const QUERY: &str = "cibadmin --query";
const REPLACE: &str = "cibadmin --replace --scope=configuration --xml-pipe";
const AGENT: &str = "/usr/lib/ocf/resource.d/hastor/lio-target";
const WAIT: &str = "crm_resource --wait --timeout=10s";

fn cluster(role: &str) -> Script {
    let script = Script::empty();
    script.write_file("/cib", EMPTY);
    script.write_file("/s/template.xml", TEMPLATE);
    script.write_file("/s/values.toml", VALUES);
    let given = Arc::new(Mutex::new(String::new()));
    let node = if role == "Started" {
        r#"<node name="a"/>"#
    } else {
        ""
    };
    let status = format!(
        r#"<r><summary><current_dc name="a" with_quorum="true"/><cluster_options stonith-enabled="true"/></summary>
        <nodes><node name="a" online="true"/></nodes><resources><resource id="x" role="{role}"
        resource_agent="ocf:hastor:lio-target" failed="false">{node}</resource></resources><failures>
        <failure op_key="x_start_0" node="a" exitstatus="error" exitreason="no device" status="complete"/></failures>
        <fence_history status="0"><fence_event target="b" action="reboot" status="failed" exit-reason="no answer"
        completed="2026-11-28 10:00:09Z"/><fence_event target="c" action="reboot" status="failed" delegate="a"
        completed="2026-11-28 10:00:08Z"/></fence_history></r>"#
    );
    script.write_file("/status", &status);
    script
        .when(
            QUERY,
            Reply::given(|tree| Reply::ok(tree.read("/cib").unwrap())),
        )
        .when_matching(
            {
                let given = given.clone();
                move |cmd| {
                    let is_it = cmd.to_string() == REPLACE;
                    if is_it {
                        let text = String::from_utf8(cmd.stdin().to_vec()).unwrap();
                        *given.lock().unwrap() = text;
                    }
                    is_it
                }
            },
            Reply::ok("").and(move |tree| {
                let configuration = given.lock().unwrap();
                tree.write("/cib", &format!("<cib>{configuration}<status/></cib>"));
            }),
        )
        .when("crm_verify --verbose --xml-pipe", Reply::ok(""))
        .when_matching(|cmd| cmd.program() == AGENT, Reply::ok(""))
        .when(
            "crm_simulate --run --xml-pipe --output-as=xml",
            Reply::ok(DECIDED),
        )
        .when(WAIT, Reply::ok(""))
        .when(
            "crm_mon --one-shot --inactive --output-as=xml",
            Reply::given(|tree| Reply::ok(tree.read("/status").unwrap())),
        )
}

/// What it prints, and the error it ends with.
fn hastor(script: &Script, words: &[&str], answer: &str) -> (String, Option<String>) {
    let arguments = Arguments::try_parse_from([&["hastor"], words].concat()).unwrap();
    let mut out = Vec::new();
    let host = script.host(Duration::from_secs(3600));
    let result = carry_out(&arguments, &host, &mut answer.as_bytes(), &mut out);
    let error = result.err().map(|error| format!("{error:#}"));
    (String::from_utf8(out).unwrap(), error)
}

/// The commands that change the cluster or wait for it.
fn changing(script: &Script) -> Vec<String> {
    let mut steps = script.steps();
    steps.retain(|it| it.contains("--replace") || it.contains("--wait"));
    steps
}

/// What ran before has stopped.
fn has_stopped(script: &Script) {
    let status = script.read_file("/status").unwrap();
    let status = status.replace(r#"<node name="a"/>"#, "");
    script.write_file("/status", &status.replace("Started", "Stopped"));
}

const APPLY: &[&str] = &["apply", "/s", "--values", "/s/values.toml"];

#[test]
fn what_will_happen_is_shown_before_it_is_asked_for_and_done() {
    let script = cluster("Started");
    let (said, error) = hastor(&script, APPLY, "yes\n");
    assert_eq!(error, None);
    assert_eq!(
        said,
        "In the configuration:\n  added    primitive x\n  added    tag s\n\nThen Pacemaker will:\n  start x on a\n\n\
         Do it? [yes/no] Applied. To go back: hastor apply --rollback (/var/lib/hastor/before/1.xml)\n\
         Waiting for the cluster ...\n\
         failed   x start on a: error: no device\n\
         All is as it should be:\n  x started on a\n"
    );
    let kept = script.read_file("/var/lib/hastor/before/1.xml").unwrap();
    assert!(kept.starts_with("<configuration>"), "{kept}");

    let (said, error) = hastor(&script, APPLY, "");
    assert_eq!(error, None);
    assert!(said.starts_with("Nothing is to be changed.\n"), "{said}");
}

#[test]
fn what_does_not_run_is_named() {
    let (_, error) = hastor(&cluster("Stopped"), APPLY, "yes\n");
    assert_eq!(
        error.as_deref(),
        Some("settled, but not all runs: x is stopped")
    );
    let script = cluster("Stopped").when(
        WAIT,
        Reply::fails(124, "Pending actions:\n\tAction 1: x_start_0\ton a\n"),
    );
    let (_, error) = hastor(&script, APPLY, "yes\n");
    assert_eq!(
        error.as_deref(),
        Some("not settled after 600 s, pending: x_start_0 on a; not running: x is stopped")
    );
    // The configuration that was there can be had back all the same.
    assert!(script.read_file("/var/lib/hastor/before/1.xml").is_some());
}

#[test]
fn a_history_that_is_still_to_be_forgotten_is_not_waited_for() {
    let script = cluster("Started").when(
        WAIT,
        Reply::fails(124, "Pending actions:\n\tAction 1: d_delete_0\ton a\n"),
    );
    let (_, error) = hastor(&script, APPLY, "yes\n");
    assert_eq!(error, None);
    let waits = script.steps().into_iter().filter(|step| step == WAIT);
    assert_eq!(waits.count(), 1);
}

#[test]
fn what_others_change_in_the_meantime_is_not_undone() {
    let script = cluster("Started");
    let script = script.when(
        "crm_simulate --run --xml-pipe --output-as=xml",
        Reply::ok(DECIDED).and(|tree| {
            tree.write(
                "/cib",
                &EMPTY.replace(
                    "<resources/>",
                    "<resources><primitive id=\"y\"/></resources>",
                ),
            );
        }),
    );
    let (_, error) = hastor(&script, APPLY, "yes\n");
    assert!(error.unwrap().contains("somebody else has changed"));
    assert!(!script.steps().iter().any(|step| step.contains("--replace")));
}

#[test]
fn what_pacemaker_refuses_is_not_done_and_nothing_is_kept() {
    let script = cluster("Started").when_matching(
        |cmd| {
            let cib = String::from_utf8_lossy(cmd.stdin());
            cmd.program() == "crm_verify" && cib.contains("lio-target")
        },
        Reply::fails(78, "error: no such resource\nConfiguration invalid\n"),
    );
    let (_, error) = hastor(&script, &[APPLY, &["--yes"]].concat(), "");
    assert_eq!(
        error.as_deref(),
        Some(
            "crm_verify does not accept the configuration:\nerror: no such resource\nConfiguration invalid"
        )
    );
    assert!(!script.steps().iter().any(|step| step.contains("--replace")));
    assert_eq!(script.read_file("/var/lib/hastor/before/1.xml"), None);
}

#[test]
fn what_an_agent_refuses_is_not_done() {
    let refusal = "ERROR: no\nocf-exit-reason:parameter iqn: no\n";
    let script = cluster("Started").when_matching(
        |cmd| {
            let told: Vec<_> = cmd.variables().collect();
            let expected = ("OCF_RESKEY_iqn", "iqn.2026-01.com.example:x");
            cmd.program() == AGENT && told.contains(&expected)
        },
        Reply::fails(6, refusal),
    );
    let (_, error) = hastor(&script, APPLY, "yes\n");
    assert_eq!(
        error.as_deref(),
        Some("agents do not accept their parameters:\nx: parameter iqn: no")
    );
    assert!(!script.steps().iter().any(|step| step.contains("--replace")));

    // It is asked only about what is changed, and where it is installed.
    let script = cluster("Started");
    hastor(&script, APPLY, "yes\n");
    script.clear_steps();
    hastor(&script, APPLY, "yes\n");
    assert!(!script.steps().iter().any(|step| step.contains(AGENT)));
    let script = cluster("Started").when_matching(|cmd| cmd.program() == AGENT, Reply::missing());
    let (said, error) = hastor(&script, APPLY, "yes\n");
    assert_eq!(error, None);
    assert!(said.contains("is not installed on this node"), "{said}");
}

#[test]
fn what_is_somebody_elses_is_replaced_only_if_that_is_wanted() {
    let script = cluster("Started");
    let theirs =
        r#"<resources><primitive id="x" class="ocf" provider="other" type="t"/></resources>"#;
    script.write_file("/cib", &EMPTY.replace("<resources/>", theirs));
    let (_, error) = hastor(&script, APPLY, "yes\n");
    assert!(error.unwrap().contains("none of the stack s"));
    let (said, error) = hastor(&script, &[APPLY, &["--force"]].concat(), "yes\n");
    assert_eq!(error, None);
    assert!(said.contains("changed  primitive x"), "{said}");
}

#[test]
fn what_cannot_run_is_not_held_against_the_cluster() {
    let script = cluster("Stopped");
    let status = script.read_file("/status").unwrap();
    let told = status.replace(
        "role=\"Stopped\"",
        "role=\"Stopped\" target_role=\"Stopped\"",
    );
    script.write_file("/status", &told);
    let (said, error) = hastor(&script, APPLY, "yes\n");
    assert_eq!(error, None);
    assert!(
        said.ends_with("All runs that has to:\n  x stopped (told to stop)\n"),
        "{said}"
    );
    // Nor is, after a rollback, what it has not touched and did not run before, or is not there any more.
    let theirs = r#"<primitive id="theirs"/></resources>"#;
    let at_rest = r#"<resource id="theirs" role="Stopped" resource_agent="t"/></resources>"#;
    let with = |path: &str, what: &str| {
        let text = script.read_file(path).unwrap();
        script.write_file(path, &text.replace("</resources>", what));
    };
    script.write_file("/status", &status);
    with("/status", at_rest);
    for file in [
        "/cib",
        "/var/lib/hastor/before/1.xml",
        "/var/lib/hastor/before/1.after.xml",
    ] {
        let text = script.read_file(file).unwrap();
        script.write_file(
            file,
            &text.replace("<resources/>", "<resources></resources>"),
        );
        with(file, theirs);
    }
    let (said, error) = hastor(&script, &["apply", "--rollback", "--yes"], "");
    assert_eq!(error, None, "{said}");
    // What it has touched has to run.
    hastor(&script, APPLY, "yes\n");
    let changed = script.read_file("/var/lib/hastor/before/1.xml").unwrap();
    let changed = changed.replace("id=\"theirs\"", "id=\"theirs\" type=\"other\"");
    script.write_file("/var/lib/hastor/before/1.xml", &changed);
    let (_, error) = hastor(&script, &["apply", "--rollback", "--yes"], "");
    assert_eq!(
        error.as_deref(),
        Some("settled, but not all runs: theirs is stopped")
    );
}

/// Devices may be needed to stop what is on their node.
#[test]
fn a_fencing_device_is_removed_last() {
    let script = cluster("Stopped");
    let with = |id: &str| {
        let device =
            format!("<primitive id=\"{id}\" class=\"stonith\" type=\"fence_x\"/></resources>");
        let member = format!("<obj_ref id=\"{id}\"/></tag>");
        let template = TEMPLATE
            .replace("</resources>", &device)
            .replace("</tag>", &member);
        script.write_file("/s/template.xml", &template);
    };
    with("fence-b");
    hastor(&script, APPLY, "yes\n");
    with("fence-c");
    script.clear_steps();
    let (said, _) = hastor(&script, APPLY, "yes\n");
    assert!(said.contains("fence-b will be removed last"), "{said}");
    assert_eq!(changing(&script), [REPLACE, WAIT, REPLACE, WAIT]);
    let cib = script.read_file("/cib").unwrap();
    assert!(cib.contains("fence-c") && !cib.contains("fence-b"), "{cib}");
    // Not before the cluster has settled, however often it is asked for.
    let unsettled = "Pending actions:\n\tAction 1: x_stop_0\ton b\n";
    let script = script.when(WAIT, Reply::fails(124, unsettled));
    with("fence-d");
    for _ in 0..2 {
        let (_, error) = hastor(&script, APPLY, "yes\n");
        let error = error.unwrap();
        assert!(error.starts_with("fence-c is not removed yet"), "{error}");
        let cib = script.read_file("/cib").unwrap();
        assert!(cib.contains("fence-d") && cib.contains("fence-c"), "{cib}");
    }
    let script = script.when(WAIT, Reply::ok(""));
    hastor(&script, APPLY, "yes\n");
    let cib = script.read_file("/cib").unwrap();
    assert!(cib.contains("fence-d") && !cib.contains("fence-c"), "{cib}");
}

#[test]
fn a_kept_configuration_that_is_damaged_hinders_nothing_new() {
    let script = cluster("Started");
    script.write_file("/var/lib/hastor/before/7.xml", "");
    let (said, error) = hastor(&script, APPLY, "yes\n");
    assert_eq!(error, None);
    assert!(said.contains("before/8.xml"), "{said}");
}

#[test]
fn what_goes_is_stopped_before_it_is_removed() {
    let script = cluster("Started");
    hastor(&script, APPLY, "yes\n");
    let back = ["apply", "--rollback", "--yes"];
    // It does not stop.
    let (said, error) = hastor(&script, &back, "");
    assert!(said.contains("Stopping x ...\n"), "{said}");
    assert!(
        error
            .as_deref()
            .unwrap()
            .contains("has not stopped within 600 s: x is started on a;"),
        "{error:?}"
    );
    assert!(script.read_file("/var/lib/hastor/before/1.xml").is_some());
    // Once it has, what this program has changed itself is nobody else's change.
    has_stopped(&script);
    let (said, _) = hastor(&script, &back, "");
    assert!(said.contains("Gone back.\n"), "{said}");

    let script = cluster("Stopped");
    hastor(&script, APPLY, "yes\n");
    script.clear_steps();
    hastor(&script, &back, "");
    assert_eq!(changing(&script), [REPLACE, WAIT, REPLACE, WAIT]);
    assert_eq!(script.read_file("/var/lib/hastor/before/1.xml"), None);
}

/// A stack that has lost a resource.
#[test]
fn what_a_stack_has_no_longer_is_stopped_before_it_is_removed() {
    let with_another = |role: &str| {
        let script = cluster(role);
        let other = TEMPLATE.replace("\"x\"", "\"y\"").replace("\"p", "\"q");
        script.write_file("/s/template.xml", &other);
        hastor(&script, APPLY, "yes\n");
        let status = script.read_file("/status").unwrap();
        script.write_file("/status", &status.replace("\"x\"", "\"y\""));
        script.write_file("/s/template.xml", TEMPLATE);
        script.clear_steps();
        script
    };
    let again = [APPLY, &["--yes"]].concat();
    let script = with_another("Started");
    let (said, error) = hastor(&script, &again, "");
    assert!(said.contains("Stopping y ...\n"), "{said}");
    assert!(
        error.as_deref().unwrap().contains("has not stopped"),
        "{error:?}"
    );
    assert!(script.read_file("/cib").unwrap().contains("id=\"y\""));
    // Done again, it goes on: what can be gone back to is how it was before all of it.
    has_stopped(&script);
    let (said, _) = hastor(&script, &again, "");
    assert!(said.contains("before/2.xml"), "{said}");
    let kept = script.read_file("/var/lib/hastor/before/2.xml").unwrap();
    assert!(
        kept.contains("id=\"y\"") && !kept.contains("target-role"),
        "{kept}"
    );

    let script = with_another("Stopped");
    hastor(&script, &again, "");
    assert_eq!(changing(&script), [REPLACE, WAIT, REPLACE, WAIT]);
    assert!(!script.read_file("/cib").unwrap().contains("id=\"y\""));

    // Somebody does something else while it stops.
    let script = with_another("Stopped");
    let script = script.when(
        WAIT,
        Reply::ok("").and(|tree| {
            let now = tree.read("/cib").unwrap();
            let theirs = "<primitive id=\"theirs\"/></resources>";
            tree.write("/cib", &now.replace("</resources>", theirs));
        }),
    );
    let (_, error) = hastor(&script, &again, "");
    assert!(
        error
            .as_deref()
            .unwrap()
            .contains("(added    primitive theirs)"),
        "{error:?}"
    );
    assert!(script.read_file("/cib").unwrap().contains("id=\"theirs\""));
}

#[test]
fn what_others_have_changed_since_is_undone_only_if_that_is_wanted() {
    let script = cluster("Stopped");
    hastor(&script, APPLY, "yes\n");
    let applied = script.read_file("/cib").unwrap();
    let theirs = applied.replace("</resources>", "<primitive id=\"pdu\"/></resources>");
    script.write_file("/cib", &theirs);
    script.clear_steps();
    let back = ["apply", "--rollback", "--yes"];
    let (said, error) = hastor(&script, &back, "");
    assert!(said.contains("added    primitive pdu"), "{said}");
    assert!(error.unwrap().contains("--force"));
    assert!(!script.steps().iter().any(|step| step.contains("--replace")));
    let (said, _) = hastor(&script, &[&back[..], &["--force"]].concat(), "");
    assert!(said.contains("removed  primitive pdu"), "{said}");
}

/// Its replacement reaches the cluster, and then it is killed.
#[test]
fn a_change_that_is_killed_half_way_can_be_gone_on_with_or_taken_back() {
    let killed = || {
        let script = cluster("Stopped");
        let whole = cluster("Stopped");
        hastor(&whole, APPLY, "yes\n");
        let applied = whole.read_file("/cib").unwrap();
        let first = std::sync::atomic::AtomicBool::new(true);
        let script = script.when_matching(
            move |cmd| {
                let ordering = std::sync::atomic::Ordering::Relaxed;
                cmd.to_string() == REPLACE && first.swap(false, ordering)
            },
            Reply::killed_by(9).and(move |tree| tree.write("/cib", &applied)),
        );
        let (_, error) = hastor(&script, APPLY, "yes\n");
        assert!(error.unwrap().contains("cibadmin"));
        script
    };
    let (said, error) = hastor(&killed(), &["apply", "--rollback", "--yes"], "");
    assert!(said.contains("Gone back.\n"), "{said} {error:?}");

    // Killed once more, at the end of going back.
    let script = killed();
    script.write_file("/cib", EMPTY);
    let (said, _) = hastor(&script, &["apply", "--rollback", "--yes"], "");
    assert!(said.contains("Nothing is to be changed.\n"), "{said}");
    assert_eq!(script.read_file("/var/lib/hastor/before/1.xml"), None);

    // One that never reached the cluster is begun anew, in its place.
    let script = cluster("Stopped").when(REPLACE, Reply::hangs());
    hastor(&script, APPLY, "yes\n");
    hastor(&script, APPLY, "yes\n");
    assert!(script.read_file("/var/lib/hastor/before/1.xml").is_some());
    assert_eq!(script.read_file("/var/lib/hastor/before/2.xml"), None);
}

#[test]
fn what_a_file_was_before_is_no_business_of_the_cluster() {
    let parse = |words: &[&str]| {
        let words = [&["hastor"], words, &["status"]].concat();
        let arguments = Arguments::try_parse_from(words).unwrap();
        (
            arguments.cib_file().unwrap(),
            arguments.state_dir().unwrap(),
        )
    };
    let here = std::env::current_dir().unwrap().display().to_string();
    assert_eq!(parse(&[]), (None, "/var/lib/hastor".to_owned()));
    // Wherever Pacemaker's tools are run.
    let file = format!("{here}/x.xml");
    assert_eq!(
        parse(&["--cib-file", "x.xml"]),
        (Some(file.clone()), format!("{file}.hastor"))
    );
    assert_eq!(
        parse(&["--cib-file", "x.xml", "--state-dir", "s"]),
        (Some(file), format!("{here}/s"))
    );
}

#[test]
fn what_crm_verify_said_before_is_no_objection() {
    let said = "warning: other is deprecated\n";
    let script = cluster("Started").when("crm_verify --verbose --xml-pipe", Reply::fails(78, said));
    let (told, error) = hastor(&script, APPLY, "yes\n");
    assert_eq!(error, None);
    assert!(told.contains("It was so before"), "{told}");
}

#[test]
fn a_rollback_that_the_cluster_refuses_can_be_tried_again() {
    let script = cluster("Started");
    hastor(&script, APPLY, "yes\n");
    let script = script.when(REPLACE, Reply::fails(1, "Call cib_replace failed"));
    let (_, error) = hastor(&script, &["apply", "--rollback", "--yes"], "");
    assert!(error.unwrap().contains("Call cib_replace failed"));
    assert!(script.read_file("/var/lib/hastor/before/1.xml").is_some());
}

#[test]
fn the_screen_says_who_is_logged_in_here() {
    let script = cluster("Started");
    hastor(&script, APPLY, "yes\n");
    let portal_group = "/sys/kernel/config/target/iscsi/iqn.2026-01.com.example:x/tpgt_1";
    let client = "iqn.2026-01.com.example:client";
    script.write_file(
        &format!("{portal_group}/acls/{client}/info"),
        &format!("InitiatorName: {client}\nInitiatorAlias: c\n"),
    );
    let (screen, error) = hastor(&script, &["status"], "");
    assert_eq!(error, None);
    assert_eq!(
        screen,
        "cluster    quorate, controller a, fencing on\n\
         nodes      a  online\n\
         targets    iqn.2026-01.com.example:x  started on a, logged in: iqn.2026-01.com.example:client\n\
         failures   x  start on a: error: no device\n           \
                    b  fencing failed: no answer (2026-11-28 10:00:09Z); what it had stays down until a fencing succeeds\n           \
                    c  fencing failed: Pacemaker's log on a says why (2026-11-28 10:00:08Z); what it had stays down until a fencing succeeds\n"
    );
}

#[test]
fn what_is_asked_for_wrongly_is_refused() {
    let script = cluster("Started");
    let (_, error) = hastor(&script, &["values", "zfs"], "");
    assert_eq!(
        error.as_deref(),
        Some(
            "there is no stack zfs; expected one of zfs-iscsi, or a directory with a slash in its name"
        )
    );
    let set = [
        "render",
        "/s",
        "--values",
        "/s/values.toml",
        "--set",
        "iqn=X",
    ];
    let (_, error) = hastor(&script, &set, "");
    assert_eq!(
        error.as_deref(),
        Some(
            "/s/values.toml: value iqn: \"X\"; expected an iSCSI name in small letters, such as iqn.2026-01.com.example:tank"
        )
    );
    for words in [
        &["apply"][..],
        &["apply", "s"],
        &["apply", "s", "--rollback"],
        &["status", "--json", "--watch"],
        &["render", "s", "--values", "v", "--set", "x"],
    ] {
        assert!(
            Arguments::try_parse_from([&["hastor"], words].concat()).is_err(),
            "{words:?}"
        );
    }
}

#[test]
fn the_page_of_apply_says_that_a_rollback_needs_no_stack() {
    let (page, refused) = hastor(&cluster("Started"), &["man", "apply"], "");
    assert_eq!(refused, None);
    for optional in [r"[\fB\-\-values\fR]", r"[\fISTACK\fR]"] {
        assert!(page.contains(optional), "no {optional} in {page}");
    }
}
