//! SIGTERM and SIGINT as a question that can be asked between two steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// Whether this program was told to end.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

fn signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
}

impl Stop {
    /// From now on both signals only answer [`Stop::wanted`]. To be called before any thread is started.
    pub fn on_signals() -> Result<Stop> {
        signals().thread_block().context("blocking SIGTERM")?;
        let stop = Stop(Arc::new(AtomicBool::new(false)));
        let theirs = Arc::clone(&stop.0);
        thread::spawn(move || {
            if signals().wait().is_ok() {
                theirs.store(true, Ordering::Relaxed);
            }
        });
        Ok(stop)
    }

    /// Was it told to end?
    pub fn wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps for this long, or until it is told to end.
    pub fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if self.wanted() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}

/// Blocks until SIGTERM or SIGINT. `ready` is called once they cannot be missed any more.
pub fn wait(ready: impl FnOnce() -> Result<()>) -> Result<()> {
    signals().thread_block().context("blocking SIGTERM")?;
    ready()?;
    signals().wait().context("waiting for SIGTERM")?;
    Ok(())
}
