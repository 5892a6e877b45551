//! A simulated BMC, and how to call a fence agent about it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// The agent that was built with these tests.
pub const AGENT: &str = env!("CARGO_BIN_EXE_fence_hastor_ipmi");

/// Ten times what anything here was seen to take.
pub const BOUND: Duration = Duration::from_secs(60);

/// What the simulated BMCs have in common.
pub const USER: &str = "admin";
pub const PASSWORD: &str = "Marker-S3cret";
pub const GUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// The chassis: its power is the file `power`, what it was told is in `asked`, and other files are
/// its faults.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$2 $3" in
    "get power")
        test ! -e broken || exit 1
        echo "power:$(cat power)" ;;
    "set power")
        echo "$4" >> asked
        if test "$4" = 1; then
            test -e refuse_on || echo 1 > power
        elif test -s ignore_offs; then
            sed -i 1d ignore_offs
        elif test -e late_off; then
            (sleep "$(cat late_off)"; echo 0 > power) > /dev/null 2>&1 &
        else
            echo 0 > power
        fi ;;
    "get boot") echo boot:default ;;
    *) echo "$*" >> asked ;;
esac
"#;

/// A BMC. It ends with this value.
pub struct Bmc {
    dir: TempDir,
    port: u16,
    simulator: Child,
}

/// Takes this thread, for good, to a machine of its own: a loopback interface, an empty /run, and
/// the agent installed.
pub fn enter() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .expect("new namespaces (this needs root)");
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).expect("making mounts private");
    for place in ["/run", "/dev/shm", "/var/log"] {
        mount(Some("none"), place, Some("tmpfs"), MsFlags::empty(), none).expect(place);
    }
    fs::create_dir_all("/run/sbin").expect("a directory for the agent");
    fs::copy(AGENT, "/run/sbin/fence_hastor_ipmi").expect("installing the agent");
    let layers = Some("lowerdir=/run/sbin:/usr/sbin");
    mount(
        Some("overlay"),
        "/usr/sbin",
        Some("overlay"),
        MsFlags::MS_RDONLY,
        layers,
    )
    .expect("an overlay on /usr/sbin");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("running ip").success());
}

impl Bmc {
    /// A BMC at the usual port, and a chassis that is on.
    pub fn start() -> Bmc {
        Bmc::at(623, "")
    }

