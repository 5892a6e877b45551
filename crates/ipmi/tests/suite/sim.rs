//! The client against OpenIPMI's simulator, which has cipher suites up to 3.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipmi::{Client, Config, Control, ErrorKind, Guid, Privilege, Refused, Secret};

/// What ipmi_sim calls to look at and to switch the power: a file.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
shift
echo "$*" >>log
case "$*" in
"get power") echo "power:$(cat power)" ;;
"set power "*) echo "$3" >power ;;
"set reset "*) : >>reset ;;
*) exit 1 ;;
esac
"#;

const EMULATOR: &str = "\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
";

const GUID: &str = "a1234567-89ab-cdef-a123-456789abcdef";

/// A simulator, for as long as this lives.
struct Sim {
    process: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Sim {
    fn new() -> Sim {
        Sim::with("127.0.0.1", "")
    }

    /// With another line in the description of its LAN channel.
    fn with(address: &str, line: &str) -> Sim {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let script = at("chassis");
        fs::write(&script, CHASSIS).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("power"), "1\n").unwrap();
        fs::write(at("sim.emu"), EMULATOR).unwrap();
        fs::create_dir(at("state")).unwrap();
        let port = free_port(address);
        let all = "none md2 md5 straight";
        let guid = GUID.replace('-', "");
        let configuration = format!(
            "name \"sim\"\nset_working_mc 0x20\nstartlan 1\naddr {address} {port}\npriv_limit admin\n\
             allowed_auths_callback {all}\nallowed_auths_user {all}\nallowed_auths_operator {all}\n\
             allowed_auths_admin {all}\nguid {guid}\n{line}\nendlan\n\
             chassis_control \"{} 0x20\"\n\
             user 1 true \"\" \"test\" user 10 {all}\n\
             user 2 true \"admin\" \"test\" admin 10 {all}\n",
            script.display()
        );
        fs::write(at("lan.conf"), configuration).unwrap();
        let process = Command::new("ipmi_sim")
            .arg("-n")
            .args(["-c".as_ref(), at("lan.conf").as_os_str()])
            .args(["-f".as_ref(), at("sim.emu").as_os_str()])
            .args(["-s".as_ref(), at("state").as_os_str()])
            .stdin(Stdio::null())
            .stdout(fs::File::create(at("stdout")).unwrap())
            .stderr(fs::File::create(at("stderr")).unwrap())
            .spawn()
            .expect("ipmi_sim: apt-get install openipmi");
        let sim = Sim { process, dir, port };
        match sim.open(|config| config.address = address.to_owned()) {
            // It has a key, and so it is there.
            Err(error) if error.kind() != ErrorKind::WrongKg => {
                panic!("{error}\n{}{}", sim.file("stdout"), sim.file("stderr"));
            }
            _ => {}
        }
        sim
    }

    fn open(&self, change: impl FnOnce(&mut Config)) -> Result<Client, ipmi::Error> {
        let mut config = Config::new("127.0.0.1", "admin", "test");
        config.port = self.port;
        config.refused = Refused::KeepTrying;
        change(&mut config);
        Client::open(&config, soon())
    }

