//! The course of fencing: what is asked of the BMC, in which order, and what is concluded from it.
//!
//! One rule stands above all others: "off" is a state that the BMC showed, several times in a row,
//! in sessions it authenticated. Silence, refusal, a lost answer, an acknowledged command: none of
//! these is "off".

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use log::{debug, info, warn};
use ocf::fence::{Power, Task};

use crate::bmc::{Bmc, Chassis, Control, Fault, Kind, Opener, Patience, Prospect, within};
use crate::guid::Guid;

/// An on or off that shows no effect is sent again after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// A BMC may deny a command for a moment after a change of power (seen on OpenBMC); so often, it
/// means it.
const DENIALS: u32 = 3;
/// With less time than this nothing is asked any more: no answer would mean nothing.
const TOO_LATE: Duration = Duration::from_millis(300);
/// Between two attempts to open a session.
const RECONNECT: Duration = Duration::from_millis(500);
/// How long the end of a session may take: its BMC is done with us anyhow.
const FAREWELL: Duration = Duration::from_millis(500);
/// The BMC's own cycle keeps the power off for a second or so: to see it, one must look often.
const CYCLE_INTERVAL: Duration = Duration::from_millis(100);
/// "Chassis control command", as a cause of the last start (IPMI 2.0, table 28-11).
const BY_COMMAND: u8 = 1;

/// How to go about it: the parameters, as far as they matter here.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The BMC, for messages.
    pub device: String,
    /// The longest that one question may take; after that the session counts as lost.
    pub question: Duration,
    pub pin: Option<Guid>,
    /// How many "off" in a row are believed; at least 2.
    pub readings: u32,
    /// The time between two readings.
    pub interval: Duration,
    /// How long after the last "off" command no "off" is believed yet.
    pub settle: Duration,
    /// How long a reboot leaves the system without power.
    pub hold: Duration,
    /// How long a BMC that was not heard yet is waited for.
    pub reach: Duration,
    /// How long "off" may take.
    pub off: Duration,
    /// How long "on" may take as part of a reboot, the hold included.
    pub on: Duration,
    pub method: Method,
}

/// How a reboot is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    OnOff,
    Cycle,
    Reset,
}

/// A conversation with the BMC.
pub struct Course<'a> {
    plan: &'a Plan,
    task: &'a Task<'a>,
    opener: &'a dyn Opener,
    session: Option<Box<dyn Bmc + 'a>>,
    /// The BMC has answered: network and credentials are right.
    reached: bool,
    /// Faults in a row that only a mistake in the configuration explains.
    mistakes: u32,
    /// How often such a fault was the answer to a command.
    denials: u32,
    /// The GUID that the first session proved.
    first: Option<Guid>,
    began: Instant,
}

