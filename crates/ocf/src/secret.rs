use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

/// A parameter's value that appears in no message. Its memory is overwritten when it goes; what the
/// parser of the command line copied on the way is not, so a process with secrets also has to be one
/// that leaves no core dump, as [`crate::fence::main`] sees to.
///
/// Pacemaker hides a parameter by its name: call it `password` or `passwd`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret from somewhere else than the parameters, such as a file.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(value.into()))
    }

    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(value: &str) -> Result<Secret, Self::Err> {
        Ok(Secret::new(value))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
