//! The stack `zfs-iscsi` of our agents and of the peers', in the same virtual machines: how long a client waits when a pool
//! is moved and when a head loses its power, whose time that is, and what monitoring costs.

mod report;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{output_directory, surroundings};
use crate::progress::{more, plain, say};
use crate::room::now;
use crate::timeline::logs;
use crate::timeline::shares::Shares;
use crate::timeline::spans::of_failover;
use crate::vm::plan::USUAL;
use crate::vm::zfs_iscsi::{Appliance, POOLS, Pool, Whose};
use crate::vm::{self, Guests, Parcel};
use crate::{agents, packages};

/// LUNs of each pool.
const LUNS: [usize; 2] = [1, 8];

/// For so long monitoring is looked at.
const WATCHED: Duration = Duration::from_secs(60);

/// What a client saw, and why.
#[derive(Clone, Copy)]
struct Outage {
    /// How long it got no acknowledgement, seconds.
    gap: f64,
    shares: Shares,
}

/// What was found out about one of the two.
struct Found {
    whose: Whose,
    luns: usize,
    moves: Vec<Outage>,
    losses: Vec<Outage>,
    /// Processor time of Pacemaker and all that it runs, on both heads, per second: in thousandths.
    monitoring: f64,
}

/// What happens: the names of the two kinds of outages.
const MOVE: &str = "planned move";
const LOSS: &str = "power loss";

impl Found {
    fn outages(&self, what: &str) -> &[Outage] {
        match what {
            MOVE => &self.moves,
            _ => &self.losses,
        }
    }
}

/// Measures and reports: so many moves and power losses of each, with so many LUNs a pool, or with 1 and with 8.
pub fn run(times: u32, luns: Option<usize>) -> Result<()> {
    let _turn = crate::begin()?;
    packages::install()?;
    say("agents: building");
    agents::build()?;
    let parcel = Parcel::pack(true)?;
    let busy = surroundings::busy()?;
    let mut all = Vec::new();
    let counts = luns.map_or(LUNS.to_vec(), |luns| vec![luns]);
    for luns in counts {
        for whose in [Whose::Ours, Whose::Peers] {
            say(format_args!("{}, {luns} LUNs a pool", report::name(whose)));
            let lab = Guests::up(&USUAL, &parcel)?;
            let found = measure(&lab, whose, luns, times);
            let found = found.map_err(|error| {
                anyhow::anyhow!(
                    "{error:#}\n{}",
                    crate::evidence::keep(&lab.cluster, "bench")
                )
            })?;
            all.push(found);
        }
    }
    let directory = output_directory();
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let (csv, svg) = (directory.join("stack.csv"), directory.join("stack.svg"));
    fs::write(&csv, report::csv(&all)).with_context(|| format!("writing {}", csv.display()))?;
    fs::write(&svg, report::svg(&all)?).with_context(|| format!("writing {}", svg.display()))?;
    plain(format_args!(
        "\n{}\nprocessors busy with other work before: {busy:.0} %{}\n\n{}\n{}\n{}",
        surroundings::machine(),
        surroundings::warning(busy),
        report::table(&all),
        csv.display(),
        svg.display()
    ));
    Ok(())
}

fn measure(lab: &Guests, whose: Whose, luns: usize, times: u32) -> Result<Found> {
    lab.slow_firmware()?;
    let mut stack = Appliance::begin(lab, whose, luns)?;
    let monitoring = monitoring(&stack)?;
    let [first, second] = &POOLS;
    let mut found = Found {
        whose,
        luns,
        moves: Vec::new(),
        losses: Vec::new(),
        monitoring,
    };
    for number in 0..times {
        let head = if number % 2 == 0 {
            second.home
        } else {
            first.home
        };
        let begin = now();
        stack.move_to(first, head)?;
        stack.written()?;
        found.moves.push(outage(&stack, first, None, begin)?);
    }
    for _ in 0..times {
        stack.restored()?;
        let before = stack.fencings(second.home)?;
        let cut = lab.cluster.power_off(second.home)?;
        stack.wait_fenced(second.home, before)?;
        stack.wait_on(second, first.home)?;
        stack.written()?;
        found
            .losses
            .push(outage(&stack, second, Some(second.home), cut)?);
    }
    for what in [MOVE, LOSS] {
        for outage in found.outages(what) {
            more(format_args!(
                "{what}: {:.2} s: {}",
                outage.gap, outage.shares
            ));
        }
    }
    match whose {
        Whose::Ours => stack.end()?,
        // What the peers' clients are told is theirs to explain; that everything is there is not.
        Whose::Peers => stack.end_whatever_they_were_told()?,
    }
    Ok(found)
}

/// The longest gap of a pool's client since then, and whose time it was.
fn outage(stack: &Appliance, pool: &Pool, lost: Option<&str>, since: f64) -> Result<Outage> {
    let (begin, end) = stack.gap(pool, since)?;
    let spans = of_failover(&logs(&stack.lab.cluster, lost)?, lost, since);
    Ok(Outage {
        gap: end - begin,
        shares: Shares::of(&spans, (begin - since, end - since)),
    })
}

/// What Pacemaker and its agents take of the processors while nothing happens.
fn monitoring(stack: &Appliance) -> Result<f64> {
    let used = || -> Result<f64> {
        let heads = stack.lab.cluster.nodes.iter();
        heads.map(|head| processor_time(head)).sum()
    };
    let (begin, before) = (now(), used()?);
    std::thread::sleep(WATCHED);
    Ok((used()? - before) / (now() - begin) * 1000.0)
}

/// Seconds that Pacemaker's control group has used on a head.
fn processor_time(head: &str) -> Result<f64> {
    let text = vm::read(
        head,
        "/sys/fs/cgroup/system.slice/pacemaker.service/cpu.stat",
    )?;
    let used = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    let used: f64 = used
        .and_then(|used| used.trim().parse().ok())
        .with_context(|| format!("{head}: no usage_usec in {text:?}"))?;
    Ok(used / 1e6)
}
