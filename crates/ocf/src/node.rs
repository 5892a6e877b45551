use std::ops::Deref;

use anyhow::Result;
use host::Host;

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
    pub fn hint(&self, name: &str) -> Result<Option<String>> {
        self.host.read(&self.hint_path(&self.call.instance, name))
    }

    /// What the other instances of this agent on this node noted under `name`.
    pub fn hints_of_others(&self, name: &str) -> Result<Vec<String>> {
        let mut hints = Vec::new();
        for instance in self.host.list(&format!("{RUN}/{}", self.agent))? {
            if instance != file_name(&self.call.instance) {
                hints.extend(
                    self.host
                        .read(&format!("{RUN}/{}/{instance}/{name}", self.agent))?,
                );
            }
        }
        Ok(hints)
    }

    /// Notes something about this instance. Written in one piece, readable by root only.
    pub fn set_hint(&self, name: &str, text: &str) -> Result<()> {
        self.host
            .save(&self.hint_path(&self.call.instance, name), text)
    }

    /// Forgets all notes about this instance.
    pub fn forget_hints(&self) -> Result<()> {
        let dir = format!("{RUN}/{}/{}", self.agent, file_name(&self.call.instance));
        for name in self.host.list(&dir)? {
            self.host.remove(&format!("{dir}/{name}"))?;
        }
        self.host.rmdir(&dir)
    }

    fn hint_path(&self, instance: &str, name: &str) -> String {
        format!("{RUN}/{}/{}/{name}", self.agent, file_name(instance))
    }
}

impl Deref for Node<'_> {
    type Target = Host;

    fn deref(&self) -> &Host {
        self.host
    }
}

/// An instance's name as a file's: Pacemaker's names are, but a person may set anything.
fn file_name(instance: &str) -> String {
    match instance {
        "" | "." | ".." => "_".into(),
        name => name.replace('/', "_"),
    }
}
