//! Disks that are plugged into running guests, pulled out, and made to fail.
//!
//! A disk is a raw file; the same file in several guests is a shared disk, as on a SAS shelf. In QEMU each has a filter
//! node (a throttle without limits, which costs nothing) between the guest's SCSI disk and the file: what lies below the
//! filter can be exchanged while the guest uses it.
//!
//! - errors: a blkdebug node, which fails every request with EIO;
//! - hang: the file by way of an NBD server that is stopped (SIGSTOP), so that requests stay under way; they are
//!   carried out once the server goes on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::machine::Power;
use crate::image::child::tied;

/// What is wrong with a disk, as one guest sees it.
#[derive(Default)]
pub enum Health {
    /// As it should be.
    #[default]
    Good,
    /// Every request fails.
    Errors,
    /// No request ends. The server that stands still is there while the guest has power.
    Hang(Option<Server>),
}

/// An NBD server that is stopped.
pub struct Server(Child);

impl Server {
    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.0.id() as i32), signal).context("signal to the NBD server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A disk in one guest.
#[derive(Default)]
struct Slot {
    plugged: bool,
    health: Health,
}

/// A disk, and the guests that have it.
pub struct Disk {
    /// Its name in the lab, and its serial number.
    name: String,
    file: PathBuf,
    size: u64,
    /// Its number: SCSI target, and last part of its WWN.
    number: u16,
    slots: BTreeMap<String, Slot>,
}

impl Disk {
    /// The same in every guest: a locally assigned NAA identifier.
    fn wwn(&self) -> u64 {
        0x3000_0000_4841_0000 + u64::from(self.number)
    }

    /// One line: name, size, WWN, and where it is.
    fn line(&self) -> String {
        let slots: Vec<String> = self
            .slots
            .iter()
            .map(|(guest, slot)| match (slot.plugged, &slot.health) {
                (false, _) => format!("{guest}:pulled"),
                (true, Health::Good) => guest.clone(),
                (true, Health::Errors) => format!("{guest}:errors"),
                (true, Health::Hang(_)) => format!("{guest}:hang"),
            })
            .collect();
        format!(
            "{} {} 0x{:016x} {}\n",
            self.name,
            self.size,
            self.wwn(),
            slots.join(" ")
        )
    }
}

/// All disks of the lab, apart from those that the guests boot from.
pub struct Disks {
    /// Where the files are.
    directory: PathBuf,
    disks: Vec<Disk>,
    /// Numbers are not used twice: a guest may remember a disk that is gone.
    next: u16,
}

/// QEMU's virtio-scsi takes targets 0 to 255.
const MOST: u16 = 255;

impl Disks {
    /// None yet; their files will be in this directory.
    pub fn new(directory: PathBuf) -> Disks {
        Disks {
            directory,
            disks: Vec::new(),
            next: 1,
        }
    }

    /// One line for each disk.
    pub fn list(&self) -> String {
        self.disks.iter().map(Disk::line).collect()
    }

    /// Makes a disk that these guests have. It is plugged in by [`Disks::plug`].
    pub fn create(&mut self, name: &str, size: u64, guests: &[&str]) -> Result<()> {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        ensure!(
            !name.is_empty() && name.len() <= 20 && name.chars().all(fits),
            "disk {name:?}: expected at most 20 letters, digits, '-', '_' and '.', because it becomes the serial number"
        );
        ensure!(
            !self.disks.iter().any(|disk| disk.name == name),
            "disk {name} is there already"
        );
        ensure!(
            size >= 1 << 20 && size % 512 == 0,
            "disk {name}: size {size}: expected at least 1 MiB, and a multiple of 512"
        );
        ensure!(self.next <= MOST, "there were {MOST} disks already");
        let file = self.directory.join(format!("disk-{name}.raw"));
        let made = fs::File::create(&file).and_then(|made| made.set_len(size));
        made.with_context(|| format!("making {}", file.display()))?;
        let slots = guests
            .iter()
            .map(|guest| ((*guest).to_owned(), Slot::default()))
            .collect();
        self.disks.push(Disk {
            name: name.to_owned(),
            file,
            size,
            number: self.next,
            slots,
        });
        self.next += 1;
        Ok(())
    }

    fn find(&mut self, name: &str) -> Result<&mut Disk> {
        let known: Vec<&str> = self.disks.iter().map(|disk| disk.name.as_str()).collect();
        let known = known.join(", ");
        let found = self.disks.iter_mut().find(|disk| disk.name == name);
        found.with_context(|| {
            format!(
                "no disk {name:?}: expected one of {}",
                if known.is_empty() {
                    "none: there is no disk"
                } else {
                    &known
                }
            )
        })
    }

    fn slot(&mut self, name: &str, guest: &str) -> Result<&mut Slot> {
        let disk = self.find(name)?;
        let slot = disk.slots.get_mut(guest);
        slot.with_context(|| format!("disk {name} does not belong to {guest}"))
    }

    /// The guests that a disk belongs to.
    pub fn guests_of(&mut self, name: &str) -> Result<Vec<String>> {
        Ok(self.find(name)?.slots.keys().cloned().collect())
    }

    /// Plugs a disk into a guest; without power it is there when the power comes.
    pub fn plug(&mut self, name: &str, guest: &str, power: Option<&mut Power>) -> Result<()> {
        let slot = self.slot(name, guest)?;
        if slot.plugged {
            return Ok(());
        }
        if let Some(power) = power {
            self.attach(name, guest, power)?;
        }
        self.slot(name, guest)?.plugged = true;
        Ok(())
    }

    /// Pulls a disk out of a guest, without a word of warning.
    pub fn pull(&mut self, name: &str, guest: &str, power: Option<&mut Power>) -> Result<()> {
        let slot = self.slot(name, guest)?;
        if !slot.plugged {
            return Ok(());
        }
        if let Some(power) = power {
            // What is under way must be able to end, or QEMU waits for it for ever.
            self.set_health(name, guest, Health::Good, Some(power))?;
            power.ask("device_del", json!({"id": format!("dev-{name}")}))?;
            wait_for_removal(power, name)?;
            for node in ["top", "raw", "file"] {
                delete_node(power, &format!("{node}-{name}"))?;
            }
            power.ask("object-del", json!({"id": format!("limit-{name}")}))?;
        }
        self.slot(name, guest)?.plugged = false;
        Ok(())
    }

    /// Removes a disk and what is on it; it must have been pulled everywhere.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let disk = self.find(name)?;
        ensure!(
            disk.slots.values().all(|slot| !slot.plugged),
            "disk {name} is still plugged in: {}",
            disk.line().trim_end()
        );
        fs::remove_file(&disk.file).with_context(|| format!("removing {}", disk.file.display()))?;
        self.disks.retain(|disk| disk.name != name);
        Ok(())
    }

    /// Plugs everything in that belongs to a guest whose QEMU has just been started.
    pub fn plug_all(&mut self, guest: &str, power: &mut Power) -> Result<()> {
        let names: Vec<String> = self
            .disks
            .iter()
            .filter(|disk| disk.slots.get(guest).is_some_and(|slot| slot.plugged))
            .map(|disk| disk.name.clone())
            .collect();
        for name in names {
            self.attach(&name, guest, power)?;
        }
        Ok(())
    }

    /// Takes note that a guest has lost its power: what stood still for it is ended.
    pub fn forget(&mut self, guest: &str) {
        for slot in self
            .disks
            .iter_mut()
            .filter_map(|disk| disk.slots.get_mut(guest))
        {
            if let Health::Hang(server) = &mut slot.health {
                *server = None;
            }
        }
    }

    fn attach(&mut self, name: &str, guest: &str, power: &mut Power) -> Result<()> {
        let disk = self.find(name)?;
        let (top, raw, file) = nodes(name);
        let limit = format!("limit-{name}");
        power.ask(
            "object-add",
            json!({"qom-type": "throttle-group", "id": limit, "limits": {}}),
        )?;
        // Several QEMUs have the file open: locks would be in the way. The page cache of this machine is what makes
        // one guest see what the other wrote.
        let options = json!({"driver": "file", "node-name": file, "filename": disk.file,
            "locking": "off", "discard": "unmap"});
        power.ask("blockdev-add", options)?;
        power.ask(
            "blockdev-add",
            json!({"driver": "raw", "node-name": raw, "file": file, "discard": "unmap"}),
        )?;
        power.ask(
            "blockdev-add",
            json!({"driver": "throttle", "node-name": top, "throttle-group": limit, "file": raw,
                "discard": "unmap"}),
        )?;
        let device = json!({"driver": "scsi-hd", "id": format!("dev-{name}"), "bus": "scsi0.0",
            "channel": 0, "scsi-id": disk.number, "lun": 0, "drive": top, "share-rw": true,
            "serial": disk.name, "device_id": disk.name, "wwn": disk.wwn(), "vendor": "HASTOR", "product": "lab disk",
            // The guest shall see the error, not stand still.
            "rerror": "report", "werror": "report"});
        power.ask("device_add", device)?;
        let health = std::mem::take(&mut self.slot(name, guest)?.health);
        self.set_health(name, guest, health, Some(power))
    }

    /// Makes the requests of a guest to a disk fail, hang, or go on.
    pub fn set_health(
        &mut self,
        name: &str,
        guest: &str,
        health: Health,
        power: Option<&mut Power>,
    ) -> Result<()> {
        let (directory, file) = (self.directory.clone(), self.find(name)?.file.clone());
        let slot = self.slot(name, guest)?;
        let Some(power) = power else {
            slot.health = health;
            return Ok(());
        };
        // Before anything is changed: QEMU cannot be asked.
        ensure!(!power.is_frozen(), "{guest} stands still: thaw it first");
        // First back to the file itself, from wherever it was.
        let (_, raw, _) = nodes(name);
        match std::mem::take(&mut slot.health) {
            Health::Good => {}
            Health::Errors => {
                put_below(power, name, &raw)?;
                power.ask("blockdev-del", json!({"node-name": format!("bad-{name}")}))?;
            }
            Health::Hang(server) => {
                if let Some(server) = &server {
                    server.signal(Signal::SIGCONT)?;
                }
                put_below(power, name, &raw)?;
                power.ask("blockdev-del", json!({"node-name": format!("slow-{name}")}))?;
            }
        }
        slot.health = match health {
            Health::Good => Health::Good,
            Health::Errors => {
                let bad = format!("bad-{name}");
                power.ask(
                    "blockdev-add",
                    json!({"driver": "blkdebug", "node-name": bad, "image": raw, "inject-error":
                        [{"event": "none", "once": false, "errno": 5, "immediately": true}]}),
                )?;
                put_below(power, name, &bad)?;
                Health::Errors
            }
            Health::Hang(_) => {
                let socket = directory.join(format!("nbd-{guest}-{name}"));
                let server = serve(&file, &socket)?;
                let slow = format!("slow-{name}");
                power.ask(
                    "blockdev-add",
                    json!({"driver": "nbd", "node-name": slow, "export": "",
                        "server": {"type": "unix", "path": socket}}),
                )?;
                put_below(power, name, &slow)?;
                server.signal(Signal::SIGSTOP)?;
                Health::Hang(Some(server))
            }
        };
        Ok(())
    }
}

