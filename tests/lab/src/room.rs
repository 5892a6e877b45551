//! The machine room: one background process that owns the switch, gives power to the machines and takes it away.
//!
//! It lives in the switch's network namespace, is the parent of every machine and answers on a unix socket, also to the
//! fence agent inside the nodes. When it dies, the kernel takes power from everything (parent-death signals), and the
//! namespaces with their networks vanish with the last process in them: nothing can be left behind but files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, setsid};

use crate::bmc::Bmc;
use crate::layout::{self, CLIENT, PATH, SHARE, STATE};
use crate::switch;

/// A machine that can have power.
#[derive(Default)]
struct Machine {
    /// The process outside that holds it, and its init.
    power: Option<(Child, i32)>,
    cut: bool,
    unplugged: bool,
}

struct Room {
    machines: BTreeMap<String, Machine>,
    daemons: bool,
    /// They end with the room.
    _bmcs: Vec<Bmc>,
}

/// The machines of a room, of whichever kind.
pub trait Machines {
    /// Carries out a request; the answer.
    fn handle(&mut self, words: &[&str]) -> Result<String>;
    /// Gives a machine power, unless it has.
    fn on(&mut self, name: &str) -> Result<()>;
    /// Notices machines that died without being asked to.
    fn look(&mut self);
    /// Takes power from everything, and removes what lies outside the lab's own directory.
    fn close(&mut self);
}

/// The room of machines that are namespaces.
pub fn run(nodes: usize, daemons: bool) -> Result<()> {
    open(|| {
        switch::create(nodes)?;
        let names = layout::nodes(nodes).into_iter().chain([CLIENT.to_owned()]);
        let machines = names.map(|name| (name, Machine::default())).collect();
        let bmcs = layout::nodes(nodes)
            .iter()
            .map(|node| Bmc::start(node))
            .collect::<Result<_>>()?;
        Ok(Room {
            machines,
            daemons,
            _bmcs: bmcs,
        })
    })
}

