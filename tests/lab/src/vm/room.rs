//! The machine room of the guests: their power, their network, their disks and their BMCs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::disks::{Disks, Health};
use super::machine::{Birth, Disk, Power, tap};
use super::plan::{Guest, NETWORKS, Network, Plan, Role};
use crate::bmc::{Bmc, Line};
use crate::image::Accelerator;
use crate::layout::{self, STATE};
use crate::room::{self, Machines, note, note_at, now, tick};
use crate::switch;

/// What the room has to know before it opens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// Which guests there are.
    pub plan: Plan,
    /// The directory of the image they boot.
    pub image: PathBuf,
    /// A directory for the disks of this lab, on a file system with room; it is removed with the lab.
    pub run: PathBuf,
    /// The directory with the memories and disks of a formed cluster, if there is one.
    pub snapshot: Option<PathBuf>,
}

impl Setup {
    /// Where it is kept. That it exists is how commands know that the running lab is one of guests.
    pub fn file() -> PathBuf {
        PathBuf::from(format!("{STATE}/guests.json"))
    }

    /// Writes it down for the room.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string(self)?;
        fs::write(Setup::file(), text).context("writing guests.json")
    }

    /// What the running lab was started with; an error if it is not one of guests.
    pub fn read() -> Result<Setup> {
        let text = fs::read_to_string(Setup::file())
            .context("no lab of virtual machines is running: `cargo lab vm up` starts one")?;
        serde_json::from_str(&text).context("reading guests.json")
    }

    /// The file with a guest's memory in a snapshot.
    pub fn memory(directory: &Path, name: &str) -> PathBuf {
        directory.join(format!("{name}.memory"))
    }

    /// The file with a guest's disk in a snapshot.
    pub fn disk(directory: &Path, name: &str) -> PathBuf {
        directory.join(format!("{name}.qcow2"))
    }
}

/// A guest and the state of its cables.
struct Machine {
    guest: Guest,
    power: Option<Power>,
    /// Out of the bridge, with its carrier.
    cut: BTreeSet<Network>,
    /// Without a carrier.
    pulled: BTreeSet<Network>,
}

struct Room {
    setup: Setup,
    accelerator: Accelerator,
    machines: BTreeMap<String, Machine>,
    disks: Disks,
    bmcs: BTreeMap<String, Bmc>,
    /// How long the firmware of a guest takes that boots.
    firmware: Duration,
}

/// Reading or writing the memory of all guests; ten times what was seen.
const MOVE: Duration = Duration::from_secs(120);

/// Runs the room.
pub fn run() -> Result<()> {
    room::open(Room::make)
}

impl Room {
    fn make() -> Result<Room> {
        let setup = Setup::read()?;
        let guests = setup.plan.guests()?;
        cables(&guests)?;
        let mut bmcs = BTreeMap::new();
        for guest in guests.iter().filter(|guest| guest.role == Role::Head) {
            bmcs.insert(guest.name.clone(), Bmc::start(&guest.name)?);
        }
        let machines = guests.into_iter().map(|guest| {
            let machine = Machine {
                guest,
                power: None,
                cut: BTreeSet::new(),
                pulled: BTreeSet::new(),
            };
            (machine.guest.name.clone(), machine)
        });
        Ok(Room {
            accelerator: Accelerator::here()?,
            machines: machines.collect(),
            disks: Disks::new(setup.run.clone()),
            bmcs,
            firmware: Duration::ZERO,
            setup,
        })
    }

    fn machine(&mut self, name: &str) -> Result<&mut Machine> {
        let found = self.machines.get_mut(name);
        found.with_context(|| format!("{name} is no guest of this lab"))
    }

    fn power(&mut self, name: &str) -> Result<&mut Power> {
        let power = self.machine(name)?.power.as_mut();
        power.with_context(|| format!("{name} has no power"))
    }

    /// One line a guest: name, process of its QEMU or "off", and what is wrong with it.
    fn list(&self) -> String {
        let line = |(name, machine): (&String, &Machine)| {
            let mut line = name.clone();
            match &machine.power {
                Some(power) => line += &format!(" {}", power.pid()),
                None => line += " off",
            }
            if machine.power.as_ref().is_some_and(Power::is_frozen) {
                line += " frozen";
            }
            for network in &machine.cut {
                line += match network {
                    Network::Cluster => " cut",
                    Network::Client => " cut-client",
                    Network::Replication => " cut-replication",
                    Network::Management => " cut-management",
                };
            }
            if !machine.pulled.is_empty() {
                line += " unplugged";
            }
            if let Some(bmc) = self
                .bmcs
                .get(name)
                .filter(|bmc| bmc.line() != Line::default())
            {
                line += if bmc.line().cut {
                    " bmc-cut"
                } else {
                    " bmc-lame"
                };
            }
            line + "\n"
        };
        self.machines.iter().map(line).collect()
    }

