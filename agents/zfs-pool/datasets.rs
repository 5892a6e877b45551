//! What belongs to an imported pool: keys, mounted file systems, volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use host::MountFlags;
use ocf::prelude::*;
use probe::mounts::{self, Mount};
use probe::zfs::{self, listing, message};

use crate::import::Phases;
use crate::pool::ZfsPool;
use crate::values::Volumes;

/// The hint that a start leaves: what was mounted and which volumes were there.
const NOTE: &str = "datasets";
/// How long udev may take for the next link to a volume that the kernel has already, and for one that was announced again.
const UDEV: Duration = Duration::from_secs(10);
/// How long no link may have come, though udev has nothing to do, until the kernel is asked for the volumes without one.
const ASK_KERNEL: Duration = Duration::from_secs(2);
/// Between two looks for links at most: a client waits.
const LONGEST_PAUSE: Duration = Duration::from_millis(80);
/// There as long as udev has something to do.
const UDEV_IS_BUSY: &str = "/run/udev/queue";
/// What is left of the action's time when no more waiting makes sense.
const HURRY: Duration = Duration::from_secs(3);

/// How long ZFS may take at most to say what has become of something that is missing.
const ASKING: Duration = Duration::from_secs(10);

/// How long that is given time to come back first.
const SETTLE: Duration = Duration::from_secs(1);

/// The properties that are asked for.
const PROPERTIES: &str = "type,mountpoint,canmount,mounted,keystatus,encryptionroot,keylocation,volmode,atime,relatime,devices,exec,\
                          setuid,readonly,nbmand,overlay,zoned,context,fscontext,defcontext,rootcontext";

/// What monitor finds in its place as long as all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Dataset and mountpoint.
    mounted: Vec<(String, String)>,
    /// Volume and block device.
    volumes: Vec<(String, String)>,
}

impl Expected {
    /// What the start has noted, if it has.
    pub fn noted(node: &Node) -> Option<Expected> {
        let mut expected = Expected::default();
        for line in node.hint(NOTE)?.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["mounted", dataset, target] => {
                    expected.mounted.push((dataset.into(), target.into()))
                }
                ["volume", dataset, device] => {
                    expected.volumes.push((dataset.into(), device.into()))
                }
                _ => {}
            }
        }
        Some(expected)
    }

    fn note(&self, node: &Node) -> Result<()> {
        let mut text = String::new();
        for (dataset, target) in &self.mounted {
            let _ = writeln!(text, "mounted\t{dataset}\t{target}");
        }
        for (dataset, device) in &self.volumes {
            let _ = writeln!(text, "volume\t{dataset}\t{device}");
        }
        node.set_hint(NOTE, &text)
    }

    /// Fails if something is not there. By the kernel's tables: nothing on the pool is touched.
    pub fn check(&self, node: &Node) -> Result<()> {
        self.missing(node)?.check_empty()
    }

    /// Fails if this, which is missing, is anything.
    fn check_empty(&self) -> Result<()> {
        if let Some((dataset, target)) = self.mounted.first() {
            bail!("dataset {dataset} is not mounted on {target}");
        }
        if let Some((volume, device)) = self.volumes.first() {
            bail!("volume {volume} has lost its block device {device}");
        }
        Ok(())
    }

    /// What of it is not there, by the kernel's tables.
    fn missing(&self, node: &Node) -> Result<Expected> {
        let mut missing = Expected::default();
        if !self.mounted.is_empty() {
            let there = places(node)?;
            let is_missing = |place: &&(String, String)| !there.contains(*place);
            missing.mounted = self.mounted.iter().filter(is_missing).cloned().collect();
        }
        let is_missing = |(_, device): &&(String, String)| !is_device(node, device);
        missing.volumes = self.volumes.iter().filter(is_missing).cloned().collect();
        Ok(missing)
    }
}

/// The file systems that the kernel has mounted, each with its place.
fn places(node: &Node) -> Result<BTreeSet<(String, String)>> {
    let mounts = mounts::of(node, None)?.into_iter();
    Ok(mounts
        .filter(|mount| mount.kind == "zfs")
        .map(|mount| (mount.source, mount.target))
        .collect())
}

