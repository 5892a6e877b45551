//! The protocol, as it is on the real program.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bmc::{AGENT, BOUND, Bmc, Called, GUID, PASSWORD, enter};

#[test]
#[ignore = "needs root and openipmi: cargo lab test"]
fn a_node_is_switched_off_and_on_and_every_action_says_so() {
    enter();
    let bmc = Bmc::start();
    let mine = ["hostname=n1", "nodename=n1", "plug=n1"];
    for backend in ["backend=native", "backend=ipmitool"] {
        bmc.reset();
        let ours = |action| bmc.ours(action, &[&mine[..], &[backend]].concat());
        let quiet = |action, code| {
            let finished = ours(action).expect(code);
            assert_eq!(
                (finished.stdout.as_str(), finished.stderr.as_str()),
                ("", ""),
                "{action}"
            );
        };
        quiet("status", 0);
        quiet("monitor", 0);
        ours("off").expect(0);
        assert!(!bmc.is_on());
        quiet("status", 2);
        quiet("monitor", 0);
        ours("off").expect(0);
        ours("on").expect(0);
        ours("on").expect(0);
        assert!(bmc.is_on());
        ours("reboot").expect(0);
        assert!(bmc.is_on());
        assert_eq!(
            bmc.asked(),
            "0101",
            "no command where there is nothing to do"
        );
        quiet("validate-all", 0);
        assert_eq!(ours("list").expect(0).stdout, "n1,\n");
        assert_eq!(ours("list-status").expect(0).stdout, "n1,,ON\n");
        let diag = ours("diag").expect(0).stdout;
        assert!(diag.contains("cipher suite 3"), "{diag}");
        let guid = |text: &str| text.to_ascii_lowercase().replace('-', "");
        assert!(guid(&diag).contains(&guid(GUID)), "{diag}");
    }
}

#[test]
#[ignore = "needs root and openipmi: cargo lab test"]
fn options_do_what_lines_do() {
    enter();
    let bmc = Bmc::start();
    let run = |words: &[&str]| {
        let mut called = Called::new(AGENT);
        called.command.args(words);
        called
    };
    let device = ["-a", "127.0.0.1", "-l", "admin", "-p", PASSWORD];
    run(&[&device[..], &["-o", "status"]].concat()).expect(0);
    run(&[
        "--ip=127.0.0.1",
        "--username=admin",
        "--password",
        PASSWORD,
        "--action=off",
        "-P",
        "-C3",
    ])
    .expect(0);
    assert!(!bmc.is_on());
    run(&[&device[..], &["-ostatus", "-v", "--lanplus"]].concat()).expect(2);
    run(&[&device[..], &["-o", "on", "-n", "n1", "--hostname=n1"]].concat()).expect(0);
    assert!(bmc.is_on());
    run(&[&device[..], &["-o", "status", "-n", "n2", "--hostname=n1"]].concat()).expect(1);
    // What nothing is said about is what FenceAgentAPI has for it.
    run(&device).expect(0);
    assert_eq!(bmc.asked(), "0101");
    run(&["--frobnicate"]).expect(1);
    assert!(
        run(&["-h"])
            .expect(0)
            .stdout
            .contains("usage: fence_hastor_ipmi")
    );
    assert!(
        run(&["-V"])
            .expect(0)
            .stdout
            .starts_with("fence_hastor_ipmi ")
    );
}

