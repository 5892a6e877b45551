//! Building the agents and running cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn root() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&package)
        .join("../..")
        .components()
        .fold(PathBuf::new(), |mut path, part| {
            match part {
                std::path::Component::ParentDir => drop(path.pop()),
                part => path.push(part),
            }
            path
        })
}

/// cargo, at the root of the repository; it ends when this program does.
pub fn cargo(words: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = tied(&cargo);
    command.args(words).current_dir(root()).stdin(Stdio::null());
    // Set by the cargo that runs us; it would make every dependency with a build script compile again.
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
    {
        command.env_remove(name);
    }
    command
}

/// A command that gets SIGTERM when this program ends, however it ends.
pub fn tied(program: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["tied", program]);
    command
}

/// Builds the agents as they are shipped and installs them into a directory of the lab's own, by
/// the installer that an administrator uses; the executables.
pub fn build() -> Result<Vec<PathBuf>> {
    let destination = root().join("target/lab/root");
    let installer = root().join("packaging/install");
    let output = tied(&installer.to_string_lossy())
        .arg(&destination)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("running packaging/install")?;
    if !output.status.success() {
        bail!(
            "building the agents failed: packaging/install {}",
            destination.display()
        );
    }
    let mut found = Vec::new();
    for place in ["usr/lib/ocf/resource.d/hastor", "usr/sbin"] {
        let place = destination.join(place);
        let entries =
            std::fs::read_dir(&place).with_context(|| format!("listing {}", place.display()))?;
        for entry in entries {
            found.push(entry?.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Builds the program that runs inside guests, statically: theirs is another Debian than this machine's.
pub fn build_guest() -> Result<PathBuf> {
    let words = "rustc --quiet --locked --release --package lab-guest --bin hastor-guest -- -C target-feature=+crt-static";
    let status = cargo(&words.split(' ').collect::<Vec<_>>())
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("building hastor-guest failed: cargo {words}");
    }
    Ok(root().join("target/release/hastor-guest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_the_workspace() {
        assert!(root().join("Cargo.toml").exists());
        assert!(!root().to_string_lossy().contains(".."));
    }
}
