//! Who had what, and when: put together from what the heads told and from what the machine room wrote down.
//!
//! A stay is the time for which a node *surely* had something, so that two stays of the same thing that overlap are two
//! nodes that had it at once, and never a matter of clocks:
//!
//! - It begins when the first word of it arrives here, which is later than it happened.
//! - It ends with the last look at which the node still had it. The node tells that time by the lab's clock as the lab's
//!   last answer, about a second old, has shown it: earlier than it was, by the time that the answer took.
//!
//! So the guests' own clocks do not matter: not that they are set with a delay after a restore, that after a boot they come
//! from a battery's clock with a second's resolution, or that a test sets them wrong.
//!
//! A frozen node keeps what it has until it goes on or its power is cut; the room has both times. Of one that runs, what it
//! had [`GRACE`] before its power was cut is known: a change before that would have been told. A connection that breaks, a
//! boot, a node that switches itself off: the stay ends with the last look, and what is told afterwards is another one.
//!
//! What is missed: two nodes at once for no longer than the sum of their [blurs](Head::blur), which are measured and told
//! by [`Story::blur`]: the time from look to look and from a look to its arrival here. That is 0.3 s in guests that are not
//! too busy to look; after a power loss [`GRACE`] counts, too. Besides: what a booting node has before its management
//! network is up; what one had in its last second that went off or booted by itself; and a change in the last tenth of a
//! second before a node is frozen, for it counts as having for all of that time what it was seen with.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab_guest::sight::Heard;

use super::turns::{Deed, Turn};
use crate::cluster::RECOVER;

/// For a node that has power to say something; sixty times what it takes.
pub const SILENCE: Duration = Duration::from_secs(60);

/// What a node has that is about to lose its power, it had until so many seconds before, unless it has told otherwise. A
/// change is told within a fifth of that.
const GRACE: f64 = 0.5;

/// That holds for a node which was heard no longer ago than this, in seconds: it speaks each second.
const FRESH: f64 = 3.0;

/// The time for which a node surely had something.
#[derive(Clone, Debug, PartialEq)]
pub struct Stay {
    /// A pool or an address.
    pub what: String,
    /// Who.
    pub node: String,
    /// Seconds since 1970: it had it by then.
    pub begin: f64,
    /// It had it then, or longer. May be before the begin, of a stay that is as short as a message's way.
    pub end: f64,
}

impl Stay {
    /// Whether both were there at some moment. Each was there from its begin at the latest to its end at the earliest.
    fn overlaps(&self, other: &Stay) -> bool {
        self.begin < other.end && other.begin < self.end
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Runs,
    Frozen,
    Off,
}

/// A node, at a moment of the story.
#[derive(Default)]
struct Head {
    state: State,
    /// When it was given power, or reset, last.
    started: Option<f64>,
    /// When it was heard last.
    heard: Option<f64>,
    /// By which connection, and in which boot.
    connection: u64,
    boot: Option<String>,
    /// The boot that a power loss has ended: a word of it that arrives later is as old as that.
    ended: Option<String>,
    /// Up to when it is known what it had.
    known: f64,
    /// It stood still since it was heard last.
    stood: bool,
    /// For how long, at most, it could have had something, or not, without that being known here, in seconds.
    blur: f64,
    held: BTreeMap<String, Stay>,
    over: Vec<Stay>,
}

impl Head {
    fn hear(&mut self, heard: &Heard) {
        let (sight, arrival) = (&heard.sight, heard.arrival);
        if self.ended.as_ref() == Some(&heard.boot) || heard.connection < self.connection {
            return;
        }
        let mut unseen = sight.gap + arrival - sight.now;
        if heard.connection == self.connection {
            for stay in self.held.values_mut() {
                stay.end = stay.end.max(sight.before);
            }
        } else {
            if self.boot.as_ref() == Some(&heard.boot) {
                unseen = arrival - self.known;
            }
            self.leave();
        }
        if !self.stood {
            self.blur = self.blur.max(unseen);
        }
        let (kept, left): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(what, _)| sight.held.contains(what));
        self.held = kept;
        self.over.extend(left.into_values());
        for what in &sight.held {
            let stay = self.held.entry(what.clone()).or_insert_with(|| Stay {
                what: what.clone(),
                node: heard.node.clone(),
                begin: arrival,
                end: sight.now,
            });
            stay.end = stay.end.max(sight.now);
        }
        self.connection = heard.connection;
        self.boot = Some(heard.boot.clone());
        self.heard = Some(arrival);
        self.known = sight.now;
        self.stood = self.state == State::Frozen;
    }

    fn turn(&mut self, turn: &Turn) {
        match turn.deed {
            Deed::Off | Deed::Reset => {
                let fresh = self.heard.is_some_and(|heard| turn.at - heard < FRESH);
                match self.state {
                    State::Frozen => self.keep_until(turn.at),
                    State::Runs if fresh => self.keep_until(turn.at - GRACE),
                    _ => {}
                }
                for stay in self.held.values() {
                    self.blur = self.blur.max(turn.at - stay.end);
                }
                self.lose_power();
                if turn.deed == Deed::Reset {
                    self.state = State::Runs;
                    self.started = Some(turn.at);
                }
            }
            Deed::Gone => self.lose_power(),
            Deed::On => {
                self.state = State::Runs;
                self.started = Some(turn.at);
            }
            Deed::Freeze => {
                self.state = State::Frozen;
                self.stood = true;
            }
            Deed::Thaw => {
                self.keep_until(turn.at);
                self.state = State::Runs;
            }
        }
    }

