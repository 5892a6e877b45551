//! One guest in QEMU, its network cards plugged into nothing; what it writes to its disk is forgotten with it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::child::{self, Running};
use super::{Image, Unfinished, recipe};
use crate::vm::agent::Agent;

/// Memory of the guest, in MiB.
const MEMORY: &str = "1024";

/// What makes the instructions of a guest run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself
    Kvm,
    /// QEMU's translator
    Tcg,
}

impl Accelerator {
    /// The one that works here. /dev/kvm alone says nothing: on a nested host it may exist and the guest hang.
    pub fn here() -> Result<Accelerator> {
        let cpu = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
        Ok(
            if has_virtualisation(&cpu) && Path::new("/dev/kvm").exists() {
                Accelerator::Kvm
            } else {
                Accelerator::Tcg
            },
        )
    }

    /// The words for QEMU.
    pub fn words(self) -> &'static str {
        match self {
            Accelerator::Kvm => "-accel kvm -cpu host",
            // QEMU's default processor was seen to take four times as long to boot. What only protects, and costs most when
            // it is translated, it does not have.
            Accelerator::Tcg => {
                "-accel tcg,thread=multi -cpu max,la57=off,smap=off,smep=off,umip=off,pku=off"
            }
        }
    }
}

/// What every kernel of a guest is told. What its mitigations guard against nobody tries, and they are a fifth of the time.
pub const KERNEL: &str = "root=/dev/vda rw console=ttyS0 mitigations=off";

fn has_virtualisation(cpu: &str) -> bool {
    let mut flags = cpu
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace);
    flags.any(|flag| flag == "vmx" || flag == "svm")
}

/// A running guest; it ends, and its directory goes, when this is dropped.
pub struct Guest {
    qemu: Running,
    /// What it answers to
    pub agent: Agent,
    directory: Unfinished,
}

impl Guest {
    /// Gives a guest power.
    pub fn boot(cache: &Path, image: &Image, accelerator: Accelerator) -> Result<Guest> {
        let directory = Unfinished::create(cache, "check")?;
        let disk = format!(
            "file={},format=raw,if=virtio,snapshot=on",
            commas(&image.root())
        );
        let kernel = image.kernel().display().to_string();
        let initrd = image.initrd().display().to_string();
        let append = format!("{KERNEL} systemd.hostname=check systemd.show_status=yes");
        let mut words = vec!["qemu-system-x86_64", "-name", "hastor-lab-check"];
        words.extend(["-nodefaults", "-no-user-config", "-display", "none"]);
        words.extend(accelerator.words().split(' '));
        words.extend(["-smp", "2", "-m", MEMORY, "-no-reboot"]);
        words.extend(["-kernel", &kernel, "-initrd", &initrd, "-append", &append]);
        words.extend(["-drive", &disk, "-device", "virtio-rng-pci"]);
        // A hub with one port: the guest sees a carrier, and nobody sees the guest.
        let cards: Vec<String> = recipe::NETWORKS
            .iter()
            .flat_map(|(name, number)| {
                let mac = recipe::mac(*number, 1);
                [
                    "-netdev".to_owned(),
                    format!("hubport,id={name},hubid={number}"),
                    "-device".to_owned(),
                    format!("virtio-net-pci,netdev={name},mac={mac}"),
                ]
            })
            .collect();
        words.extend(cards.iter().map(String::as_str));
        words.extend([
            "-serial",
            "file:console.log",
            "-device",
            "virtio-serial-pci",
        ]);
        // The agent's port is QEMU's own input and output: no socket lies about.
        words.extend(["-chardev", "stdio,id=agent,signal=off"]);
        words.extend([
            "-device",
            "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        ]);
        let (ours, theirs) = UnixStream::pair().context("the agent's port")?;
        let theirs = OwnedFd::from(theirs);
        let mut command = child::tied(&words);
        command
            .current_dir(&directory.0)
            .env("TMPDIR", &directory.0)
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::from(theirs))
            .stderr(fs::File::create(directory.0.join("qemu.log"))?);
        Ok(Guest {
            qemu: Running::start(command)?,
            agent: Agent::new(ours)?,
            directory,
        })
    }

    /// Waits until the guest answers.
    pub fn wait(&mut self, bound: std::time::Duration) -> Result<()> {
        let qemu = &mut self.qemu;
        self.agent.wait(bound, || match qemu.ended()? {
            Some(status) => bail!("QEMU ended: {status}"),
            None => Ok(()),
        })
    }

    /// Keeps the console and QEMU's messages; where.
    pub fn keep_logs(&self, cache: &Path) -> Result<PathBuf> {
        let mut text = fs::read(self.directory.0.join("qemu.log")).unwrap_or_default();
        text.extend(fs::read(self.directory.0.join("console.log")).unwrap_or_default());
        let path = cache.join("check.log");
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// A path as QEMU's lists of options want it: commas doubled.
fn commas(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtualisation() {
        assert!(has_virtualisation("model name\t: x\nflags\t\t: fpu vmx\n"));
        assert!(has_virtualisation("flags\t\t: svm fpu\n"));
        assert!(!has_virtualisation(
            "flags\t\t: fpu hypervisor\nvmx flags\t: vnmi vmx\n"
        ));
    }
}
