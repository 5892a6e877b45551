//! Watches, from the first to the last moment of a scenario, which heads have a pool in their kernel or hold an address:
//! it must never be two at once.
//!
//! In every head runs `hastor-guest watch` as a unit of systemd, which begins again with each boot, and tells this program
//! what it sees. What a head had when it was frozen or lost its power, the machine room's log tells. [`stays`] has how the
//! two are put together, and what could be missed.

mod stays;
mod turns;

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::{Collector, sight};

use super::exec;
use super::guests::Guests;
use super::plan::{Guest, Role};
use super::snapshot::each;
use super::writer::{PROGRAM, log_of};
use crate::layout;
use crate::progress::more;
use crate::room::now;
use stays::{SILENCE, Story};
use turns::turns;

/// Writes the unit, which is to be there after a power loss too, and starts it. Reading all units anew takes ten seconds
/// under emulation: only if there was an earlier watch.
const INSTALL: &str = r#"set -e
cat >/etc/systemd/system/hastor-lab-watch.service
systemctl --quiet --no-reload enable hastor-lab-watch
[ "$(systemctl show -P NeedDaemonReload hastor-lab-watch)" = no ] || systemctl daemon-reload
systemctl restart hastor-lab-watch
sync"#;

/// A watch over all heads. One at a time: a second one would take the heads from the first.
pub struct Observer {
    collector: Collector,
    log: PathBuf,
    heads: Vec<String>,
    /// Pools and addresses, as the heads call them.
    things: Vec<String>,
}

impl Observer {
    /// Has all heads watch these pools and addresses, and waits until each has told what it has now.
    pub fn start(lab: &Guests, pools: &[&str], addresses: &[&str]) -> Result<Observer> {
        let addresses: Vec<String> = addresses
            .iter()
            .map(|text| {
                let address: IpAddr = text
                    .parse()
                    .with_context(|| format!("{text:?}: expected an IP address"))?;
                Ok(address.to_string())
            })
            .collect::<Result<_>>()?;
        let log = log_of("observer");
        if let Some(directory) = log.parent() {
            fs::create_dir_all(directory)?;
        }
        // What an earlier one has heard is over.
        fs::write(&log, "").with_context(|| format!("emptying {}", log.display()))?;
        let observer = Observer {
            collector: Collector::listen(exec::listener()?, &log)?,
            log,
            heads: lab.plan.heads(),
            things: pools
                .iter()
                .map(|pool| (*pool).to_owned())
                .chain(addresses.iter().cloned())
                .collect(),
        };
        let heads: Vec<Guest> = lab
            .plan
            .guests()?
            .into_iter()
            .filter(|guest| guest.role == Role::Head)
            .collect();
        each(&heads, |head| {
            let unit = unit(
                &head.name,
                &observer.collector.address().to_string(),
                pools,
                &addresses,
            );
            exec::output(&head.name, &["sh", "-c", INSTALL], unit.as_bytes())
                .map(drop)
                .context("starting the watch")
        })?;
        let silent = observer.wait_for_all()?;
        ensure!(
            silent.is_empty(),
            "{}: the watch has told nothing within {} s; see {}",
            silent.join(" "),
            SILENCE.as_secs(),
            observer.log.display()
        );
        Ok(observer)
    }

    /// The heads that have a pool or an address now, as far as they have told.
    pub fn holders(&self, what: &str) -> Result<Vec<String>> {
        Ok(self.story()?.holders(what))
    }

    /// Ends the watch. An error if something was on two heads at once, and if that could have happened unseen.
    pub fn check(self) -> Result<()> {
        self.judge()
    }

    /// [`Observer::check`], and an error if another head than this one has a pool or an address at the end, or none has.
    pub fn check_on(self, what: &str, holder: &str) -> Result<()> {
        self.judge()?;
        let holders = self.holders(what)?;
        ensure!(
            holders == [holder],
            "{what} is in the kernels of {holders:?}, expected {holder} alone"
        );
        Ok(())
    }

    fn judge(&self) -> Result<()> {
        // So that nothing is under way any more of what has happened before. Who remains silent is named below.
        self.wait_for_all()?;
        let story = self.story()?;
        story.check(&self.things)?;
        more(format_args!(
            "{}: on one node at a time, {} stays; two nodes for more than {:.1} s would have been seen",
            self.things.join(", "),
            story.stays.len(),
            story.blur()
        ));
        Ok(())
    }

    /// Waits until each head that can has told what it has from now on; those that have not within [`SILENCE`].
    fn wait_for_all(&self) -> Result<Vec<String>> {
        let (begin, since) = (Instant::now(), now());
        loop {
            let silent = self.story()?.silent_since(since);
            if silent.is_empty() || begin.elapsed() > SILENCE {
                return Ok(silent);
            }
            sleep(Duration::from_millis(100));
        }
    }

    fn story(&self) -> Result<Story> {
        // The heads' words first: what the room did before one of them is in its log by then.
        let heard = fs::read_to_string(&self.log).context("reading what the heads told")?;
        let heard = sight::heard(&heard).with_context(|| format!("in {}", self.log.display()))?;
        let room = fs::read_to_string(layout::room_log()).context("reading the room's log")?;
        Ok(Story::new(&self.heads, &heard, &turns(&room), now()))
    }
}

/// The unit that watches in a head.
///
/// It is there before the cluster begins after a boot, and until that has ended before a shutdown. Whatever else the head
/// does, it gets its few milliseconds of every second: what is looked for late is seen late.
fn unit(name: &str, to: &str, pools: &[&str], addresses: &[String]) -> String {
    let mut words = format!("{PROGRAM} watch --to {to} --name {name}");
    for pool in pools {
        words += &format!(" --pool {pool}");
    }
    for address in addresses {
        words += &format!(" --address {address}");
    }
    format!(
        "[Unit]
Description=Tells the lab which pools and addresses this node has
Before=corosync.service pacemaker.service
StartLimitIntervalSec=0

[Service]
ExecStart={words}
Restart=always
RestartSec=1
Nice=-20

[Install]
WantedBy=multi-user.target
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_says_what_to_watch() {
        let unit = unit(
            "n1",
            "10.77.4.240:7001",
            &["tank"],
            &["192.0.2.10".to_owned()],
        );
        let start = unit.lines().find(|line| line.starts_with("ExecStart="));
        assert_eq!(
            start.unwrap(),
            format!(
                "ExecStart={PROGRAM} watch --to 10.77.4.240:7001 --name n1 --pool tank --address 192.0.2.10"
            )
        );
    }
}
