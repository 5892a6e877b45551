//! From outside: starting the machine room, asking it for things, and removing everything of a lab, whole or half.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agents::root;
use crate::layout::{self, CLIENT, INSIDE, MARK, MOST_NODES, PATH, SHARE, STATE};
use crate::vm::room::Setup;
use crate::vm::{self, exec};
use crate::{disk, processes};

/// Only one command at a time may build or remove a lab. A socket in the abstract namespace goes away with its owner.
pub struct Turn {
    _listener: UnixListener,
}

/// Takes the turn, or says that another command has it.
pub fn turn() -> Result<Turn> {
    let address = SocketAddr::from_abstract_name("hastor-lab").context("abstract socket name")?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(Turn {
            _listener: listener,
        }),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!(
                "another `cargo lab` is building, using or removing the lab; wait for it or end it"
            )
        }
        Err(error) => Err(error).context("binding the abstract socket hastor-lab"),
    }
}

/// While this lives, the lab does; unless [`Leash::release`] has let go of it. Even SIGKILL to this program ends the
/// lab: the machine room reads the other end of a pipe.
pub struct Leash {
    room: Child,
}

impl Leash {
    /// The lab outlives this program.
    pub fn release(mut self) -> Result<()> {
        ask(&["release"])?;
        // Nothing to wait for any more.
        self.room.stdin = None;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.room.stdin = None;
        // Ends when every machine is gone, and it bounds that itself.
        let _ = self.room.wait();
    }
}

/// Held while a lab is being started: it must not be removed from under the one who starts it.
static STARTING: Mutex<()> = Mutex::new(());

/// Waits until no lab is being started; none will be while the guard lives.
pub fn none_starting() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the machine room for `nodes` nodes, with the agents in them; no machine has power yet.
pub fn start(nodes: usize, daemons: bool, agents: &[PathBuf]) -> Result<Leash> {
    let _guard = none_starting();
    let names = layout::nodes(nodes);
    prepare(agents)?;
    for name in names.iter().map(String::as_str).chain([CLIENT]) {
        disk::create(name, &names)?;
    }
    let count = nodes.to_string();
    let mut words = vec!["room", "--nodes", &count];
    if daemons {
        words.push("--daemons");
    }
    open_room(&words)
}

/// Starts the machine room of guests; no guest has power yet.
pub fn start_guests(setup: &Setup, agents: &[PathBuf]) -> Result<Leash> {
    let _guard = none_starting();
    prepare(agents)?;
    // A killed lab may have left its disks there.
    remove_tree(&setup.run)?;
    fs::create_dir_all(&setup.run).with_context(|| format!("making {}", setup.run.display()))?;
    setup.write()?;
    open_room(&["vm-room"])
}

/// The lab's own directory, with what the machines need to see.
fn prepare(agents: &[PathBuf]) -> Result<()> {
    // What a room left that could not open, or that died.
    if Path::new(STATE).exists() {
        down()?;
    }
    fs::create_dir(STATE).with_context(|| format!("making {STATE}"))?;
    fill_share(agents)
}

fn open_room(words: &[&str]) -> Result<Leash> {
    let log = fs::File::create(format!("{STATE}/room.log"))?;
    let mut command = Command::new(format!("{SHARE}/bin/lab"));
    command
        .args(words)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .env(MARK, STATE);
    command
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut room = command.spawn().context("starting the machine room")?;
    let end = Instant::now() + Duration::from_secs(20);
    while ask(&["list"]).is_err() {
        if room.try_wait()?.is_some() || Instant::now() > end {
            let _ = room.kill();
            let _ = room.wait();
            let log = fs::read_to_string(format!("{STATE}/room.log")).unwrap_or_default();
            bail!("the machine room did not open: {}", log.trim_end());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Leash { room })
}

/// Copies what the nodes need to see: this program, the agents and their grammar, and what lies in /usr/sbin.
fn fill_share(built: &[PathBuf]) -> Result<()> {
    let share = Path::new(SHARE);
    let (agents, grammars) = ("ocf/resource.d/hastor", "ocf/lib/hastor");
    for directory in ["bin", "sbin", agents, grammars] {
        fs::create_dir_all(share.join(directory))?;
    }
    // A copy: the original may be built anew while the lab runs.
    fs::copy("/proc/self/exe", share.join("bin/lab")).context("copying this program")?;
    symlink(
        format!("{INSIDE}/bin/lab"),
        share.join("sbin/fence_hastor_lab"),
    )?;
    let grammar = "ra-api-1.1.dtd";
    let from = root().join("crates/ocf").join(grammar);
    fs::copy(&from, share.join(grammars).join(grammar))
        .with_context(|| format!("copying {}", from.display()))?;
    for program in built {
        let name = program
            .file_name()
            .with_context(|| format!("{} has no name", program.display()))?;
        let for_sbin = program
            .parent()
            .is_some_and(|place| place.ends_with("sbin"));
        let place = share
            .join(if for_sbin { "sbin" } else { agents })
            .join(name);
        fs::copy(program, place).with_context(|| format!("copying {}", program.display()))?;
    }
    Ok(())
}

/// Asks the room for something; what it answers behind "ok".
pub fn ask(words: &[&str]) -> Result<String> {
    let path = layout::socket();
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("no lab is running (no answer on {})", path.display()))?;
    // Restoring or saving the memory of several guests is the longest.
    stream.set_read_timeout(Some(Duration::from_secs(180)))?;
    writeln!(stream, "{}", words.join(" "))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("{words:?}: no answer from the machine room"))?;
    match answer.strip_prefix("ok\n") {
        Some(text) => Ok(text.to_owned()),
        None => bail!(
            "{}: {}",
            words.join(" "),
            answer.trim_start_matches("error ").trim_end()
        ),
    }
}

