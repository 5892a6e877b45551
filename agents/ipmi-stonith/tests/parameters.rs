//! What the parameters mean, against a scripted ipmitool.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use clap::CommandFactory;
use host::testing::{Fault, Killed, Reply, Script};
use host::{Cmd, Host};
use ocf::fence::{Fence, Outcome, Request, execute};

use crate::course::Plan;
use crate::ipmi::Ipmi;

const SECRET: &str = "Marker-S3cret";
const LIMIT: Duration = Duration::from_secs(57);

/// A machine whose ipmitool switches the power that /power tells of.
fn machine(power: &str) -> Script {
    let script = Script::empty();
    script.write_file("/power", power);
    let is = |words: &'static [&'static str]| {
        move |cmd: &Cmd| {
            cmd.arguments()
                .ends_with(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
    };
    script
        .when_matching(
            is(&["chassis", "power", "status"]),
            Reply::given(|tree| {
                Reply::ok(format!(
                    "Chassis Power is {}\n",
                    tree.read("/power").unwrap()
                ))
            })
            .taking(Duration::from_millis(60)),
        )
        .when_matching(
            is(&["chassis", "power", "off"]),
            Reply::ok("Chassis Power Control: Down/Off\n").and(|tree| tree.write("/power", "off")),
        )
        .when_matching(
            is(&["chassis", "power", "on"]),
            Reply::ok("Chassis Power Control: Up/On\n").and(|tree| tree.write("/power", "on")),
        )
}

const DEVICE: &[&str] = &[
    "ip=192.0.2.9",
    "username=fence",
    "password=Marker-S3cret",
    "backend=ipmitool",
    "cipher=3",
];

fn request(lines: &[&str]) -> Result<Request, String> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Request::from_lines(&text, &Ipmi::command()).map_err(|error| format!("{error:#}"))
}

fn act(script: &Script, action: &str, more: &[&str]) -> Outcome {
    act_on(&script.host(LIMIT), action, more)
}

fn act_on(host: &Host, action: &str, more: &[&str]) -> Outcome {
    let action = format!("action={action}");
    let given = |line: &&&str| {
        let name = line.split('=').next().unwrap();
        !more
            .iter()
            .any(|other| other.split('=').next() == Some(name))
    };
    let lines: Vec<&str> = std::iter::once(action.as_str())
        .chain(DEVICE.iter().filter(given).copied())
        .chain(more.iter().copied().filter(|line| !line.ends_with('=')))
        .collect();
    match request(&lines) {
        Ok(request) => execute::<Ipmi>(&request, host, &|| false),
        Err(error) => panic!("{error}"),
    }
}

fn code(script: &Script, action: &str, more: &[&str]) -> u8 {
    act(script, action, more).code
}

fn refusal(action: &str, more: &[&str]) -> String {
    let script = machine("on");
    let outcome = act(&script, action, more);
    assert_eq!(outcome.code, 1, "{more:?}: {outcome:?}");
    assert!(
        script.steps().is_empty(),
        "nobody is asked: {:?}",
        script.steps()
    );
    outcome.reason.unwrap()
}

#[test]
fn the_declaration_is_sound() {
    Ipmi::command().debug_assert();
    let parameters = ocf::fence::parameters::<Ipmi>();
    let mut names: Vec<&String> = parameters
        .iter()
        .flat_map(|it| std::iter::once(&it.name).chain(&it.aliases))
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands for two parameters");
    for parameter in &parameters {
        assert!(
            !parameter.required,
            "{}: the tools would ask for it under this name only",
            parameter.name
        );
        assert!(
            parameter.description.contains("\n\n"),
            "{}: no second paragraph",
            parameter.name
        );
    }
}

#[test]
fn a_device_of_fence_ipmilan_or_external_ipmi_moves_by_its_type() {
    let old: &[&[&str]] = &[
        &[
            "ipaddr=192.0.2.9",
            "login=fence",
            "passwd=x",
            "lanplus=1",
            "cipher=3",
            "method=cycle",
            "power_timeout=20",
            "delay=0",
            "verbose=1",
        ],
        &[
            "ip=192.0.2.9",
            "username=fence",
            "password=x",
            "privlvl=operator",
            "power_wait=4",
            "disable_timeout=1",
            "retry_on=2",
        ],
        &[
            "hostname=n1",
            "ipaddr=192.0.2.9",
            "userid=fence",
            "passwd=x",
            "interface=lanplus",
            "passwd_method=env",
            "priv=OPERATOR",
        ],
        &[
            "ipaddr=192.0.2.9",
            "login=fence",
            "passwd=x",
            "ipmitool_timeout=5",
            "login-timeout=7",
            "shell_timeout=3",
            "port=n1",
            "port_as_ip=0",
            "plug_separator=,",
            "sudo=0",
            "sudo_path=/usr/bin/sudo",
            "ipmitool_path=ipmitool",
            "stonith_status_sleep=1",
            "hexadecimal_kg=0x00ff",
            "quiet=1",
            "verbose_level=2",
            "debug=/tmp/no",
        ],
    ];
    for lines in old {
        let all: Vec<&str> = lines
            .iter()
            .copied()
            .chain(["action=validate-all"])
            .collect();
        let request = request(&all).unwrap();
        assert!(request.warnings.is_empty(), "{:?}", request.warnings);
        let outcome = execute::<Ipmi>(&request, &machine("on").host(LIMIT), &|| false);
        assert_eq!(outcome.code, 0, "{lines:?}: {outcome:?}");
    }
}

