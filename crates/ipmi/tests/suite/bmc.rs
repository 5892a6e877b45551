//! The client against our own BMC: every suite, every reason to fail, every fault.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipmi::testing::{Bmc, Sessions, Setup, User};
use ipmi::{Client, Config, Control, Error, ErrorKind, Guid, Privilege, Refused, Secret};

const CHASSIS: u8 = 0;
const APP: u8 = 6;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Where something has to go on until the deadline.
fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(1500)
}

fn bmc() -> Bmc {
    Bmc::start(Setup::new("admin", "secret"))
}

fn open(bmc: &Bmc, change: impl FnOnce(&mut Config)) -> Result<Client, Error> {
    let mut config = bmc.config("admin", "secret");
    change(&mut config);
    Client::open(&config, soon())
}

/// Kind, and text after the name of the place.
fn told(bmc: &Bmc, error: &Error) -> (ErrorKind, String) {
    let place = format!("127.0.0.1 port {}: ", bmc.address().port());
    let text = error.to_string();
    assert!(text.starts_with(&place), "{text}");
    (error.kind(), text[place.len()..].to_owned())
}

fn refusal(bmc: &Bmc, change: impl FnOnce(&mut Config)) -> (ErrorKind, String) {
    told(bmc, &open(bmc, change).unwrap_err())
}

