//! Start: the disks, who had them last, the import, and what belongs to the pool.

use std::time::{Duration, Instant};

use ocf::prelude::*;
use probe::zfs::label::{Label, LabelState};
use probe::zfs::message::{self, Refusal};
use probe::zfs::{self, PoolState};

use crate::cluster::{self, Whereabouts};
use crate::datasets;
use crate::disks::{self, Found};
use crate::pool::ZfsPool;
use crate::reservation;
use crate::values::{Force, Multihost};

/// How long disks of a pool that is otherwise there are waited for.
const STRAGGLERS: Duration = Duration::from_secs(10);
/// Between two looks for disks.
const AGAIN: Duration = Duration::from_secs(1);
/// Time that is kept for taking back a start that fails.
const RESERVE: Duration = Duration::from_secs(5);
/// The hint with the module's parameters as they were.
const TUNABLES: &str = "tunables";
/// Where the module has its parameters.
const PARAMETERS: &str = "/sys/module/zfs/parameters";
/// The hint with the GUID of a pool whose import has begun, and not been seen to end.
const IMPORTING: &str = "importing";
/// Options that an administrator has allowed for the next import only.
const ONCE: &str = "/run/hastor/zfs-pool-once";

/// The whole of a start.
pub fn start(pool: &ZfsPool, node: &Node) -> Result<()> {
    let mut phases = Phases::begin(node);
    load_module(node)?;
    await_left_behind(pool, node)?;
    pool.check_name_is_free(node)?;
    let old_links = datasets::has_links(node, pool)?;
    match pool.settled(node)? {
        None => {
            pool.call_helper(node, "pre-import")?;
            let set = set_tunables(pool, node);
            let imported = set.and_then(|()| import(pool, node, &mut phases));
            let restored = restore_tunables(node);
            imported?;
            restored?;
            await_settled(pool, node)?;
            phases.end(node, "settle");
            pool.call_helper(node, "post-import")?;
        }
        Some(PoolState::Online | PoolState::Degraded) => adopt(pool, node, &mut phases)?,
        Some(state) => bail!(
            "pool {} is here already, but {state}; expected ONLINE or DEGRADED",
            pool.pool
        ),
    }
    datasets::bring_up(pool, node, &mut phases, old_links)?;
    info!("pool {} is here: {}", pool.pool, phases.line());
    Ok(())
}

/// Takes over a pool that somebody else has imported, or an earlier start that was interrupted.
fn adopt(pool: &ZfsPool, node: &Node, phases: &mut Phases) -> Result<()> {
    info!(
        "pool {} is imported already: going on from there",
        pool.pool
    );
    // Otherwise this machine would import it again when it boots.
    node.run(&Cmd::new("zpool").args(["set", "cachefile=none", &pool.pool]))?;
    let found = disks::find(pool, node)?;
    disks::note(node, &found)?;
    let hostid = hostid(pool, node)?;
    // The label names this host from now on.
    exchange_hostids(node, hostid)?;
    // It works here, so nobody else can rightly hold its disks.
    reservation::take(pool, node, &found, hostid, false)?;
    phases.end(node, "adopt");
    Ok(())
}

fn load_module(node: &Node) -> Result<()> {
    if node.is_dir("/sys/module/zfs") {
        return Ok(());
    }
    let loaded = node.run(&Cmd::new("modprobe").arg("zfs"));
    if let Err(error) = loaded {
        bail!(
            Exit::NotInstalled.because(format!("the zfs kernel module cannot be loaded: {error}"))
        );
    }
    ensure!(
        node.is_dir("/sys/module/zfs"),
        "modprobe zfs has ended, but the module is not there"
    );
    Ok(())
}

