//! What the agent concludes from what a BMC shows it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use anyhow::Result;
use host::testing::Killed;
use ocf::fence::{Action, Power, Task};

use super::chip::{Chip, GUID, Wrong};
use crate::bmc::{Control, Kind};
use crate::course::{Course, Method, Plan};
use crate::guid::Guid;

/// What an action has in all.
const LIMIT: Duration = Duration::from_secs(55);

fn plan() -> Plan {
    Plan {
        device: "BMC test".into(),
        question: Duration::from_secs(5),
        pin: None,
        readings: 2,
        interval: Duration::from_millis(500),
        settle: Duration::ZERO,
        hold: Duration::from_secs(2),
        reach: Duration::from_secs(10),
        off: Duration::from_secs(40),
        on: Duration::from_secs(15),
        method: Method::OnOff,
    }
}

/// An action on a BMC: what it came to, and how long it took.
fn run(chip: &Chip, plan: &Plan, action: Action) -> (Result<Option<Power>>, Duration) {
    let host = chip.script.host(LIMIT);
    let began = host.now();
    // The host's own deadline leaves a margin; the agent's is exact.
    let interrupted = || chip.look().interrupted;
    let task = Task::new(&host, action, None, &interrupted);
    let mut course = Course::new(plan, &task, chip);
    let result = match action {
        Action::Status => course.look().map(|chassis| Some(chassis.power)),
        Action::Monitor => course
            .look()
            .and_then(|_| course.must_obey())
            .map(|()| None),
        Action::On => course.on().map(|()| None),
        Action::Off => course.off().map(|()| None),
        _ => course.reboot().map(|()| None),
    };
    drop(course);
    (result, host.now() - began)
}

fn ok(chip: &Chip, plan: &Plan, action: Action) -> Duration {
    let (result, took) = run(chip, plan, action);
    result.unwrap_or_else(|error| panic!("{action:?}: {error:#}"));
    took
}

fn error(chip: &Chip, plan: &Plan, action: Action) -> String {
    let (result, _) = run(chip, plan, action);
    format!("{:#}", result.expect_err("an error"))
}

#[test]
fn a_reboot_is_one_session_and_is_off_before_it_is_on() {
    let chip = Chip::new(true);
    ok(&chip, &plan(), Action::Reboot);
    let inner = chip.look();
    assert_eq!(inner.commands, [Control::Off, Control::On]);
    assert!(inner.was_off);
    assert_eq!((inner.opened, inner.closed), (1, 1));
    drop(inner);
    assert!(chip.is_on());
}

#[test]
fn status_says_what_is() {
    for (on, power) in [(true, Power::On), (false, Power::Off)] {
        let chip = Chip::new(on);
        assert_eq!(run(&chip, &plan(), Action::Status).0.unwrap(), Some(power));
        assert_eq!(chip.look().steps, ["open", "chassis"]);
        assert_eq!(chip.look().closed, 1);
    }
}

#[test]
fn off_takes_two_readings_and_no_command_where_it_is_off() {
    let chip = Chip::new(false).with(|bmc| bmc.strict = true);
    ok(&chip, &plan(), Action::Off);
    assert_eq!(chip.look().steps, ["open", "chassis", "chassis"]);
    let chip = Chip::new(false).with(|bmc| bmc.strict = true);
    ok(&chip, &plan(), Action::Reboot);
    assert_eq!(chip.look().commands, [Control::On]);
}

#[test]
fn an_off_that_was_ignored_is_sent_again() {
    let chip = Chip::new(true).with(|bmc| bmc.ignored_offs = 3);
    ok(&chip, &plan(), Action::Off);
    assert_eq!(chip.look().commands, [Control::Off; 4]);
    assert!(!chip.is_on());
    let chip = Chip::new(true).with(|bmc| bmc.ignored_offs = usize::MAX);
    assert_eq!(
        error(&chip, &plan(), Action::Reboot),
        "BMC test: timed out after 39.7 s: power is on, after 8 commands; expected off"
    );
}