/// What is not waited for by the client comes true soon.
fn settles(bmc: &Bmc, condition: impl Fn(Sessions) -> bool) {
    let begin = Instant::now();
    while !condition(bmc.sessions()) {
        let late = begin.elapsed() > Duration::from_secs(10);
        assert!(!late, "{:?}", bmc.sessions());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets the client see a slow answer, so that it does not repeat itself where the machine is busy.
fn patient(bmc: &Bmc, client: &mut Client) {
    bmc.faults(|faults| faults.answer_delay = Duration::from_millis(700));
    client.chassis_status(soon()).unwrap();
    bmc.faults(|faults| faults.answer_delay = Duration::ZERO);
}

fn power(client: &mut Client) -> bool {
    client.chassis_status(soon()).unwrap().power_on
}

#[test]
fn a_reboot_takes_one_session_and_closes_it() {
    let bmc = bmc();
    let mut client = open(&bmc, |_| ()).unwrap();
    assert_eq!(
        (client.suite(), client.privilege()),
        (17, Privilege::Administrator)
    );
    patient(&bmc, &mut client);
    assert!(power(&mut client));
    client.chassis_control(Control::Off, soon()).unwrap();
    assert!(!power(&mut client));
    client.chassis_control(Control::On, soon()).unwrap();
    assert!(power(&mut client));
    client.close(soon()).unwrap();
    let sessions = bmc.sessions();
    assert_eq!((sessions.opened, sessions.closed, sessions.open), (1, 1, 0));
    assert_eq!(bmc.controls(), [0, 1]);
}

#[test]
fn every_suite_that_is_asked_for() {
    let bmc = bmc();
    for suite in [17, 3, 16, 2, 15, 1] {
        let mut client = open(&bmc, |config| config.cipher = Some(suite)).unwrap();
        assert_eq!(client.suite(), suite);
        assert!(power(&mut client));
        assert_eq!(client.cipher_suites(soon()).unwrap(), [1, 2, 3, 15, 16, 17]);
        assert_eq!(client.system_guid(soon()).unwrap(), client.guid());
        assert_eq!(client.device_id(soon()).unwrap().firmware, (1, 0x23));
        assert_eq!(
            client.restart_cause(soon()).unwrap().to_string(),
            "chassis control command"
        );
        client.close(soon()).unwrap();
    }
}

#[test]
fn suite_zero_only_with_both_words() {
    let mut setup = Setup::new("admin", "secret");
    setup.suites = vec![0];
    let bmc = Bmc::start(setup);
    let (kind, _) = refusal(&bmc, |_| ());
    assert_eq!(kind, ErrorKind::NoCommonSuite);
    let error = open(&bmc, |config| config.cipher = Some(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let mut client = open(&bmc, |config| {
        config.cipher = Some(0);
        config.allow_cipher_zero = true;
    })
    .unwrap();
    assert!(power(&mut client));
}

#[test]
fn three_if_seventeen_is_refused_and_not_if_it_is_pinned() {
    let mut setup = Setup::new("admin", "secret");
    setup.suites = vec![3];
    let bmc = Bmc::start(setup);
    assert_eq!(open(&bmc, |_| ()).unwrap().suite(), 3);
    assert_eq!(
        refusal(&bmc, |config| config.cipher = Some(17)),
        (
            ErrorKind::NoCommonSuite,
            "the BMC does not have cipher suite 17 (Open Session Response says 11h)".to_owned()
        )
    );
}

#[test]
fn silence_is_no_reason_for_a_weaker_suite() {
    let bmc = bmc();
    bmc.faults(|faults| faults.silent = true);
    let mut config = bmc.config("admin", "secret");
    config.refused = Refused::KeepTrying;
    let error = Client::open(&config, shortly()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    bmc.faults(|faults| faults.silent = false);
    assert_eq!(open(&bmc, |_| ()).unwrap().suite(), 17);
}

#[test]
fn no_common_suite() {
    let mut setup = Setup::new("admin", "secret");
    setup.suites = vec![1, 2];
    let bmc = Bmc::start(setup);
    let (kind, text) = refusal(&bmc, |_| ());
    assert_eq!(kind, ErrorKind::NoCommonSuite);
    assert!(
        text.starts_with("the BMC has none of the cipher suites 17 and 3: "),
        "{text}"
    );
}

#[test]
fn a_bmc_that_does_not_say_what_it_lacks_is_asked_for_the_other_suite() {
    for status in [0x12, 0x20, 0] {
        let mut setup = Setup::new("admin", "secret");
        setup.suites = vec![3];
        let bmc = Bmc::start(setup);
        bmc.faults(|faults| faults.unknown_suite = Some(status));
        assert_eq!(open(&bmc, |_| ()).unwrap().suite(), 3, "{status:#x}");
        // Only if more than one may be used.
        if status > 0 {
            let (kind, text) = refusal(&bmc, |config| config.cipher = Some(17));
            assert!(
                [ErrorKind::PrivilegeTooLow, ErrorKind::Protocol].contains(&kind),
                "{text}"
            );
        }
    }
}

#[test]
fn a_weaker_answer_than_asked_for_is_refused() {
    let bmc = bmc();
    bmc.faults(|faults| faults.other_suite = Some(2));
    assert_eq!(
        refusal(&bmc, |_| ()),
        (
            ErrorKind::Protocol,
            "the BMC answered algorithms [1, 1, 0] where [3, 4, 1] (suite 17) were asked for"
                .to_owned()
        )
    );
}

#[test]
fn wrong_password() {
    let bmc = bmc();
    for suite in [17, 3] {
        assert_eq!(
            refusal(&bmc, |config| {
                config.password = "guess".into();
                config.cipher = Some(suite);
            }),
            (
                ErrorKind::WrongPassword,
                "wrong password for user \"admin\"".to_owned()
            )
        );
    }
    settles(&bmc, |sessions| sessions.open + sessions.half_open == 0);
}

#[test]
fn unknown_user() {
    let bmc = bmc();
    assert_eq!(
        refusal(&bmc, |config| config.username = "nobody".into()),
        (
            ErrorKind::UnknownUser,
            "the BMC does not let in user \"nobody\" (RAKP message 2 says 0Dh)".to_owned()
        )
    );
}

#[test]
fn the_key_of_the_bmc() {
    let mut setup = Setup::new("admin", "secret");
    setup.slots = 20;
    setup.kg = b"a key".to_vec();
    let bmc = Bmc::start(setup);
    for suite in [17, 3] {
        let pinned = move |config: &mut Config| config.cipher = Some(suite);
        let (kind, text) = refusal(&bmc, |config| {
            pinned(config);
            config.kg = Some("another".into());
        });
        assert_eq!(kind, ErrorKind::WrongKg);
        assert_eq!(text, "the password is right, but the key (Kg) is wrong");
        let (kind, text) = refusal(&bmc, pinned);
        assert_eq!(kind, ErrorKind::WrongKg);
        assert!(
            text.ends_with("wants a key (Kg) too, and none is configured"),
            "{text}"
        );
        let (kind, _) = refusal(&bmc, |config| {
            config.kg = Some("a key".into());
            config.password = "guess".into();
        });
        assert_eq!(kind, ErrorKind::WrongPassword);
        // Without the key they cannot be closed.
        assert!(bmc.sessions().open >= 4);
        bmc.forget_sessions();
        let mut client = open(&bmc, |config| {
            pinned(config);
            config.kg = Some(Secret::from_hex("0x61206b6579").unwrap());
        })
        .unwrap();
        assert!(power(&mut client));
    }
}

fn with_operator(late: bool) -> Bmc {
    let mut setup = Setup::new("admin", "secret");
    for (name, privilege) in [("power", Privilege::Operator), ("looker", Privilege::User)] {
        setup.users.push(User {
            name: name.to_owned(),
            password: "secret".to_owned(),
            privilege,
        });
    }
    let bmc = Bmc::start(setup);
    bmc.faults(|faults| faults.late_privilege = late);
    bmc
}

#[test]
fn operator_where_administrator_is_refused_if_allowed() {
    for late in [false, true] {
        let bmc = with_operator(late);
        let mut client = open(&bmc, |config| config.username = "power".into()).unwrap();
        assert_eq!(client.privilege(), Privilege::Operator);
        client.chassis_control(Control::Off, soon()).unwrap();
        assert!(!bmc.power());
        let (kind, text) = refusal(&bmc, |config| {
            config.username = "power".into();
            config.or_operator = false;
        });
        assert_eq!(kind, ErrorKind::PrivilegeTooLow);
        assert!(text.contains("administrator privilege"), "{text}");
        let (kind, text) = refusal(&bmc, |config| config.username = "looker".into());
        assert_eq!(kind, ErrorKind::PrivilegeTooLow);
        assert!(text.contains("operator privilege"), "{text}");
    }
}

#[test]
fn who_may_only_look_cannot_switch() {
    let bmc = with_operator(false);
    for privilege in [Privilege::User, Privilege::Callback] {
        let mut client = open(&bmc, |config| {
            config.username = "looker".into();
            config.privilege = privilege;
        })
        .unwrap();
        assert_eq!(client.privilege(), privilege);
        patient(&bmc, &mut client);
        assert!(power(&mut client));
        let error = client.chassis_control(Control::Off, soon()).unwrap_err();
        assert_eq!(
            told(&bmc, &error),
            (
                ErrorKind::PrivilegeTooLow,
                "Chassis Control (off): insufficient privilege (D4h)".to_owned()
            )
        );
        assert!(!error.possibly_executed());
    }
    assert!(bmc.power());
}

#[test]
fn quirks_of_the_login() {
    let bmc = bmc();
    for quirk in 0..4 {
        bmc.faults(|faults| {
            faults.no_lookup_by_name = quirk == 0;
            faults.plain_role = quirk == 1;
            faults.explicit_privilege = quirk == 2;
            faults.short_refusals = quirk > 0;
            faults.wrong_checksums = quirk == 3;
        });
        for suite in [17, 3] {
            let mut client = open(&bmc, |config| config.cipher = Some(suite)).unwrap();
            assert!(power(&mut client), "quirk {quirk}, suite {suite}");
            client.close(soon()).unwrap();
        }
    }
}

#[test]
fn a_refusal_heard_once_is_not_believed() {
    let bmc = bmc();
    bmc.faults(|faults| faults.wrong_proofs = 1);
    open(&bmc, |_| ()).unwrap();
    // Those of an opening that the BMC has forgotten come and go.
    bmc.faults(|faults| faults.rakp4_status = vec![0x02, 0x08]);
    open(&bmc, |_| ()).unwrap();
    bmc.faults(|faults| faults.rakp2_status = vec![0x0d]);
    open(&bmc, |_| ()).unwrap();
    bmc.faults(|faults| faults.open_status = vec![0x11, 0x11]);
    assert_eq!(open(&bmc, |_| ()).unwrap().suite(), 17);
}

#[test]
fn a_bmc_without_a_free_session_is_waited_for() {
    let bmc = bmc();
    bmc.faults(|faults| faults.no_session = true);
    let error = Client::open(&bmc.config("admin", "secret"), shortly()).unwrap_err();
    assert_eq!(
        told(&bmc, &error),
        (
            ErrorKind::SessionsExhausted,
            "the BMC has no free session (Open Session Response says 01h)".to_owned()
        )
    );
    bmc.faults(|faults| {
        faults.no_session = false;
        faults.open_status = vec![0x01, 0x0b];
    });
    open(&bmc, |_| ()).unwrap();
}

#[test]
fn sessions_are_closed_whatever_happens() {
    let bmc = bmc();
    // Four is all it has room for.
    for _ in 0..12 {
        drop(open(&bmc, |_| ()).unwrap());
        let (kind, _) = refusal(&bmc, |config| config.password = "guess".into());
        assert_eq!(kind, ErrorKind::WrongPassword);
        bmc.faults(|faults| faults.codes = vec![(APP, 0x3b, 0xcc)]);
        let (kind, _) = refusal(&bmc, |_| ());
        assert_eq!(kind, ErrorKind::Completion(0xcc));
    }
    settles(&bmc, |sessions| sessions.open == 0);
    assert_eq!(bmc.sessions().opened, 24);
    assert_eq!(bmc.sessions().closed, 24);
}

#[test]
fn lost_answers_are_asked_for_again_and_no_stale_one_is_taken() {
    let bmc = bmc();
    bmc.faults(|faults| faults.stale_duplicates = true);
    let mut client = open(&bmc, |_| ()).unwrap();
    // More than the numbers of requests there are.
    for n in 0..150 {
        let on = n % 3 == 0;
        bmc.set_power(on);
        if n % 50 == 7 {
            bmc.faults(|faults| faults.lose_answers = 1);
        }
        assert_eq!(power(&mut client), on, "{n}");
    }
    assert_eq!(bmc.sessions().opened, 1);
}

#[test]
fn off_is_sent_again_when_its_answer_is_lost() {
    let bmc = bmc();
    let mut client = open(&bmc, |_| ()).unwrap();
    bmc.faults(|faults| faults.lose_answers = 2);
    client.chassis_control(Control::Off, soon()).unwrap();
    let controls = bmc.controls();
    assert!(controls.len() >= 3 && controls.iter().all(|control| *control == 0));
    assert_eq!(bmc.sessions().opened, 1);
}

#[test]
fn cycle_reset_and_diag_are_sent_once() {
    let bmc = bmc();
    for control in [Control::Cycle, Control::Reset, Control::Diag] {
        let before = bmc.controls().len();
        let mut client = open(&bmc, |_| ()).unwrap();
        bmc.faults(|faults| faults.lose_answers = 1);
        let error = client.chassis_control(control, shortly()).unwrap_err();
        let (kind, text) = told(&bmc, &error);
        assert_eq!(kind, ErrorKind::PossiblyExecuted);
        assert!(
            text.ends_with(": no answer: it may have been executed or not"),
            "{text}"
        );
        assert!(error.possibly_executed());
        assert_eq!(bmc.controls()[before..], [control as u8]);
        for code in [0xc3, 0xce, 0xff] {
            bmc.faults(|faults| faults.codes = vec![(CHASSIS, 2, code)]);
            let error = client.chassis_control(control, soon()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PossiblyExecuted);
        }
        // Not even begun: it may be said again.
        bmc.faults(|faults| faults.codes = vec![(CHASSIS, 2, 0xc0), (CHASSIS, 2, 0xd0)]);
        client.chassis_control(Control::Reset, soon()).unwrap();
        assert_eq!(bmc.controls()[before..], [control as u8, 3]);
        bmc.set_power(true);
    }
}

#[test]
fn a_lost_session_is_opened_again() {
    for suite in [17, 3] {
        let bmc = bmc();
        let mut client = open(&bmc, |config| config.cipher = Some(suite)).unwrap();
        bmc.forget_sessions();
        client.chassis_control(Control::Off, soon()).unwrap();
        assert!(!bmc.power());
        bmc.forget_sessions();
        assert!(!power(&mut client));
        assert_eq!(
            (client.suite(), client.privilege()),
            (suite, Privilege::Administrator)
        );
        assert!(bmc.sessions().opened >= 3);
        client.close(soon()).unwrap();
        assert_eq!(bmc.sessions().open, 0);
    }
}

#[test]
fn another_bmc_at_the_same_address_is_not_taken_for_the_first() {
    let bmc = bmc();
    let mut client = open(&bmc, |_| ()).unwrap();
    bmc.forget_sessions();
    bmc.set_guid(Guid([9; 16]));
    bmc.set_power(false);
    let error = client.chassis_status(soon()).unwrap_err();
    let (kind, text) = told(&bmc, &error);
    assert_eq!(kind, ErrorKind::Protocol);
    assert!(text.contains("another BMC answers than before"), "{text}");
}

#[test]
fn busy_is_asked_again_until_the_deadline() {
    let bmc = bmc();
    let mut client = open(&bmc, |_| ()).unwrap();
    let codes = [0xc0, 0xc3, 0xd0, 0xd1, 0xff];
    bmc.faults(|faults| faults.codes = codes.map(|code| (CHASSIS, 1, code)).to_vec());
    assert!(power(&mut client));
    bmc.faults(|faults| faults.always = Some((CHASSIS, 1, 0xff)));
    let error = client.chassis_status(shortly()).unwrap_err();
    assert_eq!(
        told(&bmc, &error),
        (
            ErrorKind::Busy,
            "Get Chassis Status: unspecified error (FFh) until the deadline".to_owned()
        )
    );
    bmc.faults(|faults| faults.always = Some((CHASSIS, 2, 0xff)));
    let error = client.chassis_control(Control::Off, shortly()).unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.possibly_executed());
    assert_eq!(bmc.sessions().opened, 1);
}

#[test]
fn not_in_this_state_is_its_own_error() {
    let bmc = bmc();
    bmc.faults(|faults| faults.strict = true);
    let mut client = open(&bmc, |_| ()).unwrap();
    patient(&bmc, &mut client);
    let error = client.chassis_control(Control::On, soon()).unwrap_err();
    assert_eq!(
        told(&bmc, &error),
        (
            ErrorKind::NotInThisState,
            "Chassis Control (on): not supported in present state (D5h)".to_owned()
        )
    );
    assert!(!error.possibly_executed());
    // The first of two was carried out.
    bmc.faults(|faults| faults.lose_answers = 1);
    let error = client.chassis_control(Control::Off, soon()).unwrap_err();
    assert!(error.kind() == ErrorKind::NotInThisState && error.possibly_executed());
    assert!(!power(&mut client));
}

#[test]
fn faults_of_power_are_data() {
    let bmc = bmc();
    bmc.faults(|faults| {
        faults.power_control_fault = true;
        faults.ignore_offs = 1;
        faults.ignore_on = true;
        faults.off_delay = Duration::from_secs(2);
    });
    let mut client = open(&bmc, |_| ()).unwrap();
    client.chassis_control(Control::Off, soon()).unwrap();
    let status = client.chassis_status(soon()).unwrap();
    assert!(status.power_on && status.power_control_fault && !status.power_fault);
    client.chassis_control(Control::Off, soon()).unwrap();
    assert!(power(&mut client), "not yet");
    while power(&mut client) {
        std::thread::sleep(Duration::from_millis(10));
    }
    client.chassis_control(Control::On, soon()).unwrap();
    assert!(!power(&mut client));
}

#[test]
fn a_short_answer_is_no_state() {
    let bmc = bmc();
    let mut client = open(&bmc, |_| ()).unwrap();
    bmc.faults(|faults| faults.codes = vec![(CHASSIS, 1, 0x00)]);
    let error = client.chassis_status(soon()).unwrap_err();
    assert_eq!(
        told(&bmc, &error),
        (
            ErrorKind::Protocol,
            "Get Chassis Status: an answer of 0 bytes is too short".to_owned()
        )
    );
}

#[test]
fn ipmi_15_is_told_from_nobody() {
    let bmc = bmc();
    bmc.faults(|faults| faults.ipmi15 = true);
    let (kind, _) = refusal(&bmc, |_| ());
    assert_eq!(kind, ErrorKind::NoIpmi20);
}

#[test]
fn a_bmc_that_keeps_its_list_of_suites_to_itself() {
    let bmc = bmc();
    bmc.faults(|faults| faults.no_cipher_list = true);
    let mut client = open(&bmc, |_| ()).unwrap();
    assert_eq!(client.suite(), 17);
    let error = client.cipher_suites(shortly()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[test]
fn a_slow_bmc_is_heard_out() {
    let bmc = bmc();
    bmc.faults(|faults| faults.answer_delay = Duration::from_millis(400));
    let mut client = open(&bmc, |_| ()).unwrap();
    assert!(power(&mut client));
    client.close(soon()).unwrap();
}

#[test]
fn nobody_there() {
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut config = Config::new("127.0.0.1", "admin", "secret");
    config.port = port;
    let begin = Instant::now();
    let error = Client::open(&config, soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        error.to_string(),
        format!("127.0.0.1 port {port}: nothing answers there: Connection refused (os error 111)")
    );
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "it does not wait for the deadline"
    );

    // Until it is back, as after a restart of the BMC.
    config.refused = Refused::KeepTrying;
    let bmc = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        let mut setup = Setup::new("admin", "secret");
        setup.bind.set_port(port);
        Bmc::start(setup)
    });
    let mut client = Client::open(&config, soon()).unwrap();
    let bmc = bmc.join().unwrap();
    assert!(power(&mut client));
    drop(bmc);
    let error = client.chassis_status(shortly()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[test]
fn all_addresses_of_a_name_are_tried() {
    let bmc = bmc();
    // `localhost` is ::1 as well where there is IPv6; our BMC is at 127.0.0.1 only.
    let mut client = open(&bmc, |config| config.address = "localhost".into()).unwrap();
    assert!(power(&mut client));
    assert_eq!(client.peer(), bmc.address());
}

#[test]
#[ignore = "needs IPv6: cargo lab test"]
fn ipv6() {
    let mut setup = Setup::new("admin", "secret");
    setup.bind = "[::1]:0".parse().unwrap();
    let bmc = Bmc::start(setup);
    for address in ["::1", "[::1]"] {
        let mut client = open(&bmc, |config| config.address = address.into()).unwrap();
        assert!(power(&mut client), "{address}");
    }
}

#[test]
fn an_interruption_ends_every_wait() {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let bmc = bmc();
    let interruptible = |config: &mut Config| config.interrupted = Some(&INTERRUPTED);
    let mut client = open(&bmc, interruptible).unwrap();
    bmc.faults(|faults| faults.silent = true);
    let thread = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(300));
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    let error = client.chassis_control(Control::Off, soon()).unwrap_err();
    thread.join().unwrap();
    assert!(error.kind() == ErrorKind::Interrupted && error.possibly_executed());
    let (kind, _) = refusal(&bmc, interruptible);
    assert_eq!(kind, ErrorKind::Interrupted);
    // The session can still be closed.
    bmc.faults(|faults| faults.silent = false);
    client.close(soon()).unwrap();
    assert_eq!(bmc.sessions().open, 0);
}

#[test]
fn a_deadline_that_is_over_is_over() {
    let bmc = bmc();
    let over = Instant::now();
    let error = Client::open(&bmc.config("admin", "secret"), over).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let mut client = open(&bmc, |_| ()).unwrap();
    let error = client.chassis_control(Control::Off, over).unwrap_err();
    assert!(!error.possibly_executed(), "nothing was sent: {error}");
    assert!(bmc.power() && bmc.controls().is_empty());
    client.chassis_control(Control::Off, soon()).unwrap();
}