/// Has the kernel a block device of this name?
fn is_device(node: &Node, device: &str) -> bool {
    node.is_dir(&format!("/sys/class/block/{device}"))
}

/// The device that udev has linked to a volume: zd0.
fn linked_device(node: &Node, volume: &str) -> Result<Option<String>> {
    let device = node.real_path(&link(volume))?;
    Ok(device.map(|device| device.trim_start_matches("/dev/").to_owned()))
}

fn link(volume: &str) -> String {
    // udev escapes a space in a name with a plus sign.
    format!("/dev/zvol/{}", volume.replace(' ', "+"))
}

/// Fails if something that belongs to the pool is not there, unless ZFS says that this is how somebody wants it: then that is
/// noted. ZFS is asked only if something is missing.
pub fn watch(pool: &ZfsPool, node: &Node, mut expected: Expected) -> Result<()> {
    // What is being renamed or moved is unmounted for a moment, and ZFS still says what was.
    let changed = expected_changes(pool, node, &expected).or_else(|_| {
        node.sleep(SETTLE);
        expected_changes(pool, node, &expected)
    })?;
    if changed.is_empty() {
        return Ok(());
    }
    for Change { name, place, why } in changed {
        match &place {
            Some(place) => warn!("{name}: {why}; watching {place} from now on"),
            None => warn!("{name}: {why}; it is watched no longer"),
        }
        let entries = expected.mounted.iter_mut().chain(&mut expected.volumes);
        for entry in entries.filter(|entry| entry.0 == name) {
            entry.1 = place.clone().unwrap_or_default();
        }
    }
    expected.mounted.retain(|(_, target)| !target.is_empty());
    expected.volumes.retain(|(_, device)| !device.is_empty());
    expected
        .note(node)
        .unwrap_or_else(|error| warn!("{error:#}"));
    Ok(())
}

/// What somebody has done to a dataset that is not where it was.
struct Change {
    name: String,
    /// Where it is now, if it is to be anywhere.
    place: Option<String>,
    why: String,
}

impl Change {
    fn new(set: &Dataset, place: Option<&str>, why: String) -> Change {
        Change {
            name: set.name.clone(),
            place: place.map(str::to_owned),
            why,
        }
    }
}

/// How each of the missing has been changed on purpose; an error that names one which has not, or what cannot be known.
fn expected_changes(pool: &ZfsPool, node: &Node, expected: &Expected) -> Result<Vec<Change>> {
    let missing = expected.missing(node)?;
    let Err(error) = missing.check_empty() else {
        return Ok(Vec::new());
    };
    match changes(pool, node, &missing) {
        Ok(Some(changes)) => Ok(changes),
        Ok(None) => Err(error),
        Err(why) => {
            warn!("what is missing may have been taken away, but ZFS does not say so: {why:#}");
            Err(error)
        }
    }
}

/// How each of the missing has been changed on purpose; None if one has not.
fn changes(pool: &ZfsPool, node: &Node, missing: &Expected) -> Result<Option<Vec<Change>>> {
    let names = missing.mounted.iter().chain(&missing.volumes);
    let mut names: BTreeSet<&String> = names.map(|(name, _)| name).collect();
    // That there is an answer for the pool itself proves that a dataset is gone, and not the pool.
    names.insert(&pool.pool);
    let asked = get(&[], names).at_most(ASKING.min(node.time_left() / 3));
    // Its exit status is 1 as soon as one of them does not exist.
    let answer = node.ask(&asked)?;
    let sets = Dataset::parse(&answer.stdout)?;
    let find = |name: &String| -> Result<Option<&Dataset>> {
        let set = sets.iter().find(|set| set.name == *name);
        ensure!(
            set.is_some() || message::is_no_such_dataset(&answer.stderr, name),
            "zfs get says nothing of {name}: {}",
            answer.stderr.trim()
        );
        Ok(set)
    };
    find(&pool.pool)?.context("there is no such pool")?;
    let mut changes = Vec::new();
    for (name, target) in &missing.mounted {
        changes.push(change(pool, name, find(name)?, |set| {
            Ok(moved_file_system(set, target))
        })?);
    }
    for (name, _) in &missing.volumes {
        changes.push(change(pool, name, find(name)?, |set| {
            moved_volume(node, set)
        })?);
    }
    Ok(changes.into_iter().collect())
}

