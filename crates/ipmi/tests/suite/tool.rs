//! Our BMC against ipmitool: what an independent client of both suites makes of it vouches for
//! the hashes and keys that the client shares with it.

use std::process::{Command, Output, Stdio};

use ipmi::Privilege;
use ipmi::testing::{Bmc, Setup, User};

fn ipmitool(bmc: &Bmc, password: &str, options: &[&str], words: &[&str]) -> Output {
    let port = bmc.address().port().to_string();
    Command::new("ipmitool")
        .args([
            "-I",
            "lanplus",
            "-H",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "admin",
            "-E",
        ])
        .args(["-v", "-N", "2", "-R", "2"])
        .args(options)
        .args(words)
        .env("IPMITOOL_PASSWORD", password)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("ipmitool: apt-get install ipmitool")
}

/// What it says on standard output, of a success.
fn said(bmc: &Bmc, options: &[&str], words: &[&str]) -> String {
    let output = ipmitool(bmc, "secret", options, words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{options:?} {words:?}: {text}\n{error}"
    );
    text
}

/// What it says on standard error, of a failure.
fn complaint(bmc: &Bmc, password: &str, options: &[&str]) -> String {
    let output = ipmitool(bmc, password, options, &["chassis", "power", "status"]);
    assert!(!output.status.success(), "{options:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[ignore = "needs ipmitool: cargo lab test"]
fn every_suite() {
    let bmc = Bmc::start(Setup::new("admin", "secret"));
    for suite in ["17", "3", "16", "2", "15", "1"] {
        let options = ["-C", suite];
        let power = |word| said(&bmc, &options, &["chassis", "power", word]);
        assert_eq!(power("status"), "Chassis Power is on\n", "suite {suite}");
        power("off");
        assert!(!bmc.power(), "suite {suite}");
        assert_eq!(power("status"), "Chassis Power is off\n");
        power("on");
        assert!(bmc.power());
        power("reset");
        power("diag");
        assert_eq!(
            bmc.controls().split_off(bmc.controls().len() - 4),
            [0, 1, 3, 4]
        );
        let info = said(&bmc, &options, &["mc", "info"]);
        assert!(info.contains("Firmware Revision         : 1.23"), "{info}");
        let cause = said(&bmc, &options, &["chassis", "restart_cause"]);
        assert!(cause.contains("chassis power control command"), "{cause}");
        // Its first four bytes are least significant first, as SMBIOS has them.
        let guid = said(&bmc, &options, &["mc", "guid", "smbios"]);
        assert!(
            guid.contains("11223344-6168-7473-6f72-2d6775696401"),
            "{guid}"
        );
    }
    let sessions = bmc.sessions();
    assert_eq!((sessions.open, sessions.opened), (0, sessions.closed));
}

#[test]
#[ignore = "needs ipmitool: cargo lab test"]
fn its_choice_of_the_suite() {
    for (suites, number) in [(vec![3, 17], "17"), (vec![1, 2, 3], "3")] {
        let mut setup = Setup::new("admin", "secret");
        setup.suites = suites;
        let bmc = Bmc::start(setup);
        let output = ipmitool(&bmc, "secret", &[], &["chassis", "power", "status"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("Chassis Power is on"), "{text}");
        assert!(
            text.contains(&format!("Using best available cipher suite {number}\n")),
            "{text}"
        );
    }
}

#[test]
#[ignore = "needs ipmitool: cargo lab test"]
fn what_is_wrong_is_wrong_for_it_too() {
    let mut setup = Setup::new("admin", "secret");
    setup.kg = b"twenty bytes of key!".to_vec();
    setup.users.push(User {
        name: "looker".to_owned(),
        password: "secret".to_owned(),
        privilege: Privilege::User,
    });
    let bmc = Bmc::start(setup);
    let key = "twenty bytes of key!";
    for suite in ["17", "3"] {
        let with_key = ["-C", suite, "-k", key];
        let power = said(&bmc, &with_key, &["chassis", "power", "status"]);
        assert_eq!(power, "Chassis Power is on\n");
        let text = complaint(&bmc, "guess", &with_key);
        assert!(text.contains("RAKP 2 HMAC is invalid"), "{text}");
        let text = complaint(&bmc, "secret", &["-C", suite, "-k", "another"]);
        assert!(
            text.contains("RAKP 4 message has invalid integrity check value"),
            "{text}"
        );
        bmc.forget_sessions();
        let text = complaint(&bmc, "secret", &["-C", suite, "-k", key, "-U", "nobody"]);
        assert!(
            text.contains("RAKP 2 message indicates an error : unauthorized name"),
            "{text}"
        );
        let text = complaint(&bmc, "secret", &["-C", suite, "-k", key, "-U", "looker"]);
        assert!(text.contains("unauthorized role requested"), "{text}");
    }
    let text = complaint(&bmc, "secret", &["-C", "8", "-k", key]);
    assert!(text.contains("no matching cipher suite"), "{text}");
}