    fn refusal(&self, change: impl FnOnce(&mut Config)) -> (ErrorKind, String) {
        let error = self.open(change).unwrap_err();
        let place = format!("127.0.0.1 port {}: ", self.port);
        let text = error.to_string();
        let text = text
            .strip_prefix(&place)
            .unwrap_or_else(|| panic!("{text}"));
        (error.kind(), text.to_owned())
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn free_port(address: &str) -> u16 {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
#[ignore = "needs openipmi: cargo lab test"]
fn every_command() {
    let sim = Sim::new();
    let mut client = sim.open(|_| ()).unwrap();
    assert_eq!(client.suite(), 3, "17 was refused, 3 was not");
    assert_eq!(client.privilege(), Privilege::Administrator);
    let guid: Guid = GUID.parse().unwrap();
    assert!(client.guid().is_same(&guid), "{}", client.guid());
    assert!(client.system_guid(soon()).unwrap().is_same(&guid));
    let id = client.device_id(soon()).unwrap();
    assert_eq!(
        (id.manufacturer, id.product, id.ipmi),
        (0x1291, 0x0f02, (2, 0))
    );
    assert!(client.chassis_status(soon()).unwrap().power_on);
    client.chassis_control(Control::Off, soon()).unwrap();
    assert!(!client.chassis_status(soon()).unwrap().power_on);
    client.chassis_control(Control::On, soon()).unwrap();
    assert!(client.chassis_status(soon()).unwrap().power_on);
    client.chassis_control(Control::Reset, soon()).unwrap();
    client.chassis_control(Control::Cycle, soon()).unwrap();
    for _ in 0..100 {
        if sim.file("log").ends_with("set power 1\n") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(client.chassis_status(soon()).unwrap().power_on);
    let log = sim.file("log");
    let mut sets: Vec<&str> = log.lines().filter(|line| line.starts_with("set")).collect();
    // Off is sent again where the machine is too busy to answer at once.
    sets.dedup();
    assert_eq!(
        sets,
        [
            "set power 0",
            "set power 1",
            "set reset 1",
            "set power 0",
            "set power 1"
        ]
    );
    // What it does not have, it says.
    for error in [
        client.chassis_control(Control::Diag, soon()).unwrap_err(),
        client.restart_cause(soon()).unwrap_err(),
    ] {
        assert!(matches!(error.kind(), ErrorKind::Completion(_)), "{error}");
    }
    client.close(soon()).unwrap();
}

#[test]
#[ignore = "needs openipmi: cargo lab test"]
fn every_suite_it_has() {
    let sim = Sim::new();
    for suite in [3, 2, 1] {
        let mut client = sim.open(|config| config.cipher = Some(suite)).unwrap();
        assert_eq!(client.suite(), suite);
        assert!(client.chassis_status(soon()).unwrap().power_on);
        client.close(soon()).unwrap();
    }
    let mut client = sim
        .open(|config| {
            config.cipher = Some(0);
            config.allow_cipher_zero = true;
        })
        .unwrap();
    assert!(client.chassis_status(soon()).unwrap().power_on);
    client.close(soon()).unwrap();
    let (kind, text) = sim.refusal(|config| config.cipher = Some(17));
    assert_eq!(kind, ErrorKind::NoCommonSuite, "{text}");
}

#[test]
#[ignore = "needs openipmi: cargo lab test"]
fn what_is_wrong_is_told() {
    let sim = Sim::new();
    let (kind, text) = sim.refusal(|config| config.password = "guess".into());
    assert_eq!(
        (kind, text.as_str()),
        (
            ErrorKind::WrongPassword,
            "wrong password for user \"admin\""
        )
    );
    let (kind, text) = sim.refusal(|config| config.username = "nobody".into());
    assert_eq!(kind, ErrorKind::UnknownUser, "{text}");
    let (kind, text) = sim.refusal(|config| config.kg = Some("a key it has not".into()));
    assert_eq!(kind, ErrorKind::WrongKg, "{text}");
}

#[test]
#[ignore = "needs openipmi: cargo lab test"]
fn privileges() {
    // It gives every user every privilege.
    let sim = Sim::new();
    let mut client = sim
        .open(|config| config.privilege = Privilege::Operator)
        .unwrap();
    assert_eq!(client.privilege(), Privilege::Operator);
    client.chassis_control(Control::Off, soon()).unwrap();
    let mut client = sim
        .open(|config| config.privilege = Privilege::User)
        .unwrap();
    assert!(!client.chassis_status(soon()).unwrap().power_on);
    let error = client.chassis_control(Control::On, soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PrivilegeTooLow, "{error}");
}

#[test]
#[ignore = "needs openipmi: cargo lab test"]
fn with_a_key() {
    let sim = Sim::with("127.0.0.1", "bmc_key \"abcdefghijklmnopqrs\"");
    let key = |key: &str| Some(Secret::from(key));
    for suite in [3, 2] {
        let mut client = sim
            .open(|config| {
                config.kg = key("abcdefghijklmnopqrs");
                config.cipher = Some(suite);
            })
            .unwrap();
        assert!(client.chassis_status(soon()).unwrap().power_on);
        client.close(soon()).unwrap();
    }
    let (kind, text) = sim.refusal(|config| config.kg = key("another"));
    assert_eq!(kind, ErrorKind::WrongKg, "{text}");
}

#[test]
#[ignore = "needs openipmi: cargo lab test"]
fn over_ipv6() {
    let sim = Sim::with("::1", "");
    let mut client = sim
        .open(|config| config.address = "[::1]".to_owned())
        .unwrap();
    assert!(client.chassis_status(soon()).unwrap().power_on);
    client.close(soon()).unwrap();
}