#[test]
fn the_password_is_in_the_environment_and_nowhere_else() {
    let script = machine("on");
    for action in [
        "status",
        "monitor",
        "off",
        "on",
        "reboot",
        "list-status",
        "validate-all",
    ] {
        assert_eq!(code(&script, action, &["hostname=n1"]), 0, "{action}");
    }
    let steps = script.steps();
    assert_eq!(
        steps[0],
        "ipmitool -v -I lanplus -C 3 -H 192.0.2.9 -p 623 -U fence -E -L ADMINISTRATOR -N 1 -R 2 chassis power status"
    );
    assert!(steps.iter().all(|step| !step.contains(SECRET)), "{steps:?}");
    let knows = |cmd: &Cmd| {
        cmd.variables()
            .any(|it| it == ("IPMITOOL_PASSWORD", SECRET))
    };
    let script = Script::empty().when_matching(knows, Reply::ok("Chassis Power is off\n"));
    assert_eq!(code(&script, "status", &[]), 2);
}

#[test]
fn ipmitool_is_called_as_configured() {
    let line = |more: &[&str]| {
        let script = machine("on");
        assert_eq!(code(&script, "status", more), 0);
        script.steps()[0].clone()
    };
    assert_eq!(
        line(&["lanplus=0", "backend=auto", "auth=md5", "privlvl=OPERATOR"]),
        "ipmitool -v -I lan -H 192.0.2.9 -p 623 -U fence -E -L OPERATOR -N 1 -R 2 -A MD5 chassis power status"
    );
    assert_eq!(
        line(&[
            "target=0x82",
            "backend=auto",
            "ipport=6230",
            "ipmitool_timeout=4",
            "ipmitool=/opt/ipmitool"
        ]),
        "/opt/ipmitool -v -I lanplus -C 3 -H 192.0.2.9 -p 6230 -U fence -E -L ADMINISTRATOR -N 4 -R 2 -t 0x82 chassis power status"
    );
    assert_eq!(
        line(&["hexadecimal_kg=0x4b67"]),
        "ipmitool -v -I lanplus -C 3 -H 192.0.2.9 -p 623 -U fence -E -L ADMINISTRATOR -N 1 -R 2 -K chassis power status"
    );
}

#[test]
fn suite_17_is_tried_before_3() {
    let script = machine("on").when_matching(
        |cmd| cmd.arguments().windows(2).any(|it| it == ["-C", "17"]),
        Reply::fails(1, "Error in open session response message : no matching cipher suite\n\nError: Unable to establish IPMI v2 / RMCP+ session\n"),
    );
    assert_eq!(code(&script, "off", &["cipher="]), 0);
    let suites: Vec<bool> = script
        .steps()
        .iter()
        .map(|step| step.contains("-C 17"))
        .collect();
    assert_eq!(
        suites,
        [true, false, false, false, false],
        "{:?}",
        script.steps()
    );
}

#[test]
fn another_node_is_refused_before_anybody_is_asked() {
    for action in ["status", "off", "on", "reboot"] {
        assert_eq!(
            refusal(action, &["hostname=n1, n2", "nodename=n3"]),
            "not my node: \"n3\" was asked for, and hostname is \"n1, n2\""
        );
        refusal(action, &["hostname=n1", "plug=n3"]);
        // The name counts, and plug is an alias then.
        refusal(action, &["hostname=n1", "nodename=n3", "plug=n1"]);
    }
    let script = machine("on");
    for more in [
        &["hostname=n1", "nodename=n1"][..],
        &["nodes=n0;n1", "nodename=n1", "plug=bmc-7"],
        &["hostname=n1", "port=n1"],
        // The fencer adds plug to whatever the configuration has.
        &["hostname=n1", "port=22", "plug=n1", "nodename=n1"],
        &["port=22", "plug=n1"],
        &["hostname=n1"],
        &["hostname=n1", "nodename=N1"],
        &["nodename=whoever"],
    ] {
        assert_eq!(code(&script, "status", more), 0, "{more:?}");
    }
}

