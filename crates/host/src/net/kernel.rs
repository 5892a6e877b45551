//! [`Net`] over netlink: the kernel's own tables.

use std::cell::{OnceCell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::netlink::{Message, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Netlink};
use super::nft::{self, Tables};
use super::portblock::{Block, Closed, Direction, Listener, Ports, Protocol};
use super::wire::Announcer;
use super::{
    Address, Announcement, Family, Link, Mac, Net, NetError, Route, SourceLabel, rtnl, sockets,
    wire,
};
use crate::Deadline;

const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;

/// Opens the kernel's tables, of this process's network namespace or of the one that
/// `ip netns` calls `namespace`; the process goes there, and `home` is where it came from.
pub fn open(
    namespace: Option<&str>,
    home: &OnceCell<File>,
    deadline: Deadline,
) -> Result<Rc<dyn Net>, NetError> {
    match (namespace, home.get()) {
        (Some(name), _) => enter(name, home)?,
        (None, Some(home)) => setns(home, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            NetError::refused("going back to the first network namespace", errno)
        })?,
        (None, None) => {}
    }
    Ok(Rc::new(Kernel {
        route: Netlink::open(libc::NETLINK_ROUTE as isize, deadline)?,
        events: OnceCell::new(),
        announcer: RefCell::new(None),
        tables: OnceCell::new(),
        deadline,
    }))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a namespace is a file that is entered, not read"
)]
fn enter(name: &str, home: &OnceCell<File>) -> Result<(), NetError> {
    let what = format!("entering the network namespace {name}");
    let failed = |error: io::Error| {
        NetError::refused(
            &what,
            Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        )
    };
    let file = File::open(format!("/run/netns/{name}")).map_err(|error| match error.kind() {
        ErrorKind::NotFound => NetError::NoNamespace(name.into()),
        _ => failed(error),
    })?;
    if home.get().is_none() {
        let _ = home.set(File::open("/proc/self/ns/net").map_err(failed)?);
    }
    // A name whose namespace is gone (the mount was lost) is an empty file: EINVAL.
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EINVAL => NetError::NoNamespace(name.into()),
        _ => NetError::refused(&what, errno),
    })
}

struct Kernel {
    route: Netlink,
    events: OnceCell<Netlink>,
    announcer: RefCell<Option<Announcer>>,
    /// None where the kernel has no nfnetlink.
    tables: OnceCell<Option<Tables>>,
    deadline: Deadline,
}

impl Kernel {
    /// Opened when first needed: few actions do.
    fn tables(&self) -> Result<Option<&Tables>, NetError> {
        if self.tables.get().is_none() {
            let _ = self.tables.set(Tables::open(self.deadline)?);
        }
        Ok(self.tables.get().and_then(Option::as_ref))
    }