/// What has become of a dataset; `moved` says it of one that can be used.
fn change(
    pool: &ZfsPool,
    name: &str,
    set: Option<&Dataset>,
    moved: impl FnOnce(&Dataset) -> Result<Option<Change>>,
) -> Result<Option<Change>> {
    match set {
        None => Ok(Some(Change {
            name: name.to_owned(),
            place: None,
            why: "it does not exist any more".into(),
        })),
        Some(set) if set.is_locked() => {
            let why = "its key is not loaded any more".into();
            Ok((!pool.require_keys.is_on()).then(|| Change::new(set, None, why)))
        }
        Some(set) => moved(set),
    }
}

/// What was done to a file system that is not mounted on `target`; None if it ought to be.
fn moved_file_system(set: &Dataset, target: &str) -> Option<Change> {
    let mountpoint = set.get("mountpoint");
    if !set.is_mountable() {
        let canmount = set.get("canmount");
        let why = format!(
            "it is not to be mounted any more (canmount={canmount}, mountpoint={mountpoint})"
        );
        return Some(Change::new(set, None, why));
    }
    let why = format!("its mountpoint is not {target} any more");
    (mountpoint != target).then(|| Change::new(set, Some(mountpoint), why))
}

/// What was done to a volume that has lost the device it had; None if it ought to have one and has not.
fn moved_volume(node: &Node, set: &Dataset) -> Result<Option<Change>> {
    if !device_rule(node)?(set) {
        let volmode = set.get("volmode");
        let why = format!("it has no block device any more (volmode={volmode})");
        return Ok(Some(Change::new(set, None, why)));
    }
    let device = linked_device(node, &set.name)?.filter(|device| is_device(node, device));
    let why = "it has another block device".to_owned();
    Ok(device.map(|device| Change::new(set, Some(&device), why)))
}

/// Notes anew what monitor watches: what was made since the start, too, if it is in its place.
pub fn renew(pool: &ZfsPool, node: &Node) -> Result<()> {
    let Some(noted) = Expected::noted(node) else {
        return Ok(());
    };
    let sets = list(pool, node, ASKING)?;
    let mut expected = Expected::default();
    if pool.mount.is_on() {
        let there = places(node)?;
        let is_noted = |name: &String| noted.mounted.iter().any(|(noted, _)| noted == name);
        for set in sets
            .iter()
            .filter(|set| set.is_mountable() && !set.is_locked())
        {
            let entry = (set.name.clone(), set.get("mountpoint").to_owned());
            // One that ought to be mounted and is not stays missing.
            if there.contains(&entry) || is_noted(&entry.0) {
                expected.mounted.push(entry);
            }
        }
    }
    for name in needed_volumes(pool, node, &sets)? {
        let device = linked_device(node, &name)?;
        let before = || {
            let noted = noted.volumes.iter().find(|(noted, _)| *noted == name);
            noted.map(|(_, device)| device.clone())
        };
        if let Some(device) = device.or_else(before) {
            expected.volumes.push((name, device));
        }
    }
    expected.note(node)
}

/// Are there links to volumes of the pool? Before it is imported, they are of an earlier time: udev has not come to remove
/// them yet, and the device that one leads to may be another volume by now.
pub fn has_links(node: &Node, pool: &ZfsPool) -> Result<bool> {
    Ok(!node.list(&link(&pool.pool))?.is_empty())
}

