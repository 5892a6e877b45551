//! `hastor apply` and `hastor status`, on a CIB in a file.

use std::path::Path;
use std::process::Command;

use cib::Stack;

use super::readers::{empty, put, take};
use super::{HASTOR, example, file};
use crate::metadata::room::{answer, on_host, run};

fn hastor(dir: &Path, cib: &str) -> Command {
    let mut hastor = on_host(dir, HASTOR);
    hastor.args(["--cib-file", cib, "--state-dir", "state"]);
    hastor
}

#[test]
#[ignore = "needs pacemaker: cargo lab test"]
fn two_commands_bring_a_stack_in_and_out_again() {
    for stack in Stack::names() {
        let dir = tempfile::tempdir().unwrap();
        let before = empty(&example(stack));
        let cib = put(dir.path(), &before);
        let values = file(stack, "values.toml");
        let apply = ["apply", stack, "--values", &values];

        let said = answer(hastor(dir.path(), &cib).args(apply), "yes\n");
        assert!(said.contains("start pool-tank1 on head1"), "{said}");
        let applied = take(&cib);
        let configuration = |cib: &cib::Element| cib.child("configuration").unwrap().clone();
        assert_eq!(
            cib::changes(&configuration(&applied), &configuration(&example(stack))),
            []
        );

        let said = answer(hastor(dir.path(), &cib).args(apply), "");
        assert!(said.contains("Nothing is to be changed."), "{said}");

        let said = answer(
            hastor(dir.path(), &cib).args(["apply", "--rollback", "--yes"]),
            "",
        );
        assert!(said.contains("removed  group g-tank1"), "{said}");
        let left = cib::changes(&configuration(&before), &configuration(&take(&cib)));
        assert_eq!(left, []);

        let output = run(
            hastor(dir.path(), &cib).args(["apply", "--rollback", "--yes"]),
            "",
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("there is nothing to go back to on this node"),
            "{stderr}"
        );
    }
}

#[test]
#[ignore = "needs pacemaker: cargo lab test"]
fn without_a_yes_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let cib = put(dir.path(), &empty(&example("zfs-iscsi")));
    let before = take(&cib);
    let values = file("zfs-iscsi", "values.toml");
    for (answer, shown) in [("no\n", "\"no\""), ("", "\"\"")] {
        let mut hastor = hastor(dir.path(), &cib);
        let output = run(
            hastor.args(["apply", "zfs-iscsi", "--values", &values]),
            answer,
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), stderr.trim_end()),
            (
                Some(1),
                &*format!(
                    "hastor: nothing was changed, because the answer was {shown}; expected yes, or --yes"
                )
            )
        );
    }
    assert_eq!(take(&cib), before);
}

#[test]
#[ignore = "needs pacemaker: cargo lab test"]
fn what_crm_verify_does_not_accept_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bad = empty(&example("zfs-iscsi"));
    // Somebody else's resource, with two monitors that Pacemaker cannot tell apart.
    let mut other = cib::Element::new("primitive").with("id", "other");
    other.attributes.extend(
        [
            ("class", "ocf"),
            ("provider", "pacemaker"),
            ("type", "Dummy"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    for id in ["other-1", "other-2"] {
        let monitor = cib::Element::new("op")
            .with("id", id)
            .with("name", "monitor");
        let operations = &mut other.child_or_new("operations").children;
        operations.push(monitor.with("interval", "10s").with("timeout", "20s"));
    }
    let configuration = bad.child_or_new("configuration");
    configuration.child_or_new("resources").children.push(other);
    let cib = put(dir.path(), &bad);
    let values = file("zfs-iscsi", "values.toml");
    let mut hastor = hastor(dir.path(), &cib);
    let output = run(
        hastor.args(["apply", "zfs-iscsi", "--yes", "--values", &values]),
        "",
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr.contains("crm_verify does not accept"), "{stderr}");
    assert_eq!(take(&cib), bad);
}

#[test]
#[ignore = "needs pacemaker: cargo lab test"]
fn status_shows_every_resource_by_what_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let cib = put(dir.path(), &cib::joined(&example("zfs-iscsi")).unwrap());
    let screen = answer(hastor(dir.path(), &cib).arg("status"), "");
    for row in [
        "nodes      head1  online",
        "pools      tank1  stopped",
        "targets    iqn.2026-01.com.example:tank1  stopped",
        "addresses  198.51.100.11  stopped",
        "fencing of head1  stopped",
    ] {
        assert!(screen.contains(row), "{row:?} is missing in\n{screen}");
    }
    let json = answer(hastor(dir.path(), &cib).args(["status", "--json"]), "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pools"][1]["name"], "tank2");
    assert_eq!(json["addresses"].as_array().unwrap().len(), 4);
}