#[test]
#[ignore = "needs root and openipmi: cargo lab test"]
fn each_fault_has_its_reason_and_is_never_off() {
    enter();
    let bmc = Bmc::start();
    let kg = Bmc::at(6230, "bmc_key \"abcdefghijklmnopqrs\"");
    for (bmc, more, reason) in [
        (&bmc, &["password=other"][..], "wrong password"),
        (&bmc, &["username=nobody"], "unknown user"),
        (&bmc, &["cipher=17"], "no common cipher suite"),
        (&bmc, &["hexadecimal_kg=0x616263"], "wrong Kg"),
        (&bmc, &["ipport=6239"], "unreachable"),
        (
            &bmc,
            &["system_guid=00112233-4455-6677-8899-aabbccddee00"],
            "GUID mismatch",
        ),
        (&bmc, &["hostname=n1", "nodename=n2"], "not my node"),
        (&bmc, &["ip=127.0.0.1 127.0.0.2"], "parameter ip"),
        (&bmc, &["action=frobnicate"], "unrecognised action"),
        (&bmc, &["password=", "password_file=/run/none"], "not there"),
        (&kg, &["hexadecimal_kg=0x616263646566"], "wrong Kg"),
    ] {
        for (action, backend) in [
            ("status", "backend=native"),
            ("off", "backend=native"),
            ("reboot", "backend=native"),
            ("off", "backend=ipmitool"),
        ] {
            let more = [&[backend, "login_timeout=7"], more].concat();
            let finished = bmc.ours(action, &more).expect(1);
            let said = &finished.stderr;
            assert!(said.contains(reason), "{more:?}: {said}");
            let lines = said.lines().filter(|line| line.contains(reason));
            assert_eq!(lines.count(), 1, "said once: {said}");
        }
    }
    for bmc in [&bmc, &kg] {
        assert_eq!(bmc.asked(), "", "nothing was switched");
    }
    let key: String = b"abcdefghijklmnopqrs"
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let key = format!("hexadecimal_kg={key}");
    for backend in ["backend=native", "backend=ipmitool"] {
        kg.ours("status", &[backend, &key]).expect(0);
        bmc.ours(
            "status",
            &[backend, "system_guid=ffeeddcc-bbaa-9988-7766-554433221100"],
        )
        .expect(0);
    }
    bmc.write("broken", "");
    for backend in ["backend=native", "backend=ipmitool"] {
        let finished = bmc.ours("off", &[backend, "action_timeout=6"]).expect(1);
        assert!(finished.stderr.contains("timed out after"), "{finished:?}");
    }
}

#[test]
#[ignore = "needs root and openipmi: cargo lab test"]
fn ipmi_1_5_is_spoken_by_ipmitool() {
    enter();
    let bmc = Bmc::start();
    bmc.ours("status", &["lanplus=0"]).expect(0);
    bmc.ours("reboot", &["interface=lan", "auth=md5"]).expect(0);
    assert_eq!(bmc.asked(), "01");
    let finished = bmc
        .ours("status", &["lanplus=0", "username=nobody"])
        .expect(1);
    assert!(finished.stderr.contains("unknown user"), "{finished:?}");
}

#[test]
#[ignore = "needs root and openipmi: cargo lab test"]
fn a_signal_ends_it_soon_and_with_a_reason() {
    enter();
    let bmc = Bmc::start();
    bmc.write("ignore_offs", "1\n1\n1\n1\n1\n1\n1\n1\n1\n");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = bmc.ours("off", &["action_timeout=600"]).spawn();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("off is sent") {
            line.clear();
            assert_ne!(
                stderr.read_line(&mut line).unwrap(),
                0,
                "it ended by itself"
            );
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
        assert!(rest.contains("interrupted by a signal"), "{rest}");
    }
    assert!(bmc.is_on());
}

#[test]
#[ignore = "needs root and openipmi: cargo lab test"]
fn nobody_looks_into_it_and_it_leaves_no_core() {
    enter();
    let bmc = Bmc::start();
    bmc.write("ignore_offs", "1\n1\n1\n1\n");
    let mut child = bmc.ours("off", &["action_timeout=600"]).spawn();
    let end = Instant::now() + BOUND;
    while bmc.asked().is_empty() {
        assert!(Instant::now() < end, "off was never sent");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // What is not dumpable belongs to root, whoever runs it; memory maps are closed to all others.
    let mut look = Command::new("setpriv");
    look.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat"]);
    look.arg(format!("/proc/{}/environ", child.id()));
    look.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(!look.status().unwrap().success());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

#[test]
#[ignore = "needs root and openipmi: cargo lab test"]
fn whatever_standard_input_is_there_is_an_answer() {
    let run = |stdin: Stdio| {
        let output = Command::new(AGENT)
            .env_clear()
            .stdin(stdin)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = run(Stdio::null());
    assert_eq!(
        (code, said.as_str()),
        (
            Some(1),
            "fence_hastor_ipmi: parameter ip: not given; expected the address of the BMC\n"
        )
    );
    // Somebody holds the other end, and says nothing.
    let (held, pipe) = nix::unistd::pipe()
        .map(|(read, write)| (write, read))
        .unwrap();
    let (code, said) = run(pipe.into());
    drop(held);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("timed out: standard input did not end"),
        "{said}"
    );
    let (code, said) = run(fs::File::open("/dev/zero").unwrap().into());
    assert_eq!(code, Some(1));
    assert!(said.contains("more than"), "{said}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {AGENT} <&-")]).env_clear();
    assert_eq!(shell.output().unwrap().status.code(), Some(1));
}
