//! Tables of nf_tables that drop packets to ports of an address, as nfnetlink writes them
//! (linux/netfilter/nf_tables.h, nfnetlink.h). All numbers in them are in network order.

use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::NetError;
use super::netlink::{Message, Netlink, Part, attributes_of, push_attribute, text};
use super::portblock::{Block, Closed, Direction, OURS, Ports, Protocol};
use crate::Deadline;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM << 8;
const GETTABLE: u16 = SUBSYSTEM << 8 | 1;
const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
const GETRULE: u16 = SUBSYSTEM << 8 | 7;
const DELRULE: u16 = SUBSYSTEM << 8 | 8;
const NEWSET: u16 = SUBSYSTEM << 8 | 9;
const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
const GETSETELEM: u16 = SUBSYSTEM << 8 | 13;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NESTED: u16 = 0x8000;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_ID: u16 = 10;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

/// Priority `raw`: before connection tracking, so that what it knows of a packet does not count.
const PRIORITY: i32 = -300;
const SET_TIMEOUT: u32 = 0x10;
/// What `nft` calls the type of a set's keys: `ipv4_addr` and `ipv6_addr`.
const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const META_L4PROTO: u32 = 16;
const META_NFPROTO: u32 = 15;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const EQUAL: u32 = 0;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
/// A comment, as `nft` keeps it in a rule's user data.
const COMMENT: u8 = 0;

const SET: &str = "address";

/// Where packets are looked at.
struct Chain {
    name: &'static str,
    /// An `NF_INET_` hook.
    hook: u32,
    /// Where our end's address is in the headers of IPv4 and IPv6, and its port in TCP and UDP.
    address: [u32; 2],
    port: u32,
}

/// As they come in, those of this host to itself included, before anybody else has looked.
const INCOMING: Chain = Chain {
    name: "prerouting",
    hook: 0,
    address: [16, 24],
    port: 2,
};

/// As this host sends them.
const OUTGOING: Chain = Chain {
    name: "output",
    hook: 3,
    address: [12, 8],
    port: 0,
};

/// A rule of ours.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    chain: String,
    handle: [u8; 8],
    closed: Closed,
}

/// Tables of the network namespace that this process is in.
pub struct Tables(Netlink);

