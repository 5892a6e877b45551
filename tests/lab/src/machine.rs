//! One machine: namespaces, its own file systems over the shared root, and its init.

use std::fs;
use std::io::{BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::wait;
use nix::unistd::{pause, sethostname};

use crate::layout::{self, CLIENT, DISK, INSIDE, Owner, PATH, SHARE};
use crate::{disk, switch};

/// Makes the namespaces, starts the init in them, prints its process id and waits for its end.
pub fn hold(name: &str, daemons: bool) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("parent-death signal")?;
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWPID,
    )
    .with_context(|| format!("namespaces for {name}"))?;
    let console = layout::console(name)?;
    let mut command = Command::new(format!("{SHARE}/bin/lab"));
    command
        .args(["init", name])
        .stdout(console.try_clone()?)
        .stderr(console);
    if daemons {
        command.arg("--daemons");
    }
    let mut init = command.spawn().with_context(|| format!("init of {name}"))?;
    println!("{}", init.id());
    std::io::stdout().flush()?;
    // Only the init reads the go-ahead.
    init.wait()
        .with_context(|| format!("waiting for the init of {name}"))?;
    Ok(())
}

/// Process 1 of a machine: waits for its cables, boots, then collects orphans until the power is cut.
pub fn init(name: &str, daemons: bool) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("parent-death signal")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line != "go\n" {
        bail!("{name}: expected the go-ahead of the room, found {line:?}");
    }
    sethostname(name)?;
    mounts(name).with_context(|| format!("mounts of {name}"))?;
    network(name)?;
    if name != CLIENT {
        start(
            "serve",
            Command::new(format!("{INSIDE}/bin/lab")).args(["serve", name]),
        )?;
    }
    if daemons {
        // If it fails the machine stays up, as a real one would: somebody may want to look at it.
        boot().unwrap_or_else(|error| println!("{name}: {error:#}"));
    }
    loop {
        match wait() {
            Ok(status) => println!("{name}: ended: {status:?}"),
            Err(Errno::ECHILD) => pause(),
            Err(error) => println!("{name}: wait: {error}"),
        }
    }
}

fn mounts(name: &str) -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("private mounts")?;
    // Two lower layers and no upper: our files beside the machine's, and nothing can be written.
    for (layer, target) in [("ocf", "/usr/lib/ocf"), ("sbin", "/usr/sbin")] {
        let options = format!("lowerdir={SHARE}/{layer}:{target}");
        mount(
            Some("overlay"),
            target,
            Some("overlay"),
            MsFlags::MS_RDONLY,
            Some(options.as_str()),
        )
        .with_context(|| format!("overlay on {target}"))?;
    }
    for (directory, _) in DISK {
        bind(&layout::on_disk(name, directory), Path::new(directory))?;
    }
    bind(&layout::home(name).join("hosts"), Path::new("/etc/hosts"))?;
    file_system("proc", Path::new("/proc"), none)?;
    // Pacemaker's answer to some failures is to write here, and that would reset the machine we run on.
    for trigger in ["/proc/sysrq-trigger", "/proc/sys/kernel/sysrq"].map(Path::new) {
        if trigger.exists() {
            bind(Path::new("/dev/null"), trigger)?;
        }
    }
    file_system("sysfs", Path::new("/sys"), none)?;
    file_system("tmpfs", Path::new("/dev/shm"), Some("mode=1777"))?;
    file_system("tmpfs", Path::new("/tmp"), Some("mode=1777"))?;
    // /run last, and moved into place: the lab's own directory lies under the one it hides.
    let run = layout::home(name).join("run");
    fs::create_dir_all(&run)?;
    file_system("tmpfs", &run, Some("mode=755"))?;
    let cluster = disk::cluster_user()?;
    for (directory, mode, owner) in [
        ("corosync", 0o755, Owner::Root),
        ("crm", 0o750, Owner::Cluster),
        ("hastor-lab", 0o755, Owner::Root),
        ("lock", 0o1777, Owner::Root),
        ("resource-agents", 0o1755, Owner::Root),
    ] {
        let path = run.join(directory);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if owner == Owner::Cluster {
            std::os::unix::fs::chown(&path, Some(cluster.0), Some(cluster.1))?;
        }
    }
    bind(Path::new(SHARE), &run.join("hastor-lab"))?;
    mount(Some(&run), "/run", none, MsFlags::MS_MOVE, none).context("moving /run")?;
    Ok(())
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    let none: Option<&str> = None;
    mount(Some(source), target, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("bind {} on {}", source.display(), target.display()))
}

fn file_system(kind: &str, target: &Path, options: Option<&str>) -> Result<()> {
    mount(Some(kind), target, Some(kind), MsFlags::empty(), options)
        .with_context(|| format!("{kind} on {}", target.display()))
}

fn network(name: &str) -> Result<()> {
    let number = layout::number(name)?;
    let mut batch = "link set lo up\n".to_owned();
    if name != CLIENT {
        batch += &format!(
            "address add {}/24 dev ring0\nlink set ring0 up\n",
            layout::ring_address(number)
        );
        batch += &format!(
            "address add {}/24 dev mgmt0\nlink set mgmt0 up\n",
            layout::management_address(number)
        );
    }
    batch += &format!(
        "address add {}/24 dev lan0\n",
        layout::service_address(number)
    );
    batch += &format!(
        "address add {}/64 dev lan0 nodad\n",
        layout::service_address6(number)
    );
    batch += "link set lan0 up\n";
    switch::ip(&batch)
}

/// Starts Corosync, then Pacemaker, as their units would.
fn boot() -> Result<()> {
    start("corosync", Command::new("corosync").arg("-f"))?;
    let end = Instant::now() + Duration::from_secs(30);
    let ready = || {
        let mut ask = Command::new("corosync-cmapctl");
        ask.args(["-g", "nodelist.local_node_pos"])
            .env("PATH", PATH)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        ask.status().is_ok_and(|status| status.success())
    };
    while !ready() {
        if Instant::now() > end {
            bail!("corosync does not answer after 30 s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = [
        ("PCMK_logfile", "/var/log/pacemaker/pacemaker.log"),
        ("PCMK_logfacility", "none"),
    ];
    start("pacemaker", Command::new("pacemakerd").envs(log))
}

fn start(what: &str, command: &mut Command) -> Result<()> {
    command
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .current_dir("/");
    // Not waited for here: process 1 collects it.
    command
        .spawn()
        .map(drop)
        .with_context(|| format!("starting {what}"))
}