    /// Takes the power and answers when: seconds since 1970. Returns only when QEMU is gone.
    fn off(&mut self, name: &str, who: &str) -> Result<String> {
        let when = tick();
        let Some(power) = self.machine(name)?.power.take() else {
            note_at(when, &format!("{name} power off for {who}: was off"));
            return Ok(format!("{when:.3}"));
        };
        forget(name);
        power.cut().with_context(|| name.to_owned())?;
        self.disks.forget(name);
        note_at(when, &format!("{name} power off for {who}"));
        Ok(format!("{when:.3}"))
    }

    fn start(&mut self, name: &str, birth: Birth) -> Result<Power> {
        let base = match &self.setup.snapshot {
            Some(snapshot) => (Setup::disk(snapshot, name), "qcow2"),
            None => (self.setup.image.join("root.img"), "raw"),
        };
        let disk = Disk {
            overlay: Setup::disk(&self.setup.run, name),
            base,
        };
        let accelerator = self.accelerator;
        Power::start(&self.machine(name)?.guest, birth, &disk, accelerator)
    }

    /// Takes note of a guest that has just been started; its carriers are as they were.
    fn install(&mut self, name: &str, mut power: Power) -> Result<()> {
        fs::write(layout::pid_file(name), format!("{}\n", power.pid()))?;
        let machine = self.machine(name)?;
        for network in machine.pulled.clone() {
            set_link(&mut power, network, false)?;
        }
        machine.power = Some(power);
        Ok(())
    }

    /// Brings all guests back to the moment when the snapshot was made. They go on together: Corosync misses nobody.
    fn restore(&mut self) -> Result<String> {
        let image = self.setup.image.clone();
        let snapshot = self.setup.snapshot.clone().context("no snapshot")?;
        let names: Vec<String> = self.machines.keys().cloned().collect();
        let mut started = Vec::new();
        for name in &names {
            let memory = Setup::memory(&snapshot, name);
            let birth = Birth::Restore {
                image: &image,
                memory: &memory,
            };
            started.push(self.start(name, birth)?);
        }
        wait_for_memories(&mut started)?;
        for power in &mut started {
            power.resume()?;
        }
        for (name, power) in names.iter().zip(started) {
            self.install(name, power)?;
        }
        self.firmware = Duration::ZERO;
        note("all guests restored");
        Ok(String::new())
    }

    /// Writes the memory of all guests beside their disks, and takes their power: a snapshot to be.
    fn save(&mut self) -> Result<String> {
        let run = self.setup.run.clone();
        let mut powers = Vec::new();
        for (name, machine) in &mut self.machines {
            let mut power = machine
                .power
                .take()
                .with_context(|| format!("{name} has no power"))?;
            power.begin_to_save(&Setup::memory(&run, name))?;
            powers.push(power);
        }
        wait_for_memories(&mut powers)?;
        for power in powers {
            power.cut()?;
        }
        for name in self.machines.keys() {
            forget(name);
        }
        note("all guests saved");
        Ok(String::new())
    }

    fn reset(&mut self, name: &str, who: &str) -> Result<String> {
        let when = tick();
        if self.power(name)?.is_frozen() {
            // The button works on a machine that hangs, too; QEMU, which hangs with it, cannot be asked.
            self.off(name, who)?;
            self.on(name)?;
            return Ok(format!("{when:.3}"));
        }
        self.power(name)?.ask("system_reset", json!({}))?;
        note_at(when, &format!("{name} reset for {who}"));
        Ok(format!("{when:.3}"))
    }

    fn freeze(&mut self, name: &str, frozen: bool) -> Result<String> {
        let when = tick();
        self.power(name)?.freeze(frozen)?;
        note_at(
            when,
            &format!("{name} {}", if frozen { "frozen" } else { "thawed" }),
        );
        Ok(format!("{when:.3}"))
    }

    fn set_cut(&mut self, name: &str, network: &str, cut: bool) -> Result<String> {
        let network = self.plugged(name, network)?;
        let when = tick();
        let port = tap(name, network);
        if cut {
            switch::ip(&format!("link set {port} nomaster\n"))?;
            self.machine(name)?.cut.insert(network);
        } else {
            switch::ip(&format!("link set {port} master {}\n", network.short()))?;
            self.machine(name)?.cut.remove(&network);
        }
        let how = if cut { "cut off" } else { "back on" };
        note_at(
            when,
            &format!("{name} {how} the {} network", network.short()),
        );
        Ok(format!("{when:.3}"))
    }

