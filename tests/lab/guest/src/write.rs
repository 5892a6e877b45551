//! The writer: one record after the other, each durable and acknowledged before the next.
//!
//! A record that cannot be written is tried again for ever, on the path opened anew each time, until it works or the
//! program is told to end (SIGTERM). What the next record is written over is looked at first: a record that got lost
//! since is found before the ring has come around.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use lab_guest::record::{Found, Header, encode};
use lab_guest::{Ring, State};
use nix::time::{ClockId, clock_gettime};

use crate::link::Link;
use crate::stop::Stop;
use crate::target::{Access, Aligned, Shape, Target};
use crate::{Place, boot, parse_name, say};

/// How long a collector may take, which does nothing but append a line to a file.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// How `write` is called.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The writer's name: 1 to 32 letters, digits, dots, underscores or hyphens
    #[arg(long, value_parser = parse_name)]
    id: String,
    /// Address and port of the collector
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// Clear the ring and begin with this number
    #[arg(
        long,
        value_name = "SEQ",
        default_value_t = 1,
        conflicts_with = "resume"
    )]
    from: u64,
    /// Leave the ring as it is and continue behind the highest own record in it
    #[arg(long)]
    resume: bool,
    /// Milliseconds between the begins of two records; 0 is as fast as the storage
    #[arg(long, value_name = "MS", default_value_t = 0)]
    every: u64,
}

/// Writes until it is told to end.
pub fn run(options: &Options) -> Result<()> {
    let stop = Stop::on_signals()?;
    let mut link = Link::connect(options.to, PATIENCE)?;
    link.tell(&format!(
        "hello {} slots={} size={} boot={} pid={} path={}",
        options.id,
        options.place.slots,
        options.place.size,
        boot()?,
        std::process::id(),
        options.place.path.display()
    ))?;
    let Some(mut writer) = Writer::begin(options, stop, link)? else {
        return Ok(());
    };
    writer.run(Duration::from_millis(options.every))
}

/// Nanoseconds of CLOCK_MONOTONIC.
fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).context("CLOCK_MONOTONIC")?;
    Ok(Duration::from(time).as_nanos() as u64)
}

struct Writer<'a> {
    id: &'a str,
    path: &'a Path,
    shape: Shape,
    stop: Stop,
    link: Link,
    /// None after an error, until the path is opened again.
    target: Option<Target>,
    /// What each slot holds, as far as the kernel told the truth.
    held: Vec<State>,
    next: u64,
    record: Aligned,
    /// The last error that the collector was told of, since something worked.
    told: Option<String>,
}

/// What failed, and how.
struct Failed {
    stage: &'static str,
    error: anyhow::Error,
}

fn at(stage: &'static str) -> impl Fn(io::Error) -> Failed {
    move |error| Failed {
        stage,
        error: error.into(),
    }
}

