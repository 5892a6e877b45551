//! Talking to a guest through QEMU's guest agent: no network is needed, so none can be in the way.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::interrupt;

/// How often this program has asked for a synchronisation.
static SYNC: AtomicI64 = AtomicI64::new(1);

/// The other end of a guest's agent port.
pub struct Agent {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    /// The part of a line that has arrived.
    line: Vec<u8>,
}

/// How a command in a guest ended.
pub struct Done {
    pub code: i64,
    pub output: String,
}

impl Agent {
    pub fn new(stream: UnixStream) -> Result<Agent> {
        // Short, because an interruption is noticed between two reads.
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let lines = BufReader::new(stream.try_clone()?);
        Ok(Agent {
            stream,
            lines,
            line: Vec::new(),
        })
    }

    /// Connects to the port of a guest, and throws away what an earlier user has left in it. QEMU serves one connection
    /// at a time; the next one waits until this is dropped.
    pub fn connect(path: &Path, bound: Duration) -> Result<Agent> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("no guest behind {}", path.display()))?;
        let mut agent = Agent::new(stream)?;
        agent.wait(bound, || Ok(()))?;
        Ok(agent)
    }

    /// Asks until the agent answers; `alive` fails if the guest is gone.
    pub fn wait(&mut self, bound: Duration, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
        let end = Instant::now() + bound;
        let mut asked: Option<Instant> = None;
        let mut id = 0;
        while Instant::now() < end {
            alive()?;
            // Asked again, because a port that nobody has opened yet may swallow the question.
            if asked.is_none_or(|when| when.elapsed() > Duration::from_secs(5)) {
                // Two users of one port, one after the other, must not take each other's answers for their own.
                id = i64::from(std::process::id()) << 20 | SYNC.fetch_add(1, Ordering::Relaxed);
                self.send(&json!({"execute": "guest-sync", "arguments": {"id": id}}))?;
                asked = Some(Instant::now());
            }
            // Answers to earlier questions come first: only the last one means that none is under way.
            // The rest of an answer that somebody did not wait for may be no JSON.
            let answer = self.receive()?;
            let answer = answer.and_then(|line| serde_json::from_str::<Value>(&line).ok());
            if answer.is_some_and(|answer| answer["return"] == id) {
                return Ok(());
            }
        }
        bail!(
            "the guest's agent does not answer after {} s",
            bound.as_secs()
        )
    }

    /// Starts a program in the guest, and does not wait for it: path and arguments. What it prints is lost.
    pub fn start(&mut self, words: &[&str], bound: Duration) -> Result<()> {
        let (program, arguments) = words.split_first().context("no program")?;
        let words = json!({"path": program, "arg": arguments});
        self.ask("guest-exec", words, Instant::now() + bound)
            .map(drop)
    }

    /// Sets the guest's clock to that of this machine.
    pub fn set_clock(&mut self, bound: Duration) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let words = json!({"time": now.as_nanos() as i64});
        // The system's clock is set first, then the battery's, by a program that need not be there.
        match self.ask("guest-set-time", words, Instant::now() + bound) {
            Err(error) if format!("{error:#}").contains("hwclock") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Reads a file of the guest, without starting a process there; at most 1 MiB.
    pub fn read(&mut self, path: &str, bound: Duration) -> Result<Vec<u8>> {
        let end = Instant::now() + bound;
        let handle = self.ask("guest-file-open", json!({"path": path, "mode": "r"}), end)?;
        let arguments = json!({"handle": handle, "count": 1 << 20});
        let read = self.ask("guest-file-read", arguments, end);
        // Closed in any case: the guest's agent keeps files open over connections.
        self.ask("guest-file-close", json!({"handle": handle}), end)?;
        let read = read?;
        let text = read["buf-b64"].as_str().unwrap_or_default();
        decode(text).context("a file that is no base64")
    }

    /// Runs a shell script in the guest; what it prints, errors included.
    pub fn shell(&mut self, script: &str, bound: Duration) -> Result<Done> {
        let end = Instant::now() + bound;
        let words = json!({"path": "/bin/sh", "arg": ["-c", format!("exec 2>&1\n{script}")], "capture-output": true});
        let started = self.ask("guest-exec", words, end)?;
        let pid = started["pid"].clone();
        while Instant::now() < end {
            let status = self.ask("guest-exec-status", json!({"pid": pid}), end)?;
            if status["exited"] == true {
                let output = status["out-data"].as_str().unwrap_or_default();
                let output = decode(output).context("output that is no base64")?;
                return Ok(Done {
                    code: status["exitcode"].as_i64().unwrap_or(-1),
                    output: String::from_utf8_lossy(&output).into_owned(),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("not finished after {} s", bound.as_secs())
    }

    fn ask(&mut self, what: &str, arguments: Value, end: Instant) -> Result<Value> {
        self.send(&json!({"execute": what, "arguments": arguments}))?;
        while Instant::now() < end {
            if let Some(line) = self.receive()? {
                let mut answer: Value = serde_json::from_str(&line)
                    .with_context(|| format!("the guest's agent said {line:?}"))?;
                if let Some(error) = answer.get("error") {
                    bail!("{what}: {error}");
                }
                return Ok(answer["return"].take());
            }
        }
        bail!("{what}: no answer from the guest's agent")
    }

    fn send(&mut self, request: &Value) -> Result<()> {
        self.stream
            .write_all(format!("{request}\n").as_bytes())
            .context("writing to the guest's agent")
    }

    /// The next line, or none if there is none yet.
    fn receive(&mut self) -> Result<Option<String>> {
        if interrupt::ending() {
            bail!("interrupted");
        }
        match self.lines.read_until(b'\n', &mut self.line) {
            Ok(0) => bail!("the guest is gone"),
            Ok(_) if self.line.ends_with(b"\n") => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("reading from the guest's agent"),
        }
        let line = std::mem::take(&mut self.line);
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

/// Base64 as the agent writes it: without line breaks.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        assert_eq!(decode("").unwrap(), b"");
        assert_eq!(decode("YQ==").unwrap(), b"a");
        assert_eq!(decode("YWI=").unwrap(), b"ab");
        assert_eq!(decode("YWJj").unwrap(), b"abc");
        assert_eq!(decode("+/8A").unwrap(), [0xfb, 0xff, 0]);
        assert!(decode("a b").is_none());
    }

    #[test]
    fn questions_and_answers() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let guest = std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
            let sync: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let id = &sync["arguments"]["id"];
            writeln!(&theirs, "half an answer}}\n{{\"return\": {id}}}").unwrap();
            let answers = [
                r#"{"return": {"pid": 7}}"#,
                r#"{"return": {"exited": true, "exitcode": 3, "out-data": "YWJj"}}"#,
                r#"{"error": {"class": "GenericError", "desc": "no"}}"#,
                r#"{"return": 1000}"#,
                r#"{"return": {"count": 3, "buf-b64": "YWJj", "eof": true}}"#,
                r#"{"return": {}}"#,
            ];
            for answer in answers {
                lines.next().unwrap().unwrap();
                writeln!(&theirs, "{answer}").unwrap();
            }
        });
        let mut agent = Agent::new(ours).unwrap();
        let long = Duration::from_secs(60);
        agent.wait(long, || Ok(())).unwrap();
        let done = agent.shell("echo abc", long).unwrap();
        assert_eq!((done.code, done.output.as_str()), (3, "abc"));
        assert!(agent.shell("echo abc", long).is_err());
        assert_eq!(agent.read("/proc/uptime", long).unwrap(), b"abc");
        guest.join().unwrap();
        let gone = agent.wait(long, || Ok(()));
        assert!(gone.is_err());
    }
}