#[test]
fn lists_come_from_the_configuration() {
    let script = machine("off");
    assert_eq!(
        act(&script, "list", &["hostname=n1,n2 n3"]).stdout,
        "n1,\nn2,\nn3,\n"
    );
    assert!(script.steps().is_empty());
    assert_eq!(
        act(&script, "list-status", &["hostname=n1"]).stdout,
        "n1,,OFF\n"
    );
    assert!(refusal("list", &[]).starts_with("parameter hostname: not given"));
}

#[test]
fn bad_values_are_named() {
    for (more, expected) in [
        (
            &["ip="][..],
            "parameter ip: not given; expected the address of the BMC",
        ),
        (
            &["ip=-I lan"],
            "parameter ip: \"-I lan\" is no address; expected one such as 192.0.2.1",
        ),
        (
            &["ipport=0"],
            "parameter ipport: \"0\" is not a whole number from 1 to 65535",
        ),
        (
            &["username=seventeen-letters"],
            "parameter username: \"seventeen-letters\" has 17 bytes; expected at most 16",
        ),
        (
            &["password=one-and-twenty-letter"],
            "the password has 21 bytes; expected at most 20, which is all that IPMI has room for",
        ),
        (
            &["password=seventeen-letters", "lanplus=0"],
            "the password has 17 bytes; expected at most 16, which is all that IPMI has room for",
        ),
        (
            &["cipher=0"],
            "parameter cipher: \"0\" authenticates nobody, so that anybody could say \"off\"; expected another, such as 17 or 3",
        ),
        (
            &["hexadecimal_kg=abc"],
            "parameter hexadecimal_kg: expected 1 to 20 bytes in hexadecimal",
        ),
        (
            &["lanplus=1", "interface=lan"],
            "parameters lanplus and interface contradict each other; expected one of them",
        ),
        (
            &["backend=native", "target=0x82"],
            "parameter target: bridging is done only by ipmitool; expected backend auto or ipmitool",
        ),
        (
            &["backend=native", "interface=lan"],
            "parameter interface: IPMI 1.5 is spoken only by ipmitool; expected backend auto or ipmitool",
        ),
        (
            &["password_file=/x"],
            "parameters password and password_file: each gives a password; expected one of them",
        ),
        (
            &["passwd_method=file"],
            "the password's file or program is not given by an absolute path",
        ),
        (
            &["method=soft"],
            "parameter method: \"soft\" is not one of onoff, cycle, reset",
        ),
        (
            &["off_readings=1"],
            "parameter off_readings: \"1\" is not a whole number from 2 to 20",
        ),
        (
            &["system_guid=0"],
            "parameter system_guid: \"0\" is not a GUID; expected 32 hexadecimal digits, with or without dashes",
        ),
    ] {
        for action in ["validate-all", "off", "status"] {
            assert_eq!(refusal(action, more), expected, "{action}");
        }
    }
}

#[test]
fn passwords_come_from_files_and_programs_too() {
    let script = machine("on");
    script.write_file("/etc/fence.pw", "Marker-S3cret\nsecond line\n");
    let wants = |cmd: &Cmd| {
        cmd.program() == "ipmitool"
            && !cmd
                .variables()
                .any(|it| it == ("IPMITOOL_PASSWORD", SECRET))
    };
    script.when_matching(wants, Reply::fails(1, "> RAKP 2 HMAC is invalid\n"));
    script.when("/usr/bin/secret n1", Reply::ok("Marker-S3cret\n"));
    for more in [
        &["password=", "password_file=/etc/fence.pw"][..],
        &["password=/etc/fence.pw", "passwd_method=file"],
        &["password=", "password_script=/usr/bin/secret n1"],
        &["password=", "passwd_script=/usr/bin/secret  n1"],
    ] {
        assert_eq!(code(&script, "status", more), 0, "{more:?}");
    }
    let outcome = act(&script, "status", &["password=", "password_file=/none"]);
    assert_eq!(
        outcome.reason.unwrap(),
        "the password's file /none: not there"
    );
    script.when(
        "/usr/bin/secret",
        Reply::fails(3, "Marker-S3cret is not for you\n"),
    );
    let outcome = act(
        &script,
        "status",
        &["password=", "password_script=/usr/bin/secret"],
    );
    assert_eq!(
        outcome.reason.unwrap(),
        "the password's program /usr/bin/secret: exit status 3"
    );
    script.when("/usr/bin/secret", Reply::hangs());
    let outcome = act(
        &script,
        "status",
        &["password=", "password_script=/usr/bin/secret"],
    );
    assert_eq!(
        outcome.reason.unwrap(),
        "the password's program: /usr/bin/secret: did not finish within 5.0 s"
    );
}