fn import(pool: &ZfsPool, node: &Node, phases: &mut Phases) -> Result<()> {
    let hostid = hostid(pool, node)?;
    let hostids = exchange_hostids(node, hostid)?;
    loop {
        let found = search(pool, node)?;
        phases.end(node, "disks");
        disks::note(node, &found)?;
        let leave = may_take(pool, node, &found, hostid, &hostids)?;
        reservation::take(pool, node, &found, hostid, leave.others)?;
        if pool.reservation != crate::values::Reservation::None {
            phases.end(node, "reservation");
        }
        let refused = match run_import(pool, node, &found, leave.force)? {
            None => break,
            Some(refused) => refused,
        };
        match &refused {
            // The devices have moved, or the label that was read is older than what ZFS found.
            Refusal::NoSuchPool | Refusal::MissingDevices if node.time_left() > AGAIN + RESERVE => {
                warn!(
                    "not yet: {refused}; looking for the disks of {} again",
                    pool.pool
                );
                node.sleep(AGAIN);
            }
            _ => bail!(explained(pool, &refused)),
        }
    }
    phases.end(node, "import");
    Ok(())
}

/// A refusal of `zpool import`, with what it means for the cluster.
fn explained(pool: &ZfsPool, refused: &Refusal) -> ocf::Failure {
    let exit = match refused {
        Refusal::NoHostid | Refusal::NotSupported | Refusal::NoModule => Exit::NotInstalled,
        _ => Exit::Generic,
    };
    let help = match refused {
        Refusal::NoHostid => "; mend it with: zgenhostid (another on each node)",
        Refusal::MissingLog => {
            "; to go on without it, and lose the last acknowledged writes, put -m into the one-time token"
        }
        Refusal::Corrupt { rewindable: true } => {
            "; to go back to an earlier transaction group, and lose what came after, put -F into the one-time token"
        }
        _ => "",
    };
    exit.because(format!(
        "pool {} is not imported: {refused}{help}",
        pool.pool
    ))
}

/// The disks of the pool, once enough of them are there. Waits for them: after a failover the paths of a disk may come up
/// late, and a partition table that another node has written is not known here (it is read again).
fn search(pool: &ZfsPool, node: &Node) -> Result<Found> {
    let begun = node.now();
    let mut mended = false;
    loop {
        let found = disks::find(pool, node)?;
        let here = !found.leaves.is_empty();
        let complete = here && found.missing.is_empty();
        if complete || (here && node.now() - begun >= STRAGGLERS) {
            if !complete {
                warn!(
                    "disks of {} are not visible: {}",
                    pool.pool,
                    found.missing.join(" ")
                );
            }
            return Ok(found);
        }
        if node.time_left() <= RESERVE {
            ensure!(
                here,
                "no disk of pool {} is visible; searched for {:.0} s: {}",
                pool.pool,
                (node.now() - begun).as_secs_f32(),
                found.searched.join(" ")
            );
            return Ok(found);
        }
        if !mended {
            mended = true;
            for disk in &found.blank {
                let read = node.apart(
                    &format!("reading the partition table of {disk}"),
                    AGAIN,
                    |host| host.reread_partitions(disk),
                );
                // Most are in use by something else, or have none.
                read.unwrap_or_else(|error| debug!("{error:#}"));
            }
            // It only waits for what it has heard of; the labels say whether that was enough.
            let settled = Cmd::new("udevadm")
                .args(["settle", "--timeout=5"])
                .at_most(STRAGGLERS);
            node.ask(&settled)
                .map(drop)
                .unwrap_or_else(|error| debug!("{error}"));
        } else {
            node.sleep(AGAIN);
        }
    }
}

/// What an import may do against other hosts.
struct Leave {
    /// Give `-f`.
    force: bool,
    /// Preempt their reservations.
    others: bool,
}

