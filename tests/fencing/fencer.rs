//! Pacemaker's own fencer runs the agent, without a cluster.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use super::bmc::{BOUND, Bmc, PASSWORD, USER, enter};

/// pacemaker-fenced, alone. It ends with this value.
struct Fencer(Child);

impl Fencer {
    fn start() -> Fencer {
        let none = None::<&str>;
        mount(
            Some("none"),
            "/var/lib/pacemaker",
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .expect("an empty /var/lib/pacemaker");
        let user = |file: &str, name: &str| -> u32 {
            let table = fs::read_to_string(file).expect(file);
            let line = table
                .lines()
                .find(|line| line.starts_with(&format!("{name}:")));
            line.and_then(|line| line.split(':').nth(2)?.parse().ok())
                .expect(name)
        };
        let owner = (
            user("/etc/passwd", "hacluster"),
            user("/etc/group", "haclient"),
        );
        for place in ["/run/crm", "/var/log/pacemaker", "/var/lib/pacemaker/cores"] {
            fs::create_dir_all(place).expect(place);
            chown(place, Some(owner.0), Some(owner.1)).expect(place);
        }
        let daemon = ["/usr/lib/pacemaker", "/usr/libexec/pacemaker"]
            .map(|place| Path::new(place).join("pacemaker-fenced"));
        let daemon = daemon
            .iter()
            .find(|daemon| daemon.exists())
            .expect("pacemaker-fenced");
        let child = Command::new(daemon)
            .args(["--stand-alone", "-l", "/var/log/pacemaker/fenced.log", "-V"])
            .env("PCMK_logfile", "/var/log/pacemaker/fenced.log")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting pacemaker-fenced");
        let fencer = Fencer(child);
        let end = Instant::now() + BOUND;
        while !fencer.admin(&["-L"]).status.success() {
            assert!(
                Instant::now() < end,
                "pacemaker-fenced does not answer: {}",
                fencer.log()
            );
            sleep(Duration::from_millis(100));
        }
        fencer
    }

    fn admin(&self, words: &[&str]) -> Output {
        let mut admin = Command::new("stonith_admin");
        admin.args(words).stdin(Stdio::null());
        admin.output().expect("running stonith_admin")
    }

    fn succeeds(&self, words: &[&str]) -> String {
        let output = self.admin(words);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{words:?}: {said}\n{}", self.log());
        said
    }

    fn fails(&self, words: &[&str]) {
        let output = self.admin(words);
        assert!(
            !output.status.success(),
            "{words:?}: {output:?}\n{}",
            self.log()
        );
    }

    /// Registers a device.
    fn register(&self, name: &str, params: &[(&str, &str)]) {
        let mut words = vec![
            "-R".to_owned(),
            name.into(),
            "-a".into(),
            "fence_hastor_ipmi".into(),
        ];
        for (name, value) in params {
            words.extend(["-o".into(), format!("{name}={value}")]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.succeeds(&words);
    }

    fn log(&self) -> String {
        fs::read_to_string("/var/log/pacemaker/fenced.log").unwrap_or_default()
    }
}

impl Drop for Fencer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root, openipmi and pacemaker: cargo lab test"]
fn pacemakers_fencer_fences_by_it() {
    enter();
    let bmc = Bmc::start();
    let fencer = Fencer::start();
    assert!(fencer.succeeds(&["-I"]).contains("fence_hastor_ipmi"));
    let metadata = fencer.succeeds(&["-M", "-a", "fence_hastor_ipmi"]);
    assert!(metadata.contains("system_guid"), "{metadata}");
    let valid = [
        "-K",
        "-a",
        "fence_hastor_ipmi",
        "-o",
        "ip=127.0.0.1",
        "-o",
        "hostname=n1",
    ];
    fencer.succeeds(&valid);
    fencer.fails(&[&valid[..], &["-o", "ipport=many"]].concat());

    let device = [
        ("ip", "127.0.0.1"),
        ("username", USER),
        ("password", PASSWORD),
    ];
    let of = |name: &'static str| [&device[..], &[("hostname", name)]].concat();
    fencer.register("fence-n1", &of("n1"));
    fencer.succeeds(&["-Q", "fence-n1"]);
    // The device says whom it can fence: no pcmk_host_list is needed.
    assert!(fencer.succeeds(&["-l", "n1"]).contains("fence-n1"));
    assert!(!String::from_utf8_lossy(&fencer.admin(&["-l", "n2"]).stdout).contains("fence-n1"));
    fencer.fails(&["-B", "n2", "-t", "20"]);
    assert_eq!(bmc.asked(), "", "another node: nothing was switched");
    fencer.succeeds(&["-B", "n1", "-t", "60"]);
    assert_eq!(bmc.asked(), "01");
    fencer.succeeds(&["-F", "n1", "-t", "60"]);
    assert!(!bmc.is_on());
    fencer.succeeds(&["-U", "n1", "-t", "60"]);
    assert!(bmc.is_on());

    // A node that stays off is fenced; one whose BMC does not obey is not.
    bmc.reset();
    bmc.write("refuse_on", "");
    fencer.succeeds(&["-B", "n1", "-t", "60"]);
    assert!(!bmc.is_on());
    bmc.reset();
    bmc.write("broken", "");
    fencer.fails(&["-B", "n1", "-t", "20"]);
    bmc.reset();
    fencer.succeeds(&["-D", "fence-n1"]);

    // With what old configurations have under the older name of plug, which the fencer sets.
    let old = [&of("n1")[..], &[("port", "22")]].concat();
    fencer.register("fence-old", &old);
    fencer.succeeds(&["-B", "n1", "-t", "60"]);
    assert_eq!(bmc.asked(), "01");
    fencer.succeeds(&["-D", "fence-old"]);
    bmc.reset();

    // By an alias, and forced onto a device that knows better.
    let mapped = [&of("n1")[..], &[("pcmk_host_map", "n1:bmc-7")]].concat();
    fencer.register("fence-mapped", &mapped);
    fencer.succeeds(&["-B", "n1", "-t", "60"]);
    assert_eq!(bmc.asked(), "01");
    fencer.succeeds(&["-D", "fence-mapped"]);
    let forced = [
        &of("n1")[..],
        &[("pcmk_host_list", "n2"), ("pcmk_host_check", "static-list")],
    ]
    .concat();
    fencer.register("fence-forced", &forced);
    bmc.reset();
    fencer.fails(&["-B", "n2", "-t", "20"]);
    assert_eq!(
        bmc.asked(),
        "",
        "pcmk_host_list is wrong, and the device knows"
    );

    assert!(
        fencer.log().contains("not my node"),
        "the reason is in the log: {}",
        fencer.log()
    );
    assert!(!fencer.log().contains(PASSWORD), "a password is in the log");
}
