//! What this machine needs to build and boot the image: packages and disk space.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{interrupt, packages};

const NEEDED: &[(&str, &str)] = &[
    ("mmdebstrap", "makes the guests' root"),
    ("e2fsprogs", "makes their file system"),
    ("util-linux", "unshare, for what is done as another machine"),
    ("debian-archive-keyring", "knows the guests' Debian release"),
    ("qemu-system-x86", "runs the guests"),
    ("qemu-utils", "the guests' disks"),
    ("openipmi", "ipmi_sim, the BMCs of the guests"),
    ("iproute2", "the networks between the guests"),
];

/// The root and the image, both at once, and what apt downloads: 3 GB were seen.
const SPACE: u64 = 4 << 30;

/// Installs what is missing.
pub fn prepare() -> Result<()> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("the guests of the lab are amd64: run this on such a machine");
    }
    packages::ensure(NEEDED, &install)
}

/// Installs packages without removing one. Where QEMU's tools came from backports, the machine emulator of the release
/// itself would throw them out: then it has to come from backports too.
fn install(names: &[&str]) -> Result<()> {
    let words: Vec<&str> = ["install", "-y", "--no-install-recommends", "--no-remove"]
        .into_iter()
        .chain(names.iter().copied())
        .collect();
    let simulated: Vec<&str> = ["-s"].into_iter().chain(words.iter().copied()).collect();
    let Err(error) = packages::apt(&simulated) else {
        return packages::apt(&words);
    };
    if !installed_version("qemu-utils")?.contains("~bpo") {
        return Err(error);
    }
    let list = BackportsList::create()?;
    packages::apt(&list.words(&["update"], true))?;
    if interrupt::ending() {
        bail!("interrupted");
    }
    let target = ["-t", &list.suite];
    let words: Vec<&str> = target.into_iter().chain(words).collect();
    packages::apt(&list.words(&words, false))
}

/// Empty if a package is not installed.
fn installed_version(package: &str) -> Result<String> {
    output(
        "dpkg-query",
        &["--show", "--showformat=${Version}", package],
    )
}

fn output(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(words)
        .stderr(Stdio::null())
        .output();
    let output = output.with_context(|| format!("running {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A list of sources with the backports of this machine's release, from the mirror that this machine uses anyway. It
/// exists while packages are installed; the machine's own sources stay as they are.
struct BackportsList {
    path: String,
    option: String,
    suite: String,
}

impl BackportsList {
    fn create() -> Result<BackportsList> {
        let format = "$(ORIGIN) $(REPO_URI) $(CODENAME)";
        let targets = output(
            "apt-get",
            &["indextargets", "--format", format, "Created-By: Packages"],
        )?;
        let (uri, codename) = release(&targets)
            .context("no Debian release among this machine's apt sources: its backports are needed, because qemu-utils came from there")?;
        let path = format!("/run/hastor-lab-backports-{}.list", std::process::id());
        let list = BackportsList {
            option: format!("Dir::Etc::SourceList={path}"),
            path,
            suite: format!("{codename}-backports"),
        };
        let own = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
        fs::write(
            &list.path,
            format!("{own}\ndeb {uri} {} main\n", list.suite),
        )
        .with_context(|| format!("writing {}", list.path))?;
        Ok(list)
    }

    /// The words for apt-get, with this list in place of sources.list; `only` if without the other sources.
    fn words<'a>(&'a self, words: &[&'a str], only: bool) -> Vec<&'a str> {
        let mut all = vec!["-o", &self.option];
        if only {
            all.extend([
                "-o",
                "Dir::Etc::SourceParts=-",
                "-o",
                "APT::Get::List-Cleanup=0",
            ]);
        }
        all.extend(words);
        all
    }
}

impl Drop for BackportsList {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Mirror and code name of the release, among lines of origin, mirror and code name.
fn release(targets: &str) -> Option<(&str, &str)> {
    let mut lines = targets.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?, words.next()?))
    });
    // Updates and security have a code name with a hyphen.
    let (_, uri, codename) =
        lines.find(|(origin, _, codename)| *origin == "Debian" && !codename.contains('-'))?;
    Some((uri, codename))
}

/// Refuses to begin what cannot end.
pub fn check_space(directory: &Path) -> Result<()> {
    let space = nix::sys::statvfs::statvfs(directory)
        .with_context(|| format!("file system of {}", directory.display()))?;
    let free = space.blocks_available() * space.fragment_size();
    if free < SPACE {
        bail!(
            "{}: {} MB free, expected {} MB: make room, or set XDG_CACHE_HOME to a larger file system",
            directory.display(),
            free >> 20,
            SPACE >> 20
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_of_the_release() {
        let targets = "Other http://other.test/x nodistro\n\nDebian http://mirror.test/security trixie-security\nDebian http://mirror.test/debian trixie\n";
        assert_eq!(
            release(targets),
            Some(("http://mirror.test/debian", "trixie"))
        );
        assert_eq!(release("Other http://other.test/x nodistro\n"), None);
    }
}
