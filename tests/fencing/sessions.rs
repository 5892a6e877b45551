//! Sessions, cipher suite 17 and a bad network, against the BMC of crates/ipmi.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use ipmi::Privilege;
use ipmi::testing::{Bmc, Chaos, Faults, Proxy, Setup, User};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bmc::{AGENT, Called, Finished, PASSWORD};

const OFF_ON: &[u8] = &[0, 1];

fn bmc() -> Bmc {
    Bmc::start(Setup::new("admin", PASSWORD))
}

fn with(faults: impl FnOnce(&mut Faults)) -> Bmc {
    let bmc = bmc();
    bmc.faults(faults);
    bmc
}

fn at(port: u16, action: &str, more: &[&str]) -> Called {
    let mut called = Called::new(AGENT);
    for line in [
        format!("action={action}"),
        "ip=127.0.0.1".into(),
        format!("ipport={port}"),
        format!("password={PASSWORD}"),
    ] {
        called.line(&line);
    }
    if !more.iter().any(|line| line.starts_with("username=")) {
        called.line("username=admin");
    }
    for line in more {
        called.line(line);
    }
    called
}

fn call(bmc: &Bmc, action: &str, more: &[&str]) -> Called {
    at(bmc.address().port(), action, more)
}

fn refused(bmc: &Bmc, action: &str, more: &[&str], reason: &str) {
    let Finished { code, stderr, .. } = call(bmc, action, more).run();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(reason), "{reason} is not in {stderr}");
}

#[test]
fn a_whole_action_is_one_session_and_it_is_closed() {
    for action in [
        "status",
        "monitor",
        "off",
        "on",
        "reboot",
        "diag",
        "list-status",
    ] {
        for suite in ["17", "3"] {
            let bmc = bmc();
            let cipher = format!("cipher={suite}");
            let finished = call(&bmc, action, &[&cipher, "hostname=n1", "verbose=1"]).expect(0);
            let sessions = bmc.sessions();
            assert_eq!(
                (sessions.opened, sessions.closed, sessions.open),
                (1, 1, 0),
                "{action}"
            );
            let used = format!("cipher suite {suite}");
            assert!(finished.stderr.contains(&used), "{finished:?}");
        }
    }
}

#[test]
fn suite_17_is_preferred_and_3_is_taken_where_it_has_to_be() {
    let said = |bmc: &Bmc| call(bmc, "status", &["verbose=1"]).expect(0).stderr;
    assert!(said(&bmc()).contains("cipher suite 17"));
    let mut setup = Setup::new("admin", PASSWORD);
    setup.suites = vec![3];
    assert!(said(&Bmc::start(setup)).contains("cipher suite 3"));
}

#[test]
fn a_reboot_is_off_and_then_on() {
    let bmc = bmc();
    call(&bmc, "reboot", &[]).expect(0);
    assert_eq!(bmc.controls(), OFF_ON);
    assert!(bmc.power());
    bmc.set_power(false);
    call(&bmc, "status", &[]).expect(2);
    call(&bmc, "reboot", &[]).expect(0);
    assert_eq!(bmc.controls(), [0, 1, 1], "it was off already");
}

#[test]
fn a_bmc_that_is_difficult_is_fenced_by() {
    let all: &[&(dyn Fn(&mut Faults) + Sync)] = &[
        &|it| it.strict = true,
        &|it| it.ignore_offs = 1,
        &|it| it.off_delay = Duration::from_secs(3),
        &|it| it.stale_duplicates = true,
        &|it| it.lose_answers = 3,
        &|it| {
            it.codes = vec![
                (0, 2, 0xc0),
                (0, 1, 0xc3),
                (0, 2, 0xff),
                (0, 2, 0xd4),
                (0, 1, 0xd0),
            ]
        },
        &|it| it.rakp2_status = vec![0x01],
        &|it| it.open_status = vec![0x01, 0x01],
        &|it| it.wrong_proofs = 1,
        &|it| it.no_lookup_by_name = true,
        &|it| it.explicit_privilege = true,
        &|it| it.ignore_on = true,
    ];
    // At once: they spend their time waiting.
    std::thread::scope(|scope| {
        for faults in all {
            scope.spawn(move || {
                let bmc = with(faults);
                let finished = call(&bmc, "reboot", &["verbose=1"]).expect(0);
                assert!(bmc.controls().contains(&0), "{finished:?}");
                assert_eq!(bmc.sessions().open, 0, "{finished:?}");
            });
        }
    });
}

