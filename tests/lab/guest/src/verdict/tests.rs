//! Synthetic runs, of which it is known whether they are right.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const SLOTS: u64 = 8;

/// A disk, a writer and a collector that behave, as far as a test lets them.
struct World {
    log: String,
    slots: Vec<State>,
    connection: u64,
    next: u64,
    clock: u64,
}

/// What becomes of the record that a writer is at when it is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    NotBegun,
    Whole,
    Torn,
}

fn ok(seq: u64) -> State {
    let writer = "w".to_owned();
    State::Ok { writer, seq }
}

fn torn(seq: u64) -> State {
    let claims = Some(("w".to_owned(), seq));
    State::Torn { claims, at: 520 }
}

impl World {
    fn new() -> World {
        World {
            log: String::new(),
            slots: vec![State::Empty; SLOTS as usize],
            connection: 0,
            next: 1,
            clock: 0,
        }
    }

    fn say(&mut self, text: &str) {
        self.clock += 1;
        let (time, connection) = (self.clock, self.connection);
        writeln!(self.log, "{time}.0 {connection} {text}").unwrap();
    }

    fn start(&mut self, resumed: bool) {
        self.connection += 1;
        self.say("hello w slots=8 size=4096 boot=b path=/ring");
        if resumed {
            let own = self.slots.iter().filter_map(|state| match state {
                State::Ok { seq, .. } => Some(*seq),
                _ => None,
            });
            self.next = own.max().map_or(1, |seq| seq + 1);
        } else {
            self.next = 1;
            self.slots.fill(State::Empty);
        }
        let how = if resumed { "resumed" } else { "fresh" };
        self.say(&format!("begin {} {how}", self.next));
    }

    fn slot(&mut self, seq: u64) -> &mut State {
        &mut self.slots[(seq % SLOTS) as usize]
    }

    fn write(&mut self, count: u64) {
        for _ in 0..count {
            let seq = self.next;
            *self.slot(seq) = ok(seq);
            let begin = self.clock * 1_000_000_000;
            self.say(&format!("ack {seq} {begin} {} 1", begin + 500_000));
            self.next += 1;
        }
    }

    fn kill(&mut self, fate: Fate) {
        let seq = self.next;
        match fate {
            Fate::NotBegun => {}
            Fate::Whole => *self.slot(seq) = ok(seq),
            Fate::Torn => *self.slot(seq) = torn(seq),
        }
        self.say("end");
    }

    fn bye(&mut self) {
        self.say(&format!("bye {} clean", self.next));
        self.say("end");
    }

    /// A fresh writer that wrote so many records and ended by intent.
    fn after(count: u64) -> World {
        let mut world = World::new();
        world.start(false);
        world.write(count);
        world.bye();
        world
    }

    fn report(&self) -> Report {
        let ring = Ring {
            path: "/ring".into(),
            size: 4096,
            slots: self.slots.clone(),
        };
        verdict(&Acks::parse(&self.log).unwrap(), &ring)
    }

    /// The one problem there is, in words.
    fn problem(&self) -> String {
        let report = self.report();
        let [problem] = &report.problems[..] else {
            panic!("{report}")
        };
        problem.to_string()
    }
}

#[test]
fn a_good_run() {
    let report = World::after(20).report();
    report.check().unwrap();
    assert_eq!(
        report.to_string(),
        "w: 20 records acknowledged, 1 to 20, ended by intent\n  \
         longest gap 1.000 s, after record 19, 21.000 to 22.000\n  \
         a record took 0.5 ms (median), 0.5 ms (99 of 100), 0.5 ms (longest)\n\
         /ring, 8 slots: OK, every acknowledged record is there"
    );
}

#[test]
fn nothing_acknowledged_is_not_ok() {
    let mut world = World::new();
    world.start(false);
    world.bye();
    assert_eq!(world.problem(), "no record was acknowledged");
    assert!(
        !verdict(
            &Acks::default(),
            &Ring::parse("ring /p slots=0 size=1\nend 0\n").unwrap()
        )
        .is_ok()
    );
}

