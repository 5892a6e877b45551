//! A netlink socket: one request at a time, its answers, a deadline.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{DefaultNla, Emitable, NlasIterator};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::NetError;
use crate::Deadline;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;

/// The kernel fills at most 32 KiB into one datagram of a dump (`NLMSG_GOODSIZE` and up to what
/// the reader was seen to take), so this is never too small; if it is, that is noticed.
const BUFFER: usize = 64 * 1024;

/// One message of an answer.
pub struct Message {
    pub kind: u16,
    pub body: Vec<u8>,
}

/// One message of a batch.
pub struct Part {
    pub kind: u16,
    pub flags: u16,
    pub body: Vec<u8>,
}

impl Part {
    pub fn new(kind: u16, flags: u16, body: Vec<u8>) -> Part {
        Part { kind, flags, body }
    }
}

pub struct Netlink {
    socket: Socket,
    sequence: Cell<u32>,
    deadline: Deadline,
}

impl Netlink {
    /// A socket for one netlink protocol (`NETLINK_ROUTE`, `NETLINK_SOCK_DIAG`, `NETLINK_NETFILTER`).
    pub fn open(protocol: isize, deadline: Deadline) -> Result<Netlink, NetError> {
        let socket =
            Socket::new(protocol).map_err(|error| failed("opening a netlink socket", &error))?;
        // Each of these makes answers better, and each is missing on some kernel we can live with.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Netlink {
            socket,
            sequence: Cell::new(0),
            deadline,
        })
    }

    /// Joins multicast groups: that there were messages is told by [`Netlink::drain`].
    pub fn join(&mut self, groups: &[u32]) -> Result<(), NetError> {
        let mut join = || -> io::Result<()> {
            self.socket.bind_auto()?;
            groups
                .iter()
                .try_for_each(|group| self.socket.add_membership(*group))
        };
        join().map_err(|error| failed("watching for address changes", &error))
    }

    /// Asks for something to be done or for one object.
    pub fn request(
        &self,
        what: &str,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<Vec<Message>, NetError> {
        self.exchange(what, kind, flags | NLM_F_ACK, body)
            .map(|(messages, _)| messages)
    }

    /// Asks for all objects.
    pub fn dump(&self, what: &str, kind: u16, body: &[u8]) -> Result<Vec<Message>, NetError> {
        self.dump_until(what, kind, body, |_| false)
    }

    /// Asks for all objects, or for as many as are `enough`.
    pub fn dump_until(
        &self,
        what: &str,
        kind: u16,
        body: &[u8],
        enough: impl Fn(&[Message]) -> bool,
    ) -> Result<Vec<Message>, NetError> {
        let attempt = || self.exchange(what, kind, NLM_F_DUMP, body);
        let out_of_time = |pause| {
            pause_for(pause);
            self.deadline.left(now()).is_zero()
        };
        settled(attempt, enough, out_of_time).and_then(|messages| {
            messages.ok_or_else(|| NetError::Unsettled {
                request: what.into(),
            })
        })
    }

    /// Asks for all of these to be done, or nothing: the first begins a batch and the last ends it.
    /// All have the same number, so that an error of any of them is the answer; where there is
    /// none, that is said of the last one before the end.
    pub fn batch(&self, what: &str, parts: &[Part]) -> Result<(), NetError> {
        let sequence = self.next_sequence();
        let mut request = Vec::new();
        for (at, Part { kind, flags, body }) in parts.iter().enumerate() {
            let acknowledged = if at + 2 == parts.len() { NLM_F_ACK } else { 0 };
            push_message(&mut request, *kind, flags | acknowledged, sequence, body);
        }
        self.send(what, &request)?;
        self.answer(what, sequence).map(drop)
    }

    fn exchange(
        &self,
        what: &str,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<(Vec<Message>, bool), NetError> {
        let sequence = self.next_sequence();
        let mut request = Vec::with_capacity(HEADER + body.len());
        push_message(&mut request, kind, flags, sequence, body);
        self.send(what, &request)?;
        self.answer(what, sequence)
    }

    fn next_sequence(&self) -> u32 {
        let sequence = self.sequence.get() + 1;
        self.sequence.set(sequence);
        sequence
    }

    fn send(&self, what: &str, request: &[u8]) -> Result<(), NetError> {
        let sent = self.socket.send_to(request, &SocketAddr::new(0, 0), 0);
        sent.map(drop).map_err(|error| failed(what, &error))
    }

    /// What the kernel says to the request of that number, up to its verdict.
    fn answer(&self, what: &str, sequence: u32) -> Result<(Vec<Message>, bool), NetError> {
        let mut messages = Vec::new();
        let mut interrupted = false;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            // With MSG_TRUNC the length is that of the datagram, even where the buffer was smaller.
            let length = match self
                .socket
                .recv(&mut buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC)
            {
                Ok(length) => length,
                // Nearly always the answer is there when the request returns.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.await_answer(what)?;
                    continue;
                }
                Err(error) => return Err(failed(what, &error)),
            };
            if length > buffer.len() {
                return Err(unreadable(what, format!("{length} bytes at once")));
            }
            for part in split(&buffer) {
                let (header, body) = part.map_err(|reason| unreadable(what, reason))?;
                if header.sequence != sequence {
                    continue; // the late end of an earlier dump
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match header.kind {
                    NLMSG_ERROR => {
                        verdict(what, &header, body)?;
                        return Ok((messages, interrupted));
                    }
                    NLMSG_DONE => {
                        verdict(what, &header, body)?;
                        return Ok((messages, interrupted));
                    }
                    kind => messages.push(Message {
                        kind,
                        body: body.to_vec(),
                    }),
                }
            }
        }
    }

    fn await_answer(&self, what: &str) -> Result<(), NetError> {
        match readable(self.as_fd(), self.deadline.left(now())) {
            Ok(true) => Ok(()),
            Ok(false) => Err(NetError::TimedOut {
                request: what.into(),
            }),
            Err(errno) => Err(NetError::refused(what, errno)),
        }
    }

    /// Waits until a multicast message arrives, for at most `limit`, and takes all there are.
    pub fn drain(&self, limit: Duration) -> Result<(), NetError> {
        let what = "waiting for address changes";
        let limit = limit.min(self.deadline.left(now()));
        if !readable(self.as_fd(), limit).map_err(|errno| NetError::refused(what, errno))? {
            return Ok(());
        }
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Some were lost because there were too many: a change all the same.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(failed(what, &error)),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        #[expect(unsafe_code, reason = "netlink-sys gives a raw descriptor only")]
        // SAFETY: the descriptor belongs to `self.socket` and stays open as long as `self`.
        unsafe {
            BorrowedFd::borrow_raw(self.socket.as_raw_fd())
        }
    }
}

