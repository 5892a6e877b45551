//! One guest with power: its QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::plan::Guest;
use super::qmp::Qmp;
use crate::image::child::tied;
use crate::image::recipe::mac;
use crate::image::{Accelerator, KERNEL};
use crate::layout;

/// What a guest boots from.
pub struct Disk {
    /// A qcow2 file of its own, which may be written.
    pub overlay: PathBuf,
    /// What it lies over, and its format.
    pub base: (PathBuf, &'static str),
}

impl Disk {
    /// Makes the overlay, unless it is there: it keeps what was written, as a disk does over a power cut.
    pub fn prepare(&self) -> Result<()> {
        if self.overlay.exists() {
            return Ok(());
        }
        let mut command = Command::new("qemu-img");
        command
            .args(["create", "-q", "-f", "qcow2", "-F", self.base.1, "-b"])
            .arg(&self.base.0)
            .arg(&self.overlay);
        let output = command.output().context("running qemu-img")?;
        ensure!(
            output.status.success(),
            "qemu-img create {}: {}",
            self.overlay.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// How a guest comes to life.
#[derive(Clone, Copy)]
pub enum Birth<'a> {
    /// By its kernel
    Boot {
        /// The directory with `kernel` and `initrd`
        image: &'a Path,
        /// How long its firmware takes before that, idle; at most 65 s
        firmware: Duration,
    },
    /// From the memory it had when it was saved
    Restore {
        /// The directory with `kernel` and `initrd`: the machine must be built as it was
        image: &'a Path,
        /// The file with its memory
        memory: &'a Path,
    },
}

/// A guest that has power.
pub struct Power {
    child: Child,
    qmp: Qmp,
    frozen: bool,
}

/// The socket of a guest's agent.
pub fn agent_socket(name: &str) -> PathBuf {
    layout::home(name).join("agent")
}

/// The socket of a guest's serial console.
pub fn console_socket(name: &str) -> PathBuf {
    layout::home(name).join("console")
}

/// The name of a guest's tap on a network.
pub fn tap(name: &str, network: super::plan::Network) -> String {
    // An interface's name has at most 15 characters.
    format!("{name}-{}", network.short())
}

impl Power {
    /// Starts QEMU; the guest does not run before [`Power::resume`].
    pub fn start(
        guest: &Guest,
        birth: Birth,
        disk: &Disk,
        accelerator: Accelerator,
    ) -> Result<Power> {
        disk.prepare()?;
        let home = layout::home(&guest.name);
        fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
        let monitor = home.join("monitor");
        for socket in [
            &monitor,
            &agent_socket(&guest.name),
            &console_socket(&guest.name),
        ] {
            // A QEMU that was killed leaves them.
            let _ = fs::remove_file(socket);
        }
        let words = words(guest, birth, disk, accelerator);
        let log = home.join("qemu.log");
        let output = fs::File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("opening {}", log.display()))?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = tied(&words)
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("starting QEMU")?;
        let qmp = Qmp::connect(&monitor, || match child.try_wait()? {
            Some(status) => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let said = said.lines().last().unwrap_or_default();
                bail!("QEMU ended at once: {status}: {said}")
            }
            None => Ok(()),
        });
        match qmp {
            Ok(qmp) => Ok(Power {
                child,
                qmp,
                frozen: false,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error.context(format!("starting {}", guest.name)))
            }
        }
    }

    /// The process of QEMU.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Whether QEMU has ended: by itself, or because the guest has switched itself off.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks QEMU for something.
    pub fn ask(&mut self, what: &str, arguments: Value) -> Result<Value> {
        ensure!(!self.frozen, "frozen: thaw it first");
        self.qmp.ask(what, arguments)
    }

    /// Lets the guest run.
    pub fn resume(&mut self) -> Result<()> {
        self.ask("cont", json!({})).map(drop)
    }

    /// Begins to write the memory to a file; the guest stands still.
    pub fn begin_to_save(&mut self, memory: &Path) -> Result<()> {
        self.ask("stop", json!({}))?;
        let fast = json!({"max-bandwidth": 1u64 << 40});
        self.ask("migrate-set-parameters", fast)?;
        let uri = format!("exec:cat > '{}'", memory.display());
        self.ask("migrate", json!({"uri": uri})).map(drop)
    }

