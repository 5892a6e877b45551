//! A kernel with LIO: what /sys/kernel/config/target shows, what comes of a change, and what is refused.

mod alua;
mod backstore;
mod configfs;
mod engine;
mod iscsi;
mod items;
mod numbers;
mod parameters;
mod reservations;
mod shown;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use crate::Access;
use engine::CONFIGFS;
pub(super) use engine::Engine;
use items::{Kind, Plugin, Portal};

/// The kernel's target engine on a machine that was made [`Script::with_lio`](super::Script::with_lio). A clone is the
/// same.
///
/// It is driven as the real one: by [`Host`](crate::Host), through configfs. Its rules are those of the sources of
/// Linux 6.12 (drivers/target, drivers/target/iscsi, fs/configfs), down to error numbers and texts, and with the traps
/// they have: a newline becomes part of a password, an option that is not known is passed over.
///
/// The tree shows it all, but is not where it is: what a test writes there by itself, LIO does not know of.
///
/// A path of a device is one on the machine; its file in the tree stands for the device, and
/// `/sys/class/block/NAME/dev` has its number. A path that is opened exclusively is asked about with
/// [`Script::busy`](super::Script::busy).
///
/// ```
/// use host::testing::{LioKernel, Script};
/// use std::time::Duration;
///
/// let script = Script::empty().with_lio(LioKernel::v6_12());
/// script.write_file("/dev/zd0", "tank/vol");
/// script.write_file("/sys/class/block/zd0/dev", "230:0\n");
/// let before = script.lio().snapshot();
///
/// let host = script.host(Duration::from_secs(60));
/// let hba = "/sys/kernel/config/target/core/iblock_0";
/// host.mkdir(hba).unwrap();
/// host.mkdir(&format!("{hba}/vol")).unwrap();
/// host.write(&format!("{hba}/vol/control"), "udev_path=/dev/zd0").unwrap();
/// host.write(&format!("{hba}/vol/enable"), "1").unwrap();
/// assert_eq!(script.lio().held(), ["/dev/zd0"]);
///
/// host.rmdir(&format!("{hba}/vol")).unwrap();
/// host.rmdir(hba).unwrap();
/// assert_eq!(script.lio().snapshot(), before);
/// ```
///
/// Not as in the kernel: the statistics have directories and no attributes; the plugins are iblock, fileio and rd_mcp;
/// the only fabric is iscsi; no backstore has protection information; iSER finds no hardware; nobody logs in but by
/// [`Lio::log_in`], and in demo mode nobody sees a LUN; discovery_auth is as new when iscsi was removed and made again;
/// lba_map cannot be written.
#[derive(Clone)]
pub struct Lio(Arc<Mutex<Engine>>);

/// Which kernel it is, and what that lacks.
#[derive(Clone, Debug)]
pub struct LioKernel {
    version: (u32, u32),
    release: String,
    loaded: bool,
    missing: BTreeSet<String>,
    lacks: BTreeSet<String>,
    refuses_repeated_enable: bool,
}

/// A block device, as far as a backstore looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes of a logical block, 512 to 4096.
    pub block_size: u32,
    /// Blocks of one request, at most.
    pub max_sectors: u32,
    /// Requests at a time.
    pub queue_depth: u32,
    /// It can discard.
    pub discards: bool,
    /// It has spinning parts.
    pub rotational: bool,
    /// What opening it answers: a secondary of DRBD says `EMEDIUMTYPE`.
    pub refuses: Option<Errno>,
}

impl Default for Disk {
    /// A ZFS volume.
    fn default() -> Disk {
        Disk {
            block_size: 512,
            max_sectors: 32768,
            queue_depth: 128,
            discards: true,
            rotational: false,
            refuses: None,
        }
    }
}

impl LioKernel {
    /// Linux 6.12, which Debian 13 has.
    pub fn v6_12() -> LioKernel {
        LioKernel {
            version: (6, 12),
            release: "6.12.0".to_owned(),
            loaded: true,
            missing: BTreeSet::new(),
            lacks: BTreeSet::new(),
            refuses_repeated_enable: false,
        }
    }

    /// Linux 6.1, which Debian 12 has: without rtpi, emulate_rsoc and submit_type.
    pub fn v6_1() -> LioKernel {
        LioKernel {
            version: (6, 1),
            release: "6.1.0".to_owned(),
            ..LioKernel::v6_12()
        }
    }