/// Repeats a dump until the kernel took it in one consistent look (no `NLM_F_DUMP_INTR`): what an
/// interrupted one does not show may be there all the same. What it does show was there, so one
/// that shows `enough` is good. None where `out_of_time`, called between attempts, says so.
fn settled<T>(
    mut attempt: impl FnMut() -> Result<(Vec<T>, bool), NetError>,
    enough: impl Fn(&[T]) -> bool,
    mut out_of_time: impl FnMut(Duration) -> bool,
) -> Result<Option<Vec<T>>, NetError> {
    let mut pause = Duration::from_millis(1);
    loop {
        let (found, interrupted) = attempt()?;
        if !interrupted || enough(&found) {
            return Ok(Some(found));
        }
        if out_of_time(pause) {
            return Ok(None);
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the real clock, for the real socket"
)]
fn pause_for(time: Duration) {
    std::thread::sleep(time);
}

/// Waits for a descriptor to become readable; false is out of time.
pub fn readable(fd: BorrowedFd<'_>, limit: Duration) -> Result<bool, Errno> {
    let until = now() + limit;
    loop {
        let left = until.saturating_duration_since(now());
        // Rounded up: a wait of less than a millisecond is a wait, not a question.
        let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the real clock, for the real socket"
)]
pub fn now() -> Instant {
    Instant::now()
}

fn push_message(request: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    let start = request.len();
    request.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    request.extend_from_slice(&sequence.to_ne_bytes());
    request.extend_from_slice(&0u32.to_ne_bytes());
    request.extend_from_slice(body);
    // The next one begins at a multiple of four.
    let length = (request.len() - start).next_multiple_of(4);
    request.resize(start + length, 0);
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The messages in a datagram.
fn split(mut datagram: &[u8]) -> impl Iterator<Item = Result<(Header, &[u8]), String>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let Some((kind, flags, sequence, length)) = header(datagram) else {
            let left = datagram.len();
            datagram = &[];
            return Some(Err(format!("{left} bytes where a message should begin")));
        };
        if length < HEADER || length > datagram.len() {
            let left = datagram.len();
            datagram = &[];
            return Some(Err(format!("a message of {length} bytes in {left}")));
        }
        let body = &datagram[HEADER..length];
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(Ok((
            Header {
                kind,
                flags,
                sequence,
            },
            body,
        )))
    })
}

fn header(bytes: &[u8]) -> Option<(u16, u16, u32, usize)> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    (bytes.len() >= HEADER).then_some((kind, flags, sequence, length))
}

