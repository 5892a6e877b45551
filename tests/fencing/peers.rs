//! Six defects of the peers, fence_ipmilan of fence-agents and external/ipmi of cluster-glue: each
//! is shown on the peer and on ours, in one run. Where a peer never ends, it still runs when ours
//! has ended; it is killed then.

use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::bmc::{BOUND, Bmc, Finished, enter};

/// Waits for something to happen on a chassis.
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !happened() {
        assert!(Instant::now() < end, "waited for {what}");
        sleep(Duration::from_millis(20));
    }
}

/// It is running still; then no more.
fn still_runs(mut child: Child) {
    let ended = child.try_wait().unwrap();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_none(), "it has ended: {output:?}");
}

/// The peer fences its own machine for any node's name; ours refuses without asking anybody.
#[test]
#[ignore = "needs root, openipmi and fence-agents: cargo lab test"]
fn d1_the_wrong_node() {
    enter();
    let bmc = Bmc::start();
    let other = ["nodename=n2", "plug=n2"];
    bmc.fence_ipmilan("status", &other).expect(0);
    bmc.fence_ipmilan("reboot", &other).expect(0);
    assert_eq!(
        bmc.asked(),
        "01",
        "the peer fences whatever it is asked for"
    );

    bmc.reset();
    let other = [&["hostname=n1"], &other[..]].concat();
    for action in ["status", "reboot", "off", "on"] {
        let finished = bmc.ours(action, &other).expect(1);
        assert!(finished.stderr.contains("not my node"), "{finished:?}");
    }
    assert_eq!(bmc.asked(), "");
    bmc.ours("reboot", &["hostname=n1", "nodename=n1", "plug=n1"])
        .expect(0);
}

/// A node that does not come on again is fenced all the same. The peer waits for it without end,
/// and the fencer kills it and calls the fencing failed.
#[test]
#[ignore = "needs root, openipmi and fence-agents: cargo lab test"]
fn d2_a_node_that_stays_off() {
    enter();
    let (theirs, ours) = (Bmc::start(), Bmc::at(6230, ""));
    theirs.write("refuse_on", "");
    ours.write("refuse_on", "");
    let peer = theirs.fence_ipmilan("reboot", &[]).spawn();
    until("the peer to power off and on", || {
        theirs.asked().starts_with("01")
    });
    let finished = ours.ours("reboot", &[]).expect(0);
    assert!(
        finished.stderr.contains("it was off, and so is fenced"),
        "{finished:?}"
    );
    assert!(!ours.is_on());
    assert!(!theirs.is_on());
    still_runs(peer);
}

/// An off that the BMC acknowledges and forgets is sent again. The peer sends it once, and waits
/// without end.
#[test]
#[ignore = "needs root, openipmi and fence-agents: cargo lab test"]
fn d3_an_off_that_is_ignored() {
    enter();
    let (theirs, ours) = (Bmc::start(), Bmc::at(6230, ""));
    theirs.write("ignore_offs", "1\n");
    ours.write("ignore_offs", "1\n");
    let peer = theirs.fence_ipmilan("off", &[]).spawn();
    until("the peer to send off", || theirs.asked() == "0");
    ours.ours("off", &[]).expect(0);
    assert_eq!(ours.asked(), "00");
    assert!(!ours.is_on());
    assert_eq!(theirs.asked(), "0", "the peer sends it once");
    assert!(theirs.is_on());
    still_runs(peer);
}

/// Off is done when the power is off, not when the BMC says that it will be.
#[test]
#[ignore = "needs root, openipmi and cluster-glue: cargo lab test"]
fn d4_an_off_that_takes_its_time() {
    enter();
    let bmc = Bmc::start();
    bmc.write("late_off", "5");
    bmc.external_ipmi(&["off", "n1"]).expect(0);
    assert!(bmc.is_on(), "the peer calls it off while it is on");
    until("the power to be off", || !bmc.is_on());

    bmc.reset();
    bmc.write("late_off", "5");
    bmc.ours("off", &[]).expect(0);
    assert!(!bmc.is_on());
}

/// A mistyped parameter is named, its value is not.
#[test]
#[ignore = "needs root, openipmi and fence-agents: cargo lab test"]
fn d5_a_mistyped_password() {
    enter();
    let bmc = Bmc::start();
    let typo = ["passwrd=TypoS3cret"];
    let said = |finished: Finished| format!("{}{}", finished.stdout, finished.stderr);
    let theirs = said(bmc.fence_ipmilan("status", &typo).run());
    assert!(theirs.contains("TypoS3cret"), "{theirs}");
    let ours = said(bmc.ours("status", &typo).run());
    assert!(
        ours.contains("passwrd") && !ours.contains("TypoS3cret"),
        "{ours}"
    );
}

/// That nobody is there is known at once.
#[test]
#[ignore = "needs root, openipmi and fence-agents: cargo lab test"]
fn d6_a_bmc_that_is_not_there() {
    enter();
    let bmc = Bmc::start();
    let nobody = ["ipport=6239"];
    let peer = bmc.fence_ipmilan("status", &nobody).spawn();
    // Started later, it ends earlier.
    let finished = bmc.ours("status", &nobody).expect(1);
    assert!(finished.stderr.contains("unreachable"), "{finished:?}");
    still_runs(peer);
    // And what is wrong is said.
    for (wrong, reason) in [
        ("password=other", "wrong password"),
        ("username=nobody", "unknown user"),
    ] {
        let theirs = bmc.fence_ipmilan("status", &[wrong]).expect(1).stderr;
        assert!(!theirs.contains(reason), "{theirs}");
        let ours = bmc.ours("status", &[wrong]).expect(1).stderr;
        assert!(ours.contains(reason), "{ours}");
    }
}