/// Loads keys, waits for volumes, mounts, and notes what is there. With `old_links` no link is believed before the kernel
/// was asked whose device it leads to.
pub fn bring_up(pool: &ZfsPool, node: &Node, phases: &mut Phases, old_links: bool) -> Result<()> {
    let ask = || list(pool, node, node.time_left());
    let mut sets = ask()?;
    phases.end(node, "list");
    if load_keys(pool, node, &sets)? {
        sets = ask()?;
        phases.end(node, "keys");
    }
    let mut expected = Expected::default();
    // Before the file systems, each of which gives udev something to do as well: links would have to wait for that.
    let volumes = needed_volumes(pool, node, &sets)?;
    expected.volumes = await_volumes(node, pool, &volumes, old_links)?;
    if !expected.volumes.is_empty() {
        phases.end(node, "volumes");
    }
    if pool.mount.is_on() {
        expected.mounted = mount(node, &sets)?;
        phases.end(node, "mount");
    }
    expected.note(node)?;
    expected.check(node)
}

/// Asks for the properties of these datasets.
fn get<'a>(options: &[&str], names: impl IntoIterator<Item = &'a String>) -> Cmd {
    Cmd::new("zfs")
        .args(["get", "-Hp", "-o", "name,property,value,source"])
        .args(options)
        .arg(PROPERTIES)
        .args(names)
}

/// All file systems and volumes of the pool.
fn list(pool: &ZfsPool, node: &Node, limit: Duration) -> Result<Vec<Dataset>> {
    let asked = get(&["-r", "-t", "filesystem,volume"], [&pool.pool]).at_most(limit);
    Dataset::parse(&node.run(&asked)?.stdout)
}

/// A dataset with its properties.
struct Dataset {
    name: String,
    properties: BTreeMap<String, String>,
}

impl Dataset {
    /// From what `zfs get` prints.
    fn parse(said: &str) -> Result<Vec<Dataset>> {
        let sets = listing::parse(said).context("what zfs get says")?;
        Ok(sets
            .into_iter()
            .map(|(name, properties)| Dataset { name, properties })
            .collect())
    }

    fn get(&self, property: &str) -> &str {
        self.properties.get(property).map_or("-", String::as_str)
    }

    fn is_locked(&self) -> bool {
        self.get("keystatus") == "unavailable"
    }

    /// Is it a file system that is mounted with the pool?
    fn is_mountable(&self) -> bool {
        self.get("type") == "filesystem"
            && self.get("canmount") == "on"
            && self.get("mountpoint").starts_with('/')
            && self.get("zoned") != "on"
    }
}

/// Loads the keys that are missing; true if there were any.
fn load_keys(pool: &ZfsPool, node: &Node, sets: &[Dataset]) -> Result<bool> {
    let mut loaded = false;
    let roots = sets
        .iter()
        .filter(|set| set.is_locked() && set.get("encryptionroot") == set.name);
    for root in roots {
        let load = Cmd::new("zfs").arg("load-key");
        let load = match (root.get("keylocation"), &pool.key_file) {
            ("prompt", None) => Err(Exit::NotInstalled.because(format!(
                "the key of {} is to be typed in (keylocation=prompt); expected parameter key_file",
                root.name
            ))),
            ("prompt", Some(file)) => Ok(load.args(["-L", &format!("file://{file}")])),
            _ => Ok(load),
        };
        let result = load
            .map_err(anyhow::Error::from)
            .and_then(|load| Ok(node.run(&load.arg(&root.name)).map(drop)?));
        match result {
            Ok(()) => loaded = true,
            Err(error) if pool.require_keys.is_on() => {
                return Err(error.context(format!("the key of {} cannot be loaded", root.name)));
            }
            Err(error) => warn!(
                "{} stays away, its key cannot be loaded: {error:#}",
                root.name
            ),
        }
    }
    Ok(loaded)
}

