//! Persistent reservations of a backstore: who is registered, who holds it, and how that outlives the host.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

use super::engine::{Derived, Engine};
use super::items::{Backstore, Item, Kind, Seen, Store};
use super::numbers::{leading, number};

const NO_HOLDER: &str = "No SPC-3 Reservation holder\n";
/// The longest session identifier that is kept.
const ISID: usize = 15;

/// What a backstore knows of reservations.
#[derive(Default)]
pub(super) struct Reserved {
    pub generation: u32,
    /// They are written into a file.
    pub persistent: bool,
    pub registrations: Vec<Registration>,
    /// Read back, for initiators that were not mapped yet.
    pub awaited: Vec<Registration>,
}

/// An initiator port that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub initiator: String,
    pub isid: Option<String>,
    pub key: u64,
    pub target: String,
    pub tpgt: u16,
    pub rtpi: u16,
    pub mapped_lun: u64,
    pub target_lun: u64,
    pub all_ports: bool,
    pub generation: u32,
    /// It holds the reservation, of this type.
    pub holds: Option<u8>,
}

/// The directory pr/.
pub(super) fn files() -> Item {
    const READ: [&str; 8] = [
        "res_holder",
        "res_pr_all_tgt_pts",
        "res_pr_generation",
        "res_pr_holder_tg_port",
        "res_pr_registered_i_pts",
        "res_pr_type",
        "res_type",
        "res_aptpl_active",
    ];
    READ.iter()
        .fold(Item::new(Kind::Plain), |item, name| {
            item.verbatim(name, "", Store::Never)
        })
        .verbatim("res_aptpl_metadata", "", Store::By(reload))
}

/// One registration, as it was written into the file, its lines separated by commas or newlines.
fn reload(engine: &mut Engine, place: &[String], _: &'static str, text: &str) -> Result<(), Errno> {
    let backstore = &place[..place.len() - 1];
    if !emulated(engine, &sibling(backstore, "attrib")) {
        return Ok(());
    }
    if !engine.exports(backstore).is_empty() {
        return Err(Errno::EINVAL);
    }
    let read = parse(text)?;
    engine.backstore_mut(backstore).reserved.awaited.push(read);
    Ok(())
}

fn parse(text: &str) -> Result<Registration, Errno> {
    let mut read = Registration {
        initiator: String::new(),
        isid: None,
        key: 0,
        target: String::new(),
        tpgt: 0,
        rtpi: 0,
        mapped_lun: 0,
        target_lun: 0,
        all_ports: false,
        generation: 0,
        holds: None,
    };
    let (mut holds, mut kind) = (false, 0u8);
    for option in text.split([',', '\n']) {
        let Some((key, value)) = option
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
        else {
            continue;
        };
        // What does not have the form of a number is passed over: so is the type 08, which begins as if it were octal.
        let signed = value.strip_prefix('-').unwrap_or(value);
        let whole = match leading(signed) {
            (number, "") => Some(number),
            _ => None,
        };
        match (key, whole) {
            ("initiator_node", _) => read.initiator = value.to_owned(),
            ("initiator_sid", _) => read.isid = Some(value.chars().take(ISID).collect()),
            ("sa_res_key", _) => read.key = number(value, u64::MAX)?,
            ("target_node", _) => read.target = value.to_owned(),
            ("res_holder", Some(number)) => holds = number != 0,
            ("res_type", Some(number)) => kind = number as u8,
            ("res_all_tg_pt", Some(number)) => read.all_ports = number != 0,
            ("tpgt", Some(number)) => read.tpgt = number as u16,
            ("mapped_lun", Some(number)) => read.mapped_lun = number,
            ("target_lun", Some(number)) => read.target_lun = number,
            _ => {}
        }
    }
    if read.initiator.is_empty() || read.target.is_empty() || read.key == 0 || (holds && kind == 0)
    {
        return Err(Errno::EINVAL);
    }
    read.holds = holds.then_some(kind);
    Ok(read)
}