/// Decides whether the pool may be taken from the host that had it last, from its label and what the cluster knows.
fn may_take(
    pool: &ZfsPool,
    node: &Node,
    found: &Found,
    hostid: u32,
    hostids: &[(String, u32)],
) -> Result<Leave> {
    let label = found.newest().context("no label")?;
    let active = label.state == LabelState::Active;
    let ours = label.hostid == Some(hostid) && hostid != 0;
    if pool.force() == Force::Always {
        return Ok(Leave {
            force: true,
            others: true,
        });
    }
    if !active {
        // It was exported: nobody has it. A reservation that was left is of a node that failed to give it back.
        return Ok(Leave {
            force: false,
            others: true,
        });
    }
    let before = host_of(label);
    if ours {
        // By this node, before it crashed; unless two nodes have the same hostid.
        if let Some(name) = label.hostname.as_deref().filter(|name| !is_us(node, name)) {
            bail!(Exit::NotInstalled.because(format!(
                "pool {}: the host {name} has the same hostid as this one ({hostid:08x}), so ZFS cannot tell them apart; mend it \
                 with: zgenhostid -f (on one of them)",
                pool.pool
            )));
        }
        return Ok(Leave {
            force: false,
            others: true,
        });
    }
    if pool.force() == Force::Never {
        bail!(
            "pool {} was last used by {before}, and force=never; export it there",
            pool.pool
        );
    }
    let cluster = cluster::ask(node).with_context(|| {
        format!(
            "pool {} was last used by {before}, and the cluster cannot be asked about it",
            pool.pool
        )
    })?;
    match cluster::whereabouts(&cluster, hostids, label.hostname.as_deref(), label.hostid) {
        Whereabouts::Away(name) => {
            info!(
                "pool {} was last used by {before}; {name} is offline, and the cluster has seen to it: forcing the import",
                pool.pool
            );
        }
        Whereabouts::Stranger => {
            warn!(
                "pool {} was last used by {before}, which is no node of this cluster: forcing the import",
                pool.pool
            );
        }
        Whereabouts::Online(name) => bail!(
            "pool {} was last used by {before}, and {name} is online: it may have the pool; export it there, or, if it has not, import it \
             here with: zpool import -f -N -o cachefile=none {}",
            pool.pool,
            pool.pool
        ),
        Whereabouts::Unclean(name) => bail!(
            "pool {} was last used by {before}, and {name} is not fenced yet: it may have the pool",
            pool.pool
        ),
        Whereabouts::Unknown(why) => bail!(
            "pool {} was last used by {before}, which is not known to be away: {why}; if it is certain that nobody has the pool, \
             import it here with: zpool import -f -N -o cachefile=none {} (or set force=always)",
            pool.pool,
            pool.pool
        ),
    }
    Ok(Leave {
        force: true,
        others: true,
    })
}

/// Tells the cluster our hostid and hears those of other nodes; all of them. Two nodes with the same one are an error.
fn exchange_hostids(node: &Node, hostid: u32) -> Result<Vec<(String, u32)>> {
    if hostid == 0 {
        return Ok(Vec::new());
    }
    let on_node = node.call().meta.get("on_node");
    let is_here = |name: &str| on_node.is_some_and(|here| here == name) || is_us(node, name);
    // Without a cluster there are no others.
    let mut told = cluster::exchange_hostids(node, hostid, is_here).unwrap_or_else(|error| {
        debug!("the cluster does not tell hostids: {error:#}");
        Vec::new()
    });
    told.retain(|(name, _)| !is_here(name));
    if let Some((name, _)) = told.iter().find(|(_, id)| *id == hostid) {
        bail!(Exit::NotInstalled.because(format!(
            "{name} has the same hostid as this node ({hostid:08x}), so ZFS cannot tell them apart; mend it with: zgenhostid -f \
             (on one of them)"
        )));
    }
    // Ours is known, whatever has become of the telling.
    let here = on_node.cloned().or_else(|| our_name(node));
    told.extend(here.map(|here| (here, hostid)));
    Ok(told)
}

fn host_of(label: &Label) -> String {
    let name = label.hostname.as_deref().unwrap_or("a host without name");
    match label.hostid {
        Some(id) => format!("{name} (hostid {id:08x})"),
        None => format!("{name} (no hostid)"),
    }
}

