//! The verifying writer, as a test sees it: it writes in a guest, and what is durable is written down outside of all guests.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab_guest::{Acks, Collector, Report, Ring, verdict};

use super::exec;
use crate::control;
use crate::layout::STATE;

/// Where the program of the guests lies in them.
pub const PROGRAM: &str = "/usr/local/lib/hastor-lab/hastor-guest";

/// Slots of a ring: 4 MiB.
const SLOTS: u64 = 1024;

/// For an acknowledgement to come although a node is fenced and boots; ten times what was seen.
const PATIENCE: Duration = Duration::from_secs(600);

/// A writer at work.
pub struct Writer {
    guest: String,
    name: String,
    path: String,
    child: Child,
    collector: Collector,
}

/// Where the acknowledgements of a writer are kept; they go with the lab, or into the evidence of a failure.
pub fn log_of(name: &str) -> PathBuf {
    PathBuf::from(format!("{STATE}/acks/{name}.log"))
}

impl Writer {
    /// Starts to write to a device or a file of a guest, as fast as that can, and waits for the first acknowledgement.
    pub fn start(guest: &str, path: &str, name: &str) -> Result<Writer> {
        Writer::start_every(Duration::ZERO, guest, path, name)
    }

    /// The same, with a record so often: where a client's wait is measured, which an emulated machine that is busy with
    /// writing would make longer.
    pub fn start_every(every: Duration, guest: &str, path: &str, name: &str) -> Result<Writer> {
        let log = log_of(name);
        if let Some(directory) = log.parent() {
            fs::create_dir_all(directory)?;
        }
        let collector = Collector::listen(exec::listener()?, &log)?;
        let (to, slots) = (collector.address().to_string(), SLOTS.to_string());
        let every = every.as_millis().to_string();
        let mut command = control::command_in(
            guest,
            &[
                PROGRAM, "write", "--path", path, "--slots", &slots, "--id", name, "--to", &to,
                "--every", &every,
            ],
        )?;
        let output = fs::File::create(log.with_extension("out"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("starting the writer")?;
        let mut writer = Writer {
            guest: guest.to_owned(),
            name: name.to_owned(),
            path: path.to_owned(),
            child,
            collector,
        };
        writer.wait_for(1)?;
        Ok(writer)
    }

    /// What was acknowledged so far.
    pub fn acks(&self) -> Result<Acks> {
        self.collector.acks()
    }

    /// Waits until so many more records are acknowledged.
    pub fn wait_for(&mut self, more: usize) -> Result<()> {
        let wanted = self.acks()?.count() + more;
        let begin = Instant::now();
        while self.acks()?.count() < wanted {
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(log_of(&self.name).with_extension("out"));
                let said = said.unwrap_or_default();
                bail!(
                    "{}: the writer ended: {status}: {}",
                    self.guest,
                    said.lines().last().unwrap_or_default()
                );
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "{}: no {more} more records acknowledged within {} s",
                self.guest,
                PATIENCE.as_secs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends the writer after the record that it is at, reads everything back in its guest, and compares.
    pub fn finish(self) -> Result<Report> {
        let (guest, path) = (self.guest.clone(), self.path.clone());
        let acks = self.stop()?;
        verify(&guest, &path, &acks)
    }

    /// Ends the writer after the record that it is at; what was acknowledged.
    pub fn stop(mut self) -> Result<Acks> {
        // The pattern fits the writer alone, not the shell around it.
        let pattern = format!("^{PROGRAM} write .*--id {}( |$)", self.name);
        exec::output(&self.guest, &["pkill", "-TERM", "-f", &pattern], b"")
            .context("ending the writer")?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(
                begin.elapsed() < PATIENCE,
                "the writer has not ended {} s after SIGTERM",
                PATIENCE.as_secs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.acks()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what is on a device or in a file of a guest, and compares it with what was acknowledged.
pub fn verify(guest: &str, path: &str, acks: &Acks) -> Result<Report> {
    let slots = SLOTS.to_string();
    let words = [PROGRAM, "verify", "--path", path, "--slots", &slots];
    let text = exec::output(guest, &words, b"")?;
    Ok(verdict(acks, &Ring::parse(&text)?))
}