/// Are reservations done by the engine, and not disabled or left to the device?
fn emulated(engine: &Engine, attrib: &[String]) -> bool {
    engine.shows(attrib, "emulate_pr") == "1" && engine.shows(attrib, "pgr_support") == "1"
}

fn sibling(backstore: &[String], name: &str) -> Vec<String> {
    let mut sibling = backstore.to_vec();
    sibling.push(name.to_owned());
    sibling
}

/// An initiator on a LUN: what a registration is of.
pub(super) struct Nexus {
    pub backstore: Vec<String>,
    pub initiator: String,
    pub target: String,
    pub tpgt: u16,
    pub rtpi: u16,
    pub mapped_lun: u64,
    pub target_lun: u64,
}

impl Engine {
    /// The initiator and the LUN that a directory acls/iqn.y/lun_0 joins, if it does.
    pub(super) fn nexus(&self, mapped: &[String]) -> Option<Nexus> {
        let [root, fabric, iqn, tpg, _, initiator, _] = mapped else {
            return None;
        };
        let number = match self.item(mapped)?.kind {
            Kind::Mapped { number } => number,
            _ => return None,
        };
        let acl = match &self.item(&mapped[..mapped.len() - 1])?.kind {
            Kind::Acl(acl) => acl,
            _ => return None,
        };
        let Seen { lun, .. } = acl.seen.get(&number)?;
        let lun = self.lun(lun)?;
        let portals = [root, fabric, iqn, tpg].map(String::clone);
        let (tpgt, rtpi) = match &self.item(&portals)?.kind {
            Kind::Tpg(tpg) if self.kernel.is_newer_than(6, 1) => (tpg.tag, tpg.rtpi),
            // Older kernels count the exports of a backstore. This is its first.
            Kind::Tpg(tpg) => (tpg.tag, 1),
            _ => return None,
        };
        Some(Nexus {
            backstore: lun.backstore.clone()?,
            initiator: initiator.clone(),
            target: iqn.clone(),
            tpgt,
            rtpi,
            mapped_lun: number,
            target_lun: lun.number,
        })
    }

    /// An initiator was mapped: what was read back for it counts from now on.
    pub(super) fn restore_registrations(&mut self, mapped: &[String]) {
        let Some(nexus) = self.nexus(mapped) else {
            return;
        };
        let reserved = &mut self.backstore_mut(&nexus.backstore).reserved;
        let (its, others) = std::mem::take(&mut reserved.awaited)
            .into_iter()
            .partition(|read| nexus.is_of(read));
        reserved.awaited = others;
        let its: Vec<Registration> = its;
        for mut registration in its {
            registration.generation = reserved.generation;
            registration.rtpi = nexus.rtpi;
            reserved.generation += 1;
            if registration.holds.is_some() {
                reserved
                    .registrations
                    .iter_mut()
                    .for_each(|other| other.holds = None);
            }
            reserved.registrations.push(registration);
            reserved.persistent = true;
        }
    }

    /// An initiator does not see a backstore any more: its registrations are forgotten, but not in the file.
    pub(super) fn forget_registrations(&mut self, nexus: &Nexus) {
        let reserved = &mut self.backstore_mut(&nexus.backstore).reserved;
        reserved.registrations.retain(|registration| {
            registration.initiator != nexus.initiator
                || registration.target != nexus.target
                || registration.tpgt != nexus.tpgt
        });
    }

    /// The initiator registers a key; with 0 it gives up its own.
    pub(super) fn registers(
        &mut self,
        nexus: &Nexus,
        isid: Option<&str>,
        key: u64,
        persistent: bool,
    ) -> Result<(), Errno> {
        let forced = self.shows(&sibling(&nexus.backstore, "attrib"), "force_pr_aptpl") == "1";
        let reserved = &mut self.backstore_mut(&nexus.backstore).reserved;
        let own = reserved.registrations.iter().position(|registration| {
            nexus.is_of(registration) && registration.isid.as_deref() == isid
        });
        match (own, key) {
            (Some(own), 0) => drop(reserved.registrations.remove(own)),
            (Some(own), key) => reserved.registrations[own].key = key,
            (None, 0) => {}
            (None, key) => reserved.registrations.push(Registration {
                initiator: nexus.initiator.clone(),
                isid: isid.map(str::to_owned),
                key,
                target: nexus.target.clone(),
                tpgt: nexus.tpgt,
                rtpi: nexus.rtpi,
                mapped_lun: nexus.mapped_lun,
                target_lun: nexus.target_lun,
                all_ports: false,
                generation: reserved.generation,
                holds: None,
            }),
        }
        reserved.generation += 1;
        self.save_registrations(&nexus.backstore, persistent || forced)
    }

