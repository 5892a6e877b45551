//! What keeps the process in check: no core dump with a password in it, an end in time, an ear for
//! signals, and no panic that could pass for success.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Set by SIGTERM and SIGINT.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Has a signal asked this process to end?
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// What SIGTERM and SIGINT set, for what waits elsewhere than in a [`Task`](super::Task).
pub fn interrupt_flag() -> &'static AtomicBool {
    &INTERRUPTED
}

/// From now on nobody but root looks into this process, and nothing of it gets into a core dump.
/// Best effort: where the kernel refuses, fencing goes on.
pub(super) fn hide_memory() {
    let _ = prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// From now on SIGTERM and SIGINT are noted, so that a session can be closed. A system call that
/// waits is interrupted by them. A second one ends the process as ever.
pub(super) fn heed_signals() {
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESETHAND,
        SigSet::empty(),
    );
    let mut heeded = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        heeded.add(signal);
        #[expect(unsafe_code, reason = "installing a signal handler")]
        // SAFETY: the handler stores one atomic and does nothing else.
        unsafe {
            // Where it fails, the signal ends the process: no success either.
            let _ = sigaction(signal, &action);
        }
    }
    // Whoever started this process may have blocked them, and that is inherited.
    let _ = heeded.thread_unblock();
}

extern "C" fn note(_: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Ends the process with exit code 1 and a reason after `limit`, whatever the rest of it waits for:
/// the resolver of names, for one, has its own idea of time.
#[expect(
    clippy::disallowed_methods,
    reason = "one thread that waits, and ends the process if the rest of it does not"
)]
pub(super) fn end_after(limit: Duration, name: &'static str) {
    let watch = move || {
        std::thread::sleep(limit);
        let seconds = limit.as_secs_f32();
        let text =
            format!("{name}: timed out: still waiting for the system after {seconds:.1} s\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::exit(1);
    };
    // Without it the fencer's own timeout is left.
    let _ = std::thread::Builder::new().spawn(watch);
}

/// An error in the agent itself ends it with exit code 1. The message stays unsaid: it could have a
/// secret in it.
pub(super) fn fail_on_panic(name: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        let place = place.unwrap_or_default();
        let text = format!("{name}: internal error at {place}\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
        #[expect(clippy::disallowed_methods, reason = "there is nowhere to return to")]
        std::process::exit(1);
    }));
}