fn nodes(name: &str) -> (String, String, String) {
    (
        format!("top-{name}"),
        format!("raw-{name}"),
        format!("file-{name}"),
    )
}

/// Exchanges what lies below the filter node of a disk.
fn put_below(power: &mut Power, name: &str, node: &str) -> Result<()> {
    let (top, _, _) = nodes(name);
    let options = json!({"driver": "throttle", "node-name": top,
        "throttle-group": format!("limit-{name}"), "file": node, "discard": "unmap"});
    power
        .ask("blockdev-reopen", json!({"options": [options]}))
        .map(drop)
}

/// A removed disk is gone when QEMU no longer lists it: some requests may have to end first.
fn wait_for_removal(power: &mut Power, name: &str) -> Result<()> {
    let device = format!("dev-{name}");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let list = power.ask("qom-list", json!({"path": "/machine/peripheral"}))?;
        let there = list
            .as_array()
            .is_some_and(|list| list.iter().any(|entry| entry["name"] == device.as_str()));
        if !there {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("disk {name}: QEMU still has it 30 s after it was pulled");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Removes a node; it may be in use until the last request of a pulled disk has ended.
fn delete_node(power: &mut Power, node: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match power.ask("blockdev-del", json!({"node-name": node})) {
            Err(error) if Instant::now() < end && error.to_string().contains("in use") => {}
            other => return other.map(drop),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts an NBD server for a file that other programs write, too.
fn serve(file: &Path, socket: &Path) -> Result<Server> {
    let _ = fs::remove_file(socket);
    let image = format!(
        "driver=raw,file.driver=file,file.locking=off,file.filename={}",
        file.display().to_string().replace(',', ",,")
    );
    let (socket_word, limit) = (socket.display().to_string(), "--shared=4");
    let mut server = tied(&[
        "qemu-nbd",
        "--persistent",
        limit,
        "--cache=writeback",
        "--discard=unmap",
        "--socket",
        &socket_word,
        "--image-opts",
        &image,
    ])
    .stdin(Stdio::null())
    .spawn()
    .map(Server)
    .context("starting qemu-nbd")?;
    let end = Instant::now() + Duration::from_secs(30);
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        if let Some(status) = server.0.try_wait()? {
            bail!("qemu-nbd ended at once: {status}; the room's log says why");
        }
        ensure!(
            Instant::now() < end,
            "qemu-nbd does not listen on {} after 30 s",
            socket.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes() {
        let directory =
            std::env::temp_dir().join(format!("hastor-lab-disks-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut disks = Disks::new(directory.clone());
        disks.create("s1", 1 << 30, &["n1", "n2"]).unwrap();
        assert!(disks.create("s1", 1 << 30, &["n1"]).is_err());
        assert!(disks.create("a b", 1 << 30, &["n1"]).is_err());
        assert!(disks.create("s2", 1000, &["n1"]).is_err());
        assert!(disks.set_health("s1", "n3", Health::Errors, None).is_err());
        disks.plug("s1", "n1", None).unwrap();
        disks.set_health("s1", "n1", Health::Errors, None).unwrap();
        assert_eq!(
            disks.list(),
            "s1 1073741824 0x3000000048410001 n1:errors n2:pulled\n"
        );
        assert!(disks.remove("s1").is_err());
        disks.pull("s1", "n1", None).unwrap();
        disks.remove("s1").unwrap();
        disks.create("s1", 1 << 20, &["n1"]).unwrap();
        assert!(disks.list().contains("0x3000000048410002"));
        fs::remove_dir_all(directory).unwrap();
    }
}
