//! QEMU's monitor protocol, QMP: one request, one answer; what happens in between is passed over.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// For an answer; QEMU answers at once, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the monitor of one QEMU.
pub struct Qmp {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to a QEMU that was started a moment ago; `alive` fails if it has ended.
    pub fn connect(path: &Path, mut alive: impl FnMut() -> Result<()>) -> Result<Qmp> {
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > end => {
                    return Err(error).with_context(|| format!("connecting to {}", path.display()));
                }
                Err(_) => alive()?,
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(stream.try_clone()?);
        let mut qmp = Qmp { stream, lines };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU's monitor greets with {greeting}");
        }
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Asks for something; what QEMU returns.
    pub fn ask(&mut self, what: &str, arguments: Value) -> Result<Value> {
        let request = json!({"execute": what, "arguments": arguments});
        self.stream
            .write_all(format!("{request}\n").as_bytes())
            .with_context(|| format!("{what}: writing to QEMU's monitor"))?;
        loop {
            let mut answer = self.read().with_context(|| what.to_owned())?;
            if let Some(error) = answer.get("error") {
                let said = error["desc"].as_str().unwrap_or_default();
                bail!("{what}: QEMU says: {said}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => bail!("QEMU has closed its monitor"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!(
                    "no answer from QEMU's monitor within {} s",
                    PATIENCE.as_secs()
                )
            }
            Err(error) => return Err(error).context("reading from QEMU's monitor"),
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor said {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn answers_among_events() {
        let path = std::env::temp_dir().join(format!("hastor-lab-qmp-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            writeln!(&stream, r#"{{"QMP": {{"version": {{}}}}}}"#).unwrap();
            for answer in [
                "{\"return\": {}}\n",
                "{\"event\": \"STOP\"}\n{\"return\": {\"status\": \"paused\"}}\n",
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such disk\"}}\n",
            ] {
                lines.next().unwrap().unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut qmp = Qmp::connect(&path, || Ok(())).unwrap();
        assert_eq!(
            qmp.ask("query-status", json!({})).unwrap()["status"],
            "paused"
        );
        let refused = qmp.ask("device_del", json!({"id": "x"})).unwrap_err();
        assert_eq!(refused.to_string(), "device_del: QEMU says: no such disk");
        qemu.join().unwrap();
        assert!(qmp.ask("query-status", json!({})).is_err());
        std::fs::remove_file(path).unwrap();
    }
}
