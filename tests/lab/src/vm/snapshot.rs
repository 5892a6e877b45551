//! A formed cluster, saved once: the memory and the disk of every guest. Every lab of guests starts from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::exec;
use super::guests::{read, wait_for_agent};
use super::plan::{Guest, Network, Plan, Role};
use super::room::{Setup, bridge_mac};
use crate::cluster::Cluster;
use crate::image::{self, Accelerator, Image, KERNEL, Unfinished, recipe};
use crate::progress::{say, tell};
use crate::{control, disk, evidence, interrupt, layout, threads};

/// Five guests boot together for three to four minutes on two cores without hardware virtualisation, and longer where
/// these are busy.
const BOOT: Duration = Duration::from_secs(1800);

/// What is done in each guest before it is saved.
const FORM: &str = include_str!("form.sh");

/// The snapshot for a plan, made if it is not there.
pub fn ensure(cache: &Path, image: &Image, plan: &Plan) -> Result<PathBuf> {
    let name = format!("snapshot-{}-{}", plan.word(), key(plan)?);
    let directory = cache.join(&name);
    if directory.exists() {
        say("snapshot: there already");
        return Ok(directory);
    }
    say("snapshot: none of this cluster yet, booting it (some minutes, once)");
    let begin = Instant::now();
    // Older ones of the same plan will not be used again.
    let kind = format!("snapshot-{}-", plan.word());
    image::remove(cache, |found| {
        let hash = found.strip_prefix(&kind);
        hash.is_some_and(|hash| !hash.contains('-'))
    })?;
    let work = Unfinished::create(cache, &name)?;
    let setup = Setup {
        plan: *plan,
        image: image.directory.clone(),
        run: run_directory(cache),
        snapshot: None,
    };
    let leash = control::start_guests(&setup, &[])?;
    let cluster = form(plan);
    let cluster = match cluster {
        Ok(cluster) => cluster,
        Err(error) if interrupt::ending() => return Err(error),
        Err(error) => {
            let heads = Cluster::of_guests(plan.heads());
            bail!("{error:#}\n{}", evidence::keep(&heads, "vm snapshot"));
        }
    };
    drop(cluster);
    say("snapshot: saving");
    control::ask(&["save"])?;
    for guest in plan.guests()? {
        for place in [Setup::memory, Setup::disk] {
            let (from, to) = (place(&setup.run, &guest.name), place(&work.0, &guest.name));
            fs::rename(&from, &to).with_context(|| format!("moving {}", from.display()))?;
        }
    }
    drop(leash);
    fs::rename(&work.0, &directory).context("moving the snapshot to its place")?;
    tell(format_args!(
        "snapshot: made in {:.0} s",
        begin.elapsed().as_secs_f64()
    ));
    Ok(directory)
}

/// Where the disks of a running lab are: in the cache, because they may be larger than memory.
pub fn run_directory(cache: &Path) -> PathBuf {
    cache.join("run")
}

/// Changes with everything that the state of the guests depends on.
fn key(plan: &Plan) -> Result<String> {
    let version = Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .context("running qemu-system-x86_64")?;
    let names = plan.heads();
    let mut parts = vec![
        recipe::hash(),
        String::from_utf8_lossy(&version.stdout).into_owned(),
        Accelerator::here()?.words().to_owned(),
        KERNEL.to_owned(),
        FORM.to_owned(),
        disk::SEED.to_owned(),
        disk::corosync_conf(&names, TOKEN)?,
        bridge_mac(Network::Management),
    ];
    for guest in plan.guests()? {
        parts.push(format!(
            "{guest:?} {} {:?}",
            guest.memory(),
            guest.networks()
        ));
    }
    Ok(recipe::hash_of(&parts))
}

/// Corosync's token timeout in ms, its default: an emulated guest may stand still for a second.
const TOKEN: u32 = 3000;

fn form(plan: &Plan) -> Result<Cluster> {
    let guests = plan.guests()?;
    for guest in &guests {
        control::ask(&["on", &guest.name])?;
    }
    let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
    say(format_args!("power on: {}", names.join(" ")));
    for guest in &guests {
        settle(guest)?;
        say(format_args!("{} has booted", guest.name));
    }
    // One after the other would take too long, and a node that is late would be waited for.
    each(&guests, |guest| prepare(guest, &plan.heads()))?;
    let cluster = Cluster::of_guests(plan.heads());
    cluster.wait_until_formed()?;
    // What an administrator runs is in memory already, as on a machine that runs for days.
    for words in [
        &["crm_mon", "-1"][..],
        &["cibadmin", "--query"],
        &["crm_resource", "--list-agents", "ocf"],
    ] {
        for node in &cluster.nodes {
            cluster.output(node, words)?;
        }
    }
    each(&guests, |guest| run(guest, &["sync"], "").map(drop))?;
    Ok(cluster)
}

/// Waits until a guest answers and has nothing left to start.
fn settle(guest: &Guest) -> Result<()> {
    wait_for_agent(&guest.name, BOOT)?;
    let address = layout::management_address(guest.number);
    let begin = Instant::now();
    while !read(&guest.name, "/proc/net/fib_trie")?.contains(&format!("|-- {address}\n")) {
        ensure!(begin.elapsed() < BOOT, "no address {address} on mgmt0");
        std::thread::sleep(Duration::from_millis(500));
    }
    // Before systemd listens, this fails at once and says nothing. A unit that took too long on a busy machine (degraded)
    // is no reason to give up: what the lab needs is done by FORM, and fails there.
    let script = r#"end=$((SECONDS + $1))
until state=$(systemctl is-system-running --wait 2>/dev/null); [ "$state" = running ] || [ "$state" = degraded ]; do
	[ $SECONDS -lt $end ] || { echo "still $state"; exit 1; }
	sleep 1
done"#;
    let bound = BOOT.as_secs().to_string();
    let words = ["bash", "-c", script, "settle", &bound];
    run(guest, &words, "").map(drop).context("booting")
}

fn prepare(guest: &Guest, heads: &[String]) -> Result<()> {
    let role = match guest.role {
        Role::Head => "head",
        Role::Client => "client",
        Role::Shelf => "shelf",
    };
    write(guest, "/etc/hosts", "644 root:root", &disk::hosts(heads)?)?;
    if guest.role == Role::Head {
        let configuration = disk::corosync_conf(heads, TOKEN)?;
        write(
            guest,
            "/etc/corosync/corosync.conf",
            "644 root:root",
            &configuration,
        )?;
        let cib = "/var/lib/pacemaker/cib/cib.xml";
        write(guest, cib, "600 hacluster:haclient", disk::SEED)?;
    }
    let number = guest.number.to_string();
    run(guest, &["bash", "-s", &guest.name, role, &number], FORM).map(drop)
}

fn write(guest: &Guest, path: &str, rights: &str, text: &str) -> Result<()> {
    let script = r#"cat >"$1" && chmod "${2% *}" "$1" && chown "${2#* }" "$1""#;
    run(guest, &["sh", "-c", script, "write", path, rights], text).map(drop)
}

/// Runs a command in a guest that must succeed, with this text as its input.
fn run(guest: &Guest, words: &[&str], input: &str) -> Result<String> {
    exec::output(&guest.name, words, input.as_bytes())
}

/// Does something to all guests at once; the first error.
pub fn each(guests: &[Guest], act: impl Fn(&Guest) -> Result<()> + Sync) -> Result<()> {
    threads::each(guests, |guest| {
        act(guest).with_context(|| guest.name.clone())
    })
    .map(drop)
}