/// An acknowledgement (error 0), the end of a dump, or the kernel's refusal with its words.
fn verdict(what: &str, header: &Header, body: &[u8]) -> Result<(), NetError> {
    let errno = match body.first_chunk::<4>() {
        Some(code) => i32::from_ne_bytes(*code).saturating_neg(),
        None if header.kind == NLMSG_DONE => 0, // older kernels end a dump with an empty message
        None => return Err(unreadable(what, "an error without a number".into())),
    };
    if errno <= 0 {
        return Ok(()); // the end of a dump may carry a count
    }
    Err(NetError::Refused {
        request: what.into(),
        errno: Errno::from_raw(errno),
        said: words(header, body),
    })
}

/// The text of an extended acknowledgement.
fn words(header: &Header, body: &[u8]) -> Option<String> {
    if header.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // After the number comes the request: its header only if the answer says so, else all of it.
    let request = body.get(4..)?;
    let skip = match header.flags & NLM_F_CAPPED {
        0 => u32::from_ne_bytes(*request.first_chunk()?) as usize,
        _ => HEADER,
    };
    let attributes = if header.kind == NLMSG_DONE {
        request
    } else {
        request.get(skip.next_multiple_of(4)..)?
    };
    attributes_of(attributes)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| text(value))
}

/// The attributes in a message, up to the first that cannot be read.
pub fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes)
        .map_while(Result::ok)
        .map(|attribute| {
            let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
            (kind, &attribute.into_inner()[ATTRIBUTE_HEADER..length])
        })
}

/// A NUL-terminated text.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Appends an attribute to a message.
pub fn push_attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let attribute = DefaultNla::new(kind, value.to_vec());
    let start = message.len();
    message.resize(start + attribute.buffer_len(), 0);
    attribute.emit(&mut message[start..]);
}

fn failed(what: &str, error: &io::Error) -> NetError {
    NetError::refused(
        what,
        Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
    )
}

fn unreadable(what: &str, reason: String) -> NetError {
    NetError::Unreadable {
        request: what.into(),
        what: reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel sends it.
    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        message.extend_from_slice(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn a_datagram_is_taken_apart_into_its_messages() {
        let datagram = [message(20, 0, b"first"), message(3, 0, &[])].concat();
        let parts: Vec<_> = split(&datagram).map(|part| part.unwrap()).collect();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].0.kind, parts[0].1), (20, &b"first"[..]));
        assert_eq!(parts[1].0.kind, NLMSG_DONE);
        assert!(split(&datagram[..10]).next().unwrap().is_err());
        assert!(split(&datagram[..18]).next().unwrap().is_err());
    }

    #[test]
    fn a_refusal_is_told_in_the_kernels_own_words() {
        let mut body = (-libc::EINVAL).to_ne_bytes().to_vec();
        body.extend_from_slice(&message(20, 0, b"the request"));
        let plain = message(NLMSG_ERROR, 0, &body);
        push_attribute(&mut body, NLMSGERR_ATTR_MSG, b"ipv4: Invalid prefix\0");
        let told = message(NLMSG_ERROR, NLM_F_ACK_TLVS, &body);
        let refusal = |datagram: &[u8]| {
            let (header, body) = split(datagram).next().unwrap().unwrap();
            verdict("adding 192.0.2.7/24", &header, body)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refusal(&plain),
            "adding 192.0.2.7/24: EINVAL: Invalid argument"
        );
        let expected = "adding 192.0.2.7/24: EINVAL: Invalid argument: ipv4: Invalid prefix";
        assert_eq!(refusal(&told), expected);
    }

    #[test]
    fn an_interrupted_dump_is_repeated_unless_it_shows_enough() {
        let dumps = |answers: &'static [(&'static [u32], bool)]| {
            let mut answers = answers.iter();
            move || {
                let (found, interrupted) = answers.next().expect("no further attempt");
                Ok((found.to_vec(), *interrupted))
            }
        };
        let seven = |found: &[u32]| found.contains(&7);
        let patient = |_| false;
        let quiet = settled(dumps(&[(&[1], false)]), seven, patient);
        assert_eq!(quiet.unwrap(), Some(vec![1]));
        let repeated = settled(
            dumps(&[(&[], true), (&[1], true), (&[2], false)]),
            seven,
            patient,
        );
        assert_eq!(repeated.unwrap(), Some(vec![2]));
        let enough = settled(dumps(&[(&[1], true), (&[7], true)]), seven, patient);
        assert_eq!(enough.unwrap(), Some(vec![7]));
        let mut pauses = Vec::new();
        let impatient = |pause| {
            pauses.push(pause);
            pauses.len() == 3
        };
        let never = settled(|| Ok((vec![1], true)), seven, impatient);
        assert_eq!(never.unwrap(), None);
        assert_eq!(pauses, [1, 2, 4].map(Duration::from_millis));
    }

    proptest::proptest! {
        #[test]
        fn any_datagram_is_read_or_refused(bytes: Vec<u8>) {
            for part in split(&bytes) {
                let Ok((header, body)) = part else { break };
                let _ = verdict("asking", &header, body);
            }
        }
    }
}
