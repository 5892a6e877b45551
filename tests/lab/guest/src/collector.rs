//! Keeps the log of what writers say was durable, outside of all guests.
//!
//! A writer sends lines and waits after each for `ok TIME`, which it gets once the line is in the log: that has the same
//! time. So at any moment the log lacks at most the one record that is being written: the log is the truth.
//!
//! A line of the log is the time of arrival (seconds since 1970), the number of the connection, and what was said:
//!
//! ```text
//! 1795246348.100000 1 open 10.77.4.13:40022
//! 1795246348.100200 1 hello client slots=256 size=4096 boot=7f3c2a... pid=612 path=/dev/disk/by-id/scsi-1
//! 1795246348.110000 1 begin 1 fresh
//! 1795246348.120000 1 ack 1 81200000000 81204100000 1
//! 1795246351.420000 1 error 2 write 5 81209900000 Input/output error (os error 5)
//! 1795246355.020000 1 ack 2 81205000000 88104100000 24
//! 1795246355.120000 1 bye 3 clean
//! 1795246355.120100 1 end
//! ```
//!
//! `begin` has the first number, and whether the ring was cleared (`fresh`) or read (`resumed`). `ack` has the number,
//! the begin of the first try and the end of the last (nanoseconds, the guest's CLOCK_MONOTONIC), and how many tries it
//! took. `error` has the number, what failed, errno, when, and the error in words. `wrong` has what the writer found in a
//! slot, where it had something else, just before it would have written over it. `bye` has the next number, and whether
//! that record may be on disk (`pending`: it was tried, without success) or not (`clean`); an `end` without `bye` is a
//! writer that was killed or cut off.
//!
//! A watch, which has a collector of its own, speaks the same way; what it says is told in [`crate::sight`].

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::sys::socket::{Shutdown, shutdown};

use crate::acks::Acks;

/// No line of a writer's is longer, bytes.
const LONGEST_LINE: u64 = 4096;

/// Listens until it is dropped, a thread for each connection.
pub struct Collector {
    address: SocketAddr,
    log: PathBuf,
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    log: Mutex<File>,
    /// The connections, to be cut at the end; None once that has begun.
    open: Mutex<Option<Vec<(u64, TcpStream)>>>,
}

impl Collector {
    /// Listens on an address, and appends to the file `log`; port 0 is any free one.
    pub fn bind(address: SocketAddr, log: &Path) -> Result<Collector> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
        Collector::listen(listener, log)
    }

    /// The same with a socket that listens already, in whatever network namespace.
    pub fn listen(listener: TcpListener, log: &Path) -> Result<Collector> {
        let address = listener.local_addr().context("a listening socket")?;
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("opening {}", log.display()))?;
        let known = std::fs::read_to_string(log).context("reading an earlier log")?;
        // A log that is continued: its connections have their numbers.
        let first = known.lines().filter_map(connection_of).max().unwrap_or(0) + 1;
        let listener = Arc::new(listener);
        let shared = Arc::new(Shared {
            log: Mutex::new(file),
            open: Mutex::new(Some(Vec::new())),
        });
        let (ours, theirs) = (Arc::clone(&listener), Arc::clone(&shared));
        let thread = thread::spawn(move || accept(&ours, &theirs, first));
        Ok(Collector {
            address,
            log: log.into(),
            listener,
            shared,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was said so far.
    pub fn acks(&self) -> Result<Acks> {
        Acks::read(&self.log)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let open = lock(&self.shared.open).take();
        for (_, stream) in open.into_iter().flatten() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the thread that waits in accept(2), on Linux.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connection_of(line: &str) -> Option<u64> {
    line.split(' ').nth(1)?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, first: u64) {
    let mut threads = Vec::new();
    for (number, stream) in (first..).zip(listener.incoming()) {
        let handle = stream.and_then(|stream| Ok((stream.try_clone()?, stream)));
        let mut open = lock(&shared.open);
        let Some(open) = open.as_mut() else { break };
        // A connection that was gone before it was taken, or no room for one: the next one, please.
        let Ok((handle, stream)) = handle else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        open.push((number, handle));
        let shared = Arc::clone(shared);
        threads.push(thread::spawn(move || {
            let _ = serve(&shared, number, &stream);
            let _ = shared.note(number, "end");
            if let Some(open) = lock(&shared.open).as_mut() {
                open.retain(|(other, _)| *other != number);
            }
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Takes lines to the log until the writer ends, or says something that cannot be kept.
fn serve(shared: &Shared, number: u64, stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    shared.note(number, &format!("open {}", stream.peer_addr()?))?;
    let mut reader = BufReader::new(stream);
    let mut greeted = false;
    loop {
        let mut line = String::new();
        (&mut reader).take(LONGEST_LINE).read_line(&mut line)?;
        let Some(line) = line.strip_suffix('\n') else {
            return Ok(());
        };
        // Somebody who is no writer must not spoil the log of those who are.
        greeted |= line.starts_with("hello ");
        if !greeted {
            return Ok(());
        }
        let time = shared.note(number, line)?;
        (&*stream).write_all(format!("ok {time:.6}\n").as_bytes())?;
    }
}

impl Shared {
    /// Appends a line, as one write; its time.
    fn note(&self, number: u64, text: &str) -> Result<f64> {
        // The clock is read under the lock, so that lines are in the order of their times.
        let mut log = lock(&self.log);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        log.write_all(format!("{now:.6} {number} {text}\n").as_bytes())?;
        Ok(now)
    }
}
