//! A BMC that behaves, on a clock that tests own, and that misbehaves at any step.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use host::testing::{Killed, Script};
use ocf::fence::Power;

use crate::bmc::{Bmc, Chassis, Control, Fault, Kind, Opener, Patience};
use crate::guid::Guid;

/// How long an answer takes.
const ROUND_TRIP: Duration = Duration::from_millis(10);

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The BMC says no, and did nothing.
    Says(Kind),
    /// It does not answer, and did nothing.
    Silent,
    /// It did it, and the answer was lost.
    Lost,
    /// It says yes, and does nothing.
    Ignores,
    /// It says yes, and does it seven seconds later.
    Late,
    /// It answers "off", whatever the power is. One reading is never believed.
    Glitch,
    /// SIGKILL to the agent.
    Kill,
    /// SIGTERM to the agent.
    Term,
}

pub const GUID: Guid = Guid([7; 16]);

/// A clone is the same BMC.
#[derive(Clone)]
pub struct Chip {
    pub script: Script,
    inner: Rc<RefCell<Inner>>,
}

pub struct Inner {
    on: bool,
    /// Changes that are under way.
    coming: Vec<(Instant, bool)>,
    /// Was the power really off at some time?
    pub was_off: bool,
    /// All steps: what the agent asked for.
    pub steps: Vec<&'static str>,
    /// What goes wrong, by step.
    pub once: BTreeMap<usize, Wrong>,
    /// What goes wrong at every step from this one on.
    pub from: Option<(usize, Wrong)>,
    /// How long the power supply takes to drop.
    pub drop: Duration,
    /// Commands that are acknowledged and ignored.
    pub ignored_offs: usize,
    pub refuses_on: bool,
    /// Completion code D5 for "off" where it is off.
    pub strict: bool,
    /// How long the power stays off in a cycle; zero: it is never seen to be off.
    pub cycle: Duration,
    pub guid: Option<Guid>,
    /// Another BMC, with another power, is at the address from this session on, counted from 1.
    pub replaced_at: usize,
    pub cause: Option<u8>,
    pub may_control: Option<bool>,
    pub control_fault: bool,
    pub commands: Vec<Control>,
    pub opened: usize,
    pub closed: usize,
    pub interrupted: bool,
}

impl Chip {
    pub fn new(on: bool) -> Chip {
        let inner = Inner {
            on,
            coming: Vec::new(),
            was_off: !on,
            steps: Vec::new(),
            once: BTreeMap::new(),
            from: None,
            drop: Duration::from_millis(1200),
            ignored_offs: 0,
            refuses_on: false,
            strict: false,
            cycle: Duration::from_secs(1),
            guid: Some(GUID),
            replaced_at: usize::MAX,
            cause: Some(4),
            may_control: Some(true),
            control_fault: false,
            commands: Vec::new(),
            opened: 0,
            closed: 0,
            interrupted: false,
        };
        Chip {
            script: Script::empty(),
            inner: Rc::new(RefCell::new(inner)),
        }
    }

    /// The BMC's inner state, at this moment.
    pub fn look(&self) -> RefMut<'_, Inner> {
        let now = self.now();
        let mut inner = self.inner.borrow_mut();
        inner.coming.sort_by_key(|(at, _)| *at);
        while let Some((_, on)) = inner.coming.first().copied().filter(|(at, _)| *at <= now) {
            inner.coming.remove(0);
            inner.on = on;
            inner.was_off |= !on;
        }
        inner.was_off |= !inner.on;
        inner
    }

    pub fn is_on(&self) -> bool {
        self.look().on
    }

    /// As it was made, with one more thing wrong.
    pub fn with(self, change: impl FnOnce(&mut Inner)) -> Chip {
        change(&mut self.inner.borrow_mut());
        self
    }

    fn now(&self) -> Instant {
        self.script.host(Duration::from_secs(1)).now()
    }

    /// A step: what goes wrong at it, if anything does.
    fn step(&self, what: &'static str, by: Instant) -> Result<Option<Wrong>, Fault> {
        self.script.advance(ROUND_TRIP);
        let wrong = {
            let mut inner = self.look();
            let at = inner.steps.len();
            inner.steps.push(what);
            let from = inner.from.filter(|(first, _)| at >= *first);
            inner.once.remove(&at).or(from.map(|(_, wrong)| wrong))
        };
        match wrong {
            Some(Wrong::Kill) => resume_unwind(Box::new(Killed)),
            Some(Wrong::Term) => {
                self.inner.borrow_mut().interrupted = true;
                Err(Kind::Interrupted.because(""))
            }
            Some(Wrong::Says(kind)) => Err(kind.because("said the test")),
            Some(Wrong::Silent) => Err(self.silence(by)),
            wrong => Ok(wrong),
        }
    }

    fn silence(&self, by: Instant) -> Fault {
        self.script
            .advance(by.saturating_duration_since(self.now()));
        Kind::TimedOut.because("nothing was heard")
    }

    fn change(&self, on: bool, after: Duration) {
        let at = self.now() + after;
        self.inner.borrow_mut().coming.push((at, on));
    }
}