    fn set_pulled(&mut self, name: &str, network: &str, pulled: bool) -> Result<String> {
        let network = self.plugged(name, network)?;
        let when = tick();
        let machine = self.machine(name)?;
        if let Some(power) = &mut machine.power {
            set_link(power, network, !pulled)?;
        }
        if pulled {
            machine.pulled.insert(network);
        } else {
            machine.pulled.remove(&network);
        }
        let how = if pulled {
            "unplugged from"
        } else {
            "plugged into"
        };
        note_at(
            when,
            &format!("{name} {how} the {} network", network.short()),
        );
        Ok(format!("{when:.3}"))
    }

    /// A network that the guest is on, and that may be broken: over the management network the lab itself speaks.
    fn plugged(&mut self, name: &str, network: &str) -> Result<Network> {
        let network = Network::parse(network)?;
        let guest = &self.machine(name)?.guest;
        ensure!(
            guest.networks().contains(&network),
            "{name} is not on the {} network",
            network.short()
        );
        ensure!(
            network != Network::Management,
            "the lab itself speaks over the management network: to cut off a BMC, say `bmc {name} cut`"
        );
        Ok(network)
    }

    fn bmc(&mut self, name: &str, words: &[&str]) -> Result<String> {
        let when = tick();
        let bmc = self
            .bmcs
            .get_mut(name)
            .with_context(|| format!("{name} has no BMC: only heads have"))?;
        bmc.check()?;
        let line = match words {
            ["cut"] => Line {
                cut: true,
                ..Line::default()
            },
            ["heal"] => Line::default(),
            ["lame", delay, loss] => {
                let number = |text: &str, most: u64| {
                    let number = text.parse::<u64>().ok().filter(|number| *number <= most);
                    number.with_context(|| format!("{text:?}: expected a number from 0 to {most}"))
                };
                Line {
                    cut: false,
                    delay: Duration::from_millis(number(delay, 60_000).context("delay in ms")?),
                    loss: number(loss, 100).context("loss in percent")? as u8,
                }
            }
            _ => bail!("bmc {name} {words:?}: expected cut, heal, or lame DELAY_MS LOSS_PERCENT"),
        };
        bmc.set_line(line);
        note_at(when, &format!("bmc of {name}: {}", words.join(" ")));
        Ok(format!("{when:.3}"))
    }

    fn disk(&mut self, words: &[&str]) -> Result<String> {
        let when = tick();
        match words {
            ["list"] => return Ok(self.disks.list()),
            ["add", name, size, guests @ ..] => {
                let size = size.parse().with_context(|| format!("size {size:?}"))?;
                for guest in guests {
                    self.machine(guest)?;
                }
                self.disks.create(name, size, guests)?;
                for guest in guests {
                    self.plug(name, guest, true)?;
                }
            }
            ["remove", name] => {
                for guest in self.disks.guests_of(name)? {
                    self.plug(name, &guest, false)?;
                }
                self.disks.remove(name)?;
            }
            ["pull", name, guest] => self.plug(name, guest, false)?,
            ["push", name, guest] => self.plug(name, guest, true)?,
            ["errors" | "hang", name, guest, on @ ("on" | "off")] => {
                let power = self.machines.get_mut(*guest).and_then(|m| m.power.as_mut());
                let health = match (words[0], *on) {
                    (_, "off") => Health::Good,
                    ("errors", _) => Health::Errors,
                    _ => Health::Hang(None),
                };
                self.disks.set_health(name, guest, health, power)?;
            }
            _ => bail!("disk {words:?} is not understood"),
        }
        note_at(when, &format!("disk {}", words.join(" ")));
        Ok(format!("{when:.3}"))
    }

    fn plug(&mut self, name: &str, guest: &str, plugged: bool) -> Result<()> {
        let power = self.machines.get_mut(guest).and_then(|m| m.power.as_mut());
        if plugged {
            self.disks.plug(name, guest, power)
        } else {
            self.disks.pull(name, guest, power)
        }
    }
}

