//! Exit codes, and which error becomes which.

use std::fmt::Display;
use std::io;

use host::{CmdError, NetError};
use nix::errno::Errno;

/// What an action's exit code tells Pacemaker (OCF resource agent API 1.1, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; from a monitor: it runs.
    Success = 0,
    /// Failed, or in doubt. Pacemaker recovers the resource.
    Generic = 1,
    /// The parameters cannot work on this host. Banned from this node.
    Args = 2,
    /// There is no such action.
    Unimplemented = 3,
    /// Not allowed to. Banned from this node.
    Permission = 4,
    /// Something that is needed is not installed. Banned from this node.
    NotInstalled = 5,
    /// The parameters cannot work anywhere. Banned from all nodes.
    NotConfigured = 6,
    /// A monitor found nothing of it here.
    NotRunning = 7,
    /// A monitor found it in the promoted role.
    Promoted = 8,
    /// A monitor found it failed in the promoted role.
    FailedPromoted = 9,
    /// It runs, but somebody should look at it.
    Degraded = 190,
    /// It runs in the promoted role, but somebody should look at it.
    DegradedPromoted = 191,
}

impl Exit {
    /// An error that asks for this exit code: `bail!(Exit::NotConfigured.because("..."))`.
    pub fn because(self, reason: impl Display) -> Failure {
        Failure {
            exit: self,
            reason: reason.to_string(),
        }
    }
}

/// An error that says how Pacemaker should take it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong, in one line.
    pub reason: String,
}

/// The exit code of an error: the one table.
///
/// | in the error | exit code |
/// |---|---|
/// | a [`Failure`] | its own |
/// | a program that is not installed | 5 |
/// | a permission that this process lacks | 4 |
/// | anything else | 1 |
///
/// The outermost of these counts, since it knows most of what was intended. Which of them an
/// action may report at all is the lifecycle's to say: [`crate::execute`].
pub fn classify(error: &anyhow::Error) -> Exit {
    // One that was given as a context is not in the chain; anyhow finds it all the same.
    let failure = error.downcast_ref::<Failure>().map(|failure| failure.exit);
    failure
        .or_else(|| error.chain().find_map(code))
        .unwrap_or(Exit::Generic)
}

fn code(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    if let Some(CmdError::Missing { .. }) = cause.downcast_ref() {
        return Some(Exit::NotInstalled);
    }
    let denied = match (
        cause.downcast_ref::<NetError>(),
        cause.downcast_ref::<io::Error>(),
    ) {
        // Not EACCES: that is what the kernel says where IPv6 is switched off.
        (Some(error), _) => error.errno() == Some(Errno::EPERM),
        (_, Some(error)) => error.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    };
    denied.then_some(Exit::Permission)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result, anyhow, ensure};

    use super::*;

    #[test]
    fn a_failure_keeps_its_code_through_contexts_and_ensure() {
        let fails = || -> Result<()> {
            ensure!(1 > 2, Exit::NotConfigured.because("one is not two"));
            Ok(())
        };
        let error = fails().context("counting").unwrap_err();
        assert_eq!(classify(&error), Exit::NotConfigured);
        assert_eq!(format!("{error:#}"), "counting: one is not two");
    }

    #[test]
    fn the_outermost_failure_counts() {
        let error =
            anyhow!(Exit::NotInstalled.because("inner")).context(Exit::Args.because("outer"));
        assert_eq!(classify(&error), Exit::Args);
    }

    #[test]
    fn what_carries_no_code_is_generic_and_what_is_forbidden_is_permission() {
        assert_eq!(classify(&anyhow!("whatever")), Exit::Generic);
        let denied = anyhow::Error::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(classify(&denied.context("saving a file")), Exit::Permission);
        let refused = NetError::Refused {
            request: "adding".into(),
            errno: Errno::EPERM,
            said: None,
        };
        assert_eq!(classify(&refused.into()), Exit::Permission);
    }
}
