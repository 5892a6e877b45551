//! The demo: the plug of a head is pulled while both pools are written to. What everybody did about it, and what the
//! clients saw of it, is told while it happens, and drawn afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::io::{IsTerminal, Write, stdout};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::guests::Guests;
use super::{Appliance, POOLS, Pool, SETTLE, Whose};
use crate::agents::root;
use crate::progress::{more, plain, say};
use crate::room::now;
use crate::timeline::logs;
use crate::timeline::shares::Shares;
use crate::timeline::spans::{Lane, Span, of_failover};
use crate::timeline::svg::draw;

/// What is lost, with its head; the other one is what the survivor has already.
const LOST: &Pool = &POOLS[1];

/// Between two looks.
const PACE: Duration = Duration::from_millis(100);

/// Between two questions to the survivor, who has other things to do.
const ASK: Duration = Duration::from_secs(2);

/// Shows it.
pub fn show(lab: &Guests) -> Result<()> {
    lab.slow_firmware()?;
    let mut stack = Appliance::begin(lab, Whose::Ours, 1)?;
    let survivor = POOLS[0].home;
    plain("\nhastor status:\n");
    more_lines(&lab.cluster.output(survivor, &["hastor", "status"])?);
    plain("");
    say(format_args!(
        "pulling the plug of {}, which has {} and its target; {} writes to it",
        LOST.home, LOST.name, LOST.client
    ));
    let before = stack.fencings(LOST.home)?;
    let cut = lab.cluster.power_off(LOST.home)?;
    Live::new(&stack, cut, before).tell()?;
    stack.written()?;
    stack.wait_fenced(LOST.home, before)?;
    stack.wait_on(LOST, survivor)?;

    let (begin, end) = stack.gap(LOST, cut)?;
    let (spans, shares) = explain(&stack, cut, (begin, end))?;
    plain("\nWhat took how long, in seconds since the plug was pulled:\n");
    for span in &spans {
        more(format_args!(
            "{:7.2} {:7.2}  {:10} {}",
            span.begin, span.end, span.lane, span.label
        ));
    }
    let place = root().join("target/lab/demo.svg");
    let title = format!(
        "{} loses its power: {} waits {:.1} s",
        LOST.home,
        LOST.client,
        end - begin
    );
    let marks = [(0.0, "the plug is pulled".to_owned())];
    fs::write(&place, draw(&title, &spans, &marks))
        .with_context(|| format!("writing {}", place.display()))?;

    plain("");
    let (other, other_end) = stack.gap(&POOLS[0], cut)?;
    plain(format_args!(
        "{} waited {:.1} s for {}: {shares}.",
        LOST.client,
        end - begin,
        LOST.name
    ));
    plain(format_args!(
        "{} waited {:.1} s at most for {}, which had not to move.",
        POOLS[0].client,
        other_end - other,
        POOLS[0].name
    ));
    plain("Proving that all records that were acknowledged are there:");
    stack.end()?;
    plain(format_args!(
        "No pool was in two kernels at once, no address on two heads. Picture: {}",
        place.display()
    ));
    Ok(())
}

fn more_lines(text: &str) {
    for line in text.lines() {
        more(line);
    }
}

/// What happened after the power cut, on a clock that begins with it: from the survivor's logs and the client's gap.
fn explain(stack: &Appliance, cut: f64, gap: (f64, f64)) -> Result<(Vec<Span>, Shares)> {
    let logs = logs(&stack.lab.cluster, Some(LOST.home))?;
    let mut spans = of_failover(&logs, Some(LOST.home), cut);
    let gap = (gap.0 - cut, gap.1 - cut);
    // What came after the client had its answer is another story.
    spans.retain(|span| span.begin < gap.1);
    let shares = Shares::of(&spans, gap);
    spans.push(Span {
        lane: Lane::Client {
            name: LOST.client.to_owned(),
        },
        label: "no acknowledgement".to_owned(),
        begin: gap.0,
        end: gap.1,
    });
    Ok((spans, shares))
}

/// Tells what happens while it does.
struct Live<'a> {
    stack: &'a Appliance<'a>,
    cut: f64,
    /// Fencings of the lost head before.
    before: usize,
    told: BTreeSet<String>,
    /// Whether what is on the terminal's last line shall be written over.
    terminal: bool,
}

impl<'a> Live<'a> {
    fn new(stack: &'a Appliance<'a>, cut: f64, before: usize) -> Live<'a> {
        Live {
            stack,
            cut,
            before,
            told: BTreeSet::new(),
            terminal: stdout().is_terminal(),
        }
    }

    /// Until the client has an answer again.
    fn tell(&mut self) -> Result<()> {
        let begin = Instant::now();
        let survivor = POOLS[0].home;
        // What the dying head has acknowledged may still be on its way.
        let mut taken = None;
        let (mut fenced, mut asked) = (false, begin);
        loop {
            if !fenced && asked.elapsed() > ASK {
                fenced = self.stack.fencings(LOST.home)? > self.before;
                asked = Instant::now();
                if fenced {
                    self.say(format!("{} is off, its BMC says: fenced", LOST.home));
                }
            }
            for what in [LOST.name].iter().chain(&LOST.addresses) {
                if self.stack.holders(what)?.iter().any(|it| it == survivor) {
                    self.say(format!("{survivor} has {what}"));
                    taken.get_or_insert_with(now);
                }
            }
            let last = self.stack.last_acknowledgement(LOST)?;
            if taken.is_some_and(|taken| last > taken) {
                self.say(format!("{} writes again", LOST.client));
                return Ok(());
            }
            self.wait(now() - last)?;
            ensure!(
                begin.elapsed() < SETTLE,
                "{} has no answer after {} s",
                LOST.client,
                SETTLE.as_secs()
            );
            sleep(PACE);
        }
    }

    /// Says it, unless it was said before.
    fn say(&mut self, what: String) {
        if !self.told.contains(&what) {
            if self.terminal {
                print!("\r\x1b[K");
            }
            more(format_args!("{:+7.1} s  {what}", now() - self.cut));
            self.told.insert(what);
        }
    }

    /// Shows how long the client has been waiting.
    fn wait(&self, seconds: f64) -> Result<()> {
        if self.terminal {
            print!("\r\x1b[K           {} waits, {seconds:.1} s", LOST.client);
            stdout().flush()?;
        }
        Ok(())
    }
}
