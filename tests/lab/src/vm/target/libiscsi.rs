//! libiscsi's test suite as an initiator, before a head is lost and after it: the target answers the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::{INITIATORS, IQN, Stack, Whose, make_pool};
use crate::layout::{CLIENT, FLOATING};
use crate::progress::more;

/// In which a target's identity, its data, its reservations and its port groups are asked for.
const SHORT: &[&str] = &[
    "CompareAndWrite",
    "Inquiry",
    "ProutReserve",
    "ReadCapacity16",
    "ReportLUNs",
    "ReportTargetPortGroups",
    "Write10",
];

/// How often suites are asked again whose tests came to something else.
const AGAIN: usize = 2;

/// Only suites of the family SCSI: those of iSCSI send what the kernel answers with silence (sequence numbers out of order),
/// and what they wait for has nothing to do with how a target was made. Each suite is a process of its own, so that one
/// that hangs is told from the rest. It writes all over the LUN.
const RUN: &str = r#"url=iscsi://$1/$2/1
first=$3 second=$4
shift 4
[ $# -gt 0 ] || set -- $(iscsi-test-cu -l | sed -n 's/^SCSI\.\([^.]*\)$/\1/p')
[ $# -gt 0 ] || exit 1
for suite; do
	timeout -k 5 300 iscsi-test-cu --dataloss -i $first -I $second -t "SCSI.$suite.*" $url 2>&1
	case $? in
	124 | 137) echo; echo "Hung: $suite" ;;
	esac
done
"#;

/// Some suites.
pub fn short(lab: &Guests) -> Result<()> {
    run(lab, SHORT)
}

/// All of them.
pub fn all(lab: &Guests) -> Result<()> {
    run(lab, &[])
}

fn run(lab: &Guests, suites: &[&str]) -> Result<()> {
    make_pool(lab, 1)?;
    let mut stack = Stack::begin(lab, Whose::Ours, 1)?;
    let ask = |suites: &[&str]| -> Result<Results> {
        let words = [
            "bash",
            "-c",
            RUN,
            "run",
            FLOATING,
            IQN,
            INITIATORS[0],
            INITIATORS[1],
        ];
        Results::parse(&exec::output(CLIENT, &[&words[..], suites].concat(), b"")?)
    };
    let before = ask(suites)?;
    more(format_args!("before: {}", before.summary()));
    let passed = before.count("passed");
    ensure!(passed > 0, "no test passed before anything was lost");
    stack.lose_head()?;
    let mut after = ask(suites)?;
    more(format_args!("after:  {}", after.summary()));
    // Some depend on who is faster: the kernel answers a logout before it gives up the session's reservation.
    for _ in 0..AGAIN {
        let different = before.differing_suites(&after);
        if different.is_empty() {
            break;
        }
        let words: Vec<&str> = different.iter().map(String::as_str).collect();
        let again = ask(&words)?;
        more(format_args!("again:  {}", again.summary()));
        // Also what says that one has hung.
        after
            .0
            .retain(|name, _| !different.contains(suite_of(name)));
        after.0.extend(again.0);
    }
    let differences = before.differences(&after);
    ensure!(
        differences.is_empty(),
        "not the same after the loss of a head: {}",
        differences.join("; ")
    );
    Ok(())
}

/// The suite of a test. One that has hung is `SUITE, at TEST`.
fn suite_of(name: &str) -> &str {
    name.split(['.', ',']).next().unwrap_or(name)
}

/// What came of each test.
struct Results(BTreeMap<String, &'static str>);

impl Results {
    /// Reads CUnit's report, in which the tests' own words stand between the name of a test and its outcome.
    fn parse(text: &str) -> Result<Results> {
        let mut results = BTreeMap::new();
        let mut suite = "";
        let mut test: Option<(String, bool)> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("Suite: ") {
                suite = name.trim();
            }
            if let Some(name) = line.strip_prefix("Hung: ") {
                let at = test.take().map_or("?".to_owned(), |(name, _)| name);
                results.insert(format!("{name}, at {at}"), "hung");
            }
            if let Some(rest) = line.strip_prefix("  Test: ") {
                let name = rest.split(" ...").next().unwrap_or(rest);
                test = Some((format!("{suite}.{name}"), false));
            }
            let Some((name, skipped)) = &mut test else {
                continue;
            };
            *skipped |= line.contains("[SKIPPED]");
            let outcome = if line.ends_with("FAILED") {
                "failed"
            } else if !line.ends_with("passed") {
                continue;
            } else if *skipped {
                "skipped"
            } else {
                "passed"
            };
            results.insert(std::mem::take(name), outcome);
            test = None;
        }
        ensure!(!results.is_empty(), "no results in {text:?}");
        if let Some((name, _)) = test {
            bail!("{name} has no outcome in {text:?}");
        }
        Ok(Results(results))
    }

    fn count(&self, outcome: &str) -> usize {
        self.0.values().filter(|found| **found == outcome).count()
    }

    fn summary(&self) -> String {
        let counts = ["passed", "failed", "skipped", "hung"];
        let counts = counts.map(|outcome| format!("{} {outcome}", self.count(outcome)));
        let failed: Vec<&str> = self
            .0
            .iter()
            .filter(|(_, outcome)| matches!(**outcome, "failed" | "hung"))
            .map(|(name, _)| name.as_str())
            .collect();
        format!("{} ({})", counts.join(", "), failed.join(", "))
    }

    /// The suites of tests that came to something else.
    fn differing_suites(&self, other: &Results) -> BTreeSet<String> {
        let names = self.0.keys().chain(other.0.keys());
        let different = names.filter(|name| self.0.get(*name) != other.0.get(*name));
        different.map(|name| suite_of(name).to_owned()).collect()
    }

    /// Tests that came to something else, or are there on one side only.
    fn differences(&self, other: &Results) -> Vec<String> {
        let names: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let word = |results: &Results, name: &str| *results.0.get(name).unwrap_or(&"missing");
        names
            .into_iter()
            .filter(|name| word(self, name) != word(other, name))
            .map(|name| format!("{name}: {}, then {}", word(self, name), word(other, name)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
     CUnit - A unit testing framework for C - Version 2.1-3

Suite: Read10
  Test: Simple ...passed
  Test: ReadProtect ...    [SKIPPED] no protection
passed
  Test: DpoFua ...FAILED
    1. test_read10_dpofua.c:40  - CU_FAIL(\"no\")
Run Summary:    Type  Total    Ran Passed Failed Inactive
               tests      3      3      2      1        0
Tests completed with return value: 0
";

    #[test]
    fn outcomes_and_differences() {
        let before = Results::parse(TEXT).unwrap();
        assert_eq!(
            before.summary(),
            "1 passed, 1 failed, 1 skipped, 0 hung (Read10.DpoFua)"
        );
        let hung = TEXT.replace("DpoFua ...FAILED", "DpoFua ...\nHung: Read10");
        let after = Results::parse(&hung).unwrap();
        assert!(before.differences(&before).is_empty());
        assert!(before.differing_suites(&before).is_empty());
        assert_eq!(
            after.differences(&before),
            [
                "Read10, at Read10.DpoFua: hung, then missing",
                "Read10.DpoFua: missing, then failed"
            ]
        );
        assert_eq!(Vec::from_iter(after.differing_suites(&before)), ["Read10"]);
        assert!(Results::parse("Failed to connect to SCSI device 0").is_err());
    }
}