    fn lose_power(&mut self) {
        self.leave();
        self.state = State::Off;
        // It may be told several times that there is no power.
        if let Some(boot) = self.boot.take() {
            self.ended = Some(boot);
        }
    }

    fn keep_until(&mut self, time: f64) {
        for stay in self.held.values_mut() {
            stay.end = stay.end.max(time);
        }
    }

    fn leave(&mut self) {
        self.over
            .extend(std::mem::take(&mut self.held).into_values());
    }

    /// When it was given power that it has used for nothing but to boot so far.
    fn boots_since(&self) -> Option<f64> {
        let started = self.started.filter(|_| self.state == State::Runs)?;
        let spoke = self.heard.is_some_and(|heard| heard > started);
        (!spoke).then_some(started)
    }
}

/// What the story is made of.
enum Event<'a> {
    Did(&'a Turn),
    Told(&'a Heard),
}

/// All that is known at a moment.
pub struct Story {
    /// All stays, of all nodes, by their begins.
    pub stays: Vec<Stay>,
    heads: BTreeMap<String, Head>,
    until: f64,
}

impl Story {
    /// Puts together what has become known until a moment, seconds since 1970.
    pub fn new(names: &[String], heard: &[Heard], turns: &[Turn], until: f64) -> Story {
        let heads = names.iter().map(|name| (name.clone(), Head::default()));
        let mut heads: BTreeMap<String, Head> = heads.collect();
        let did = turns.iter().map(|turn| (turn.at, Event::Did(turn)));
        let told = heard
            .iter()
            .map(|heard| (heard.arrival, Event::Told(heard)));
        let mut events: Vec<(f64, Event)> = did.chain(told).collect();
        events.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, event) in events {
            let (Event::Did(Turn { node, .. }) | Event::Told(Heard { node, .. })) = event;
            // The room has guests that are no heads.
            match (heads.get_mut(node), event) {
                (Some(head), Event::Did(turn)) => head.turn(turn),
                (Some(head), Event::Told(heard)) => head.hear(heard),
                (None, _) => {}
            }
        }
        let frozen = |head: &&mut Head| head.state == State::Frozen;
        heads
            .values_mut()
            .filter(frozen)
            .for_each(|head| head.keep_until(until));
        let of_head = |head: &'_ Head| -> Vec<Stay> {
            let all = head.over.iter().chain(head.held.values());
            all.cloned().collect()
        };
        let mut stays: Vec<Stay> = heads.values().flat_map(of_head).collect();
        stays.sort_by(|a, b| a.begin.total_cmp(&b.begin));
        Story {
            stays,
            heads,
            until,
        }
    }

    /// The nodes that have something at the end.
    pub fn holders(&self, what: &str) -> Vec<String> {
        let has = |(_, head): &(&String, &Head)| head.held.contains_key(what);
        let having = self.heads.iter().filter(has);
        having.map(|(name, _)| name.clone()).collect()
    }

    /// The nodes that could have spoken since a moment, and have not. One that is off, frozen or booting cannot.
    pub fn silent_since(&self, since: f64) -> Vec<String> {
        let can = |head: &Head| head.state == State::Runs && head.boots_since().is_none();
        let spoke = |head: &Head| head.heard.is_some_and(|heard| heard >= since);
        let silent = self.heads.iter();
        let silent = silent.filter(|(_, head)| can(head) && !spoke(head));
        silent.map(|(name, _)| name.clone()).collect()
    }

    /// Two nodes that had the same for longer than this, in seconds, have been seen.
    pub fn blur(&self) -> f64 {
        let mut blurs: Vec<f64> = self.heads.values().map(|head| head.blur).collect();
        blurs.sort_by(|a, b| b.total_cmp(a));
        blurs.iter().take(2).sum()
    }

    /// An error if something was on two nodes at once, or if that could have happened unseen.
    pub fn check(&self, things: &[String]) -> Result<()> {
        if let Some((first, second)) = self.overlap() {
            bail!(
                "{} was on {} from {:.3} until {:.3}, and on {} from {:.3} until {:.3} (seconds since 1970)",
                first.what,
                first.node,
                first.begin,
                first.end,
                second.node,
                second.begin,
                second.end
            );
        }
        for (name, head) in &self.heads {
            let heard = head.heard.with_context(|| {
                format!("{name} was never heard: nobody knows what was in its kernel")
            })?;
            let (since, bound) = match head.boots_since() {
                Some(started) => (started, RECOVER),
                None => (heard, SILENCE),
            };
            let silent = self.until - since;
            ensure!(
                head.state != State::Runs || silent < bound.as_secs_f64(),
                "{name} has power and does not stand still, and was silent for the last {silent:.0} s"
            );
        }
        for thing in things {
            ensure!(
                self.stays.iter().any(|stay| stay.what == *thing),
                "{thing} was never seen on any node: the watch is blind"
            );
        }
        Ok(())
    }

    /// Two stays of the same thing on two nodes at once, if there are.
    fn overlap(&self) -> Option<(&Stay, &Stay)> {
        self.stays.iter().enumerate().find_map(|(at, first)| {
            let mut later = self.stays[at + 1..].iter();
            let second = later.find(|second| {
                first.what == second.what && first.node != second.node && first.overlaps(second)
            });
            second.map(|second| (first, second))
        })
    }
}

#[cfg(test)]
mod tests;