/// Slot 3 had record 19 after record 11 and record 3.
#[test]
fn everything_that_can_be_in_a_slot_instead() {
    let misplaced = State::Misplaced {
        writer: "w".into(),
        seq: 18,
        slot: 2,
        slots: 8,
    };
    let other = State::Ok {
        writer: "v".into(),
        seq: 19,
    };
    for (found, text) in [
        (State::Empty, "nothing"),
        (ok(11), "its older record 11"),
        (ok(27), "its record 27, which was not written yet"),
        (other, "record 19 of v"),
        (State::Foreign, "something foreign"),
        (torn(19), "\"19 w torn at=520\""),
        (misplaced, "\"18 w misplaced for=2 of=8\""),
        (State::Unreadable("bad".into()), "\"- - unreadable bad\""),
    ] {
        let mut world = World::after(20);
        world.slots[3] = found;
        let expected = format!("slot 3: record 19 of w was acknowledged, but there is {text}");
        assert_eq!(world.problem(), expected);
        assert!(
            world
                .report()
                .to_string()
                .contains("WRONG\n  slot 3: record 19")
        );
        assert!(world.report().check().is_err());
    }
}

#[test]
fn nothing_may_be_where_nothing_was_acknowledged() {
    for (found, text) in [
        (ok(7), "its record 7, which was not written yet"),
        (torn(7), "\"7 w torn at=520\""),
        (State::Foreign, "something foreign"),
    ] {
        let mut world = World::after(5);
        world.slots[7] = found;
        let expected = format!("slot 7: nothing was acknowledged, but there is {text}");
        assert_eq!(world.problem(), expected);
    }
}

#[test]
fn two_records_exchanged_are_both_reported() {
    let mut world = World::after(20);
    let at = |slot| State::Misplaced {
        writer: "w".into(),
        seq: slot + 16,
        slot,
        slots: SLOTS,
    };
    (world.slots[1], world.slots[2]) = (at(2), at(1));
    assert_eq!(world.report().problems.len(), 2);
}

/// Of a writer that ended by intent nothing is in flight: damage is damage.
#[test]
fn after_a_bye_nothing_is_in_flight() {
    let mut world = World::after(20);
    *world.slot(21) = ok(21);
    assert!(world.problem().contains("its record 21"));
    let mut world = World::after(20);
    *world.slot(21) = torn(21);
    assert!(world.problem().contains("record 13 of w"));
}

#[test]
fn a_record_given_up_may_be_there_or_not() {
    for state in [ok(21), torn(21), ok(13)] {
        let mut world = World::after(20);
        world.log = world.log.replace("bye 21 clean", "bye 21 pending");
        *world.slot(21) = state;
        world.report().check().unwrap();
    }
}

#[test]
fn a_disk_that_went_back_in_time_before_a_resume_is_caught() {
    let mut world = World::after(20);
    for seq in 18..=20 {
        *world.slot(seq) = ok(seq - SLOTS);
    }
    world.start(true);
    world.write(20);
    world.bye();
    assert_eq!(
        world.problem(),
        "w was started again and found records up to 17, but 20 was the last acknowledged"
    );
}

#[test]
fn a_writer_of_the_same_name_at_the_same_time_is_caught() {
    let mut world = World::after(20);
    world.start(true);
    world.connection = 1;
    let line = "ack 21 90000 90500 1";
    world.say(line);
    world.connection = 2;
    world.write(3);
    let text = world.report().to_string();
    assert!(
        text.contains("two writers called w were at work at once"),
        "{text}"
    );
}

#[test]
fn two_writers_on_one_ring_are_caught() {
    let mut world = World::after(20);
    world.connection = 9;
    world.say("hello v slots=8 size=4096 boot=b path=/ring");
    world.say("begin 1 resumed");
    world.say("ack 1 0 1 1");
    world.slots[1] = State::Ok {
        writer: "v".into(),
        seq: 1,
    };
    let text = world.report().to_string();
    assert!(text.contains("several writers: v, w"), "{text}");
    assert!(text.contains("slot 1: record 17 of w was acknowledged, but there is record 1 of v"));
    // And the other way round: what w wrote last is no excuse for what v lost.
    world.slots[1] = ok(17);
    let text = world.report().to_string();
    assert!(text.contains("slot 1: record 1 of v was acknowledged, but there is record 17 of w"));
}

