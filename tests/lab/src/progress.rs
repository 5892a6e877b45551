//! Calm lines with the time since the program began.

use std::fmt::Display;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static QUIET: AtomicBool = AtomicBool::new(false);
static BEGIN: OnceLock<Instant> = OnceLock::new();

/// Starts the clock; the first call counts.
pub fn begin() {
    BEGIN.get_or_init(Instant::now);
}

/// Time since [`begin`].
pub fn elapsed() -> Duration {
    BEGIN.get_or_init(Instant::now).elapsed()
}

/// No more progress lines, for a caller that prints its own.
pub fn hush() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Prints one line of progress, unless hushed.
pub fn say(text: impl Display) {
    if !QUIET.load(Ordering::Relaxed) {
        tell(text);
    }
}

/// Prints one line, with the time, in any case.
pub fn tell(text: impl Display) {
    plain(format_args!("{:7.1} s  {text}", elapsed().as_secs_f64()));
}

/// Prints one line as it is. A reader that went away (`| head`) is no reason to stop half-way.
pub fn plain(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line that belongs to the one before.
pub fn more(text: impl Display) {
    plain(format_args!("           {text}"));
}
