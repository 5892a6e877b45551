//! Ports that are closed while the address comes and goes.

use std::time::Duration;

use host::net::portblock::{Block, Closed, Direction, Ports, table_of};
use host::net::{Family, Link, Net, NetError};
use nix::errno::Errno;
use ocf::prelude::*;

use super::Vip;
use crate::values::Ready;

/// What start leaves of its own time when it waits for a service.
const RESERVE: Duration = Duration::from_secs(1);
/// The shortest block. The one of stop lasts as long as the action may: after that, whatever is
/// still here is a case for fencing, not for clients to wait for.
const SHORTEST: Duration = Duration::from_secs(1);

impl Vip {
    /// The nft table of this instance, whatever its parameters are.
    pub(super) fn table(&self, node: &Node) -> String {
        table_of(Self::NAME, &node.call().instance)
    }

    pub(super) fn blocked_ports(&self) -> &[Ports] {
        self.block_ports.as_ref().map_or(&[], |list| &list.0)
    }

    /// Closes the ports before the address comes.
    pub(super) fn close_for_start(&self, node: &Node, net: &dyn Net) -> Result<()> {
        if let ports @ [_, ..] = self.blocked_ports() {
            let limit = self.ready_timeout.duration();
            match net.block(&self.table(node), self.ip, ports, limit, Direction::In) {
                Err(missing @ NetError::NoNfTables) => {
                    bail!(Exit::NotInstalled.because(format!("{missing}, which block_ports needs")))
                }
                other => other?,
            }
        } else {
            self.open_all(node, net);
        }
        Ok(())
    }

    /// Closes the ports before the address goes. It goes in any case.
    pub(super) fn close_for_stop(&self, node: &Node, net: &dyn Net) {
        if let ports @ [_, ..] = self.blocked_ports() {
            let limit = node.time_left().max(SHORTEST);
            // A client that is not to be told of the end of its connection must not hear the reset
            // that comes with it: IPv6 sends it also without the address.
            let direction = match self.kill_connections.is_on() {
                true => Direction::In,
                false => Direction::Both,
            };
            let made = net.block(&self.table(node), self.ip, ports, limit, direction);
            if let Err(error) = made {
                warn!("{} goes while its ports are open: {error}", self.ip);
            }
        }
    }

    /// Is the nft table of this instance here, with whatever parameters it was made?
    pub(super) fn is_left_closed(&self, node: &Node, net: &dyn Net) -> Result<bool, NetError> {
        match net.block_of(&self.table(node)) {
            Ok(block) => Ok(block.is_some()),
            // Where looking is forbidden, nothing was made either.
            Err(error) if self.blocked_ports().is_empty() && is_forbidden(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The address is not here; if its ports are closed all the same, something is left.
    pub(super) fn check_nothing_is_closed(&self, node: &Node, net: &dyn Net) -> Result<()> {
        // A leftover of other parameters does no harm, and goes with the next start or stop.
        ensure!(
            self.blocked_ports().is_empty() || !self.is_left_closed(node, net)?,
            "{} is not here, but the nft table {}, which closes ports of it, is",
            self.ip,
            self.table(node)
        );
        Ok(())
    }

    /// Opens whatever this instance has closed.
    pub(super) fn remove_block(&self, node: &Node, net: &dyn Net) -> Result<(), NetError> {
        match self.is_left_closed(node, net)? {
            true => net.remove_block(&self.table(node)),
            false => Ok(()),
        }
    }

    /// Removes what was left closed with other parameters. It would end by itself.
    fn open_all(&self, node: &Node, net: &dyn Net) {
        if let Err(error) = self.remove_block(node, net) {
            warn!("ports of {} may stay closed for a while: {error}", self.ip);
        }
    }

    /// Opens what can be opened, once.
    pub(super) fn open_once(&self, node: &Node, net: &dyn Net, link: &Link) {
        if let Err(error) = self.open_what_is_ready(node, net, link) {
            warn!("ports of {} may stay closed for a while: {error}", self.ip);
        }
    }

    /// Opens what can be opened, and waits for the rest, if that is wanted and while there is
    /// time. What is closed then is for the service itself, for the next monitor, or for the
    /// kernel, which opens it at the end of `ready_timeout`.
    pub(super) fn await_ready(&self, node: &Node, net: &dyn Net, link: &Link) -> Result<()> {
        if self.blocked_ports().is_empty() {
            self.open_all(node, net);
            return Ok(());
        }
        let give_up = match self.ready {
            Ready::Now => node.now() + node.time_left().saturating_sub(RESERVE),
            Ready::Later => node.now(),
        };
        let mut trouble = None;
        node.wait_for(&format!("an answer at {}", self.ip), || {
            trouble = match self.open_what_is_ready(node, net, link) {
                Ok(true) => return Ok(true),
                Ok(false) => None,
                Err(error) => Some(error),
            };
            Ok(node.now() >= give_up)
        })?;
        if let Some(error) = trouble {
            warn!("ports of {} may stay closed for a while: {error}", self.ip);
        }
        Ok(())
    }

    /// Opens what need not be closed any more. Is all open? On `link` is the address.
    fn open_what_is_ready(
        &self,
        node: &Node,
        net: &dyn Net,
        link: &Link,
    ) -> Result<bool, NetError> {
        let Some(block) = net.block_of(&self.table(node))? else {
            return Ok(true);
        };
        if block.left.is_zero() && !block.closed.is_empty() {
            net.remove_block(&block.table)?;
            let hint = match self.ready {
                Ready::Now => "; a service that starts after its address needs ready=later",
                Ready::Later => "",
            };
            warn!(
                "nothing answered on {} of {} within {} s (ready_timeout): open all the same{hint}",
                list(&block.closed),
                self.ip,
                self.ready_timeout.duration().as_secs_f64()
            );
            return Ok(true);
        }
        let open = self.openable(net, link, &block)?;
        let all = open.len() == block.closed.len();
        if all || !open.is_empty() {
            net.unblock(&block, &open)?;
        }
        if !open.is_empty() {
            info!("opened {} of {}", list(&open), self.ip);
        }
        Ok(all)
    }

    /// What of a block has no reason to be closed any more.
    fn openable(&self, net: &dyn Net, link: &Link, block: &Block) -> Result<Vec<Closed>, NetError> {
        let answers = |ports: &Ports| -> Result<bool, NetError> {
            let listeners = net.listeners(ports.protocol, Family::of(self.ip))?;
            Ok(listeners.iter().any(|listener| {
                ports.contain(listener.protocol, listener.port)
                    && listener.serves(self.ip, link.index)
            }))
        };
        let mut together = true;
        for ports in self.ready_ports.iter().flat_map(|list| &list.0) {
            together = together && answers(ports)?;
        }
        let mut open = Vec::new();
        for closed in &block.closed {
            let wanted = closed.ip == self.ip && self.blocked_ports().contains(&closed.ports);
            let ready = match self.ready_ports {
                _ if !wanted => true,
                Some(_) => together,
                None => answers(&closed.ports)?,
            };
            if ready {
                open.push(*closed);
            }
        }
        Ok(open)
    }
}

fn is_forbidden(error: &NetError) -> bool {
    matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES))
}

/// Ports, for messages.
fn list(closed: &[Closed]) -> String {
    let names: Vec<String> = closed.iter().map(|it| it.ports.to_string()).collect();
    names.join(", ")
}
