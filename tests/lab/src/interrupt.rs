//! Ctrl-C and SIGTERM: everything is removed before the program ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::{control, packages};

/// Set once somebody wants the program to end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether the program is being ended; an error that comes now is only a consequence.
pub fn ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Watches for signals from now on. To be called before any other thread exists, so that all threads block them.
pub fn watch() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("blocking signals")?;
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        ENDING.store(true, Ordering::SeqCst);
        eprintln!("\n{signal}: removing the lab");
        let _no_more = packages::finished();
        let code = match control::down() {
            Ok(_) => 128 + signal as i32,
            Err(error) => {
                eprintln!("{error:#}");
                1
            }
        };
        std::process::exit(code);
    });
    Ok(())
}

/// For the main thread, when it fails because the lab is being removed under it: lets the other thread finish.
pub fn wait_for_end() -> ! {
    loop {
        thread::park();
    }
}