/// Mounts every file system that belongs to the pool, parents before children; what has to be mounted afterwards.
fn mount(node: &Node, sets: &[Dataset]) -> Result<Vec<(String, String)>> {
    let mut wanted: Vec<(&Dataset, String)> = Vec::new();
    for set in sets.iter().filter(|set| set.is_mountable()) {
        if set.is_locked() {
            continue;
        }
        wanted.push((set, set.get("mountpoint").to_owned()));
    }
    // A path sorts behind all paths that it lies below.
    wanted.sort_by(|a, b| a.1.split('/').cmp(b.1.split('/')));
    if let Some(pair) = wanted.windows(2).find(|pair| pair[0].1 == pair[1].1) {
        bail!(
            "{} and {} have the same mountpoint, {}",
            pair[0].0.name,
            pair[1].0.name,
            pair[0].1
        );
    }
    let before = mounts::of(node, None)?;
    let mut missing = Vec::new();
    for (set, target) in &wanted {
        // The last mount on a place is the one that is seen.
        match before.iter().rev().find(|mount| mount.target == *target) {
            Some(mount) if mount.kind == "zfs" && mount.source == set.name => {}
            Some(mount) if mount.kind != "autofs" => {
                bail!(
                    "{} cannot be mounted: {} ({}) is on {target}",
                    set.name,
                    mount.source,
                    mount.kind
                )
            }
            _ => missing.push((*set, target.as_str())),
        }
    }
    for (set, target) in missing.iter().filter(|(_, target)| target.contains(',')) {
        warn!(
            "the mountpoint of {}, {target}, has a comma: its snapshots may not be reachable below .zfs/snapshot",
            set.name
        );
    }
    // In a process of its own: a file system may hang.
    node.apart(
        &format!("mounting {} file systems", missing.len()),
        node.time_left(),
        |host| {
            for (set, target) in &missing {
                mount_one(host, set, target)?;
            }
            Ok(())
        },
    )?;
    Ok(wanted
        .into_iter()
        .map(|(set, target)| (set.name.clone(), target))
        .collect())
}

/// Mounts one file system, with the options that its properties ask for, as `zfs mount` does.
fn mount_one(host: &Host, set: &Dataset, target: &str) -> Result<()> {
    host.mkdir_all(target)?;
    if set.get("overlay") == "off" && !host.list(target)?.is_empty() {
        bail!(
            "{} cannot be mounted: {target} is not empty, and overlay=off",
            set.name
        );
    }
    let off = |property: &str| set.get(property) == "off";
    let on = |property: &str| set.get(property) == "on";
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::MS_RDONLY, on("readonly"));
    flags.set(MountFlags::MS_NODEV, off("devices"));
    flags.set(MountFlags::MS_NOEXEC, off("exec"));
    flags.set(MountFlags::MS_NOSUID, off("setuid"));
    flags.set(MountFlags::MS_MANDLOCK, on("nbmand"));
    if off("atime") {
        flags |= MountFlags::MS_NOATIME;
    } else if on("relatime") {
        flags |= MountFlags::MS_RELATIME;
    } else {
        flags |= MountFlags::MS_STRICTATIME;
    }
    host.mount(&set.name, target, "zfs", flags, &options(set, target))
        .with_context(|| format!("mounting {}", set.name))
}

/// What is said to the file system itself, as libzfs does.
fn options(set: &Dataset, target: &str) -> String {
    // The word tells the module that the mountpoint is the property's: a plain mount of such a file system is refused.
    let mut options = "zfsutil".to_owned();
    let is_set = |property: &&str| !matches!(set.get(property), "-" | "none");
    // SELinux takes `context` only without the others. A context may have commas.
    let contexts = match is_set(&"context") {
        true => vec!["context"],
        false => vec!["fscontext", "defcontext", "rootcontext"],
    };
    for property in contexts.into_iter().filter(is_set) {
        let _ = write!(options, ",{property}=\"{}\"", set.get(property));
    }
    // Where the module mounts a snapshot that somebody enters. Before OpenZFS 2.2.7 it has no other way to know, and for
    // NFS clients none since. It stands last and without quotes: the module takes everything up to a comma as it is.
    if !target.contains(',') {
        let _ = write!(options, ",mntpoint={target}");
    }
    options
}

/// Which datasets have a block device.
fn device_rule(node: &Node) -> Result<impl Fn(&Dataset) -> bool> {
    let parameter = |name: &str| -> Result<String> {
        let text = node.read(&format!("/sys/module/zfs/parameters/{name}"))?;
        Ok(text.unwrap_or_default().trim().to_owned())
    };
    // For volmode=default; 3 is none. And a switch for all volumes.
    let none_by_default = parameter("zvol_volmode")? == "3";
    let none_at_all = parameter("zvol_inhibit_dev")? == "1";
    Ok(move |set: &Dataset| {
        let has_mode = match set.get("volmode") {
            "none" => false,
            "default" => !none_by_default,
            _ => true,
        };
        set.get("type") == "volume" && has_mode && !none_at_all
    })
}

