//! What has to be installed on this machine, and installing it without starting a service.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use anyhow::{Context, Result, bail};

use crate::progress::{more, say, tell};

/// Package and reason.
const NEEDED: &[(&str, &str)] = &[
    ("corosync", "the cluster's membership"),
    ("pacemaker", "the cluster's resource manager"),
    ("pacemaker-cli-utils", "crm_mon, cibadmin, crm_resource"),
    (
        "resource-agents",
        "ocf-tester, and the agents to compare with",
    ),
    ("iproute2", "bridges and cables between the nodes"),
    ("nftables", "what ports do the agents close?"),
    ("iputils-arping", "the agents to compare with"),
    ("iputils-ping", "the client's view"),
    ("libxml2-utils", "xmllint, for the agents' metadata"),
    ("pcs", "does it accept the agents' metadata?"),
    ("crmsh", "does it accept the agents' metadata?"),
    ("strace", "what do the agents really do?"),
    ("groff-base", "do the manual pages render?"),
    ("man-db", "do the manual pages render?"),
    ("mandoc", "do the manual pages render?"),
    ("e2fsprogs", "a file system that hangs"),
    ("util-linux", "nsenter"),
    ("openipmi", "ipmi_sim, the nodes' BMCs"),
    ("ipmitool", "does it understand our IPMI, and we its?"),
    ("fence-agents", "fence_ipmilan, the agent to compare with"),
    ("cluster-glue", "external/ipmi, the agent to compare with"),
];

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// First lines of our policy file, by which a later run knows it.
const POLICY_TEXT: &str =
    "#!/bin/sh\n# hastor-lab: no service starts while packages are installed\nexit 101\n";

/// Held while packages are being installed.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Waits until no package is being installed; none will be while the guard lives.
pub fn finished() -> MutexGuard<'static, ()> {
    if let Err(TryLockError::WouldBlock) = INSTALLING.try_lock() {
        // Without a reader this must not fail.
        let _ = writeln!(
            std::io::stderr(),
            "waiting for the installation of packages to end"
        );
    }
    INSTALLING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line and the way out, if this machine or user cannot run a lab.
pub fn check_machine() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the lab needs root for its namespaces: run `sudo --preserve-env=PATH,HOME cargo lab ...`"
        );
    }
    if !Path::new("/etc/debian_version").exists() {
        bail!(
            "the lab installs Debian packages: run it on Debian 12 or newer, `docker run --privileged -it debian:12`"
        );
    }
    Ok(())
}

/// Installs what the clusters in namespaces need and is missing.
pub fn install() -> Result<()> {
    ensure(NEEDED, &|missing| {
        let mut words = vec!["install", "-y", "--no-install-recommends"];
        words.extend(missing);
        apt(&words)
    })
}

/// Installs, by a function that gets their names, those packages that are missing.
pub fn ensure(
    needed: &[(&'static str, &'static str)],
    install: &dyn Fn(&[&str]) -> Result<()>,
) -> Result<()> {
    let missing = missing(needed)?;
    if missing.is_empty() {
        say("packages: all there");
        return Ok(());
    }
    tell("packages: installing what is missing (no service will be started)");
    for (name, why) in &missing {
        more(format_args!("{name:20} {why}"));
    }
    let _guard = finished();
    let _policy = Policy::set()?;
    if !lists_present() {
        more("apt-get update, because this machine has no package lists");
        apt(&["update"])?;
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    install(&names)?;
    disable(&missing)?;
    tell("packages: installed");
    Ok(())
}

fn missing(needed: &[(&'static str, &'static str)]) -> Result<Vec<(&'static str, &'static str)>> {
    let status =
        fs::read_to_string("/var/lib/dpkg/status").context("reading dpkg's list of packages")?;
    Ok(needed
        .iter()
        .copied()
        .filter(|(name, _)| !is_installed(&status, name))
        .collect())
}

fn is_installed(status: &str, name: &str) -> bool {
    let head = format!("Package: {name}\n");
    let entry = status.split("\n\n").find(|entry| entry.starts_with(&head));
    entry.is_some_and(|entry| {
        entry
            .lines()
            .any(|line| line.starts_with("Status: ") && line.ends_with(" ok installed"))
    })
}

fn lists_present() -> bool {
    let lists = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten();
    lists
        .map(|entry| entry.file_name())
        .any(|name| name.to_string_lossy().contains("_Packages"))
}

/// Runs apt-get in a process group of its own: Ctrl-C must not stop dpkg half-way.
pub fn apt(words: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args([
            "-o",
            "DPkg::Lock::Timeout=300",
            "-o",
            "Dpkg::Use-Pty=0",
            "-qq",
        ])
        .args(words);
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let output = command.output().context("running apt-get")?;
    if !output.status.success() {
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!(
            "apt-get {}: {}\n{}",
            words.join(" "),
            output.status,
            tail.join("\n")
        );
    }
    Ok(())
}

/// Debian enables daemons on installation: they would start at the next boot of this machine.
fn disable(installed: &[(&str, &str)]) -> Result<()> {
    if !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    let units = [
        ("corosync", "corosync"),
        ("pacemaker", "pacemaker"),
        ("pcs", "pcsd"),
        ("openipmi", "openipmi"),
        ("ipmitool", "ipmievd"),
    ];
    let units = units
        .iter()
        .filter(|(package, _)| installed.iter().any(|(name, _)| name == package));
    for (_, unit) in units {
        Command::new("systemctl")
            .args(["--quiet", "disable", unit])
            .status()
            .context("running systemctl")?;
    }
    Ok(())
}

/// A policy-rc.d that lets no service start, as long as this lives. One that exists already stays as it is.
struct Policy {
    ours: bool,
}

impl Policy {
    fn set() -> Result<Policy> {
        match fs::read(POLICY) {
            Ok(text) => Ok(Policy {
                ours: text == POLICY_TEXT.as_bytes(),
            }), // an earlier run was killed
            Err(_) => {
                fs::write(POLICY, POLICY_TEXT).with_context(|| format!("writing {POLICY}"))?;
                fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
                Ok(Policy { ours: true })
            }
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        if let Err(error) = fs::remove_file(POLICY) {
            eprintln!(
                "cannot remove {POLICY}: {error}; remove it, or no service will start after installation"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkg_status() {
        let status = "Package: pcs\nEssential: yes\nStatus: install ok installed\nVersion: 1\n\nPackage: crmsh\nStatus: deinstall ok config-files\n";
        assert!(is_installed(status, "pcs"));
        assert!(!is_installed(status, "crmsh"));
        assert!(!is_installed(status, "cs"));
    }
}
