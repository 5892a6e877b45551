//! The power of a machine that does not exist.

use std::time::{Duration, Instant};

use crate::testing::server::Faults;

/// Told of every change of the power.
pub(super) type Hook = Box<dyn FnMut(bool) + Send>;

pub(super) struct Chassis {
    on: bool,
    /// What will happen by itself.
    pending: Vec<(Instant, bool)>,
    /// The control commands that were carried out, or only acknowledged.
    pub(super) controls: Vec<u8>,
    hook: Option<Hook>,
}

/// Not supported in present state.
const NOT_NOW: u8 = 0xd5;
/// Invalid data field in request.
const INVALID: u8 = 0xcc;

impl Chassis {
    pub(super) fn new(on: bool, hook: Option<Hook>) -> Chassis {
        Chassis {
            on,
            pending: Vec::new(),
            controls: Vec::new(),
            hook,
        }
    }

    pub(super) fn is_on(&mut self, now: Instant) -> bool {
        while let Some((at, on)) = self.pending.first().copied() {
            if at > now {
                break;
            }
            self.pending.remove(0);
            self.set(on);
        }
        self.on
    }

    pub(super) fn set(&mut self, on: bool) {
        if self.on != on {
            self.on = on;
            if let Some(hook) = &mut self.hook {
                hook(on);
            }
        }
    }

    /// Carries out a control command. The completion code.
    pub(super) fn control(&mut self, control: u8, faults: &mut Faults, now: Instant) -> u8 {
        let on = self.is_on(now);
        if faults.strict && (control == u8::from(on) || (control > 1 && !on)) {
            return NOT_NOW;
        }
        self.controls.push(control);
        match control {
            0 => self.off(faults, now),
            1 if !faults.ignore_on => self.set(true),
            1 => {}
            2 if !on => return NOT_NOW,
            2 => {
                self.off(faults, now);
                let back = now + faults.off_delay + Duration::from_millis(200);
                if !faults.ignore_on {
                    self.pending.push((back, true));
                }
            }
            3 | 4 => {}
            _ => return INVALID,
        }
        0
    }

    fn off(&mut self, faults: &mut Faults, now: Instant) {
        if faults.ignore_offs > 0 {
            faults.ignore_offs -= 1;
        } else if faults.off_delay.is_zero() {
            self.set(false);
        } else {
            self.pending.push((now + faults.off_delay, false));
        }
    }
}
