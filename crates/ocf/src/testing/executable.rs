//! The real program, on a real kernel.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// An agent's executable with the environment Pacemaker would give it.
#[derive(Clone)]
pub struct Executable {
    path: PathBuf,
    environment: Vec<(String, String)>,
}

/// What an action of the real program came to.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error, as a whole.
    pub stderr: String,
}

impl Finished {
    /// The exit reason, as Pacemaker reads it: the last one.
    pub fn reason(&self) -> Option<&str> {
        self.stderr
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("ocf-exit-reason:"))
    }
}

impl Executable {
    /// The program at `path`, as the resource `instance` with these parameters.
    pub fn new(path: impl AsRef<Path>, instance: &str, params: &[(&str, &str)]) -> Executable {
        let mut environment = vec![
            ("OCF_ROOT".into(), "/usr/lib/ocf".into()),
            ("OCF_RA_VERSION_MAJOR".into(), "1".into()),
            ("OCF_RA_VERSION_MINOR".into(), "1".into()),
            ("OCF_EXIT_REASON_PREFIX".into(), "ocf-exit-reason:".into()),
            ("OCF_RESOURCE_INSTANCE".into(), instance.into()),
            ("OCF_RESKEY_CRM_meta_timeout".into(), "20000".into()),
        ];
        environment.extend(
            params
                .iter()
                .map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.to_string())),
        );
        Executable {
            path: path.as_ref().into(),
            environment,
        }
    }

    /// The same, with one more environment variable, or another value for one.
    pub fn with(&self, name: &str, value: &str) -> Executable {
        let mut changed = self.clone();
        changed.environment.retain(|(other, _)| other != name);
        changed.environment.push((name.into(), value.into()));
        changed
    }

    /// The same, with one more parameter, or another value for one.
    pub fn with_param(&self, name: &str, value: &str) -> Executable {
        self.with(&format!("OCF_RESKEY_{name}"), value)
    }

    /// The command that runs one action.
    pub fn command(&self, action: &str) -> Command {
        let mut command = Command::new(&self.path);
        command
            .arg(action)
            .env_clear()
            .envs(self.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs one action to its end. A `monitor` is one that is repeated; `probe` is one that is not.
    pub fn run(&self, action: &str) -> Finished {
        let mut command = match action {
            "probe" => self.command("monitor"),
            "monitor" => self
                .with_param("CRM_meta_interval", "10000")
                .command("monitor"),
            action => self.command(action),
        };
        let output = command.output().expect("running the agent");
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs one action and wants this exit code of it.
    pub fn expect(&self, action: &str, code: i32) -> Finished {
        let finished = self.run(action);
        assert_eq!(finished.code, Some(code), "{action}: {finished:?}");
        finished
    }

    /// Runs an action again and again, killing it at its first system call, its second, and so
    /// on until it gets to its end. `before` prepares each run, `after` looks at what a run has
    /// left behind. The action must succeed where it is not killed. Returns how many system calls
    /// there were.
    pub fn killed_at_every_call(
        &self,
        action: &str,
        mut before: impl FnMut(),
        mut after: impl FnMut(usize),
    ) -> usize {
        for call in 0.. {
            before();
            let finished = self.kill_at_call(action, call);
            after(call);
            if finished {
                return call;
            }
        }
        unreachable!("a program makes fewer than 2^64 system calls")
    }

    /// Lets an action make `calls` system calls and kills it as it enters the next one; true if
    /// it got to its end instead.
    fn kill_at_call(&self, action: &str, calls: usize) -> bool {
        let mut child = self.traced(action);
        let pid = Pid::from_raw(child.id() as i32);
        let mut entered = 0;
        let mut inside = false;
        let ended = loop {
            match waitpid(pid, None).expect("waiting for the traced agent") {
                WaitStatus::Exited(_, 0) => break true,
                ended @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {
                    panic!(
                        "{action}, not killed, ended with {ended:?}: {}",
                        drain(&mut child)
                    )
                }
                WaitStatus::PtraceSyscall(_) => {
                    inside = !inside;
                    if inside && entered == calls {
                        kill(pid, Signal::SIGKILL).expect("killing the traced agent");
                        waitpid(pid, None).expect("waiting for the killed agent");
                        break false;
                    }
                    entered += usize::from(inside);
                    ptrace::syscall(pid, None).expect("letting the traced agent go on");
                }
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                    // It has become the agent's program just now.
                    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)
                        .expect("setting trace options");
                    ptrace::syscall(pid, None).expect("letting the traced agent go on");
                }
                WaitStatus::Stopped(_, signal) => {
                    ptrace::syscall(pid, Some(signal)).expect("letting the traced agent go on");
                }
                _ => ptrace::syscall(pid, None).expect("letting the traced agent go on"),
            }
        };
        drain(&mut child);
        ended
    }

    fn traced(&self, action: &str) -> Child {
        let mut command = self.command(action);
        let trace_me = || ptrace::traceme().map_err(std::io::Error::from);
        #[expect(
            unsafe_code,
            reason = "to be traced, a process has to ask for it itself"
        )]
        // SAFETY: between fork and exec it makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(trace_me);
        }
        command.spawn().expect("starting the agent")
    }
}

/// What an agent said that was waited for behind the standard library's back.
fn drain(child: &mut Child) -> String {
    let mut said = String::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.read_to_string(&mut said);
    }
    said
}