/// A machine as the room sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// n1, n2, ... or client
    pub name: String,
    /// Process id of its init, seen from outside; none without power.
    pub init: Option<i32>,
    /// Cut off the cluster network.
    pub cut: bool,
    /// Stopped in the middle of what it did, without knowing it.
    pub frozen: bool,
}

impl Machine {
    /// Whether it belongs to the cluster.
    pub fn is_node(&self) -> bool {
        layout::number(&self.name).is_ok_and(|number| usize::from(number) <= MOST_NODES)
    }
}

/// All machines of the running lab.
pub fn machines() -> Result<Vec<Machine>> {
    Ok(ask(&["list"])?.lines().filter_map(parse_machine).collect())
}

fn parse_machine(line: &str) -> Option<Machine> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, power) = (words.first()?, words.get(1)?);
    Some(Machine {
        name: (*name).to_owned(),
        init: power.parse().ok(),
        cut: words.contains(&"cut"),
        frozen: words.contains(&"frozen"),
    })
}

/// A command that runs in a machine, standard streams inherited.
pub fn command_in(name: &str, words: &[&str]) -> Result<Command> {
    layout::number(name)?;
    if Setup::file().exists() {
        return exec::command(name, words);
    }
    let file = layout::pid_file(name);
    let init = fs::read_to_string(&file)
        .with_context(|| format!("{name} has no power (no {})", file.display()))?;
    let mut command = Command::new("nsenter");
    command
        .args([
            "-t",
            init.trim(),
            "-m",
            "-n",
            "-i",
            "-u",
            "-p",
            "-r",
            "-w",
            "--",
        ])
        .args(words);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("HOME", "/root");
    command.env(
        "TERM",
        std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()),
    );
    Ok(command)
}

/// [`down`], when no other command builds or removes a lab.
pub fn down_in_turn() -> Result<bool> {
    let _turn = turn()?;
    down()
}

/// Removes everything of a lab: processes, namespaces (they go with their processes), files. True if there was something.
pub fn down() -> Result<bool> {
    let there = Path::new(STATE).exists();
    if let Some(pid) = room_pid() {
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("ending the machine room")?;
        let end = Instant::now() + Duration::from_secs(30);
        while processes::is_alive(pid) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // What a killed room left behind, or one that did not listen.
    // Where the lab that runs has the disks of its guests, and where one of this user's would have.
    let places = [Setup::read().map(|setup| setup.run), vm::run_directory()];
    let ended = processes::end_all_of_lab()?;
    for place in places.into_iter().flatten() {
        remove_tree(&place)?;
    }
    remove_tree(Path::new(STATE))?;
    Ok(there || ended > 0)
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The room's process, if the number in its file still is the room's.
pub fn room_pid() -> Option<i32> {
    let pid: i32 = fs::read_to_string(format!("{STATE}/room.pid"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = command.split(|byte| *byte == 0);
    let is_room = words.next().is_some_and(|word| word.ends_with(b"/bin/lab"))
        && words
            .next()
            .is_some_and(|word| word == b"room" || word == b"vm-room");
    (is_room && processes::is_ours(pid)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_lines() {
        let machine = parse_machine("n2 4711 cut").unwrap();
        assert_eq!(
            machine,
            Machine {
                name: "n2".to_owned(),
                init: Some(4711),
                cut: true,
                frozen: false,
            }
        );
        assert_eq!(parse_machine("client off").unwrap().init, None);
        assert_eq!(parse_machine(""), None);
    }
}
