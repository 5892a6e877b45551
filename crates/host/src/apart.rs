//! Work that may never end, in a process of its own.
//!
//! A request to a disk that is gone, or a system call on a file system above it, can sleep in the kernel for ever, in
//! state D, where no signal reaches it. An agent that makes such a call itself cannot say why it failed: Pacemaker ends
//! it. So the call is made by a child, which is left behind if need be.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Host, Watch};

/// Work that was given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: not finished after {:.1} s{}", .after.as_secs_f32(), if *.abandoned { " (left behind)" } else { "" })]
pub struct TooSlow {
    /// What was done.
    pub what: String,
    /// For how long.
    pub after: Duration,
    /// The process could not be killed.
    pub abandoned: bool,
}

/// How often a watched job is asked about.
const RARELY: Duration = Duration::MAX;

impl Host {
    /// Does `job` in a child process, for at most `limit` and what is left of the action's time. What it returns comes
    /// back as JSON, its error as one line; [`TooSlow`] if it took too long. What it changes in this process's memory is
    /// lost with the child.
    pub fn apart<T: Serialize + DeserializeOwned>(
        &self,
        what: &str,
        limit: Duration,
        job: impl FnOnce(&Host) -> Result<T>,
    ) -> Result<T> {
        self.apart_watching(what, limit, RARELY, &mut || true, job)
    }

    /// The same, and asks `go_on` about every `every`: at a no the job is given up.
    pub fn apart_watching<T: Serialize + DeserializeOwned>(
        &self,
        what: &str,
        limit: Duration,
        every: Duration,
        go_on: &mut dyn FnMut() -> bool,
        job: impl FnOnce(&Host) -> Result<T>,
    ) -> Result<T> {
        log::debug!("{what}");
        let limit = limit.min(self.time_left());
        let mut job = Some(job);
        let mut work = || -> String {
            let answer = match job.take() {
                Some(job) => job(self).map_err(|error| format!("{error:#}")),
                None => Err("it was begun twice".into()),
            };
            serde_json::to_string(&answer).unwrap_or_default()
        };
        let said = self
            .system
            .apart(what, limit, Watch { every, go_on }, &mut work)?;
        match serde_json::from_str::<Result<T, String>>(&said)
            .with_context(|| format!("{what}: an answer that is not understood"))?
        {
            Ok(answer) => Ok(answer),
            Err(reason) => bail!(reason),
        }
    }

    /// Does something with each device, in a process of its own. With all of them together first, for at most `together`;
    /// if that takes too long, one by one, each for at most `alone`, so that one that hangs does not hide the others.
    pub fn on_each<T: Serialize + DeserializeOwned>(
        &self,
        what: &str,
        devices: &[String],
        (together, alone): (Duration, Duration),
        action: impl Fn(&Host, &str) -> Result<T>,
    ) -> Vec<(String, Result<T, String>)> {
        if devices.is_empty() {
            return Vec::new();
        }
        let on =
            |host: &Host, device: &str| action(host, device).map_err(|error| format!("{error:#}"));
        let what_all = format!("{what} {} devices", devices.len());
        let all = self.apart(&what_all, together, |host| {
            Ok(devices
                .iter()
                .map(|device| on(host, device))
                .collect::<Vec<_>>())
        });
        let answers = all.unwrap_or_else(|error| {
            log::warn!("{error:#}; going on one by one");
            let one = |device: &String| {
                self.apart(&format!("{what} {device}"), alone, |host| {
                    Ok(on(host, device))
                })
                .unwrap_or_else(|error| {
                    log::warn!("{error:#}");
                    Err(format!("{error:#}"))
                })
            };
            devices.iter().map(one).collect()
        });
        devices.iter().cloned().zip(answers).collect()
    }
}