#[test]
fn a_power_control_fault_is_named() {
    let chip = Chip::new(true).with(|bmc| {
        bmc.ignored_offs = usize::MAX;
        bmc.control_fault = true;
    });
    let said = error(&chip, &plan(), Action::Off);
    assert!(
        said.contains(": power control fault: power is on"),
        "{said}"
    );
}

#[test]
fn an_off_that_takes_its_time_is_waited_for() {
    let chip = Chip::new(true).with(|bmc| bmc.drop = Duration::from_secs(12));
    let took = ok(&chip, &plan(), Action::Off);
    assert!(took >= Duration::from_secs(12), "{took:?}");
    assert!(!chip.is_on());
}

#[test]
fn a_node_that_stays_off_is_fenced_all_the_same_and_in_time() {
    let chip = Chip::new(true).with(|bmc| bmc.refuses_on = true);
    let took = ok(&chip, &plan(), Action::Reboot);
    assert!(took <= LIMIT, "{took:?}");
    assert!(!chip.is_on());
    assert_eq!(
        error(&chip, &plan(), Action::On),
        "BMC test: timed out after 52.7 s: power is off, after 11 commands; expected on"
    );
}

#[test]
fn power_wait_is_kept_before_off_is_believed_and_before_on() {
    let mut plan = plan();
    (plan.settle, plan.hold) = (Duration::from_secs(4), Duration::from_secs(4));
    let chip = Chip::new(true).with(|bmc| bmc.drop = Duration::ZERO);
    let took = ok(&chip, &plan, Action::Off);
    assert!(took >= Duration::from_secs(4), "{took:?}");
    let chip = Chip::new(true).with(|bmc| bmc.drop = Duration::ZERO);
    assert!(ok(&chip, &plan, Action::Reboot) >= Duration::from_secs(8));
}

/// Whatever wait is asked for, there is time left for what comes after it.
#[test]
fn a_long_power_wait_leaves_time_to_power_on() {
    for seconds in [0, 15, 60] {
        let wait = format!("power_wait={seconds}");
        let plan = super::parameters::plan_of(&["ip=192.0.2.1", "username=u", &wait]);
        let chip = Chip::new(true);
        let host = chip.script.host(Duration::from_secs(300));
        let interrupted = || false;
        let task = Task::new(&host, Action::Reboot, None, &interrupted);
        Course::new(&plan, &task, &chip).reboot().unwrap();
        let commands = &chip.look().commands;
        assert_eq!(*commands, [Control::Off, Control::On], "{wait}");
    }
}

#[test]
fn more_readings_can_be_asked_for() {
    let mut plan = plan();
    plan.readings = 5;
    let chip = Chip::new(false);
    ok(&chip, &plan, Action::Off);
    assert_eq!(chip.look().steps.len(), 1 + 5);
}

#[test]
fn a_single_reading_of_off_is_not_believed() {
    for at in [1, 3, 5, 7] {
        let chip = Chip::new(true).with(|bmc| {
            bmc.ignored_offs = usize::MAX;
            bmc.once.insert(at, Wrong::Glitch);
            bmc.once.insert(at + 4, Wrong::Glitch);
        });
        let (result, _) = run(&chip, &plan(), Action::Off);
        assert!(result.is_err(), "glitches at {at}");
    }
}

#[test]
fn another_bmc_is_told_by_its_guid_and_left_alone() {
    let mut plan = plan();
    plan.pin = Some(GUID);
    let other: Guid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
    for action in [
        Action::Off,
        Action::Reboot,
        Action::On,
        Action::Status,
        Action::Monitor,
    ] {
        let chip = Chip::new(true).with(|bmc| bmc.guid = Some(other));
        assert_eq!(
            error(&chip, &plan, action),
            format!("BMC test: GUID mismatch: found {other}, expected {GUID}")
        );
        assert!(chip.look().commands.is_empty());
        let opened = chip.look().opened;
        let closed = chip.look().closed;
        assert_eq!(opened, closed);
        let blank = Chip::new(true).with(|bmc| bmc.guid = Some(Guid([0; 16])));
        assert_eq!(
            error(&blank, &plan, action),
            format!("BMC test: GUID mismatch: found no GUID, expected {GUID}")
        );
    }
    let right = Chip::new(true);
    ok(&right, &plan, Action::Reboot);
}

