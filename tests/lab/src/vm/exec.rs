//! Commands in a guest, with their standard streams.
//!
//! The guest's agent only starts them. The streams are TCP connections over the management network, opened from inside,
//! so that output arrives as it is written, and the command ends when the one who wanted it goes away.

use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns};

use super::agent::Agent;
use super::machine::agent_socket;
use crate::layout::{self, MANAGEMENT, PATH, STATE};
use crate::{control, processes};

/// For the guest to answer and to connect; a guest that boots is busy.
const CONNECT: Duration = Duration::from_secs(120);

/// For output that is still under way when the command has ended. Something it left running may hold its streams for
/// ever.
const DRAIN: Duration = Duration::from_secs(1);

/// Runs in the guest: `sh -c SCRIPT name HOST PORT COMMAND...`. It needs bash, whose redirections open connections.
/// When the host's end of the last connection closes before the command has ended, everything that it started is killed.
/// A guest that boots can start it before its network is up, which it waits for. Afterwards nothing is: whoever would kill is gone before the host learns of the end and closes that connection, so
/// that what the command leaves in the background goes on.
const SCRIPT: &str = r#"
until exec 5<>/dev/tcp/$1/$2 6<>/dev/tcp/$1/$2 7<>/dev/tcp/$1/$2; do
	[ $SECONDS -lt 60 ] || exit 125
	sleep 0.5
done
shift 2
echo in >&5; echo err >&6; echo end >&7
cd /root
set -m
"$@" <&5 >&5 2>&6 5>&- 6>&- 7>&- &
pid=$!
exec 5>&- 6>&-
{ read -r _ <&7; kill -KILL -- -$pid; } 2>/dev/null &
reader=$!
wait $pid
code=$?
kill -KILL -- -$reader
wait $reader
echo $code >&7
"#;

/// A command that runs in a guest and has our standard streams; it is this program itself that passes them on.
pub fn command(name: &str, words: &[&str]) -> Result<Command> {
    ensure!(layout::pid_file(name).exists(), "{name} has no power");
    let mut command = Command::new("/proc/self/exe");
    command.args(["vm-exec", name, "--"]).args(words);
    Ok(command)
}

/// Runs a command in a guest that must succeed, with this input; what it printed.
pub fn output(name: &str, words: &[&str], input: &[u8]) -> Result<String> {
    let mut command = command(name, words)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("starting vm-exec")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is no error.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{name}: {}: {}: {}",
        words.join(" "),
        output.status,
        format!("{}{text}", String::from_utf8_lossy(&output.stderr)).trim()
    );
    Ok(text)
}

/// Enters the network of the running lab, for this thread and those it starts.
pub fn enter_network() -> Result<()> {
    let pid = control::room_pid()
        .with_context(|| format!("no lab is running (no machine room in {STATE})"))?;
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).context("entering the lab's network")
}

/// A socket that listens in the lab's network. Sockets stay in the network where they were made, and so can be handed to
/// threads of another one.
pub fn listener() -> Result<TcpListener> {
    let thread = thread::spawn(|| -> Result<TcpListener> {
        enter_network()?;
        TcpListener::bind((MANAGEMENT, 0)).context("listening in the lab's network")
    });
    thread
        .join()
        .map_err(|_| anyhow!("the thread that listens has panicked"))?
}

/// `lab vm-exec NAME -- WORDS`: runs a command in a guest to its end; its exit code.
pub fn run(name: &str, words: &[String]) -> Result<u8> {
    let machines = control::machines()?;
    ensure!(
        !machines.iter().any(|m| m.name == name && m.frozen),
        "{name} stands still: thaw it first"
    );
    enter_network()?;
    let listener = TcpListener::bind((MANAGEMENT, 0)).context("a port for the guest")?;
    let port = listener.local_addr()?.port().to_string();
    let set = [
        format!("PATH={PATH}"),
        "LC_ALL=C".to_owned(),
        "TZ=UTC".to_owned(),
        "HOME=/root".to_owned(),
    ];
    let mut all = vec!["/usr/bin/env", "-i"];
    all.extend(set.iter().map(String::as_str));
    all.extend(["/bin/bash", "-c", SCRIPT, "hastor-lab", MANAGEMENT, &port]);
    all.extend(words.iter().map(String::as_str));
    // Gone again at once: others want to talk to the agent, too.
    Agent::connect(&agent_socket(name), CONNECT)
        .and_then(|mut agent| agent.start(&all, CONNECT))
        .with_context(|| name.to_owned())?;
    let streams = Streams::accept(&listener, name).with_context(|| name.to_owned())?;
    streams.pass(name)
}