fn is_us(node: &Node, name: &str) -> bool {
    our_name(node).is_some_and(|ours| ours == name)
}

fn our_name(node: &Node) -> Option<String> {
    let name = node.read("/proc/sys/kernel/hostname").ok().flatten()?;
    Some(name.trim().to_owned())
}

/// The hostid that ZFS writes into labels. Without one, a label cannot say who has the pool.
fn hostid(pool: &ZfsPool, node: &Node) -> Result<u32> {
    let hostid = zfs::hostid(node)?.unwrap_or(0);
    let needed = pool.force() != Force::Always
        || pool.multihost == Multihost::On
        || pool.reservation != crate::values::Reservation::None;
    if hostid == 0 && needed {
        bail!(Exit::NotInstalled.because(
            "this host has no hostid, so the pool's disks could not say which host has it; mend it with: zgenhostid (another on \
             each node)"
        ));
    }
    Ok(hostid)
}

/// Runs `zpool import`. None: it is imported; else what it refused for.
fn run_import(pool: &ZfsPool, node: &Node, found: &Found, force: bool) -> Result<Option<Refusal>> {
    let mut cmd = Cmd::new("zpool").args(["import", "-N", "-o", "cachefile=none"]);
    match pool.multihost {
        Multihost::Keep => {}
        Multihost::On => cmd = cmd.args(["-o", "multihost=on"]),
        Multihost::Off => cmd = cmd.args(["-o", "multihost=off"]),
    }
    if force {
        cmd = cmd.arg("-f");
    }
    cmd = cmd.args(&pool.importargs.options).args(once(pool, node)?);
    for leaf in &found.leaves {
        cmd = cmd.arg("-d").arg(&leaf.path);
    }
    let guid = found.newest().context("no label")?.pool_guid;
    node.set_hint(IMPORTING, &guid.to_string())?;
    cmd = cmd
        .arg(guid)
        .at_most(node.time_left().saturating_sub(RESERVE));
    let mut told = None;
    let answer = node.ask_watching(&cmd, Duration::from_secs(1), &mut || {
        tell_progress(pool, node, &mut told);
        true
    })?;
    node.set_hint(IMPORTING, "")
        .unwrap_or_else(|error| warn!("{error:#}"));
    if answer.success() {
        return Ok(None);
    }
    Ok(Some(message::import(&answer.stdout, &answer.stderr)))
}

/// The process that a start which ran out of time has left in the kernel, importing the pool. As long as it waits for the
/// lock of all pools, which another import may hold, no signal ends it, and the kernel shows nothing of the pool; but it
/// will be imported.
pub fn left_behind(node: &Node) -> Result<Option<i32>> {
    let Some(guid) = node.hint(IMPORTING).filter(|guid| !guid.is_empty()) else {
        return Ok(None);
    };
    let text = |pid: i32, file: &str| {
        let text = node.read(&format!("/proc/{pid}/{file}"));
        // It has ended meanwhile.
        text.ok().flatten().unwrap_or_default()
    };
    let is_import = |pid: &i32| {
        text(*pid, "comm").trim() == "zpool" && {
            let line = text(*pid, "cmdline");
            let has = |wanted: &str| line.split('\0').any(|word| word == wanted);
            has("import") && has(&guid)
        }
    };
    let names = node.list("/proc")?;
    let mut pids = names.iter().filter_map(|name| name.parse().ok());
    Ok(pids.find(is_import))
}

/// Waits until no import is left behind.
pub fn await_left_behind(pool: &ZfsPool, node: &Node) -> Result<()> {
    while let Some(pid) = left_behind(node)? {
        ensure!(
            node.time_left() > RESERVE,
            "process {pid}, of an earlier start, does not end, and may still import pool {}",
            pool.pool
        );
        node.sleep(AGAIN);
    }
    Ok(())
}

