//! A closer look than configfs allows: do the portals answer, and the devices?

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ocf::prelude::*;
use probe::iscsi::{self, Answer};

use crate::expected::{Expected, ExpectedTarget};

/// How long a portal may take for one step of the exchange. The kernel serves one login at a time, and waits 15 s for somebody
/// who connects and says nothing (TA_LOGIN_TIMEOUT), as a port scanner does: meanwhile nobody else is answered.
const ANSWERS: Duration = Duration::from_secs(18);

/// Who is not answered for so long is not waiting for another login.
const CONCLUSIVE: Duration = Duration::from_secs(16);

/// What is kept of the action's time for the devices.
const RESERVE: Duration = Duration::from_secs(9);

/// How long all devices together may take for a read, and each of them if they are asked one by one.
const READS: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(3));

/// What is read of a device, in bytes.
const SAMPLE: usize = 4096;

/// Asks the portals for their targets, and reads from the devices.
pub fn look(node: &Node, expected: &Expected) -> Result<()> {
    for target in &expected.targets {
        for portal in &target.portals {
            ask(node, target, portal).with_context(|| format!("portal {portal}"))?;
        }
    }
    let units = || {
        expected
            .units
            .iter()
            .filter_map(|unit| Some((unit, unit.path.as_ref()?)))
    };
    let paths: Vec<String> = units().map(|(_, path)| path.clone()).collect();
    let answers = node.on_each("reading from", &paths, READS, |host, path| {
        host.read_at(path, 0, SAMPLE).map(|bytes| bytes.len())
    });
    for ((unit, _), (path, answer)) in units().zip(answers) {
        if let Err(error) = answer {
            bail!("unit {}: {path}: {error}", unit.name);
        }
    }
    Ok(())
}

fn ask(node: &Node, target: &ExpectedTarget, portal: &str) -> Result<()> {
    let address: SocketAddr = portal.parse().context("it is no address")?;
    let address = SocketAddr::new(reachable(address.ip()), address.port());
    let limit = ANSWERS.min(node.time_left().saturating_sub(RESERVE));
    let busy = || warn!("portal {portal} is busy with another login, and was not waited for");
    if limit.is_zero() {
        busy();
        return Ok(());
    }
    let said = match iscsi::discover(node, address, limit) {
        Err(error) if is_timeout(&error) => {
            ensure!(
                limit < CONCLUSIVE,
                "it has not answered a login for {} s",
                limit.as_secs()
            );
            busy();
            return Ok(());
        }
        said => said?,
    };
    match said {
        Some(Answer::Targets(names)) if !names.contains(&target.iqn) => {
            // Some targets are shown to their own initiators only.
            debug!("{portal} does not name {}", target.iqn);
        }
        Some(_) => {}
        None => debug!("{} is not an address of this node now", address.ip()),
    }
    Ok(())
}

/// Was it an answer that did not come in time?
fn is_timeout(error: &anyhow::Error) -> bool {
    let error = error.root_cause().downcast_ref::<io::Error>();
    error.is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        )
    })
}

/// An address by which a portal on all addresses can be reached.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}