/// Runs a room until it is told to quit, gets SIGTERM, or loses the one who started it. `make` makes its machines, and
/// is called inside the network namespace of the room.
pub fn open<M: Machines>(make: impl FnOnce() -> Result<M>) -> Result<()> {
    setsid().context("a session of its own")?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("blocking signals")?;
    let signals = SignalFd::new(&signals).context("signalfd")?;
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace for the switch")?;
    let mut room = make()?;
    let mut leashed = true;
    fs::write(
        format!("{STATE}/room.pid"),
        format!("{}\n", std::process::id()),
    )?;
    let listener =
        UnixListener::bind(format!("{SHARE}/room.sock")).context("the control socket")?;

    note("room open");
    let leash = std::io::stdin();
    loop {
        let mut ready = vec![
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if leashed {
            ready.push(PollFd::new(leash.as_fd(), PollFlags::POLLIN));
        }
        poll(&mut ready, PollTimeout::NONE).context("poll")?;
        let happened: Vec<bool> = ready
            .iter()
            .map(|fd| fd.revents().is_some_and(|e| !e.is_empty()))
            .collect();
        if happened[1] || happened.get(2) == Some(&true) {
            break;
        }
        if happened[0] {
            let (stream, _) = listener.accept().context("accept")?;
            match serve(&mut room, stream).as_deref() {
                Some("quit") => break,
                Some("release") => leashed = false,
                _ => {}
            }
        }
    }
    note("room closing");
    room.close();
    fs::remove_dir_all(STATE).with_context(|| format!("removing {STATE}"))
}

/// Answers one request; its first word.
fn serve(room: &mut impl Machines, stream: UnixStream) -> Option<String> {
    let mut line = String::new();
    let heard = stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .and_then(|()| BufReader::new((&stream).take(400)).read_line(&mut line));
    heard.ok()?;
    let words: Vec<&str> = line.split_whitespace().collect();
    room.look();
    let answer = match words[..] {
        ["release" | "quit"] => Ok(String::new()),
        _ => room.handle(&words),
    };
    let text = match &answer {
        Ok(text) => format!("ok\n{text}"),
        Err(error) => format!("error {error:#}\n"),
    };
    // The asker may have been killed together with its node: not our trouble.
    let _ = (&stream).write_all(text.as_bytes());
    drop(stream);
    if let (["reboot", name, ..], Ok(_)) = (&words[..], &answer) {
        // The power comes back in the background: the fence is done when the power is off.
        room.on(name)
            .unwrap_or_else(|error| note(&format!("{name} does not come back: {error:#}")));
    }
    words.first().map(|word| (*word).to_owned())
}

impl Machines for Room {
    fn handle(&mut self, words: &[&str]) -> Result<String> {
        match words {
            ["list"] => Ok(self.list()),
            ["status", name] => Ok(if self.machine(name)?.power.is_some() {
                "on"
            } else {
                "off"
            }
            .to_owned()),
            ["off" | "reboot", name, who @ ..] => {
                self.off(name, who.first().copied().unwrap_or("lab"))
            }
            ["on", name, ..] => self.on(name).map(|()| String::new()),
            ["cut", name] => self.set_cut(name, true),
            ["heal", name] => self.set_cut(name, false),
            ["nic", name, "down"] => self.set_unplugged(name, true),
            ["nic", name, "up"] => self.set_unplugged(name, false),
            _ => bail!("request {words:?} not understood"),
        }
    }

    fn on(&mut self, name: &str) -> Result<()> {
        if self.machine(name)?.power.is_some() {
            return Ok(());
        }
        switch::unplug(name);
        let console = layout::console(name)?;
        let mut command = Command::new(format!("{SHARE}/bin/lab"));
        command
            .args(["machine", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(console);
        command
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .current_dir("/");
        if self.daemons && name != CLIENT {
            command.arg("--daemons");
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut line = String::new();
        if let Some(output) = &mut child.stdout {
            BufReader::new(output).read_line(&mut line)?;
        }
        let Ok(init) = line.trim().parse::<i32>() else {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{name} did not start: see its console.log");
        };
        let wired = self.wire(name, init).and_then(|()| {
            let mut input = child.stdin.take().context("no standard input")?;
            input.write_all(b"go\n").context("the go-ahead")
        });
        if let Err(error) = wired {
            let _ = kill(Pid::from_raw(init), Signal::SIGKILL);
            let _ = child.wait();
            return Err(error.context(format!("wiring {name}")));
        }
        fs::write(layout::pid_file(name), format!("{init}\n"))?;
        self.machine(name)?.power = Some((child, init));
        note(&format!("{name} power on"));
        Ok(())
    }

    fn look(&mut self) {
        for (name, machine) in &mut self.machines {
            let gone = machine
                .power
                .as_mut()
                .is_some_and(|(child, _)| !matches!(child.try_wait(), Ok(None)));
            if gone {
                note(&format!("{name} died by itself"));
                machine.power = None;
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
    }
}

impl Room {
    fn machine(&mut self, name: &str) -> Result<&mut Machine> {
        self.machines
            .get_mut(name)
            .with_context(|| format!("{name} is no machine of this lab"))
    }

    /// One line a machine: name, init or "off", and what is wrong with its cables.
    fn list(&self) -> String {
        let line = |(name, machine): (&String, &Machine)| {
            let power = machine
                .power
                .as_ref()
                .map_or("off".to_owned(), |(_, init)| init.to_string());
            let cut = if machine.cut { " cut" } else { "" };
            let unplugged = if machine.unplugged { " unplugged" } else { "" };
            format!("{name} {power}{cut}{unplugged}\n")
        };
        self.machines.iter().map(line).collect()
    }

    /// Takes the power and answers when: seconds since 1970. Returns only when no process of the machine is left.
    fn off(&mut self, name: &str, who: &str) -> Result<String> {
        let when = tick();
        let Some((mut child, init)) = self.machine(name)?.power.take() else {
            note_at(when, &format!("{name} power off for {who}: was off"));
            return Ok(format!("{when:.3}"));
        };
        // SIGKILL to the init of a process namespace is SIGKILL to everything in it.
        kill(Pid::from_raw(init), Signal::SIGKILL)
            .with_context(|| format!("killing the init of {name}"))?;
        forget(name);
        let end = Instant::now() + Duration::from_secs(15);
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                self.machine(name)?.power = Some((child, init));
                bail!(
                    "{name}: init {init} was killed 15 s ago and has not ended; expected it to be gone"
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        note_at(when, &format!("{name} power off for {who}"));
        Ok(format!("{when:.3}"))
    }

    /// Plugs a machine in, with the cables as broken as they were.
    fn wire(&mut self, name: &str, init: i32) -> Result<()> {
        switch::plug(name, init)?;
        let machine = self.machine(name)?;
        if machine.cut {
            switch::set_ring(name, false)?;
        }
        if machine.unplugged {
            switch::set_lan(name, false)?;
        }
        Ok(())
    }

    fn set_cut(&mut self, name: &str, cut: bool) -> Result<String> {
        if name == CLIENT {
            bail!("{CLIENT} is not on the cluster network");
        }
        self.machine(name)?.cut = cut;
        if self.machine(name)?.power.is_some() {
            switch::set_ring(name, !cut)?;
        }
        note(&format!(
            "{name} {} the cluster network",
            if cut { "cut off" } else { "back on" }
        ));
        Ok(format!("{:.3}", now()))
    }

    fn set_unplugged(&mut self, name: &str, unplugged: bool) -> Result<String> {
        self.machine(name)?.unplugged = unplugged;
        if self.machine(name)?.power.is_some() {
            switch::set_lan(name, !unplugged)?;
        }
        note(&format!(
            "{name} {} the service network",
            if unplugged {
                "unplugged from"
            } else {
                "plugged into"
            }
        ));
        Ok(format!("{:.3}", now()))
    }
}

/// Off the network and out of the list.
fn forget(name: &str) {
    switch::unplug(name);
    let _ = fs::remove_file(layout::pid_file(name));
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// Writes to the room's log, with the time: the timeline reads it again.
pub fn note(text: &str) {
    note_at(tick(), text);
}

/// Seconds since 1970 by the clock of Corosync's and Pacemaker's logs, which moves once a kernel tick (4 to 10 ms):
/// by a finer one, what the room does would seem to happen after what follows from it.
pub fn tick() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_REALTIME_COARSE);
    time.map_or_else(
        |_| now(),
        |time| time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9,
    )
}

pub fn note_at(time: f64, text: &str) {
    println!("{time:.3} {text}");
}
