//! The serial console of a guest, on this terminal.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::machine::console_socket;
use crate::control;

/// Ctrl-], as telnet has it.
const LEAVE: u8 = 0x1d;

/// Puts the terminal back when it is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn set() -> Result<Raw> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Raw(None));
        }
        let before = tcgetattr(&stdin).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw).context("changing the terminal's settings")?;
        Ok(Raw(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Joins this terminal and the console until Ctrl-], the end of the input, or that of the guest.
pub fn run(name: &str) -> Result<()> {
    control::ask(&["status", name])?;
    let socket = console_socket(name);
    let mut console = UnixStream::connect(&socket)
        .with_context(|| format!("{name} has no power (no console at {})", socket.display()))?;
    eprintln!("console of {name}: Ctrl-] leaves, Enter shows the prompt");
    let _raw = Raw::set()?;
    let mut buffer = [0; 4096];
    loop {
        let stdin = std::io::stdin();
        let mut ready = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(console.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut ready, PollTimeout::NONE).context("poll")?;
        let happened = ready.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if happened[0] {
            // Unbuffered: what lies in a buffer would not wake poll.
            let length = nix::unistd::read(&stdin, &mut buffer).context("reading the terminal")?;
            if length == 0 || buffer[..length].contains(&LEAVE) {
                return Ok(());
            }
            console.write_all(&buffer[..length])?;
        }
        if happened[1] {
            let length = console.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let mut output = std::io::stdout().lock();
            output.write_all(&buffer[..length])?;
            output.flush()?;
        }
    }
}
