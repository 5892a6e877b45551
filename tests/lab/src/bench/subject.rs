//! What is measured: three programs, called as Pacemaker calls an agent.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::stage::{NIC, PREFIX};
use crate::layout::PATH;

const TRUE: &str = "/bin/true";
const PEER: &str = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2";

/// One of the programs compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// `/bin/true`: what it costs to start any process at all
    True,
    /// Ours
    Vip,
    /// IPaddr2 of resource-agents
    Peer,
}

impl Program {
    /// All, in the order in which they are shown.
    pub const ALL: [Program; 3] = [Program::True, Program::Vip, Program::Peer];

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Program::True => TRUE,
            Program::Vip => "vip",
            Program::Peer => "IPaddr2",
        }
    }

    /// Its own floating address, so that both agents' can be up at once.
    pub fn address(self) -> &'static str {
        match self {
            Program::True => "192.0.2.9",
            Program::Vip => "192.0.2.10",
            Program::Peer => "192.0.2.20",
        }
    }
}

/// An action as Pacemaker asks for it, and what an agent has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// The argument
    pub name: &'static str,
    /// Milliseconds between repetitions, 0 for a probe
    pub interval: u32,
    /// The exit code of an agent
    pub exit: i32,
    /// Announcements after start, unless it is the agent's own default
    pub announcements: Option<u32>,
}

impl Action {
    /// Any action but a repeated one.
    pub const fn once(name: &'static str) -> Action {
        Action {
            name,
            interval: 0,
            exit: 0,
            announcements: None,
        }
    }

    /// Is the address here? It is not.
    pub const PROBE: Action = Action {
        exit: 7,
        ..Action::once("monitor")
    };

    /// Is the address still here? It is.
    pub const MONITOR: Action = Action {
        interval: 10_000,
        ..Action::once("monitor")
    };

    /// The same with only one announcement.
    pub const fn one_announcement(self) -> Action {
        Action {
            announcements: Some(1),
            ..self
        }
    }
}

/// One call of a program.
pub struct Call {
    program: PathBuf,
    action: &'static str,
    variables: Vec<(&'static str, String)>,
    /// The exit code it must have
    pub exit: i32,
}

impl Call {
    /// The call as it is measured.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.action);
        self.prepare(&mut command);
        command.stdin(Stdio::null());
        command
    }

    /// The same, in a process that waits for a line on its input before it becomes the program.
    pub fn gated(&self) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "read go; exec \"$@\" </dev/null", "sh"])
            .arg(&self.program)
            .arg(self.action);
        self.prepare(&mut command);
        command.stdin(Stdio::piped());
        command
    }

    fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }

    /// For messages.
    pub fn describe(&self) -> String {
        format!("{} {}", self.program.display(), self.action)
    }
}

/// The programs, where they are and how large.
pub struct Subjects {
    /// Our executable
    pub vip: PathBuf,
}

impl Subjects {
    /// With our agent at `vip`; all three must exist.
    pub fn new(vip: PathBuf) -> Result<Subjects> {
        let subjects = Subjects { vip };
        for program in Program::ALL {
            subjects.size(program)?;
        }
        Ok(subjects)
    }

    fn path(&self, program: Program) -> PathBuf {
        match program {
            Program::True => TRUE.into(),
            Program::Vip => self.vip.clone(),
            Program::Peer => PEER.into(),
        }
    }

    /// The size of the executable in bytes.
    pub fn size(&self, program: Program) -> Result<u64> {
        let path = self.path(program);
        let data = fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?;
        Ok(data.len())
    }

    /// A call for an address; the same parameters and environment for all programs.
    pub fn call(&self, program: Program, action: Action, address: &str) -> Call {
        let own = |text: &str| text.to_owned();
        let (provider, kind) = match program {
            Program::Peer => ("heartbeat", "IPaddr2"),
            Program::True | Program::Vip => ("hastor", "vip"),
        };
        let mut variables = vec![
            ("PATH", own(PATH)),
            ("OCF_ROOT", own("/usr/lib/ocf")),
            ("OCF_RA_VERSION_MAJOR", own("1")),
            ("OCF_RA_VERSION_MINOR", own("1")),
            ("OCF_RESOURCE_INSTANCE", format!("bench-{address}")),
            ("OCF_RESOURCE_PROVIDER", own(provider)),
            ("OCF_RESOURCE_TYPE", own(kind)),
            ("OCF_RESKEY_ip", own(address)),
            ("OCF_RESKEY_cidr_netmask", own(PREFIX)),
            ("OCF_RESKEY_nic", own(NIC)),
            ("OCF_RESKEY_CRM_meta_name", own(action.name)),
            ("OCF_RESKEY_CRM_meta_timeout", own("20000")),
            ("OCF_RESKEY_CRM_meta_interval", action.interval.to_string()),
            ("OCF_RESKEY_CRM_meta_on_node", own("n1")),
            ("OCF_RESKEY_crm_feature_set", own("3.16.2")),
            // Log to stderr: there is no syslog here, and asking for one would reach the machine's.
            ("HA_LOGFACILITY", own("none")),
        ];
        if let Some(count) = action.announcements {
            variables.push(("OCF_RESKEY_arp_count", count.to_string()));
        }
        Call {
            program: self.path(program),
            action: action.name,
            variables,
            exit: match program {
                Program::True => 0,
                Program::Vip | Program::Peer => action.exit,
            },
        }
    }
}