    /// Whether the memory has been read or written to its end.
    pub fn has_moved(&mut self) -> Result<bool> {
        let state = self.ask("query-migrate", json!({}))?;
        match state["status"].as_str() {
            Some("completed") => Ok(true),
            Some("failed" | "cancelled") => bail!("the memory could not be moved: {state}"),
            _ => Ok(false),
        }
    }

    /// SIGSTOP or SIGCONT to all of the guest: it stands still, and cannot know.
    pub fn freeze(&mut self, frozen: bool) -> Result<()> {
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        kill(Pid::from_raw(self.pid()), signal).context("signal to QEMU")?;
        self.frozen = frozen;
        Ok(())
    }

    /// Whether it stands still.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Power loss: returns when QEMU is gone.
    pub fn cut(mut self) -> Result<()> {
        self.child.kill().context("SIGKILL to QEMU")?;
        let end = Instant::now() + Duration::from_secs(30);
        while !self.has_ended() {
            ensure!(
                Instant::now() < end,
                "QEMU {} was killed 30 s ago and has not ended",
                self.pid()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Power {
    /// No QEMU outlives an error: its guest would have power that nobody can take.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let end = Instant::now() + Duration::from_secs(10);
        while !self.has_ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn words(guest: &Guest, birth: Birth, disk: &Disk, accelerator: Accelerator) -> Vec<String> {
    let home = layout::home(&guest.name);
    let (Birth::Boot { image, .. } | Birth::Restore { image, .. }) = birth;
    let mut words: Vec<String> = Vec::new();
    let mut add = |text: &str| words.extend(text.split(' ').map(str::to_owned));
    add("qemu-system-x86_64 -nodefaults -no-user-config -display none -machine pc -rtc base=utc");
    add(&format!(
        "-name {},debug-threads=on -m {}",
        guest.name,
        guest.memory()
    ));
    add(accelerator.words());
    add("-smp 1 -device virtio-rng-pci -device virtio-serial-pci -device virtio-scsi-pci,id=scsi0");
    for network in guest.networks() {
        let interface = network.interface();
        let tap = tap(&guest.name, *network);
        let mac = mac(network.number(), guest.number);
        add(&format!(
            "-netdev tap,id={interface},ifname={tap},script=no,downscript=no"
        ));
        add(&format!(
            "-device virtio-net-pci,id=card-{interface},netdev={interface},mac={mac},romfile="
        ));
    }
    add("-device virtserialport,chardev=agent,name=org.qemu.guest_agent.0 -serial chardev:console");
    add("-chardev socket,id=agent,path=agent,server=on,wait=off");
    add(
        "-chardev socket,id=console,path=console,server=on,wait=off,logfile=console.log,logappend=on",
    );
    add("-qmp unix:monitor,server=on,wait=off -S");
    // Paths may have blanks in them. The host does not lose power: nothing has to reach its disk.
    let drive = format!(
        "file={},format=qcow2,if=virtio,cache=unsafe",
        commas(&disk.overlay)
    );
    let append = format!("{KERNEL} quiet systemd.hostname={}", guest.name);
    let kernel = image.join("kernel").display().to_string();
    let initrd = image.join("initrd").display().to_string();
    for word in [
        "-drive", &drive, "-kernel", &kernel, "-initrd", &initrd, "-append", &append,
    ] {
        words.push(word.to_owned());
    }
    match birth {
        // Its firmware waits for somebody to ask for a menu.
        Birth::Boot { firmware, .. } if !firmware.is_zero() => {
            words.push("-boot".to_owned());
            words.push(format!("menu=on,splash-time={}", firmware.as_millis()));
        }
        Birth::Boot { .. } => {}
        Birth::Restore { memory, .. } => {
            words.push("-incoming".to_owned());
            words.push(format!("exec:cat '{}'", memory.display()));
        }
    }
    debug_assert!(home.is_absolute());
    words
}

/// A path as QEMU's lists of options want it: commas doubled.
fn commas(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