impl Tables {
    /// None where the kernel has no nfnetlink.
    pub fn open(deadline: Deadline) -> Result<Option<Tables>, NetError> {
        match Netlink::open(libc::NETLINK_NETFILTER as isize, deadline) {
            Ok(netlink) => Ok(Some(Tables(netlink))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The block that a table is.
    pub fn block(&self, table: &str) -> Result<Option<Block>, NetError> {
        let what = format!("looking for the nft table {table}");
        let mut request = header(NFPROTO_INET, 0);
        push_text(&mut request, TABLE_NAME, table);
        match self.0.request(&what, GETTABLE, 0, &request) {
            Ok(_) => self.read(table),
            // A kernel without nf_tables takes the request itself for an error.
            Err(error) if is_gone(&error) || error.errno() == Some(Errno::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All blocks.
    pub fn blocks(&self) -> Result<Vec<Block>, NetError> {
        let all = header(NFPROTO_INET, 0);
        let tables = match self.0.dump("reading the nft tables", GETTABLE, &all) {
            Err(error) if is_missing(&error) || error.errno() == Some(Errno::EINVAL) => {
                return Ok(Vec::new());
            }
            answer => answer?,
        };
        let names = tables.iter().filter_map(|table| {
            attribute(table, TABLE_NAME)
                .map(text)
                .filter(|name| name.starts_with(OURS))
        });
        let blocks: Result<Vec<_>, _> = names.map(|name| self.read(&name)).collect();
        Ok(blocks?.into_iter().flatten().collect())
    }

    fn read(&self, table: &str) -> Result<Option<Block>, NetError> {
        let Some(rules) = self.rules(table)? else {
            return Ok(None);
        };
        let mut of_set = header(NFPROTO_INET, 0);
        push_text(&mut of_set, ELEMENTS_TABLE, table);
        push_text(&mut of_set, ELEMENTS_SET, SET);
        let what = format!("reading the nft table {table}");
        let mut closed: Vec<Closed> = Vec::new();
        for rule in rules {
            // Incoming and outgoing packets have a rule each.
            if !closed.contains(&rule.closed) {
                closed.push(rule.closed);
            }
        }
        let left = match self.0.dump(&what, GETSETELEM, &of_set) {
            Ok(answer) => answer.iter().filter_map(longest).max().unwrap_or_default(),
            // It has been removed in between, or it is none that we have made.
            Err(error) if is_gone(&error) => Duration::ZERO,
            Err(error) => return Err(error),
        };
        Ok(Some(Block {
            table: table.into(),
            closed,
            left,
        }))
    }

    /// The rules of a table that are ours; None if there is no such table.
    fn rules(&self, table: &str) -> Result<Option<Vec<Rule>>, NetError> {
        let mut of_table = header(NFPROTO_INET, 0);
        push_text(&mut of_table, RULE_TABLE, table);
        let what = format!("reading the nft table {table}");
        match self.0.dump(&what, GETRULE, &of_table) {
            Ok(answer) => {
                // Some kernels take the table's name for a wish.
                let ours = answer.iter().filter(|rule| {
                    attribute(rule, RULE_TABLE).is_some_and(|name| text(name) == table)
                });
                Ok(Some(ours.filter_map(rule).collect()))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a table the block of these ports, for so long, whatever it was before.
    pub fn make(
        &self,
        table: &str,
        ip: IpAddr,
        ports: &[Ports],
        limit: Duration,
        direction: Direction,
    ) -> Result<(), NetError> {
        let what = format!("making the nft table {table}");
        self.change(&what, block(table, ip, ports, limit, direction))
    }

    /// Opens some of a block; a block without anything closed is removed.
    pub fn unblock(&self, block: &Block, open: &[Closed]) -> Result<(), NetError> {
        if block.closed.iter().all(|closed| open.contains(closed)) {
            return self.remove(&block.table);
        }
        let rules = self.rules(&block.table)?.unwrap_or_default();
        for rule in rules {
            if open.contains(&rule.closed) {
                let mut body = header(NFPROTO_INET, 0);
                push_text(&mut body, RULE_TABLE, &block.table);
                push_text(&mut body, RULE_CHAIN, &rule.chain);
                push_attribute(&mut body, RULE_HANDLE, &rule.handle);
                let what = format!("opening {}", rule.closed);
                match self.change(&what, vec![Part::new(DELRULE, 0, body)]) {
                    // Somebody else has done it.
                    Err(error) if is_gone(&error) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Removes a table; that it is not there is fine.
    pub fn remove(&self, table: &str) -> Result<(), NetError> {
        let what = format!("removing the nft table {table}");
        match self.change(&what, vec![named(DELTABLE, 0, table)]) {
            Err(error) if is_gone(&error) || is_missing(&error) => Ok(()),
            other => other,
        }
    }

    /// All of it, or nothing.
    fn change(&self, what: &str, changes: Vec<Part>) -> Result<(), NetError> {
        let mut batch = vec![Part::new(BATCH_BEGIN, 0, header(0, SUBSYSTEM))];
        batch.extend(changes);
        batch.push(Part::new(BATCH_END, 0, header(0, SUBSYSTEM)));
        self.0.batch(what, &batch)
    }
}

/// Is there no nf_tables in this kernel, or not for both families?
pub fn is_missing(error: &NetError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
    )
}

fn is_gone(error: &NetError) -> bool {
    error.errno() == Some(Errno::ENOENT)
}

/// The messages that make a table a block of these ports.
fn block(
    table: &str,
    ip: IpAddr,
    ports: &[Ports],
    limit: Duration,
    direction: Direction,
) -> Vec<Part> {
    let mut parts = vec![
        // So that there is one to remove.
        named(NEWTABLE, NLM_F_CREATE, table),
        named(DELTABLE, 0, table),
        named(NEWTABLE, NLM_F_CREATE, table),
        set(table, ip),
        element(table, ip, limit),
    ];
    let chains: &[Chain] = match direction {
        Direction::In => &[INCOMING],
        Direction::Both => &[INCOMING, OUTGOING],
    };
    for chain in chains {
        parts.push(new_chain(table, chain));
        let closed = ports.iter().map(|ports| Closed { ip, ports: *ports });
        parts.extend(closed.map(|closed| new_rule(table, chain, closed)));
    }
    parts
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    vec![family, 0, high, low]
}

fn named(kind: u16, flags: u16, table: &str) -> Part {
    let mut body = header(NFPROTO_INET, 0);
    push_text(&mut body, TABLE_NAME, table);
    Part::new(kind, flags, body)
}

fn new_chain(table: &str, chain: &Chain) -> Part {
    let mut body = header(NFPROTO_INET, 0);
    push_text(&mut body, CHAIN_TABLE, table);
    push_text(&mut body, CHAIN_NAME, chain.name);
    push_nested(&mut body, CHAIN_HOOK, |hook| {
        push_number(hook, HOOK_NUMBER, chain.hook);
        push_attribute(hook, HOOK_PRIORITY, &PRIORITY.to_be_bytes());
    });
    push_text(&mut body, CHAIN_TYPE, "filter");
    Part::new(NEWCHAIN, NLM_F_CREATE, body)
}

/// The set of the one address that is blocked: its elements have an end, as rules have not.
fn set(table: &str, ip: IpAddr) -> Part {
    let (kind, length) = match ip {
        IpAddr::V4(_) => (TYPE_IPADDR, 4),
        IpAddr::V6(_) => (TYPE_IP6ADDR, 16),
    };
    let mut body = header(NFPROTO_INET, 0);
    push_text(&mut body, SET_TABLE, table);
    push_text(&mut body, SET_NAME, SET);
    push_number(&mut body, SET_FLAGS, SET_TIMEOUT);
    push_number(&mut body, SET_KEY_TYPE, kind);
    push_number(&mut body, SET_KEY_LENGTH, length);
    push_number(&mut body, SET_ID, 1);
    Part::new(NEWSET, NLM_F_CREATE, body)
}

fn element(table: &str, ip: IpAddr, limit: Duration) -> Part {
    // Zero would be for ever.
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut body = header(NFPROTO_INET, 0);
    push_text(&mut body, ELEMENTS_TABLE, table);
    push_text(&mut body, ELEMENTS_SET, SET);
    push_nested(&mut body, ELEMENTS, |list| {
        push_nested(list, LIST_ELEMENT, |element| {
            push_nested(element, ELEMENT_KEY, |key| {
                push_attribute(key, DATA_VALUE, &octets(ip));
            });
            push_attribute(element, ELEMENT_TIMEOUT, &millis.to_be_bytes());
        });
    });
    Part::new(NEWSETELEM, NLM_F_CREATE, body)
}

/// Drops what goes to, or comes from, these ports of an address in the set.
fn new_rule(table: &str, chain: &Chain, closed: Closed) -> Part {
    let [of_four, of_six] = chain.address;
    let (family, address, length) = match closed.ip {
        IpAddr::V4(_) => (NFPROTO_IPV4, of_four, 4),
        IpAddr::V6(_) => (NFPROTO_IPV6, of_six, 16),
    };
    let protocol = match closed.ports.protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
    };
    let Ports { first, last, .. } = closed.ports;
    let mut body = header(NFPROTO_INET, 0);
    push_text(&mut body, RULE_TABLE, table);
    push_text(&mut body, RULE_CHAIN, chain.name);
    push_nested(&mut body, RULE_EXPRESSIONS, |list| {
        push_meta(list, META_NFPROTO);
        push_compare(list, EQUAL, &[family]);
        push_payload(list, NETWORK_HEADER, address, length);
        push_lookup(list);
        push_meta(list, META_L4PROTO);
        push_compare(list, EQUAL, &[protocol]);
        push_payload(list, TRANSPORT_HEADER, chain.port, 2);
        if first == last {
            push_compare(list, EQUAL, &first.to_be_bytes());
        } else {
            push_compare(list, AT_LEAST, &first.to_be_bytes());
            push_compare(list, AT_MOST, &last.to_be_bytes());
        }
        push_drop(list);
    });
    let comment = format!("{closed}\0");
    let mut data = vec![COMMENT, comment.len() as u8];
    data.extend_from_slice(comment.as_bytes());
    push_attribute(&mut body, RULE_USERDATA, &data);
    Part::new(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body)
}

fn push_meta(list: &mut Vec<u8>, key: u32) {
    const DESTINATION: u16 = 1;
    const KEY: u16 = 2;
    push_expression(list, "meta", |data| {
        push_number(data, KEY, key);
        push_number(data, DESTINATION, REGISTER);
    });
}

fn push_payload(list: &mut Vec<u8>, base: u32, offset: u32, length: u32) {
    const DESTINATION: u16 = 1;
    const BASE: u16 = 2;
    const OFFSET: u16 = 3;
    const LENGTH: u16 = 4;
    push_expression(list, "payload", |data| {
        push_number(data, DESTINATION, REGISTER);
        push_number(data, BASE, base);
        push_number(data, OFFSET, offset);
        push_number(data, LENGTH, length);
    });
}

fn push_compare(list: &mut Vec<u8>, operation: u32, value: &[u8]) {
    const SOURCE: u16 = 1;
    const OPERATION: u16 = 2;
    const VALUE: u16 = 3;
    push_expression(list, "cmp", |data| {
        push_number(data, SOURCE, REGISTER);
        push_number(data, OPERATION, operation);
        push_nested(data, VALUE, |data| push_attribute(data, DATA_VALUE, value));
    });
}

fn push_lookup(list: &mut Vec<u8>) {
    const NAME: u16 = 1;
    const SOURCE: u16 = 2;
    push_expression(list, "lookup", |data| {
        push_text(data, NAME, SET);
        push_number(data, SOURCE, REGISTER);
    });
}

fn push_drop(list: &mut Vec<u8>) {
    const DESTINATION: u16 = 1;
    const DATA: u16 = 2;
    const NF_DROP: u32 = 0;
    push_expression(list, "immediate", |data| {
        push_number(data, DESTINATION, VERDICT_REGISTER);
        push_nested(data, DATA, |data| {
            push_nested(data, DATA_VERDICT, |verdict| {
                push_number(verdict, VERDICT_CODE, NF_DROP);
            });
        });
    });
}

fn push_expression(list: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    push_nested(list, LIST_ELEMENT, |expression| {
        push_text(expression, EXPRESSION_NAME, name);
        push_nested(expression, EXPRESSION_DATA, fill);
    });
}

fn push_nested(message: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    push_attribute(message, kind | NESTED, &inner);
}

fn push_number(message: &mut Vec<u8>, kind: u16, number: u32) {
    push_attribute(message, kind, &number.to_be_bytes());
}

fn push_text(message: &mut Vec<u8>, kind: u16, text: &str) {
    push_attribute(message, kind, format!("{text}\0").as_bytes());
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// An attribute of an answer.
fn attribute(message: &Message, wanted: u16) -> Option<&[u8]> {
    find(message.body.get(4..)?, wanted)
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut all = attributes_of(bytes);
    all.find(|(kind, _)| *kind & !NESTED == wanted)
        .map(|(_, value)| value)
}

/// A rule that says in its comment what it closes.
fn rule(message: &Message) -> Option<Rule> {
    let chain = text(attribute(message, RULE_CHAIN)?);
    let handle = *attribute(message, RULE_HANDLE)?.first_chunk()?;
    let mut data = attribute(message, RULE_USERDATA)?;
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == COMMENT {
            let closed = text(value).parse().ok()?;
            return Some(Rule {
                chain,
                handle,
                closed,
            });
        }
        data = &rest[value.len()..];
    }
    None
}

/// The time left of the longest lasting element among these.
fn longest(message: &Message) -> Option<Duration> {
    let list = attribute(message, ELEMENTS)?;
    let left = attributes_of(list).filter_map(|(_, element)| {
        let millis = *find(element, ELEMENT_EXPIRATION)?.first_chunk()?;
        Some(Duration::from_millis(u64::from_be_bytes(millis)))
    });
    left.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(part: Part) -> Message {
        Message {
            kind: part.kind,
            body: part.body,
        }
    }

    #[test]
    fn a_rule_says_what_it_closes() {
        let closed: Closed = "2001:db8::7 udp/2049-2051".parse().unwrap();
        let mut part = new_rule("hastor-vip-x", &OUTGOING, closed);
        push_attribute(&mut part.body, RULE_HANDLE, &7u64.to_be_bytes());
        let expected = Rule {
            chain: "output".into(),
            handle: 7u64.to_be_bytes(),
            closed,
        };
        assert_eq!(rule(&message(part)), Some(expected));
    }

    #[test]
    fn a_message_cut_anywhere_is_not_a_panic() {
        let closed: Closed = "192.0.2.7 tcp/3260".parse().unwrap();
        let mut part = new_rule("hastor-vip-x", &INCOMING, closed);
        push_attribute(&mut part.body, RULE_HANDLE, &7u64.to_be_bytes());
        let set = element("hastor-vip-x", closed.ip, Duration::from_secs(1));
        for whole in [message(part), message(set)] {
            for length in 0..whole.body.len() {
                let cut = Message {
                    kind: whole.kind,
                    body: whole.body[..length].to_vec(),
                };
                let _ = (rule(&cut), longest(&cut));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_message_is_read_or_passed_over(body: Vec<u8>) {
            let message = Message { kind: NEWRULE, body };
            let _ = (rule(&message), longest(&message), attribute(&message, TABLE_NAME));
        }
    }
}
