//! Reading what mmdebstrap, apt and dpkg say, for a few calm lines.

use std::time::{Duration, Instant};

use crate::progress::say;

/// A line this often, so that nobody thinks it hangs.
const PACE: Duration = Duration::from_secs(30);

/// How far the packages are.
pub struct Progress {
    told: Instant,
    total: usize,
    unpacked: usize,
    set_up: usize,
    what: &'static str,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            told: Instant::now(),
            total: 0,
            unpacked: 0,
            set_up: 0,
            what: "reading package lists",
        }
    }
}

impl Progress {
    /// Takes note of a line of output.
    pub fn see(&mut self, line: &str) {
        if let Some(count) = newly_installed(line) {
            // First the essential packages, then the others.
            (self.total, self.unpacked, self.set_up) = (count, 0, 0);
        } else if line.starts_with("Get:") {
            self.what = "downloading";
        } else if line.starts_with("Unpacking ") {
            self.unpacked += 1;
            self.what = "unpacking";
        } else if let Some(package) = line.strip_prefix("Setting up ") {
            self.set_up += 1;
            self.what = match package.split(' ').next() {
                Some("zfs-dkms") => "compiling the ZFS module (the longest part)",
                _ => "setting up",
            };
        } else if line.starts_with("I: running --customize-hook") {
            self.what = "last changes";
        }
    }

    /// Says where it is, unless it did so a moment ago.
    pub fn tell(&mut self) {
        if self.told.elapsed() > PACE {
            say(format_args!("  {self}"));
            self.told = Instant::now();
        }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.what)?;
        match self.what {
            "unpacking" => write!(f, ", {} of {} packages", self.unpacked, self.total),
            "setting up" => write!(f, ", {} of {} packages", self.set_up, self.total),
            _ => Ok(()),
        }
    }
}

/// The number in apt's summary of what it is going to do.
fn newly_installed(line: &str) -> Option<usize> {
    let (before, _) = line.split_once(" newly installed, ")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is() {
        let mut progress = Progress::default();
        let mut after = |line: &str| {
            progress.see(line);
            progress.to_string()
        };
        after("0 upgraded, 59 newly installed, 0 to remove and 0 not upgraded.");
        after("Unpacking tar (1.35) ...");
        after("0 upgraded, 357 newly installed, 0 to remove and 0 not upgraded.");
        assert_eq!(after("Get:1 mirror trixie/main amd64 pcs"), "downloading");
        assert_eq!(
            after("Unpacking pcs (0.12) ..."),
            "unpacking, 1 of 357 packages"
        );
        assert_eq!(
            after("Setting up dkms (3.2.2-1) ..."),
            "setting up, 1 of 357 packages"
        );
        assert_eq!(
            after("Setting up zfs-dkms (2.3.9) ..."),
            "compiling the ZFS module (the longest part)"
        );
        assert_eq!(
            after("Loading new zfs DKMS files..."),
            "compiling the ZFS module (the longest part)"
        );
    }
}
