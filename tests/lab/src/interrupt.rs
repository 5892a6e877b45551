//! Ctrl-C and SIGTERM: everything is removed before the program ends.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::{control, packages};

/// Set once somebody wants the program to end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The signal, if the main thread itself removes what it made.
static NOTED: AtomicI32 = AtomicI32::new(0);

/// Whether the program is being ended; an error that comes now is only a consequence.
pub fn ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Watches for signals from now on. To be called before any other thread exists, so that all threads block them.
pub fn watch() -> Result<()> {
    let signals = block()?;
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        ENDING.store(true, Ordering::SeqCst);
        tell(format_args!("\n{signal}: removing the lab"));
        let _no_more = (packages::finished(), control::none_starting());
        let code = match control::down() {
            Ok(_) => 128 + signal as i32,
            Err(error) => {
                tell(format_args!("{error:#}"));
                1
            }
        };
        std::process::exit(code);
    });
    Ok(())
}

/// Only takes note of signals from now on, under the same condition: for a command that looks at [`ending`] whenever it
/// waits, and whose parts remove what they made when they are dropped.
pub fn note() -> Result<()> {
    let signals = block()?;
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        NOTED.store(signal as i32, Ordering::SeqCst);
        ENDING.store(true, Ordering::SeqCst);
        tell(format_args!("\n{signal}: removing what is not finished"));
    });
    Ok(())
}

/// Prints to standard error. That nobody reads it any more, as after `2>&1 | head`, must not end the thread that removes.
fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn block() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("blocking signals")?;
    Ok(signals)
}

/// For the main thread, when it fails because the lab is being removed under it: lets the other thread finish.
pub fn wait_for_end() -> ! {
    loop {
        thread::park();
    }
}

/// For the main thread, when it fails because of a signal, whichever thread does the removing.
pub fn end() -> ExitCode {
    match NOTED.load(Ordering::SeqCst) {
        0 => wait_for_end(),
        signal => ExitCode::from(128 + signal as u8),
    }
}