/// The connections of one command.
struct Streams {
    /// Standard input and output
    both: TcpStream,
    errors: TcpStream,
    /// One line, the exit code
    end: BufReader<TcpStream>,
}

impl Streams {
    fn accept(listener: &TcpListener, name: &str) -> Result<Streams> {
        listener.set_nonblocking(true)?;
        let begin = power(name);
        let limit = Instant::now() + CONNECT;
        let (mut both, mut errors, mut end) = (None, None, None);
        while both.is_none() || errors.is_none() || end.is_none() {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(_) if Instant::now() < limit => {
                    ensure!(power(name) == begin, "it has lost its power");
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
                Err(_) => bail!(
                    "the guest does not connect within {} s: is its management network up?",
                    CONNECT.as_secs()
                ),
            };
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(CONNECT))?;
            let word = first_word(&stream)?;
            stream.set_read_timeout(None)?;
            match word.as_str() {
                "in" => both = Some(stream),
                "err" => errors = Some(stream),
                "end" => end = Some(stream),
                other => bail!("a connection calls itself {other:?}"),
            }
        }
        match (both, errors, end) {
            (Some(both), Some(errors), Some(end)) => Ok(Streams {
                both,
                errors,
                end: BufReader::new(end),
            }),
            _ => bail!("a connection is missing"),
        }
    }

    /// The line with the exit code; an error once the guest has lost its power, for then nothing comes any more.
    fn end_of(&mut self, name: &str) -> Result<String> {
        let begin = power(name);
        self.end
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(300)))?;
        let mut line = String::new();
        loop {
            match self.end.read_line(&mut line) {
                Ok(_) => return Ok(line),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ensure!(is_same(name, &begin), "{name} has lost its power");
                }
                Err(error) => return Err(error).with_context(|| format!("{name} is gone")),
            }
        }
    }

    fn pass(mut self, name: &str) -> Result<u8> {
        let input = self.both.try_clone()?;
        if std::io::stdin().is_terminal() {
            // A terminal is not passed on: `console` is there for that.
            let _ = input.shutdown(Shutdown::Write);
        } else {
            thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin(), &mut &input);
                let _ = input.shutdown(Shutdown::Write);
            });
        }
        let (done, drained) = channel();
        let (both, errors) = (self.both.try_clone()?, self.errors.try_clone()?);
        for (stream, error) in [(both, false), (errors, true)] {
            let done = done.clone();
            thread::spawn(move || {
                if copy(stream, error).is_err() {
                    // Nobody reads our output any more: the command ends with us.
                    std::process::exit(1);
                }
                let _ = done.send(());
            });
        }
        drop(done);
        let line = self.end_of(name)?;
        let code = line.trim().parse::<u8>().ok();
        let code = code.with_context(|| format!("{name} is gone: no exit code came"))?;
        let limit = Instant::now() + DRAIN;
        for _ in 0..2 {
            let left = limit.saturating_duration_since(Instant::now());
            if let Err(RecvTimeoutError::Timeout) = drained.recv_timeout(left) {
                break;
            }
        }
        Ok(code)
    }
}

/// The process of a guest's QEMU, if it has power: another one after a power cut.
fn power(name: &str) -> Option<String> {
    std::fs::read_to_string(layout::pid_file(name)).ok()
}

/// Whether a guest has the power that it had then, and its QEMU still runs.
fn is_same(name: &str, begin: &Option<String>) -> bool {
    let pid = begin.as_ref().and_then(|text| text.trim().parse().ok());
    power(name) == *begin && pid.is_some_and(processes::is_alive)
}

/// What a connection says that it is. Byte by byte: what follows belongs to somebody else.
fn first_word(mut stream: &TcpStream) -> Result<String> {
    let mut word = String::new();
    let mut byte = [0];
    while word.len() < 10 {
        stream
            .read_exact(&mut byte)
            .context("a connection says nothing")?;
        match byte[0] {
            b'\n' => return Ok(word),
            letter => word.push(char::from(letter)),
        }
    }
    Ok(word)
}

fn copy(mut stream: TcpStream, error: bool) -> std::io::Result<()> {
    let mut buffer = [0; 16384];
    loop {
        // A reset is what is left of a guest that lost its power.
        let Ok(length @ 1..) = stream.read(&mut buffer) else {
            return Ok(());
        };
        if error {
            std::io::stderr().write_all(&buffer[..length])?;
        } else {
            let mut output = std::io::stdout().lock();
            output.write_all(&buffer[..length])?;
            output.flush()?;
        }
    }
}