impl Machines for Room {
    fn handle(&mut self, words: &[&str]) -> Result<String> {
        let who = |rest: &[&str]| rest.first().copied().unwrap_or("lab").to_owned();
        match words {
            ["list"] => Ok(self.list()),
            ["status", name] => Ok(if self.machine(name)?.power.is_some() {
                "on"
            } else {
                "off"
            }
            .to_owned()),
            ["restore"] => self.restore(),
            ["save"] => self.save(),
            ["off" | "reboot", name, rest @ ..] => self.off(name, &who(rest)),
            ["on", name, ..] => self.on(name).map(|()| format!("{:.3}", now())),
            ["reset", name, rest @ ..] => self.reset(name, &who(rest)),
            ["firmware", seconds] => {
                self.firmware = Duration::from_secs(seconds.parse()?);
                Ok(String::new())
            }
            ["freeze", name] => self.freeze(name, true),
            ["thaw", name] => self.freeze(name, false),
            ["cut", name] => self.set_cut(name, "cluster", true),
            ["heal", name] => self.set_cut(name, "cluster", false),
            ["cut", name, network] => self.set_cut(name, network, true),
            ["heal", name, network] => self.set_cut(name, network, false),
            ["nic", name, state @ ("down" | "up")] => {
                self.set_pulled(name, "client", *state == "down")
            }
            ["nic", name, state @ ("down" | "up"), network] => {
                self.set_pulled(name, network, *state == "down")
            }
            ["bmc", name, rest @ ..] => self.bmc(name, rest),
            ["disk", rest @ ..] => self.disk(rest),
            _ => bail!("request {words:?} not understood"),
        }
    }

    /// The guest boots.
    fn on(&mut self, name: &str) -> Result<()> {
        if self.machine(name)?.power.is_some() {
            return Ok(());
        }
        let image = self.setup.image.clone();
        let birth = Birth::Boot {
            image: &image,
            firmware: self.firmware,
        };
        let mut power = self.start(name, birth)?;
        self.disks.plug_all(name, &mut power)?;
        power.resume()?;
        self.install(name, power)?;
        note(&format!("{name} power on"));
        Ok(())
    }

    fn look(&mut self) {
        for (name, machine) in &mut self.machines {
            if machine.power.as_mut().is_some_and(Power::has_ended) {
                note(&format!("{name} has switched itself off"));
                machine.power = None;
                self.disks.forget(name);
                forget(name);
            }
        }
    }

    fn close(&mut self) {
        let names: Vec<String> = self.machines.keys().cloned().collect();
        for name in names {
            if let Err(error) = self.off(&name, "lab") {
                note(&format!("{error:#}"));
            }
        }
        self.bmcs.clear();
        if let Err(error) = fs::remove_dir_all(&self.setup.run) {
            note(&format!("removing {}: {error}", self.setup.run.display()));
        }
    }
}

/// The hardware address of this machine on a network. Guests remember it from one restore to the next.
pub fn bridge_mac(network: Network) -> String {
    format!("02:00:00:77:{:02x}:f0", network.number())
}

/// A bridge for each network, a tap for each card. The taps stay while a guest has no power.
fn cables(guests: &[Guest]) -> Result<()> {
    let mut batch = String::from("link set lo up\n");
    for network in NETWORKS {
        let bridge = network.short();
        let mac = bridge_mac(network);
        batch += &format!(
            "link add {bridge} address {mac} type bridge forward_delay 0 mcast_snooping 0\n"
        );
        batch += &format!("link set {bridge} up\n");
    }
    let management = Network::Management.short();
    let bmcs = guests.iter().filter(|guest| guest.role == Role::Head);
    let addresses = bmcs.map(|guest| layout::bmc_address(guest.number));
    for address in addresses.chain([layout::MANAGEMENT.to_owned()]) {
        batch += &format!("address add {address}/24 dev {management}\n");
    }
    for guest in guests {
        for network in guest.networks() {
            let tap = tap(&guest.name, *network);
            batch += &format!("tuntap add dev {tap} mode tap\n");
            batch += &format!("link set {tap} master {} up\n", network.short());
        }
    }
    switch::ip(&batch)
}

/// Takes the carrier from a guest's card, or gives it back.
fn set_link(power: &mut Power, network: Network, up: bool) -> Result<()> {
    let name = network.interface();
    power
        .ask("set_link", json!({"name": name, "up": up}))
        .map(drop)
}

fn wait_for_memories(powers: &mut [Power]) -> Result<()> {
    let end = Instant::now() + MOVE;
    loop {
        let mut all = true;
        for power in powers.iter_mut() {
            all &= power.has_moved()?;
        }
        if all {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "the guests' memories were not moved within {} s",
            MOVE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Out of the list of those that have power.
fn forget(name: &str) {
    let _ = fs::remove_file(layout::pid_file(name));
}