#[test]
fn remarks_tell_what_is_unwise() {
    let script = machine("on");
    script.write_file("/etc/fence.pw", SECRET);
    let remarks = |lines: &[&str]| {
        let request = request(lines).unwrap();
        let agent: Ipmi = ocf_parse(&request);
        agent.remarks(&script.host(LIMIT)).join("\n")
    };
    let all = remarks(&[
        "ip=bmc.example",
        "password_file=/etc/fence.pw",
        "privlvl=user",
        "method=cycle",
        "lanplus=0",
        "port_as_ip=1",
    ]);
    for part in [
        "hostname is not given",
        "ip is a name",
        "mode 0644",
        "privlvl",
        "method is done as onoff",
        "IPMI 1.5",
        "port_as_ip",
    ] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    assert_eq!(
        remarks(&["ip=fe80::1%eth0", "hostname=n1", "password=x"]),
        ""
    );
    assert_eq!(
        remarks(&[
            "ip=[2001:db8::1]",
            "hostname=n1",
            "password=x",
            "method=cycle",
            "allow_cycle=1"
        ]),
        ""
    );
}

/// What comes of parameters.
pub fn plan_of(lines: &[&str]) -> Plan {
    ocf_parse(&request(lines).unwrap()).plan()
}

fn ocf_parse(request: &Request) -> Ipmi {
    let words = request
        .params
        .iter()
        .map(|(name, value)| format!("--{name}={value}"));
    clap::Parser::parse_from(std::iter::once(String::new()).chain(words))
}

#[test]
fn times_fit_into_pacemakers() {
    use ocf::fence::Action;
    let limit =
        |lines: &[&str], action| ocf_parse(&request(lines).unwrap()).limit(action).as_secs();
    assert_eq!(limit(&[], Action::Off), 40);
    assert_eq!(limit(&[], Action::Reboot), 55);
    assert_eq!(limit(&[], Action::Status), 15);
    assert_eq!(limit(&[], Action::Monitor), 15);
    assert_eq!(limit(&["power_timeout=20"], Action::Reboot), 35);
    assert_eq!(limit(&["power_timeout=1"], Action::On), 5);
    assert_eq!(limit(&["power_wait=20"], Action::Off), 60);
    assert_eq!(limit(&["power_wait=20"], Action::On), 40);
    assert_eq!(limit(&["power_wait=20"], Action::Reboot), 60 + 15 + 18);
    let slow = ["off_readings=5", "stonith_status_sleep=10"];
    assert_eq!(limit(&slow, Action::Off), 40 + 49);
    assert_eq!(
        limit(&["power_timeout=0", "action_timeout=90"], Action::Off),
        90
    );
}

#[test]
fn ipmitool_that_is_not_there_is_said_so() {
    let script = Script::empty().when_matching(|_| true, Reply::missing());
    let outcome = act(&script, "off", &[]);
    assert_eq!(outcome.code, 1);
    let reason = outcome.reason.unwrap();
    assert!(
        reason.starts_with("BMC 192.0.2.9: cannot ask: ipmitool is not installed"),
        "{reason}"
    );
}

/// Each call of ipmitool failing, hanging, or the agent killed at it.
#[test]
fn whatever_becomes_of_ipmitool_only_off_is_off() {
    let mut cases = BTreeMap::new();
    for action in ["status", "monitor", "off", "on", "reboot"] {
        let good = machine("on");
        assert_eq!(code(&good, action, &[]), 0);
        for fault in [Fault::Fail, Fault::Hang, Fault::Kill] {
            for at in 0..good.steps().len() {
                let script = machine("on");
                script.inject(at, fault);
                *cases.entry(action).or_insert(0) += 1;
                let outcome = match catch_unwind(AssertUnwindSafe(|| act(&script, action, &[]))) {
                    Ok(outcome) => outcome,
                    Err(panic) if panic.is::<Killed>() => continue,
                    Err(panic) => resume_unwind(panic),
                };
                let case = format!("{action}, {fault:?} at {at}: {outcome:?}");
                assert_ne!(outcome.code, 2, "{case}");
                let power = script.read_file("/power").unwrap();
                match (action, outcome.code) {
                    ("off", 0) => assert_eq!(power, "off", "{case}"),
                    ("on" | "reboot", 0) => assert_eq!(power, "on", "{case}"),
                    ("reboot", _) => assert!(outcome.reason.is_some(), "{case}"),
                    _ => {}
                }
                if action == "reboot" && outcome.code == 0 {
                    assert!(
                        script
                            .steps()
                            .iter()
                            .any(|step| step.ends_with("power off")),
                        "{case}"
                    );
                }
            }
        }
    }
    assert_eq!(cases.len(), 5);
}