impl<'a> Writer<'a> {
    /// Clears the ring, or reads it; None if it was told to end before that worked.
    fn begin(options: &'a Options, stop: Stop, link: Link) -> Result<Option<Writer<'a>>> {
        let shape = Shape::new(options.place.slots, options.place.size);
        let mut writer = Writer {
            id: &options.id,
            path: &options.place.path,
            shape,
            stop,
            link,
            target: None,
            held: vec![State::Empty; shape.slots as usize],
            next: options.from,
            record: Aligned::new(shape.size),
            told: None,
        };
        let how = match options.resume {
            true => {
                let Some(ring) = writer.read_ring()? else {
                    writer.link.tell("bye 0 clean")?;
                    return Ok(None);
                };
                writer.next = behind(&ring, writer.id);
                writer.held = ring.slots;
                "resumed"
            }
            false => {
                // What is wrong here is wrong with the call: nothing has been moved yet.
                let target = Target::open(writer.path, shape, Access::Create)?;
                let cleared = target.clear();
                cleared.with_context(|| format!("clearing {}", writer.path.display()))?;
                writer.target = Some(target);
                "fresh"
            }
        };
        let begin = format!("begin {} {how}", writer.next);
        writer.link.tell(&begin)?;
        say(&format!("{}: {begin}\n", writer.path.display()))?;
        Ok(Some(writer))
    }

    /// Reads the whole ring, again and again until it can be; None if told to end before.
    fn read_ring(&mut self) -> Result<Option<Ring>> {
        while !self.stop.wanted() {
            match self.try_read_ring() {
                Ok(ring) => return Ok(Some(ring)),
                Err(failed) => self.report(0, &failed)?,
            }
        }
        Ok(None)
    }

    fn try_read_ring(&mut self) -> Result<Ring, Failed> {
        let ring = self.open()?.ring();
        let error = ring.slots.iter().find_map(|state| match state {
            State::Unreadable(error) => Some(anyhow!("{error}")),
            _ => None,
        });
        let stage = "read";
        match error {
            Some(error) => Err(Failed { stage, error }),
            None => Ok(ring),
        }
    }

    fn run(&mut self, every: Duration) -> Result<()> {
        let mut pending = false;
        while !self.stop.wanted() {
            let begin = now()?;
            let Some(tries) = self.put(self.next)? else {
                pending = true;
                break;
            };
            let end = now()?;
            let ack = format!("ack {} {begin} {end} {tries}", self.next);
            self.link.tell(&ack)?;
            self.next += 1;
            let took = Duration::from_nanos(now()?.saturating_sub(begin));
            self.stop.sleep(every.saturating_sub(took));
        }
        let how = if pending { "pending" } else { "clean" };
        self.link
            .tell(&format!("bye {} {how}", self.next))
            .map(drop)
    }

    /// Makes a record durable; how many tries it took, or None if told to end before it worked.
    fn put(&mut self, seq: u64) -> Result<Option<u64>> {
        let slot = seq % self.shape.slots;
        let header = Header {
            writer: self.id.into(),
            seq,
            slot,
            slots: self.shape.slots,
            time: SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64,
        };
        encode(&header, self.record.bytes());
        let mut looked = false;
        for tries in 1.. {
            match self.try_put(slot, &mut looked) {
                Ok(()) => {
                    self.held[slot as usize] =
                        State::of(Found::Record(header), slot, self.shape.slots);
                    self.told = None;
                    return Ok(Some(tries));
                }
                Err(Broken::Storage(failed)) => self.report(seq, &failed)?,
                Err(Broken::Line(error)) => return Err(error),
            }
            if self.stop.wanted() {
                break;
            }
        }
        Ok(None)
    }

    fn try_put(&mut self, slot: u64, looked: &mut bool) -> Result<(), Broken> {
        if !*looked {
            let slots = self.shape.slots;
            let found = self.open()?.read(slot).map_err(at("read"))?;
            let (found, held) = (State::of(found, slot, slots), &self.held[slot as usize]);
            if found != *held {
                let wrong = format!("wrong slot {slot}: expected \"{held}\", found \"{found}\"");
                self.link.tell(&wrong).map_err(Broken::Line)?;
            }
            *looked = true;
        }
        self.open()?;
        if let Some(target) = &self.target {
            target.write(slot, &self.record).map_err(at("write"))?;
            target.sync().map_err(at("sync"))?;
        }
        Ok(())
    }

    /// The target; opened again if something failed. It is never created here: a file that has gone, with the file
    /// system it was on, must not be replaced by another of its name.
    fn open(&mut self) -> Result<&mut Target, Failed> {
        let target = match self.target.take() {
            Some(target) => target,
            None => Target::open(self.path, self.shape, Access::Write).map_err(|error| Failed {
                stage: "open",
                error,
            })?,
        };
        Ok(self.target.insert(target))
    }

    /// Tells of an error, unless it is the same as the one before, and pauses.
    fn report(&mut self, seq: u64, failed: &Failed) -> Result<()> {
        self.target = None;
        let Failed { stage, error } = failed;
        let io = error.downcast_ref::<io::Error>();
        let errno = io.and_then(io::Error::raw_os_error).unwrap_or(0);
        let text = format!("{error:#}");
        let what = format!("{stage} {errno} {text}");
        if self.told.as_ref() != Some(&what) {
            let time = now()?;
            self.link
                .tell(&format!("error {seq} {stage} {errno} {time} {text}"))?;
            eprintln!("hastor-guest: record {seq}: {stage}: {text}");
            self.told = Some(what);
        }
        self.stop.sleep(PAUSE);
        Ok(())
    }
}

/// Why a try came to nothing.
enum Broken {
    /// To be tried again.
    Storage(Failed),
    /// Without the collector there is no writing.
    Line(anyhow::Error),
}

impl From<Failed> for Broken {
    fn from(failed: Failed) -> Broken {
        Broken::Storage(failed)
    }
}

/// The number behind the highest of a writer's records; 1 if there is none.
fn behind(ring: &Ring, writer: &str) -> u64 {
    let own = ring.slots.iter().filter_map(|state| match state {
        State::Ok { writer: other, seq } if other == writer => Some(*seq),
        _ => None,
    });
    own.max().map_or(1, |seq| seq + 1)
}