    /// The initiator, which is registered, reserves; type by the number SCSI has for it.
    pub(super) fn reserves(&mut self, nexus: &Nexus, kind: u8) -> Result<(), Errno> {
        let reserved = &mut self.backstore_mut(&nexus.backstore).reserved;
        reserved
            .registrations
            .iter_mut()
            .for_each(|registration| registration.holds = None);
        let own = reserved
            .registrations
            .iter_mut()
            .find(|registration| nexus.is_of(registration));
        match own {
            Some(own) => own.holds = Some(kind),
            None => panic!("{} reserves without being registered", nexus.initiator),
        }
        match reserved.persistent {
            true => self.save_registrations(&nexus.backstore, true),
            false => Ok(()),
        }
    }

    /// Writes the file, or says in it that there is nothing. The kernel does that at every registration, also at one that
    /// shall not outlive the host: without the directory each of them fails.
    fn save_registrations(&mut self, backstore: &[String], persistent: bool) -> Result<(), Errno> {
        let reserved = &self.backstore_mut(backstore).reserved;
        let text = match (persistent, reserved.registrations.is_empty()) {
            (true, false) => file(&reserved.registrations),
            (true, true) => "No Registrations or Reservations".to_owned(),
            (false, _) => "No Registrations or Reservations\n".to_owned(),
        };
        let dbroot = self.shows(&["target".to_owned()], "dbroot").to_owned();
        let serial = self.shows(&sibling(backstore, "wwn"), "vpd_unit_serial");
        let serial = serial
            .strip_prefix("T10 VPD Unit Serial Number: ")
            .unwrap_or_default();
        let at = self.tree.path(&format!("{dbroot}/pr/aptpl_{serial}"));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(at)
            .and_then(|mut file| std::io::Write::write_all(&mut file, (text + "\0").as_bytes()));
        let done =
            written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
        if !persistent || done.is_ok() {
            self.backstore_mut(backstore).reserved.persistent = persistent;
        }
        done
    }
}

impl Nexus {
    fn is_of(&self, registration: &Registration) -> bool {
        registration.initiator == self.initiator
            && registration.target == self.target
            && registration.tpgt == self.tpgt
            && registration.mapped_lun == self.mapped_lun
            && registration.target_lun == self.target_lun
    }
}

/// As the kernel writes them. It reads all of this back, but for the type 08.
fn file(registrations: &[Registration]) -> String {
    let blocks = registrations.iter().enumerate().map(|(number, registration)| {
        let isid = match &registration.isid {
            Some(isid) => format!("initiator_sid={isid}\n"),
            None => String::new(),
        };
        let held = match registration.holds {
            Some(kind) => format!("res_holder=1\nres_type={kind:02x}\nres_scope=00\n"),
            None => "res_holder=0\n".to_owned(),
        };
        format!(
            "PR_REG_START: {number}\ninitiator_fabric=iSCSI\ninitiator_node={}\n{isid}sa_res_key={}\n{held}res_all_tg_pt={}\nmapped_lun={}\ntarget_fabric=iSCSI\ntarget_node={}\ntpgt={}\nport_rtpi={}\ntarget_lun={}\nPR_REG_END: {number}\n",
            registration.initiator,
            registration.key,
            u8::from(registration.all_ports),
            registration.mapped_lun,
            registration.target,
            registration.tpgt,
            registration.rtpi,
            registration.target_lun,
        )
    });
    blocks.collect()
}