    /// Without these attributes, wherever they would be.
    pub fn without(mut self, attributes: &[&str]) -> LioKernel {
        self.lacks
            .extend(attributes.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Without a module: `target_core_iblock`, `target_core_file` or `iscsi_target_mod`.
    pub fn without_module(mut self, module: &str) -> LioKernel {
        self.missing.insert(module.to_owned());
        self
    }

    /// There is no /sys/kernel/config/target until [`Lio::load`].
    pub fn not_loaded(mut self) -> LioKernel {
        self.loaded = false;
        self
    }

    /// A portal group that is enabled cannot be enabled again, nor a disabled one disabled, as before Linux 5.16.
    pub fn refusing_repeated_enable(mut self) -> LioKernel {
        self.refuses_repeated_enable = true;
        self
    }

    fn is_newer_than(&self, major: u32, minor: u32) -> bool {
        self.version > (major, minor)
    }
}

impl Lio {
    pub(super) fn new(engine: Engine) -> Lio {
        Lio(Arc::new(Mutex::new(engine)))
    }

    /// What modprobe target_core_mod does.
    pub fn load(&self) {
        self.engine().load();
    }

    /// Does a backstore have this device or file open, by this or another path? It also has what was removed meanwhile.
    pub fn holds(&self, path: &str) -> bool {
        let engine = self.engine();
        let real = engine.real_path(path);
        engine
            .opened()
            .any(|(_, opened)| opened.path == path || Some(&opened.path) == real.as_ref())
    }

    /// The devices that are open exclusively, so that nobody else can have them: sorted, with no links in the paths.
    pub fn held(&self) -> Vec<String> {
        let engine = self.engine();
        let exclusively = engine
            .opened()
            .filter(|(backstore, _)| backstore.plugin == Plugin::Iblock);
        let mut held: Vec<String> = exclusively.map(|(_, opened)| opened.path.clone()).collect();
        held.sort();
        held
    }

    /// Does a backstore have a file open that lies below this directory?
    pub(super) fn holds_below(&self, dir: &str) -> bool {
        let engine = self.engine();
        engine
            .opened()
            .any(|(_, opened)| Path::new(&opened.path).starts_with(dir))
    }

    /// All that configfs shows, a line each. What was put back as it was has the same snapshot.
    pub fn snapshot(&self) -> String {
        self.engine().snapshot()
    }

    /// A device is one like this; one of which nothing is said is a ZFS volume. Takes the path that it has without links.
    pub fn disk(&self, path: &str, disk: Disk) {
        self.engine().disks.insert(path.to_owned(), disk);
    }

    /// Somebody else listens on this portal, so that it cannot be made.
    pub fn listened_on_by_others(&self, portal: &str) {
        let portal = Portal::parse(portal).unwrap_or_else(|| panic!("{portal} is no portal"));
        self.engine().others_listen.push(portal);
    }

    /// The initiator of this directory below acls/ logs in. It is logged out when its portal group is disabled.
    pub fn log_in(&self, acl: &str) {
        let place = place_of(acl);
        let mut engine = self.engine();
        match &mut engine.item_mut(&place).kind {
            Kind::Acl(acl) => acl.session = true,
            _ => panic!("{acl} is no initiator"),
        }
        engine.refresh();
    }

    /// The initiator that sees a LUN by this directory, acls/iqn.y/lun_0, registers a key, or with 0 gives up its own;
    /// `persistent` is the bit that lets it outlive the host. An error is what writing the file answered: the registration
    /// counts, but the initiator is told that it failed.
    pub fn register(
        &self,
        mapped_lun: &str,
        isid: Option<&str>,
        key: u64,
        persistent: bool,
    ) -> Result<(), Errno> {
        self.for_initiator(mapped_lun, |engine, nexus| {
            engine.registers(nexus, isid, key, persistent)
        })
    }

    /// The initiator, which is registered, reserves. The type is SCSI's: 1, 3, 5, 6, 7 or 8.
    pub fn reserve(&self, mapped_lun: &str, kind: u8) -> Result<(), Errno> {
        self.for_initiator(mapped_lun, |engine, nexus| engine.reserves(nexus, kind))
    }

    fn for_initiator<T>(
        &self,
        mapped_lun: &str,
        action: impl FnOnce(&mut Engine, &reservations::Nexus) -> T,
    ) -> T {
        let place = place_of(mapped_lun);
        let mut engine = self.engine();
        let nexus = engine.nexus(&place);
        let nexus = nexus.unwrap_or_else(|| panic!("nobody sees a LUN by {mapped_lun}"));
        let done = action(&mut engine, &nexus);
        engine.refresh();
        done
    }

    /// Would this access make a backstore open its device?
    pub(super) fn opens(&self, path: &str, access: &Access<'_>) -> bool {
        let (Some(place), Access::Write(text)) = (inside(path), access) else {
            return false;
        };
        self.engine().would_open(&place, text).is_some()
    }

    /// What an access to a file answers, if that is in configfs. Whether a device is busy is asked without holding the
    /// engine, which the test may look at meanwhile.
    pub(super) fn answers(
        &self,
        path: &str,
        access: Access<'_>,
        busy: impl Fn(&str) -> bool,
    ) -> Option<Result<(), Errno>> {
        let place = inside(path)?;
        if let Access::Write(text) = access {
            let opens = self.engine().would_open(&place, text);
            if let Some(device) = opens {
                let real = self.engine().real_path(&device);
                if real.is_some_and(|real| busy(&device) || busy(&real)) {
                    return Some(Err(Errno::EBUSY));
                }
            }
        }
        let mut engine = self.engine();
        let answer = match access {
            Access::Read => return Some(engine.reads(&place)),
            // configfs has no ordinary files, and nothing in it can be renamed.
            Access::Save => return Some(Err(Errno::EACCES)),
            Access::Write(text) => engine.writes(&place, text),
            Access::MakeDir => engine.makes_dir(&place),
            Access::RemoveDir => engine.removes_dir(&place),
            Access::Link(target) => engine.links(inside(target).as_deref(), &place),
            Access::Unlink => engine.unlinks(&place),
        };
        // Also what was refused may have changed something.
        engine.refresh();
        Some(answer)
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    fn disk(&self, path: &str) -> Disk {
        self.disks.get(path).copied().unwrap_or_default()
    }
}

/// The names that a path has below configfs, or None if it is not in it.
fn inside(path: &str) -> Option<Vec<String>> {
    let names = Path::new(path).strip_prefix(CONFIGFS).ok()?.components();
    names
        .map(|name| match name {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

fn place_of(path: &str) -> Vec<String> {
    inside(path).unwrap_or_else(|| panic!("{path} is not below {CONFIGFS}"))
}
