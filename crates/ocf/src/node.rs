use std::ops::Deref;

use anyhow::Result;
use host::Host;
use log::debug;

use crate::Call;

/// Where runtime state lies: gone after a reboot, as the resources are.
const RUN: &str = "/run/hastor";

/// The node an action runs on: the machine, and what Pacemaker said about the call.
pub struct Node<'a> {
    host: &'a Host,
    call: &'a Call,
    agent: String,
}

impl<'a> Node<'a> {
    /// The node, for one call of the agent named `agent`.
    pub fn new(host: &'a Host, call: &'a Call, agent: &str) -> Node<'a> {
        Node {
            host,
            call,
            agent: agent.into(),
        }
    }

    /// How the agent was called.
    pub fn call(&self) -> &Call {
        self.call
    }

    /// What this instance noted under `name`, if it did and the note is still there.
    ///
    /// A hint: it may be missing, or older than what the kernel shows, and the kernel is right.
    /// So one that cannot be read is none.
    pub fn hint(&self, name: &str) -> Option<String> {
        self.read_hint(&format!("{}/{name}", self.dir(&self.call.instance)))
    }

    /// What the other instances of this agent on this node noted under `name`.
    pub fn hints_of_others(&self, name: &str) -> Vec<String> {
        let dir = format!("{RUN}/{}", self.agent);
        let others = self.host.list(&dir).unwrap_or_default().into_iter();
        others
            .filter(|instance| *instance != file_name(&self.call.instance))
            .filter_map(|instance| self.read_hint(&format!("{dir}/{instance}/{name}")))
            .collect()
    }

    fn read_hint(&self, path: &str) -> Option<String> {
        self.host.read(path).unwrap_or_else(|error| {
            debug!("doing without a hint: {error:#}");
            None
        })
    }

    /// Notes something about this instance. Written in one piece, readable by root only.
    pub fn set_hint(&self, name: &str, text: &str) -> Result<()> {
        self.host
            .save(&format!("{}/{name}", self.dir(&self.call.instance)), text)
    }

    /// Forgets all notes about this instance.
    pub fn forget_hints(&self) -> Result<()> {
        let dir = self.dir(&self.call.instance);
        for name in self.host.list(&dir)? {
            self.host.remove(&format!("{dir}/{name}"))?;
        }
        self.host.rmdir(&dir)
    }

    fn dir(&self, instance: &str) -> String {
        format!("{RUN}/{}/{}", self.agent, file_name(instance))
    }
}

impl Deref for Node<'_> {
    type Target = Host;

    fn deref(&self) -> &Host {
        self.host
    }
}

/// An instance's name as a file's: Pacemaker's names are such, but a person may set anything.
fn file_name(instance: &str) -> String {
    let name = instance.replace('%', "%25").replace('/', "%2F");
    match name.as_str() {
        "" | "." | ".." => format!("%{name}"),
        // No file name is longer than 255 bytes.
        _ => name.chars().take(60).collect(),
    }
}