impl<'a> Course<'a> {
    pub fn new(plan: &'a Plan, task: &'a Task<'a>, opener: &'a dyn Opener) -> Course<'a> {
        Course {
            plan,
            task,
            opener,
            session: None,
            reached: false,
            mistakes: 0,
            denials: 0,
            first: None,
            began: task.now(),
        }
    }

    /// The state, for `status` and `monitor`: these are repeated by the cluster, and a BMC that is
    /// not there is not waited for.
    pub fn look(&mut self) -> Result<Chassis> {
        let by = self.end();
        loop {
            match self.chassis(Patience::None, by) {
                Ok(chassis) => return Ok(chassis),
                Err(fault) => {
                    let again = matches!(fault.kind, Kind::Busy | Kind::NoSession | Kind::Refused)
                        || (self.reached && fault.kind.prospect() == Prospect::MayPass);
                    if !again || self.time_to(by) < RECONNECT + TOO_LATE {
                        return Err(self.about(fault));
                    }
                    debug!("{}: {fault}; asking again", self.plan.device);
                }
            }
            self.task.pause(RECONNECT)?;
        }
    }

    /// May this session switch power?
    pub fn must_obey(&mut self) -> Result<()> {
        let session = self.session.as_ref();
        let denied = session.is_some_and(|session| session.may_control() == Some(false));
        match denied {
            true => Err(self.about(Kind::Privilege.because(
                "this user may look, but not switch power; expected operator or administrator",
            ))),
            false => Ok(()),
        }
    }

    /// Takes the power away.
    pub fn off(&mut self) -> Result<()> {
        let by = within(self.end(), self.task.now(), self.plan.off);
        let sent = self.off_by(by)?;
        info!(
            "{}: is off, read {} times{}",
            self.plan.device, self.plan.readings, sent
        );
        Ok(())
    }

    /// Gives power.
    pub fn on(&mut self) -> Result<()> {
        let by = self.end();
        let sent = self.on_by(by)?;
        info!("{}: is on{sent}", self.plan.device);
        Ok(())
    }

    /// Takes the power away and gives it again. Ok as soon as it was away.
    pub fn reboot(&mut self) -> Result<()> {
        match self.plan.method {
            Method::OnOff => self.off()?,
            method => self.by_command(method)?,
        }
        if let Err(error) = self.on_again() {
            // The node is fenced. That it is missing afterwards is a matter of availability, not of
            // safety.
            warn!("it was off, and so is fenced, but it is not on again: {error:#}");
        }
        Ok(())
    }

    fn on_again(&mut self) -> Result<()> {
        let by = within(self.end(), self.task.now(), self.plan.on);
        // After a cycle, too: there the BMC itself powers on.
        self.task.pause(self.plan.hold)?;
        let sent = self.on_by(by)?;
        info!("{}: is on again{sent}", self.plan.device);
        Ok(())
    }

    /// Until "off" was read often enough in a row. Tells how often the command was sent.
    fn off_by(&mut self, by: Instant) -> Result<Sent> {
        let mut sent = Sent::default();
        let mut in_a_row = 0;
        loop {
            let seen = match self.chassis(Patience::Some, by) {
                Ok(chassis) if chassis.power == Power::Off => {
                    if sent.had(self.plan.settle, self.task.now()) {
                        in_a_row += 1;
                    }
                    if in_a_row >= self.plan.readings {
                        return Ok(sent);
                    }
                    Seen::State(chassis)
                }
                Ok(chassis) => {
                    in_a_row = 0;
                    self.command(Control::Off, chassis, by, &mut sent)?
                }
                Err(fault) => {
                    in_a_row = 0;
                    Seen::Fault(self.bear(fault)?)
                }
            };
            self.next(by, self.plan.interval, Control::Off, &sent, &seen)?;
        }
    }

    fn on_by(&mut self, by: Instant) -> Result<Sent> {
        let mut sent = Sent::default();
        loop {
            let seen = match self.chassis(Patience::Some, by) {
                Ok(chassis) if chassis.power == Power::On => return Ok(sent),
                Ok(chassis) => self.command(Control::On, chassis, by, &mut sent)?,
                Err(fault) => Seen::Fault(self.bear(fault)?),
            };
            self.next(by, self.plan.interval, Control::On, &sent, &seen)?;
        }
    }

    /// Sends on or off if it is due: these may be sent as often as one likes. What became of a
    /// fault shows in the state.
    fn command(
        &mut self,
        control: Control,
        seen: Chassis,
        by: Instant,
        sent: &mut Sent,
    ) -> Result<Seen> {
        if !sent.is_due(self.task.now()) {
            return Ok(Seen::State(seen));
        }
        info!("{}: {control} is sent{}", self.plan.device, sent.again());
        let outcome = self.ask(by, |session, by| session.control(control, by));
        sent.note(self.task.now());
        match outcome {
            Ok(()) => Ok(Seen::State(seen)),
            Err(fault) => {
                if fault.kind.prospect() == Prospect::Misconfigured {
                    self.denials += 1;
                    if self.denials >= DENIALS {
                        return Err(self.about(fault));
                    }
                }
                if !matches!(fault.kind, Kind::NotNow | Kind::Privilege | Kind::Refused) {
                    // It was not taken, or not heard: no reason to wait for an effect.
                    sent.retry_soon();
                }
                self.bear(fault).map(Seen::Fault)
            }
        }
    }

    /// A reboot by one command of the BMC's own, believed only if its effect shows. It is sent
    /// once: sent twice, it could hit a node that is already back in the cluster.
    fn by_command(&mut self, method: Method) -> Result<()> {
        let by = within(self.end(), self.task.now(), self.plan.off);
        let power = self.first_reading(by)?.power;
        if power == Power::Off {
            info!("{}: is off already", self.plan.device);
            return self.off_by(by).map(drop);
        }
        let control = match method {
            Method::Reset => Control::Reset,
            _ => Control::Cycle,
        };
        if control == Control::Reset {
            self.reset_must_show(by)?;
        }
        info!("{}: {control} is sent, once", self.plan.device);
        match self.ask(by, |session, by| session.control(control, by)) {
            Ok(()) => {}
            // It may have been carried out: what shows, counts.
            Err(fault)
                if fault.kind.prospect() == Prospect::MayPass && fault.kind != Kind::NotNow =>
            {
                warn!("{}: {control}: {fault}", self.plan.device);
            }
            Err(fault) => return Err(self.about(fault)),
        }
        self.effect_by(control, by)
    }

    fn first_reading(&mut self, by: Instant) -> Result<Chassis> {
        loop {
            match self.chassis(Patience::Some, by) {
                Ok(chassis) => return Ok(chassis),
                Err(fault) => {
                    let seen = Seen::Fault(self.bear(fault)?);
                    self.next(by, RECONNECT, Control::Cycle, &Sent::default(), &seen)?;
                }
            }
        }
    }

    /// A reset shows in the cause of the last start only, and only if that was another before.
    fn reset_must_show(&mut self, by: Instant) -> Result<()> {
        match self.ask(by, |session, by| session.restart_cause(by)) {
            Ok(BY_COMMAND) => bail!(
                "{}: a reset could not be verified, for the last start was by command, too; nothing was sent",
                self.plan.device
            ),
            Ok(_) => Ok(()),
            Err(fault) => bail!(
                "{}: a reset could not be verified, for the BMC does not tell why the system last started ({fault}); nothing was sent",
                self.plan.device
            ),
        }
    }

    fn effect_by(&mut self, control: Control, by: Instant) -> Result<()> {
        let mut in_a_row = 0;
        loop {
            let seen = match self.chassis(Patience::Some, by) {
                Ok(chassis) if chassis.power == Power::Off => {
                    in_a_row += 1;
                    if in_a_row >= self.plan.readings {
                        info!("{}: was off, after {control}", self.plan.device);
                        return Ok(());
                    }
                    Seen::State(chassis)
                }
                Ok(chassis) => {
                    in_a_row = 0;
                    let cause = match control {
                        Control::Reset => {
                            self.ask(by, |session, by| session.restart_cause(by)).ok()
                        }
                        _ => None,
                    };
                    if cause == Some(BY_COMMAND) {
                        info!("{}: was reset", self.plan.device);
                        return Ok(());
                    }
                    Seen::State(chassis)
                }
                Err(fault) => {
                    in_a_row = 0;
                    Seen::Fault(self.bear(fault)?)
                }
            };
            self.next(by, CYCLE_INTERVAL, control, &Sent::once(), &seen)?;
        }
    }

    /// One question: the chassis's state.
    fn chassis(&mut self, patience: Patience, by: Instant) -> Result<Chassis, Fault> {
        self.open(patience, by)?;
        let chassis = self.ask(by, |session, by| session.chassis(by))?;
        (self.reached, self.mistakes) = (true, 0);
        debug!("{}: power is {}", self.plan.device, chassis.power);
        Ok(chassis)
    }

    /// One question, in the session there is, or in a new one.
    pub fn ask<T>(
        &mut self,
        by: Instant,
        question: impl FnOnce(&mut dyn Bmc, Instant) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.open(Patience::Some, by)?;
        let Some(session) = &mut self.session else {
            return Err(Kind::Unreachable.because("no session"));
        };
        let answer = question(
            &mut **session,
            within(by, self.task.now(), self.plan.question),
        );
        if answer
            .as_ref()
            .is_err_and(|fault| loses_session(fault.kind))
        {
            self.hang_up();
        }
        answer
    }

    /// A session with the BMC that is meant.
    fn open(&mut self, patience: Patience, by: Instant) -> Result<(), Fault> {
        if self.task.go_on().is_err() {
            return Err(Kind::Interrupted.because(""));
        }
        if self.session.is_some() {
            return Ok(());
        }
        let session = self
            .opener
            .open(patience, within(by, self.task.now(), self.plan.reach))?;
        debug!("{}: session: {}", self.plan.device, session.session());
        self.session = Some(session);
        self.know(by).inspect_err(|_| self.hang_up())
    }

    /// Is it the BMC that was asked before, and the one that `system_guid` names?
    fn know(&mut self, by: Instant) -> Result<(), Fault> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let proved = session.session_guid().filter(|guid| !guid.is_blank());
        let first = self.first.or(proved);
        self.first = first;
        if let (Some(first), Some(proved)) = (first, proved) {
            if !proved.is(first) {
                return Err(
                    Kind::WrongBmc.because(format!("found {proved}, before it was {first}"))
                );
            }
        }
        let Some(pin) = self.plan.pin else {
            return Ok(());
        };
        if proved.is_some_and(|guid| guid.is(pin)) {
            return Ok(());
        }
        let by = within(by, self.task.now(), self.plan.question);
        let told = match session.system_guid(by) {
            Ok(told) => told.filter(|guid| !guid.is_blank()),
            // It does not know this command.
            Err(fault) if fault.kind == Kind::Refused => None,
            Err(fault) => return Err(fault),
        };
        if told.is_some_and(|guid| guid.is(pin)) {
            return Ok(());
        }
        let found = told.or(proved);
        let found = found.map_or("no GUID".to_owned(), |guid| guid.to_string());
        Err(Kind::WrongBmc.because(format!("found {found}, expected {pin}")))
    }

    /// Goes on after a fault that can pass; otherwise it is the end.
    fn bear(&mut self, fault: Fault) -> Result<Fault> {
        debug!("{}: {fault}", self.plan.device);
        let waited = self.task.now().saturating_duration_since(self.began);
        let bearable = match fault.kind.prospect() {
            Prospect::Final => false,
            Prospect::MayPass => {
                self.reached || !fault.kind.is_silence() || waited < self.plan.reach
            }
            // From a BMC that knew us a moment ago it means that the BMC is in trouble.
            Prospect::Misconfigured => {
                self.mistakes += 1;
                self.reached || self.mistakes < 2
            }
        };
        match bearable {
            true => Ok(fault),
            false => Err(self.about(fault)),
        }
    }

    /// Waits before the next look; an error if the time is over.
    fn next(
        &self,
        by: Instant,
        pause: Duration,
        control: Control,
        sent: &Sent,
        seen: &Seen,
    ) -> Result<()> {
        let pause = match self.session {
            Some(_) => pause,
            None => RECONNECT.max(pause),
        };
        let left = self.time_to(by).saturating_sub(TOO_LATE);
        if left.is_zero() {
            let waited = self.task.now().saturating_duration_since(self.began);
            bail!(
                "{}: timed out after {:.1} s: {seen}{sent}; expected {}",
                self.plan.device,
                waited.as_secs_f32(),
                match control {
                    Control::On => "on",
                    Control::Off => "off",
                    Control::Cycle => "off for a moment: the cycle could not be verified",
                    Control::Reset => "a start by command: the reset could not be verified",
                }
            );
        }
        Ok(self.task.pause(pause.min(left))?)
    }

    fn about(&self, fault: Fault) -> anyhow::Error {
        anyhow!(fault).context(self.plan.device.clone())
    }

    fn end(&self) -> Instant {
        self.task.now() + self.task.time_left()
    }

    fn time_to(&self, by: Instant) -> Duration {
        by.saturating_duration_since(self.task.now())
    }

    fn hang_up(&mut self) {
        if let Some(mut session) = self.session.take() {
            session.close(self.task.now() + FAREWELL);
        }
    }
}