#[test]
fn a_bmc_is_not_exchanged_during_an_action() {
    let chip = Chip::new(true).with(|bmc| {
        bmc.replaced_at = 2;
        bmc.ignored_offs = usize::MAX;
        bmc.once = BTreeMap::from([(3, Wrong::Silent)]);
    });
    assert_eq!(
        error(&chip, &plan(), Action::Off),
        format!(
            "BMC test: GUID mismatch: found {}, before it was {GUID}",
            Guid([8; 16])
        )
    );
}

#[test]
fn a_session_that_may_only_look_fails_the_monitor() {
    let chip = Chip::new(true).with(|bmc| bmc.may_control = Some(false));
    ok(&chip, &plan(), Action::Status);
    let said = error(&chip, &plan(), Action::Monitor);
    assert!(said.starts_with("BMC test: privilege too low: "), "{said}");
}

#[test]
fn mistakes_and_silence_fail_soon_with_their_reason() {
    for kind in [
        Kind::UnknownUser,
        Kind::WrongPassword,
        Kind::WrongKg,
        Kind::NoCommonSuite,
        Kind::Privilege,
        Kind::NoIpmi20,
        Kind::Setup,
        Kind::Unreachable,
    ] {
        for action in [
            Action::Off,
            Action::Reboot,
            Action::On,
            Action::Status,
            Action::Monitor,
        ] {
            let chip = Chip::new(true).with(|bmc| bmc.from = Some((0, Wrong::Says(kind))));
            let (result, took) = run(&chip, &plan(), action);
            let said = format!("{:#}", result.unwrap_err());
            assert_eq!(
                said,
                format!("BMC test: {kind}: said the test"),
                "{action:?}"
            );
            assert!(
                took <= Duration::from_secs(11),
                "{action:?}, {kind:?}: {took:?}"
            );
        }
    }
}

#[test]
fn a_bmc_that_restarts_is_waited_for() {
    let silent = |bmc: &mut super::chip::Inner| {
        for at in 3..7 {
            bmc.once.insert(at, Wrong::Silent);
        }
    };
    let chip = Chip::new(true).with(silent);
    ok(&chip, &plan(), Action::Reboot);
    assert!(chip.look().was_off);
    let exhausted = Chip::new(true).with(|bmc| {
        for at in 0..20 {
            bmc.once.insert(at, Wrong::Says(Kind::NoSession));
        }
    });
    ok(&exhausted, &plan(), Action::Reboot);
}

#[test]
fn a_cycle_counts_only_if_it_shows_and_is_never_sent_twice() {
    let mut plan = plan();
    plan.method = Method::Cycle;
    let chip = Chip::new(true);
    ok(&chip, &plan, Action::Reboot);
    assert_eq!(chip.look().commands, [Control::Cycle]);
    assert!(chip.look().was_off);
    // One that was already off is powered on; a cycle would be refused.
    let chip = Chip::new(false).with(|bmc| bmc.strict = true);
    ok(&chip, &plan, Action::Reboot);
    assert_eq!(chip.look().commands, [Control::On]);
    for wrong in [Wrong::Ignores, Wrong::Lost, Wrong::Says(Kind::Refused)] {
        let chip = Chip::new(true).with(|bmc| {
            bmc.cycle = Duration::ZERO;
            bmc.once.insert(2, wrong);
        });
        let (result, _) = run(&chip, &plan, Action::Reboot);
        let said = format!("{:#}", result.unwrap_err());
        assert!(
            said.ends_with("the cycle could not be verified"),
            "{wrong:?}: {said}"
        );
        assert!(chip.look().commands.len() <= 1);
    }
}

#[test]
fn a_reset_counts_only_if_its_cause_shows() {
    let mut plan = plan();
    plan.method = Method::Reset;
    let chip = Chip::new(true);
    ok(&chip, &plan, Action::Reboot);
    assert_eq!(chip.look().commands, [Control::Reset]);
    for cause in [None, Some(1)] {
        let chip = Chip::new(true).with(|bmc| bmc.cause = cause);
        let said = error(&chip, &plan, Action::Reboot);
        assert!(said.ends_with("nothing was sent"), "{said}");
        assert!(chip.look().commands.is_empty());
    }
    // open, chassis, cause: the reset is step 3.
    let chip = Chip::new(true).with(|bmc| bmc.once = BTreeMap::from([(3, Wrong::Ignores)]));
    let said = error(&chip, &plan, Action::Reboot);
    assert!(said.ends_with("the reset could not be verified"), "{said}");
    assert_eq!(chip.look().commands, [Control::Reset]);
}