#[test]
fn what_the_writer_saw_itself_counts() {
    let mut world = World::after(20);
    world.start(true);
    world.say("wrong slot 5: expected \"13 w ok\", found \"5 w ok\"");
    world.write(1);
    world.bye();
    let expected = "seen while writing: slot 5: expected \"13 w ok\", found \"5 w ok\"";
    assert_eq!(world.problem(), expected);
}

#[test]
fn a_ring_of_another_shape_is_caught() {
    let mut world = World::after(20);
    world.log = world.log.replace("size=4096", "size=8192");
    let expected = "w wrote 8 slots of 8192 bytes, and 8 of 4096 were read back";
    assert_eq!(world.problem(), expected);
}

#[test]
fn a_log_that_begins_later_than_the_ring_is_no_problem() {
    let mut world = World::after(20);
    world.log.clear();
    world.start(true);
    world.write(3);
    world.bye();
    world.report().check().unwrap();
    world.slots[4] = ok(28);
    assert!(world.problem().contains("slot 4: nothing was acknowledged"));
}

#[test]
fn a_fresh_start_forgets_what_was_there() {
    let mut world = World::after(20);
    world.start(false);
    world.write(3);
    world.bye();
    world.report().check().unwrap();
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![Just(Fate::NotBegun), Just(Fate::Whole), Just(Fate::Torn)]
}

/// Runs of a writer that is killed again and again, each time with a record in flight.
fn lives() -> impl Strategy<Value = Vec<(u64, Fate)>> {
    proptest::collection::vec((0u64..30, fate()), 1..6)
}

fn live(lives: &[(u64, Fate)]) -> World {
    let mut world = World::new();
    for (life, (count, fate)) in lives.iter().enumerate() {
        world.start(life > 0);
        world.write(*count + u64::from(life == 0));
        world.kill(*fate);
    }
    world
}

proptest! {
    /// Storage that keeps its promises is never blamed.
    #[test]
    fn no_false_alarm(lives in lives()) {
        let report = live(&lives).report();
        prop_assert!(report.is_ok(), "{report}");
    }

    /// Whatever is done to one acknowledged record, it is that slot which is reported.
    #[test]
    fn no_miss(lives in lives(), slot in 0..SLOTS, what in 0..7, back in 1u64..5) {
        let mut world = live(&lives);
        let acks = Acks::parse(&world.log).unwrap();
        let account = account(&acks.writers["w"]);
        let expected = account.slots.get(&slot);
        let last = expected.and_then(|expected| expected.last);
        let in_flight = expected.is_some_and(|expected| !expected.in_flight.is_empty());
        let Some(seq) = last.filter(|_| !in_flight) else {
            return Err(TestCaseError::reject("no record that has to be there"));
        };
        let at = &mut world.slots[slot as usize];
        *at = match what {
            0 => State::Empty,
            1 => State::Foreign,
            2 => torn(seq),
            3 => State::Ok { writer: "v".into(), seq },
            4 => ok(seq + back * SLOTS),
            5 if seq >= back * SLOTS => ok(seq - back * SLOTS),
            5 => State::Empty,
            _ => State::Misplaced { writer: "w".into(), seq: seq + 1, slot: slot + 1, slots: SLOTS },
        };
        let report = world.report();
        prop_assert_eq!(report.problems.len(), 1, "{}", &report);
        prop_assert!(
            matches!(&report.problems[0], Problem::Lost { slot: there, seq: lost, .. }
                if (*there, *lost) == (slot, seq)),
            "{}", report
        );
    }

    /// A whole disk that shows an earlier moment is caught, unless nothing was acknowledged since.
    #[test]
    fn a_rollback_is_caught(lives in lives(), count in 1u64..30) {
        let mut world = live(&lives);
        world.start(true);
        let before = world.slots.clone();
        world.write(count);
        world.bye();
        world.report().check().unwrap();
        world.slots = before;
        prop_assert!(!world.report().is_ok());
    }
}