/// BMCs have few sessions, and keep one that was not closed for a minute.
impl Drop for Course<'_> {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// After such a fault it is not known in which state the session is.
fn loses_session(kind: Kind) -> bool {
    !matches!(kind, Kind::Busy | Kind::NotNow | Kind::Refused)
}

/// How often a command was sent, and when last.
#[derive(Default)]
struct Sent {
    times: u32,
    last: Option<Instant>,
    soon: bool,
}

impl Sent {
    fn once() -> Sent {
        Sent {
            times: 1,
            ..Sent::default()
        }
    }

    fn note(&mut self, now: Instant) {
        self.times += 1;
        self.last = Some(now);
        self.soon = false;
    }

    fn retry_soon(&mut self) {
        self.soon = true;
    }

    /// Had the last command so much time? If there was none, nothing has to be waited for.
    fn had(&self, time: Duration, now: Instant) -> bool {
        let ago = self.last.map(|last| now.saturating_duration_since(last));
        ago.is_none_or(|ago| ago >= time)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.soon || self.had(AGAIN, now)
    }

    fn again(&self) -> &'static str {
        if self.times == 0 { "" } else { " again" }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.times {
            0 => Ok(()),
            1 => f.write_str(", after one command"),
            times => write!(f, ", after {times} commands"),
        }
    }
}

/// What the last look showed.
enum Seen {
    State(Chassis),
    Fault(Fault),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::State(chassis) if chassis.control_fault => {
                write!(f, "power control fault: power is {}", chassis.power)
            }
            Seen::State(chassis) => write!(f, "power is {}", chassis.power),
            Seen::Fault(fault) => write!(f, "{fault}"),
        }
    }
}
