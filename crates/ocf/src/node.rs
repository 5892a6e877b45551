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

/// The longest instance name that is a file's name as it is, in bytes.
const LONGEST_NAME: usize = 200;

/// An instance's name as a file's: Pacemaker's names are such, but a person may set anything.
/// Different names give different files.
fn file_name(instance: &str) -> String {
    let name = instance.replace('%', "%25").replace('/', "%2F");
    match name.as_str() {
        "" | "." | ".." => format!("%{name}"),
        name if name.len() <= LONGEST_NAME => name.into(),
        // FNV-1a, of 64 bits: the same in every version of this program.
        name => {
            let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
            let start: String = name.chars().take(40).collect();
            format!("{start}%{hash:016x}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_instances_have_different_files() {
        let long = "a".repeat(300);
        let names = [
            "",
            ".",
            "..",
            "%",
            "a/b",
            "a_b",
            "a%2Fb",
            "%.",
            &long,
            &format!("{long}1"),
        ];
        let mut files: Vec<String> = names.iter().map(|name| file_name(name)).collect();
        assert!(
            files
                .iter()
                .all(|file| file.len() < 255 && !file.contains('/'))
        );
        files.sort();
        files.dedup();
        assert_eq!(files.len(), names.len());
        assert_eq!(file_name("p_vip"), "p_vip");
    }
}