/// The volumes that start waits for, and monitor looks at.
fn needed_volumes(pool: &ZfsPool, node: &Node, sets: &[Dataset]) -> Result<Vec<String>> {
    let has_device = device_rule(node)?;
    let volumes: Vec<String> = sets
        .iter()
        .filter(|set| has_device(set) && !set.is_locked())
        .map(|set| set.name.clone())
        .collect();
    match &pool.wait_volumes {
        Volumes::All => Ok(volumes),
        Volumes::None => Ok(Vec::new()),
        Volumes::These(names) => {
            if let Some(name) = names.iter().find(|name| !volumes.contains(name)) {
                bail!("parameter wait_volumes: there is no volume \"{name}\" with a block device");
            }
            Ok(names.clone())
        }
    }
}

/// The volumes that have a link, and the device that this leads to: zd16 by tank/vm1.
fn linked(node: &Node, volumes: &[String]) -> Result<BTreeMap<String, String>> {
    let mut linked = BTreeMap::new();
    for volume in volumes {
        if let Some(device) = linked_device(node, volume)? {
            linked.insert(volume.clone(), device);
        }
    }
    Ok(linked)
}

/// Waits until every volume has its block device; which that is. The module makes them in the background, and udev links to
/// them later still, or never: then the kernel is asked which device is which volume, and told to announce it once more.
/// As long as links come it is left in peace: to ask means to open each device, and an announcement is work for udev.
fn await_volumes(
    node: &Node,
    pool: &ZfsPool,
    volumes: &[String],
    old_links: bool,
) -> Result<Vec<(String, String)>> {
    let mut told = Told::default();
    let mut announced = BTreeSet::new();
    let (mut most, mut last_came) = (0, node.now());
    let mut pause = Duration::from_millis(10);
    loop {
        let linked = linked(node, volumes)?;
        if old_links && linked.keys().any(|volume| !told.has(volume)) {
            told.ask(node, pool, BTreeSet::new())?;
        }
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for volume in volumes {
            match linked.get(volume) {
                Some(device) if !old_links || told.devices.get(volume) == Some(device) => {
                    there.push((volume.clone(), device.clone()));
                }
                _ => missing.push(volume),
            }
        }
        if missing.is_empty() {
            return Ok(there);
        }
        // Then no volume comes any more.
        ensure!(!zfs::is_suspended(node, &pool.pool), pool.suspended());
        if there.len() > most {
            (most, last_came) = (there.len(), node.now());
        }
        let hurry = node.time_left() <= HURRY;
        let patience = match node.mode(UDEV_IS_BUSY)? {
            Some(_) => UDEV,
            None => ASK_KERNEL,
        };
        if node.now() - last_came >= patience || hurry {
            let before = told.devices.len();
            if missing.iter().any(|volume| !told.has(volume)) {
                let devices = there.iter().map(|(_, device)| device.clone());
                told.ask(node, pool, devices.collect())?;
            }
            // The module may have made them only now: udev has its time from here.
            if told.devices.len() > before {
                last_came = node.now();
            }
            let unknown: Vec<&&String> =
                missing.iter().filter(|volume| !told.has(volume)).collect();
            match unknown.first() {
                Some(first) if hurry => {
                    let why = told.silent.map(|why| format!(" ({why})"));
                    bail!(
                        "{} volumes have no block device yet, the first is {first}{}",
                        unknown.len(),
                        why.unwrap_or_default()
                    )
                }
                None if hurry || node.now() - last_came >= patience + UDEV => {
                    if let Some((volume, device)) = missing
                        .iter()
                        .find_map(|volume| linked.get_key_value(*volume))
                    {
                        bail!(
                            "{} leads to {device}, expected {}: udev has not mended it",
                            link(volume),
                            told.devices[volume]
                        );
                    }
                    warn!(
                        "udev has made no link for {} volumes, the first is {}; their devices are there",
                        missing.len(),
                        link(missing[0])
                    );
                    let unlinked = missing.iter().filter_map(|volume| {
                        Some(((**volume).clone(), told.devices.get(*volume)?.clone()))
                    });
                    return Ok(there.iter().cloned().chain(unlinked).collect());
                }
                _ => {}
            }
            for device in missing
                .iter()
                .filter_map(|volume| told.devices.get(*volume))
            {
                if announced.insert(device.clone()) {
                    let path = format!("/sys/class/block/{device}/uevent");
                    node.write(&path, "change")
                        .unwrap_or_else(|error| warn!("{error:#}"));
                }
            }
        }
        node.sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What the kernel has told of the pool's volumes.
#[derive(Debug, Default)]
pub struct Told {
    /// Their block devices: zd16 by tank/vm1.
    pub devices: BTreeMap<String, String>,
    /// Why devices have not told whose volumes they are, if some have not.
    ///
    /// To be asked, a device must be opened, and whoever opens it first needs the lock of all pools (zvol_open, OpenZFS 2.1
    /// to 2.4). While that is held, as by the import of another pool, it fails with ERESTARTSYS (512) after
    /// zvol_open_timeout_ms, by default a second; before Linux 5.13 it waits. So nobody has such a device open.
    pub silent: Option<String>,
}

impl Told {
    fn has(&self, volume: &str) -> bool {
        self.devices.contains_key(volume)
    }

    /// Asks the devices of all volumes but these, and those that have told already. Takes at most half of the action's
    /// time that is left: what comes after it may still be done, and as a rule waits for the same lock.
    pub fn ask(&mut self, node: &Node, pool: &ZfsPool, but: BTreeSet<String>) -> Result<()> {
        let is_asked = |name: &String| {
            is_volume(name) && !but.contains(name) && !self.devices.values().any(|it| it == name)
        };
        let mut devices = node.list("/sys/class/block")?;
        devices.retain(is_asked);
        self.silent = None;
        if devices.is_empty() {
            return Ok(());
        }
        let limit = node.time_left() / 2;
        let asked = node.apart_watching(
            "asking for the names of volumes",
            limit,
            Duration::from_millis(200),
            &mut || !zfs::is_suspended(node, &pool.pool),
            |host| Ok(names(host, pool, &devices, limit / 2)),
        );
        match asked {
            Ok((found, silent)) => {
                self.devices.extend(found);
                self.silent = silent;
            }
            Err(error) => self.silent = Some(format!("{error:#}")),
        }
        Ok(())
    }
}

fn is_volume(device: &str) -> bool {
    device
        .strip_prefix("zd")
        .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
}

/// Which of these devices are volumes of the pool, and why it is not known of all; none is asked any more after `limit`.
fn names(
    host: &Host,
    pool: &ZfsPool,
    devices: &[String],
    limit: Duration,
) -> (BTreeMap<String, String>, Option<String>) {
    let begun = host.now();
    let prefix = format!("{}/", pool.pool);
    let (mut found, mut silent) = (BTreeMap::new(), None);
    for device in devices {
        if host.now() - begun >= limit {
            silent.get_or_insert_with(|| format!("there was no time to ask {device}"));
            break;
        }
        match host.zvol_name(&format!("/dev/{device}")) {
            Ok(Some(name)) if name.starts_with(&prefix) => {
                found.insert(name, device.clone());
            }
            Ok(_) => {}
            Err(error) => {
                silent.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
    (found, silent)
}

/// Has the kernel anything of this pool mounted here?
pub fn mounted(node: &Node, pool: &ZfsPool) -> Result<Vec<Mount>> {
    let inside = format!("{}/", pool.pool);
    let ours = |mount: &Mount| {
        let source = mount.source.split('@').next().unwrap_or_default();
        mount.kind == "zfs" && (source == pool.pool || source.starts_with(&inside))
    };
    Ok(mounts::of(node, None)?.into_iter().filter(ours).collect())
}
