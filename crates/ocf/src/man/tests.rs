use super::roff::WIDTH;
use super::*;
use crate::meta::tests::Sample;

fn section(title: &str) -> String {
    let page = page::<Sample>();
    let (_, rest) = page.split_once(&format!(".SH {title}\n")).unwrap();
    rest.split(".SH ").next().unwrap().to_owned()
}

#[test]
fn the_head_names_page_section_and_version() {
    let head = page::<Sample>().lines().next().unwrap().to_owned();
    assert_eq!(
        head,
        format!(".TH OCF_HASTOR_SOME\\-THING 7 {DATE} \"Hastor 1.2.3\" \"OCF resource agents\"")
    );
    assert_eq!(
        section("NAME"),
        "ocf_hastor_some\\-thing \\- Keeps a \\(dqthing\\(dq <in> place & time\n"
    );
}

#[test]
fn the_synopsis_leaves_out_what_is_deprecated() {
    let synopsis = section("SYNOPSIS");
    assert!(synopsis.starts_with(
        "\\fBOCF_RESKEY_name\\fR=\\fIstring\\fR\n[\\fBOCF_RESKEY_port\\fR=\\fIinteger\\fR]\n"
    ));
    assert!(!synopsis.contains("OCF_RESKEY_title"));
    assert_eq!(synopsis.matches("\\fBmonitor\\fR").count(), 1);
}

#[test]
fn prose_cannot_become_a_request() {
    assert_eq!(
        section("DESCRIPTION"),
        "A longer description, whose lines make up one paragraph.\n.PP\n\
         \\&.profile starts this one: it\\(aqs 5 % back\\eslash, \\fBsome\\-code\\fR, \\[u00E9].\n"
    );
    let mut page = Page::default();
    page.text(&format!("{} .TH 'is no request", "x".repeat(WIDTH)));
    assert_eq!(
        page.into_source(),
        format!("{}\n\\&.TH \\(aqis no request\n", "x".repeat(WIDTH))
    );
}

#[test]
fn a_lone_backtick_is_a_backtick() {
    assert_eq!(prose("`a` and `b"), "\\(gaa\\(ga and \\(gab");
}

#[test]
fn parameters_say_everything_at_a_glance() {
    let parameters = section("PARAMETERS");
    for line in [
        "\\fBname\\fR (string, required, unique together with \\fBport\\fR)",
        "\\fBport\\fR (integer, default \\fB3260\\fR, unique together with \\fBname\\fR)",
        "\\fBform\\fR (one of \\fBthin\\fR | \\fBthick\\-and\\-slow\\fR, default \\fBthin\\fR)",
        "\\fBloud\\fR (boolean, default \\fBfalse\\fR, reloadable)",
        "\\fBtitle\\fR (string, deprecated: use \\fBname\\fR)",
        "\\fBserial\\fR (integer, unique)",
    ] {
        assert!(
            parameters.lines().any(|it| it == line),
            "{line}\nis not in\n{parameters}"
        );
    }
}

#[test]
fn every_action_has_a_purpose() {
    for operation in operations::<Sample>() {
        assert_ne!(purpose(&operation), "", "{}", operation.name);
    }
    let actions = section("ACTIONS");
    assert!(actions.contains("\\fBmonitor\\fR (timeout 40 s, interval 60 s, depth 10)\n"));
    assert!(
        actions.contains("\\fBmonitor\\fR (timeout 20 s, interval 9 s, depth 0, role Promoted)\n")
    );
}

#[test]
fn a_promotable_example_makes_a_promotable_clone() {
    let example = section("EXAMPLE");
    assert!(example.contains(
        "primitive my\\-some\\-thing ocf:hastor:some\\-thing \\e\n    params name=NAME \\e\n    op start"
    ));
    assert!(example.contains("op monitor timeout=40s interval=60s OCF_CHECK_LEVEL=10 \\e\n"));
    assert!(example.contains("op monitor timeout=20s interval=9s role=Promoted \\e\n"));
    assert!(example.contains("\nclone my\\-some\\-thing\\-clone my\\-some\\-thing \\e\n"));
    assert!(example.contains("some\\-thing name=NAME \\e\n    promotable notify=true"));
    assert!(section("EXIT STATUS").contains("\\fB191\\fR"));
}
