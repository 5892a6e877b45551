//! A machine on which the agents are installed: a mount namespace, so that this one stays as it
//! is.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{AGENTS, FENCE_AGENTS};

/// Where programs look for agents.
pub(crate) const PROVIDER: &str = "/usr/lib/ocf/resource.d/hastor";

/// Moves in and becomes the command. Over `/var/log` too, where crmsh keeps a log of its own. Fence
/// agents are beside what the machine has in /usr/sbin, the only place where anything looks for
/// them.
const MOVE_IN: &str = "\
mount -t tmpfs -o mode=755 none /usr/lib/ocf/resource.d
mount -t tmpfs -o mode=755 none /var/log
mkdir /usr/lib/ocf/resource.d/hastor /var/log/crmsh /var/log/sbin
while [ \"$1\" != -- ]; do
    case ${1##*/} in
    fence_*) install -m 755 \"$1\" /var/log/sbin/ ;;
    *) install -m 755 \"$1\" /usr/lib/ocf/resource.d/hastor/ ;;
    esac
    shift
done
shift
mount -t overlay -o ro,lowerdir=/var/log/sbin:/usr/sbin none /usr/sbin
exec \"$@\"
";

/// A command on that machine, in a directory of its own, with a minimal environment.
pub(crate) fn in_room(dir: &Path, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-euc",
        MOVE_IN,
        "sh",
    ]);
    command
        .args(
            AGENTS
                .iter()
                .chain(FENCE_AGENTS)
                .map(|(_, executable)| executable),
        )
        .args(["--", program]);
    tidy(&mut command, dir);
    command
}

/// A command on this machine, as tidy as those in the room.
pub(crate) fn on_host(dir: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    tidy(&mut command, dir);
    command
}

fn tidy(command: &mut Command, dir: &Path) {
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", dir)
        .env("LC_ALL", "C.UTF-8")
        .current_dir(dir);
}

/// Runs a command that is given `input`.
pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?}: {error}"));
    // A program that does not read its input is as welcome.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Runs a command that must succeed; what it says on standard output.
pub(crate) fn answer(command: &mut Command, input: &str) -> String {
    let output = run(command, input);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}

/// Runs a command that must succeed, and have nothing to say on standard error.
pub(crate) fn quiet_answer(command: &mut Command, input: &str) -> String {
    let output = run(command, input);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stderr.is_empty(),
        "{command:?}: {}\n{stdout}\n{stderr}",
        output.status
    );
    stdout
}