    /// The same, at another port or with more in its configuration.
    pub fn at(port: u16, more: &str) -> Bmc {
        let dir = tempfile::tempdir().expect("a directory for the BMC");
        let at = |name: &str| dir.path().join(name);
        let guid = GUID.replace('-', "");
        let place = dir.path().display();
        let lan = format!(
            "name \"bmc\"\nset_working_mc 0x20\nstartlan 1\n addr 127.0.0.1 {port}\n priv_limit admin\n \
             allowed_auths_callback none md2 md5 straight\n allowed_auths_user none md2 md5 straight\n \
             allowed_auths_operator none md2 md5 straight\n allowed_auths_admin none md2 md5 straight\n \
             guid {guid}\n {more}\nendlan\nchassis_control \"{place}/chassis 0x20\"\n\
             user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n"
        );
        let emulated = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x20 1 1 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n";
        fs::create_dir(at("state")).expect("a directory for its state");
        for (name, text) in [
            ("lan.conf", lan.as_str()),
            ("emu", emulated),
            ("chassis", CHASSIS),
            ("power", "1\n"),
            ("asked", ""),
        ] {
            fs::write(at(name), text).expect(name);
        }
        fs::set_permissions(at("chassis"), fs::Permissions::from_mode(0o755)).expect("chmod");
        let log = fs::File::create(at("log")).expect("its log");
        let simulator = Command::new("ipmi_sim")
            .args(["-n", "-c", "lan.conf", "-f", "emu", "-s", "state"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log)
            .spawn()
            .expect("ipmi_sim (package openipmi)");
        let bmc = Bmc {
            dir,
            port,
            simulator,
        };
        let end = Instant::now() + BOUND;
        // One that wants a key answers, too.
        while bmc.ours("status", &[]).run().stderr.contains("unreachable") {
            assert!(
                Instant::now() < end,
                "ipmi_sim does not answer: {}",
                bmc.read("log")
            );
            sleep(Duration::from_millis(50));
        }
        bmc
    }

    /// The chassis's power.
    pub fn is_on(&self) -> bool {
        self.read("power").trim() == "1"
    }

    /// What the chassis was told: 0 is off, 1 is on.
    pub fn asked(&self) -> String {
        self.read("asked").split_whitespace().collect()
    }

    /// Forgets what it was told, and is on.
    pub fn reset(&self) {
        for fault in ["ignore_offs", "late_off", "refuse_on", "broken"] {
            let _ = fs::remove_file(self.path(fault));
        }
        self.write("power", "1\n");
        self.write("asked", "");
    }

    /// Gives the chassis a fault.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect(name);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Our agent, called as the fencer does.
    pub fn ours(&self, action: &str, more: &[&str]) -> Called {
        let port = format!("ipport={}", self.port);
        let given = [format!("action={action}"), format!("password={PASSWORD}")];
        let usual = [
            "ip=127.0.0.1",
            "username=admin",
            &port,
            &given[0],
            &given[1],
        ];
        let mut called = Called::new(AGENT);
        for line in merged(&usual, more) {
            called.line(line);
        }
        called
    }

    /// fence_ipmilan, called as the fencer does.
    pub fn fence_ipmilan(&self, action: &str, more: &[&str]) -> Called {
        let port = format!("ipport={}", self.port);
        let given = [format!("action={action}"), format!("password={PASSWORD}")];
        let usual = [
            "ip=127.0.0.1",
            "username=admin",
            "lanplus=1",
            "cipher=3",
            &port,
            &given[0],
            &given[1],
        ];
        let mut called = Called::new("/usr/sbin/fence_ipmilan");
        called.command.env("PCMK_service", "pacemaker-fenced");
        for line in merged(&usual, more) {
            called.line(line);
        }
        called
    }

    /// external/ipmi, called as cluster-glue does. It knows no port.
    pub fn external_ipmi(&self, words: &[&str]) -> Called {
        assert_eq!(self.port, 623, "external/ipmi knows no other port");
        let mut called = Called::new("/usr/lib/stonith/plugins/external/ipmi");
        called.command.args(words).envs([
            ("hostname", "n1"),
            ("ipaddr", "127.0.0.1"),
            ("userid", USER),
            ("passwd", PASSWORD),
            ("interface", "lan"),
        ]);
        called
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        let _ = self.simulator.kill();
        let _ = self.simulator.wait();
    }
}

/// The usual lines, without those that `more` has otherwise.
fn merged<'a>(usual: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let name = |line: &str| line.split('=').next().map(str::to_owned);
    let kept = usual
        .iter()
        .filter(|line| !more.iter().any(|other| name(other) == name(line)));
    kept.chain(more)
        .copied()
        .filter(|line| !line.ends_with('='))
        .collect()
}

/// A fence agent, about to be called.
pub struct Called {
    pub command: Command,
    input: String,
}

/// What became of it.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; None if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Called {
    pub fn new(program: impl AsRef<Path>) -> Called {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Called {
            command,
            input: String::new(),
        }
    }

    pub fn line(&mut self, line: &str) {
        self.input.push_str(line);
        self.input.push('\n');
    }

    /// The same call, made by another program that is given it behind its own words.
    pub fn under(self, program: &str, words: &[&str]) -> Called {
        let mut called = Called::new(program);
        called.command.args(words).arg(self.command.get_program());
        called.command.args(self.command.get_args());
        let variables = self.command.get_envs();
        called
            .command
            .envs(variables.filter_map(|(name, value)| Some((name, value?))));
        called.input = self.input;
        called
    }

    pub fn spawn(mut self) -> Child {
        let mut child = self.command.spawn().expect("starting a fence agent");
        let mut stdin = child.stdin.take().expect("its input");
        // One that ends without reading is as welcome.
        let _ = stdin.write_all(self.input.as_bytes());
        child
    }

    pub fn run(self) -> Finished {
        let output = self
            .spawn()
            .wait_with_output()
            .expect("waiting for a fence agent");
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it, and wants this exit code.
    pub fn expect(self, code: i32) -> Finished {
        let what = format!("{:?}", self.command);
        let finished = self.run();
        assert_eq!(finished.code, Some(code), "{what}: {finished:?}");
        finished
    }
}