#[test]
fn each_kind_of_fault_has_its_reason() {
    let pin = "system_guid=00112233-4455-6677-8899-aabbccddeeff";
    let cases = [
        (bmc(), "status", &["hexadecimal_kg=0x61"][..], "wrong Kg"),
        (bmc(), "status", &["username=nobody"], "unknown user"),
        (bmc(), "off", &[pin], "GUID mismatch"),
        (
            with(|it| it.no_session = true),
            "status",
            &["login_timeout=2"],
            "out of sessions",
        ),
        (
            with(|it| it.silent = true),
            "status",
            &["login_timeout=2"],
            "unreachable",
        ),
        (
            with(|it| it.silent = true),
            "reboot",
            &["login_timeout=2"],
            "unreachable",
        ),
        (
            with(|it| it.ipmi15 = true),
            "status",
            &["login_timeout=3"],
            "does not speak IPMI 2.0",
        ),
        (
            with(|it| it.always = Some((0, 2, 0xd4))),
            "off",
            &[],
            "privilege too low",
        ),
    ];
    std::thread::scope(|scope| {
        for (bmc, action, more, reason) in &cases {
            scope.spawn(move || refused(bmc, action, more, reason));
        }
    });
    let mut setup = Setup::new("admin", PASSWORD);
    for (name, privilege) in [("low", Privilege::User), ("operator", Privilege::Operator)] {
        setup.users.push(User {
            name: name.into(),
            password: PASSWORD.into(),
            privilege,
        });
    }
    let bmc = Bmc::start(setup);
    call(&bmc, "monitor", &["username=operator"]).expect(0);
    call(&bmc, "reboot", &["username=operator"]).expect(0);
    refused(&bmc, "monitor", &["username=low"], "privilege too low");
    refused(
        &bmc,
        "monitor",
        &["username=low", "privlvl=user"],
        "privilege too low",
    );
    assert_eq!(bmc.controls(), OFF_ON);
    let faulty = with(|it| it.power_control_fault = true);
    let said = call(&faulty, "monitor", &["hostname=n1"]).expect(0).stderr;
    assert!(said.contains("power control fault"), "{said}");
}

/// Also where whoever calls has blocked signals, for what is blocked stays so in a child.
#[test]
fn a_signal_closes_the_session() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let bmc = with(|it| it.ignore_offs = 1000);
        let called = call(&bmc, "off", &["action_timeout=600"]);
        let mut child = called.under("env", &["--block-signal=TERM,INT"]).spawn();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("off is sent") {
            line.clear();
            assert_ne!(
                stderr.read_line(&mut line).unwrap(),
                0,
                "it ended by itself"
            );
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
        let sessions = bmc.sessions();
        assert_eq!(
            (sessions.opened, sessions.closed, sessions.open),
            (1, 1, 0),
            "{rest}"
        );
    }
}

#[test]
fn a_bmc_that_loses_its_sessions_is_asked_in_a_new_one() {
    let bmc = with(|it| it.ignore_offs = 1);
    let mut child = call(&bmc, "off", &[]).spawn();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    bmc.forget_sessions();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{line}{rest}");
    assert!(!bmc.power());
    assert_eq!(bmc.sessions().open, 0);
}

/// On a network that loses, repeats, reorders and damages what is sent over it.
#[test]
fn a_bad_network_makes_no_off_out_of_an_on() {
    let chaos = Chaos {
        drop: 150,
        duplicate: 100,
        corrupt: 100,
        reorder: 150,
        delay: Duration::from_millis(300),
    };
    std::thread::scope(|scope| {
        for seed in 0..6 {
            scope.spawn(move || survives(chaos, seed));
        }
    });
}

fn survives(chaos: Chaos, seed: u64) {
    let bmc = bmc();
    let proxy = Proxy::start(bmc.address(), chaos, seed).unwrap();
    let port = proxy.address().port();
    let status = at(port, "status", &[]).run();
    assert!(matches!(status.code, Some(0 | 1)), "never off: {status:?}");
    let reboot = at(port, "reboot", &[]).run();
    let controls = bmc.controls();
    match reboot.code {
        Some(0) => assert!(controls.contains(&0), "{controls:?}, {reboot:?}"),
        code => assert_eq!(code, Some(1), "{reboot:?}"),
    }
    bmc.set_power(false);
    let status = at(port, "status", &[]).run();
    assert!(matches!(status.code, Some(2 | 1)), "never on: {status:?}");
}