    fn one_link(&self, what: &str, request: &[u8]) -> Result<Option<Link>, NetError> {
        match self.route.request(what, rtnl::RTM_GETLINK, 0, request) {
            Ok(answer) => Ok(read(answer, rtnl::RTM_NEWLINK, rtnl::link).next()),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The objects of one kind in an answer.
fn read<T>(
    answer: Vec<Message>,
    kind: u16,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> impl Iterator<Item = T> {
    answer
        .into_iter()
        .filter(move |message| message.kind == kind)
        .filter_map(move |message| parse(&message.body))
}

impl Net for Kernel {
    fn links(&self) -> Result<Vec<Link>, NetError> {
        let answer = self.route.dump(
            "reading the interfaces",
            rtnl::RTM_GETLINK,
            &rtnl::get_links(),
        )?;
        Ok(read(answer, rtnl::RTM_NEWLINK, rtnl::link).collect())
    }

    fn link_named(&self, name: &str) -> Result<Option<Link>, NetError> {
        match self.one_link(
            &format!("looking for the interface {name}"),
            &rtnl::get_link_named(name),
        ) {
            // What cannot be a name at all is the name of nothing.
            Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::ERANGE)) => Ok(None),
            other => other,
        }
    }

    fn link(&self, index: u32) -> Result<Option<Link>, NetError> {
        self.one_link(
            &format!("looking for interface number {index}"),
            &rtnl::get_link(index),
        )
    }

    fn addresses(&self, family: Family) -> Result<Vec<Address>, NetError> {
        let answer = self.route.dump(
            "reading the addresses",
            rtnl::RTM_GETADDR,
            &rtnl::get_addresses(family),
        )?;
        Ok(read(answer, rtnl::RTM_NEWADDR, rtnl::address)
            .filter(|found| Family::of(found.ip) == family)
            .collect())
    }

    fn places_of(&self, ip: IpAddr) -> Result<Vec<Address>, NetError> {
        let is_there = |message: &Message| {
            message.kind == rtnl::RTM_NEWADDR
                && rtnl::address(&message.body).is_some_and(|address| address.ip == ip)
        };
        let answer = self.route.dump_until(
            "reading the addresses",
            rtnl::RTM_GETADDR,
            &rtnl::get_addresses(Family::of(ip)),
            |messages| messages.iter().any(is_there),
        )?;
        let addresses = read(answer, rtnl::RTM_NEWADDR, rtnl::address);
        Ok(addresses.filter(|address| address.ip == ip).collect())
    }

    fn routes(&self, family: Family) -> Result<Vec<Route>, NetError> {
        let request = rtnl::get_routes(family);
        match self
            .route
            .dump("reading the routes", rtnl::RTM_GETROUTE, &request)
        {
            Ok(answer) => Ok(read(answer, rtnl::RTM_NEWROUTE, rtnl::route).collect()),
            // A namespace that never had a route has no table of them.
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn route_to(&self, ip: IpAddr) -> Result<Option<u32>, NetError> {
        let what = format!("looking for the route to {ip}");
        match self
            .route
            .request(&what, rtnl::RTM_GETROUTE, 0, &rtnl::get_route_to(ip))
        {
            Ok(answer) => Ok(read(answer, rtnl::RTM_NEWROUTE, rtnl::route_link).next()),
            Err(error)
                if matches!(
                    error.errno(),
                    Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ESRCH)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn add_address(&self, address: &Address) -> Result<(), NetError> {
        let what = format!("adding {address}");
        self.route.request(
            &what,
            rtnl::RTM_NEWADDR,
            NLM_F_CREATE | NLM_F_EXCL,
            &rtnl::new_address(address),
        )?;
        Ok(())
    }

    fn replace_address(&self, address: &Address) -> Result<(), NetError> {
        let what = format!("changing {address}");
        self.route.request(
            &what,
            rtnl::RTM_NEWADDR,
            NLM_F_REPLACE,
            &rtnl::new_address(address),
        )?;
        Ok(())
    }

    fn remove_address(&self, address: &Address) -> Result<(), NetError> {
        let what = format!("removing {address}");
        self.route
            .request(&what, rtnl::RTM_DELADDR, 0, &rtnl::del_address(address))?;
        Ok(())
    }

    fn set_up(&self, link: u32) -> Result<(), NetError> {
        let what = format!("bringing interface number {link} up");
        self.route
            .request(&what, rtnl::RTM_NEWLINK, 0, &rtnl::set_link_up(link))?;
        Ok(())
    }

    fn add_source_label(&self, label: &SourceLabel) -> Result<(), NetError> {
        let what = format!("adding the source label of {}", label.ip);
        self.route.request(
            &what,
            rtnl::RTM_NEWADDRLABEL,
            NLM_F_CREATE | NLM_F_EXCL,
            &rtnl::source_label(label),
        )?;
        Ok(())
    }

    fn remove_source_label(&self, label: &SourceLabel) -> Result<(), NetError> {
        let what = format!("removing the source label of {}", label.ip);
        self.route
            .request(&what, rtnl::RTM_DELADDRLABEL, 0, &rtnl::source_label(label))?;
        Ok(())
    }

    fn destroy_connections(&self, ip: IpAddr) -> Result<usize, NetError> {
        sockets::destroy(ip, self.deadline)
    }

    fn listeners(&self, protocol: Protocol, family: Family) -> Result<Vec<Listener>, NetError> {
        sockets::listeners(protocol, family, self.deadline)
    }

    fn block(
        &self,
        table: &str,
        ip: IpAddr,
        ports: &[Ports],
        limit: Duration,
        direction: Direction,
    ) -> Result<(), NetError> {
        let missing = || NetError::NoNfTables;
        let tables = self.tables()?.ok_or_else(missing)?;
        match tables.make(table, ip, ports, limit, direction) {
            Err(error) if nft::is_missing(&error) => Err(missing()),
            other => other,
        }
    }

    fn block_of(&self, table: &str) -> Result<Option<Block>, NetError> {
        match self.tables()? {
            Some(tables) => tables.block(table),
            None => Ok(None),
        }
    }

    fn blocks(&self) -> Result<Vec<Block>, NetError> {
        match self.tables()? {
            Some(tables) => tables.blocks(),
            None => Ok(Vec::new()),
        }
    }

    fn unblock(&self, block: &Block, open: &[Closed]) -> Result<(), NetError> {
        match self.tables()? {
            Some(tables) => tables.unblock(block, open),
            None => Ok(()),
        }
    }

    fn remove_block(&self, table: &str) -> Result<(), NetError> {
        match self.tables()? {
            Some(tables) => tables.remove(table),
            None => Ok(()),
        }
    }

    fn watch(&self) -> Result<(), NetError> {
        if self.events.get().is_none() {
            let mut events = Netlink::open(libc::NETLINK_ROUTE as isize, self.deadline)?;
            events.join(&[RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR])?;
            let _ = self.events.set(events);
        }
        Ok(())
    }

    fn await_change(&self, limit: Duration) -> Result<(), NetError> {
        self.watch()?;
        match self.events.get() {
            Some(events) => events.drain(limit),
            None => Ok(()),
        }
    }

    fn announce(&self, link: &Link, ip: IpAddr, form: Announcement) -> Result<(), NetError> {
        let mut announcer = self.announcer.borrow_mut();
        match &*announcer {
            Some(open) if open.is_for(link, ip) => open.announce(form),
            _ => announcer.insert(Announcer::open(link, ip)?).announce(form),
        }
    }

    fn who_has(&self, link: &Link, ip: IpAddr, limit: Duration) -> Result<Vec<Mac>, NetError> {
        let limit = limit.min(self.deadline.left(super::netlink::now()));
        let mut claims = wire::who_has(link, ip, limit)?;
        // Linux answers for any of its addresses on any of its interfaces: another NIC of this
        // same host on the same wire is no conflict.
        let ours: Vec<Mac> = self.links()?.into_iter().map(|link| link.mac).collect();
        claims.retain(|claim| !ours.contains(claim));
        claims.sort();
        claims.dedup();
        Ok(claims)
    }
}