impl Opener for Chip {
    fn open(&self, _: Patience, by: Instant) -> Result<Box<dyn Bmc + '_>, Fault> {
        let wrong = self.step("open", by)?;
        if wrong == Some(Wrong::Lost) {
            // The session is there, and nobody knows of it.
            return Err(self.silence(by));
        }
        {
            let mut inner = self.inner.borrow_mut();
            inner.opened += 1;
            if inner.opened == inner.replaced_at {
                inner.guid = Some(Guid([8; 16]));
            }
        }
        Ok(Box::new(self.clone()))
    }
}

impl Bmc for Chip {
    fn chassis(&mut self, by: Instant) -> Result<Chassis, Fault> {
        let wrong = self.step("chassis", by)?;
        if wrong == Some(Wrong::Lost) {
            return Err(self.silence(by));
        }
        let inner = self.look();
        let on = inner.on && wrong != Some(Wrong::Glitch);
        Ok(Chassis {
            power: if on { Power::On } else { Power::Off },
            control_fault: inner.control_fault,
        })
    }

    fn control(&mut self, control: Control, by: Instant) -> Result<(), Fault> {
        let name = match control {
            Control::On => "on",
            Control::Off => "off",
            Control::Cycle => "cycle",
            Control::Reset => "reset",
        };
        let wrong = self.step(name, by)?;
        self.inner.borrow_mut().commands.push(control);
        let late = if wrong == Some(Wrong::Late) { 7 } else { 0 };
        let late = Duration::from_secs(late);
        let (on, strict, refuses_on, drop, cycle) = {
            let inner = self.look();
            (
                inner.on,
                inner.strict,
                inner.refuses_on,
                inner.drop,
                inner.cycle,
            )
        };
        if strict && !on && control != Control::On {
            return Err(Kind::NotNow.because("D5h"));
        }
        let ignored = control == Control::Off && {
            let mut inner = self.inner.borrow_mut();
            let ignored = inner.ignored_offs > 0;
            inner.ignored_offs = inner.ignored_offs.saturating_sub(1);
            ignored
        };
        if wrong != Some(Wrong::Ignores) && !ignored {
            match control {
                Control::On if refuses_on => {}
                Control::On => self.change(true, late + Duration::from_millis(300)),
                Control::Off => self.change(false, late + drop),
                Control::Cycle if cycle.is_zero() => {}
                Control::Cycle => {
                    self.change(false, late + drop);
                    self.change(true, late + drop + cycle);
                }
                Control::Reset => self.inner.borrow_mut().cause = Some(1),
            }
        }
        match wrong {
            Some(Wrong::Lost) => Err(self.silence(by)),
            _ => Ok(()),
        }
    }

    fn session_guid(&self) -> Option<Guid> {
        self.inner.borrow().guid
    }

    fn system_guid(&mut self, by: Instant) -> Result<Option<Guid>, Fault> {
        self.step("guid", by)?;
        Ok(self.inner.borrow().guid)
    }

    fn restart_cause(&mut self, by: Instant) -> Result<u8, Fault> {
        self.step("cause", by)?;
        let cause = self.inner.borrow().cause;
        cause.ok_or(Kind::Refused.because("C1h"))
    }

    fn may_control(&self) -> Option<bool> {
        self.inner.borrow().may_control
    }

    fn session(&self) -> String {
        "a test".into()
    }

    fn survey(&mut self, _: Instant) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn close(&mut self, _: Instant) {
        self.inner.borrow_mut().closed += 1;
    }
}