/// The table: everything that can go wrong, at every step of every action, once or from then on.
#[test]
fn whatever_goes_wrong_nothing_but_off_is_called_off() {
    let wrongs = [
        Wrong::Says(Kind::Busy),
        Wrong::Says(Kind::NotNow),
        Wrong::Says(Kind::Refused),
        Wrong::Says(Kind::Privilege),
        Wrong::Says(Kind::WrongPassword),
        Wrong::Says(Kind::NoSession),
        Wrong::Says(Kind::Protocol),
        Wrong::Says(Kind::Unreachable),
        Wrong::Says(Kind::Unsure),
        Wrong::Silent,
        Wrong::Lost,
        Wrong::Ignores,
        Wrong::Late,
        Wrong::Kill,
        Wrong::Term,
    ];
    let methods = [Method::OnOff, Method::Cycle, Method::Reset];
    let mut cases = 0;
    for method in methods {
        for action in [Action::Status, Action::Off, Action::On, Action::Reboot] {
            for on in [true, false] {
                for pin in [None, Some(GUID)] {
                    let plan = Plan {
                        method,
                        pin,
                        ..plan()
                    };
                    let good = Chip::new(on);
                    ok(&good, &plan, action);
                    let steps = good.look().steps.len();
                    for wrong in wrongs {
                        for at in 0..steps {
                            survives(on, &plan, action, wrong, at, false);
                            survives(on, &plan, action, wrong, at, true);
                            cases += 2;
                        }
                    }
                }
            }
        }
    }
    assert!(cases > 2000, "{cases} cases only");
}

/// One case of the table.
fn survives(on: bool, plan: &Plan, action: Action, wrong: Wrong, at: usize, from_then_on: bool) {
    let chip = Chip::new(on).with(|bmc| match from_then_on {
        true => bmc.from = Some((at, wrong)),
        false => bmc.once = BTreeMap::from([(at, wrong)]),
    });
    let case = format!(
        "{action:?} of {on} by {:?}, {wrong:?} at {at}, on: {from_then_on}",
        plan.method
    );
    let (result, took) = match catch_unwind(AssertUnwindSafe(|| run(&chip, plan, action))) {
        Ok(finished) => finished,
        Err(panic) if panic.is::<Killed>() => {
            // The next one, with a BMC that works, is right.
            let after = chip.clone().with(|bmc| {
                (bmc.from, bmc.was_off) = (None, false);
                bmc.once.clear();
            });
            let plan = Plan {
                method: Method::OnOff,
                ..plan.clone()
            };
            ok(&after, &plan, Action::Reboot);
            assert!(after.look().was_off, "{case}, then a reboot");
            return;
        }
        Err(panic) => resume_unwind(panic),
    };
    assert!(took <= LIMIT, "{case}: took {took:?}");
    let inner = chip.look();
    assert_eq!(inner.opened, inner.closed, "{case}: sessions");
    let resets = inner
        .commands
        .iter()
        .filter(|it| matches!(it, Control::Cycle | Control::Reset));
    assert!(resets.count() <= 1, "{case}: {:?}", inner.commands);
    let reset = plan.method == Method::Reset && inner.cause == Some(1);
    match result {
        Ok(Some(power)) => assert_eq!(power == Power::On, on, "{case}"),
        Ok(None) if action == Action::Reboot => {
            assert!(
                inner.was_off || reset,
                "{case}: fenced without having been off"
            );
        }
        Ok(None) => {
            drop(inner);
            assert_eq!(chip.is_on(), action == Action::On, "{case}");
        }
        Err(error) => {
            let said = format!("{error:#}");
            assert!(said.len() > 10 && !said.contains('\n'), "{case}: {said}");
        }
    }
}