/// Says, every few seconds, what a long import waits for.
fn tell_progress(pool: &ZfsPool, node: &Node, told: &mut Option<Instant>) {
    let every = Duration::from_secs(5);
    let last = *told.get_or_insert(node.now());
    if node.now() - last < every {
        return;
    }
    *told = Some(node.now());
    let imports = zfs::import_progress(node).unwrap_or_default();
    for import in imports.iter().filter(|import| import.pool == pool.pool) {
        match import.multihost_secs {
            0 => info!(
                "importing {}: state {}, transaction group {}",
                pool.pool, import.load_state, import.max_txg
            ),
            left => info!(
                "importing {}: watching whether another host writes to it, {left} s to go",
                pool.pool
            ),
        }
    }
}

/// Options that an administrator allowed for one import. The permission is used up before it is used.
fn once(pool: &ZfsPool, node: &Node) -> Result<Vec<String>> {
    let path = format!("{ONCE}/{}", pool.pool);
    let Some(text) = node.read(&path)? else {
        return Ok(Vec::new());
    };
    node.remove(&path)?;
    let mut words = text.split_whitespace();
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "-F" | "-X" | "-m" => options.push(word.to_owned()),
            "-T" => {
                let txg = words.next().filter(|txg| txg.parse::<u64>().is_ok());
                let txg = txg.with_context(|| {
                    format!("{path}: expected the number of a transaction group after -T")
                })?;
                options.extend([word.to_owned(), txg.to_owned()]);
            }
            other => bail!("{path}: \"{other}\" is not understood; expected -F, -X, -T TXG or -m"),
        }
    }
    warn!(
        "importing {} with {}, as {path} allowed once",
        pool.pool,
        options.join(" ")
    );
    Ok(options)
}

/// A pool that has just been imported may still pass through other states; monitor must not see them.
fn await_settled(pool: &ZfsPool, node: &Node) -> Result<()> {
    match pool.settled(node)? {
        Some(PoolState::Online | PoolState::Degraded) => Ok(()),
        Some(state) => bail!(
            "pool {} was imported and is {state}, expected ONLINE or DEGRADED",
            pool.pool
        ),
        None => bail!("zpool import has ended, but pool {} is not here", pool.pool),
    }
}

fn parameter(name: &str) -> String {
    format!("{PARAMETERS}/{name}")
}