/// What the files below pr/ show.
pub(super) fn derived(engine: &Engine, attrib: &[String], backstore: &Backstore) -> Derived {
    const PR: &[&str] = &["pr"];
    let reserved = &backstore.reserved;
    let disabled = engine.shows(attrib, "emulate_pr") != "1";
    let passed = engine.shows(attrib, "pgr_support") != "1";
    let holder = reserved
        .registrations
        .iter()
        .find(|registration| registration.holds.is_some());
    let of_holder =
        |show: &dyn Fn(&Registration) -> String| holder.map_or(NO_HOLDER.to_owned(), show);

    let res_holder = match (disabled, passed) {
        (true, _) => "SPC_RESERVATIONS_DISABLED\n".to_owned(),
        (_, true) => "Passthrough\n".to_owned(),
        _ => of_holder(&|holder| {
            format!(
                "SPC-3 Reservation: iSCSI Initiator: {}{}\n",
                holder.initiator,
                isid(holder)
            )
        }),
    };
    let ports = of_holder(&|holder| {
        let which = if holder.all_ports {
            "All Target Ports"
        } else {
            "Single Target Port"
        };
        format!("SPC-3 Reservation: {which} registration\n")
    });
    let port = of_holder(&|holder| {
        format!(
            "SPC-3 Reservation: iSCSI Target Node Endpoint: {}\nSPC-3 Reservation: Relative Port Identifier Tag: {} iSCSI Portal Group Tag: {} iSCSI Logical Unit: {}\n",
            holder.target, holder.rtpi, holder.tpgt, holder.target_lun
        )
    });
    let kind = of_holder(&|holder| {
        format!(
            "SPC-3 Reservation Type: {}\n",
            type_named(holder.holds.unwrap_or(0))
        )
    });
    let res_type = match (disabled, passed) {
        (true, _) => "SPC_RESERVATIONS_DISABLED\n",
        (_, true) => "SPC_PASSTHROUGH\n",
        _ => "SPC3_PERSISTENT_RESERVATIONS\n",
    };
    let (active, ready) = match disabled || passed {
        true => (String::new(), ""),
        false => {
            let active = if reserved.persistent {
                "Activated"
            } else {
                "Disabled"
            };
            (
                format!("APTPL Bit Status: {active}\n"),
                "Ready to process PR APTPL metadata..\n",
            )
        }
    };
    vec![
        (PR, "res_holder", Ok(res_holder)),
        (PR, "res_pr_all_tgt_pts", Ok(ports)),
        (
            PR,
            "res_pr_generation",
            Ok(format!("0x{:08x}\n", reserved.generation)),
        ),
        (PR, "res_pr_holder_tg_port", Ok(port)),
        (
            PR,
            "res_pr_registered_i_pts",
            Ok(registered(&reserved.registrations)),
        ),
        (PR, "res_pr_type", Ok(kind)),
        (PR, "res_type", Ok(res_type.to_owned())),
        (PR, "res_aptpl_active", Ok(active)),
        (PR, "res_aptpl_metadata", Ok(ready.to_owned())),
    ]
}

fn registered(registrations: &[Registration]) -> String {
    let mut text = "SPC-3 PR Registrations:\n".to_owned();
    if registrations.is_empty() {
        text.push_str("None\n");
    }
    for registration in registrations {
        text.push_str(&format!(
            "iSCSI Node: {}{} Key: 0x{:016x} PRgen: 0x{:08x}\n",
            registration.initiator,
            isid(registration),
            registration.key,
            registration.generation
        ));
    }
    text
}

fn isid(registration: &Registration) -> String {
    registration
        .isid
        .as_ref()
        .map_or(String::new(), |isid| format!(",i,0x{isid}"))
}

fn type_named(kind: u8) -> &'static str {
    match kind {
        1 => "Write Exclusive Access",
        3 => "Exclusive Access",
        5 => "Write Exclusive Access, Registrants Only",
        6 => "Exclusive Access, Registrants Only",
        7 => "Write Exclusive Access, All Registrants",
        8 => "Exclusive Access, All Registrants",
        _ => "Unknown SPC-3 PR Type",
    }
}