/// Fails if one of the parameters cannot be set here. The module is loaded; before it is, nothing can be said.
pub fn check_tunables(pool: &ZfsPool, node: &Node) -> Result<()> {
    if !node.is_dir(PARAMETERS) {
        return Ok(());
    }
    for (name, _) in &pool.tunables.0 {
        match node.mode(&parameter(name))? {
            None => bail!(Exit::NotInstalled.because(format!(
                "parameter tunables: the zfs module has no parameter \"{name}\""
            ))),
            // To root, too: sysfs looks at the mode itself.
            Some(mode) if mode & 0o222 == 0 => bail!(Exit::NotInstalled.because(format!(
                "parameter tunables: \"{name}\" of the zfs module cannot be set while it is loaded (mode {mode:04o}); expected one \
                 that can be written"
            ))),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Are module parameters set that a start has not set back?
pub fn has_set_tunables(node: &Node) -> bool {
    node.hint(TUNABLES).is_some_and(|text| !text.is_empty())
}

/// A parameter of the module that an instance has set, as it notes it. The kernel has each once, for all pools.
struct Tunable {
    name: String,
    /// What it was before any instance set it.
    before: String,
    /// Has it to stay set? Else it is being set back.
    in_use: bool,
}

/// One a line: `set NAME=VALUE`, or `back NAME=VALUE` once it is being set back.
fn tunables_in(note: &str) -> Vec<Tunable> {
    let tunable = |line: &str| {
        // An older version has noted no word.
        let (word, pair) = line.split_once(' ').unwrap_or(("back", line));
        let (name, before) = pair.split_once('=')?;
        Some(Tunable {
            name: name.to_owned(),
            before: before.to_owned(),
            in_use: word == "set",
        })
    };
    note.lines().filter_map(tunable).collect()
}

fn note_tunables(node: &Node, tunables: &[Tunable]) -> Result<()> {
    let line = |tunable: &Tunable| {
        let word = if tunable.in_use { "set" } else { "back" };
        format!("{word} {}={}\n", tunable.name, tunable.before)
    };
    node.set_hint(TUNABLES, &tunables.iter().map(line).collect::<String>())
}

fn tunables_of_others(node: &Node) -> Vec<Tunable> {
    let notes = node.hints_of_others(TUNABLES);
    notes.iter().flat_map(|note| tunables_in(note)).collect()
}

fn set_tunables(pool: &ZfsPool, node: &Node) -> Result<()> {
    // Left by a start that was interrupted: what is there now is not how it was.
    restore_tunables(node)?;
    if pool.tunables.0.is_empty() {
        return Ok(());
    }
    check_tunables(pool, node)?;
    // Another pool's start may be under way: then how it was is what that has noted. Looked at before the kernel and after
    // it, since others begin and end at any time.
    let mut others = tunables_of_others(node);
    let mut tunables = Vec::new();
    for (name, _) in &pool.tunables.0 {
        let value = node.read(&parameter(name))?.with_context(|| {
            format!("parameter tunables: the zfs module has no parameter \"{name}\"")
        })?;
        tunables.push(Tunable {
            name: name.clone(),
            before: value.trim().to_owned(),
            in_use: true,
        });
    }
    others.extend(tunables_of_others(node));
    for tunable in &mut tunables {
        if let Some(other) = others.iter().find(|other| other.name == tunable.name) {
            tunable.before.clone_from(&other.before);
        }
    }
    note_tunables(node, &tunables)?;
    for (name, value) in &pool.tunables.0 {
        node.write(&parameter(name), value)?;
    }
    Ok(())
}

/// Sets module parameters back to what they were, apart from those that another pool's start has set still: that will do
/// it. One that cannot be set back is warned of, and stays noted for the next attempt.
pub fn restore_tunables(node: &Node) -> Result<()> {
    let Some(note) = node.hint(TUNABLES).filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    let mut tunables = tunables_in(&note);
    tunables
        .iter_mut()
        .for_each(|tunable| tunable.in_use = false);
    // First, and only then it is looked who else there is: of two that end at once, neither must leave it to the other.
    note_tunables(node, &tunables)?;
    let others = tunables_of_others(node);
    tunables.retain(|Tunable { name, before, .. }| {
        if others
            .iter()
            .any(|other| other.in_use && other.name == *name)
        {
            return false;
        }
        let restored = node.write(&parameter(name), before);
        restored
            .inspect_err(|error| {
                warn!("the zfs module's parameter {name} is not set back to {before}: {error:#}");
            })
            .is_err()
    });
    note_tunables(node, &tunables)
}

/// The last attempt of a stop. A parameter that cannot be set back is no part of the pool: no reason to fence the node.
pub fn give_up_tunables(node: &Node) -> Result<()> {
    restore_tunables(node)?;
    match has_set_tunables(node) {
        true => node.set_hint(TUNABLES, ""),
        false => Ok(()),
    }
}

/// How long each phase of an action took, for one line in the log.
pub struct Phases {
    begun: Instant,
    last: Instant,
    done: Vec<String>,
}

impl Phases {
    pub fn begin(node: &Node) -> Phases {
        Phases {
            begun: node.now(),
            last: node.now(),
            done: Vec::new(),
        }
    }

    /// A phase that began when the one before ended is over.
    pub fn end(&mut self, node: &Node, what: &str) {
        let now = node.now();
        self.done
            .push(format!("{what} {:.2}", (now - self.last).as_secs_f32()));
        self.last = now;
    }

    /// All of them, in seconds.
    pub fn line(&self) -> String {
        let total = (self.last - self.begun).as_secs_f32();
        format!("{} s, total {total:.2} s", self.done.join(", "))
    }
}
