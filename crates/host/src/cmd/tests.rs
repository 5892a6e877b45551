use super::*;

fn output(status: Status, stdout: &str, stderr: &str) -> Output {
    Output {
        status,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}

#[test]
fn a_command_is_named_by_a_line_for_the_shell() {
    let cmd = Cmd::new("exportfs")
        .arg("-o")
        .arg("rw,fsid=1")
        .arg("*:/srv/it's here")
        .arg("");
    assert_eq!(
        cmd.to_string(),
        r"exportfs -o rw,fsid=1 '*:/srv/it'\''s here' ''"
    );
    let cmd = Cmd::new("zpool")
        .args(["import", "tank"])
        .env("ZFS_COLOR", "a b")
        .arg(7);
    assert_eq!(cmd.to_string(), "ZFS_COLOR='a b' zpool import tank 7");
}

#[test]
fn a_secret_is_in_no_text() {
    let cmd = Cmd::new("ipmitool")
        .secret_env("IPMI_PASSWORD", "hunter2")
        .arg("power");
    assert_eq!(cmd.to_string(), "ipmitool power");
    assert_eq!(format!("{cmd:?}"), "Cmd(ipmitool power)");
    assert_eq!(cmd.variables().next(), Some(("IPMI_PASSWORD", "hunter2")));
    for (stdout, stderr) in [
        ("", "bad password hunter2\n"),
        ("bad password hunter2\n", ""),
    ] {
        let error = CmdError::failed(&cmd, output(Status::Exited(1), stdout, stderr));
        assert_eq!(
            error.to_string(),
            "ipmitool power: exit status 1: bad password ***"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[test]
fn a_variable_set_twice_has_the_last_value() {
    let cmd = Cmd::new("a").secret_env("A", "old").env("A", "new");
    assert_eq!(cmd.variables().collect::<Vec<_>>(), [("A", "new")]);
}

#[test]
fn a_failure_is_one_line_with_the_last_that_was_said() {
    let cmd = Cmd::new("zpool").args(["import", "tank"]);
    let failed =
        |status, stdout, stderr| CmdError::failed(&cmd, output(status, stdout, stderr)).to_string();
    assert_eq!(
        failed(
            Status::Exited(1),
            "ignored",
            "cannot import 'tank': no such pool\n\n"
        ),
        "zpool import tank: exit status 1: cannot import 'tank': no such pool"
    );
    assert_eq!(
        failed(Status::Exited(2), "", "one\ntwo\n\t three\r\n\nfour\n"),
        "zpool import tank: exit status 2: two; three; four"
    );
    assert_eq!(
        failed(Status::Killed(9), " \n", ""),
        "zpool import tank: killed by SIGKILL"
    );
    assert_eq!(
        failed(Status::Killed(34), "", ""),
        "zpool import tank: killed by signal 34"
    );
    assert_eq!(
        failed(Status::Exited(3), "no\n", ""),
        "zpool import tank: exit status 3: no"
    );
}

#[test]
fn the_other_errors_say_what_happened() {
    let cmd = Cmd::new("zpool").arg("list");
    let missing = |program: &str| {
        CmdError::Missing {
            program: program.to_owned(),
        }
        .to_string()
    };
    assert_eq!(
        missing("zpool"),
        "zpool is not installed \
         (not in /usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin)"
    );
    assert_eq!(missing("/opt/zpool"), "/opt/zpool is not installed");
    let late =
        |ms, abandoned| CmdError::timed_out(&cmd, Duration::from_millis(ms), abandoned).to_string();
    assert_eq!(late(5000, false), "zpool list: did not finish within 5.0 s");
    assert_eq!(
        late(750, true),
        "zpool list: did not finish within 0.8 s, and is stuck in the kernel"
    );
    assert_eq!(
        late(0, false),
        "zpool list: not started, because no time was left"
    );
}

#[test]
fn an_output_is_summed_up_by_its_status_and_last_complaint() {
    assert_eq!(
        output(Status::Exited(0), "much\n", "").to_string(),
        "exit status 0"
    );
    let failed = output(Status::Exited(1), "", "first\nlast\n");
    assert_eq!(failed.to_string(), "exit status 1: last");
    assert!(!failed.success());
    assert!(output(Status::Exited(0), "", "warning").success());
    assert!(!output(Status::Killed(9), "", "").success());
}

#[test]
fn what_a_confidential_command_says_is_in_no_error() {
    let cmd = Cmd::new("/usr/bin/secret").confidential();
    for (stdout, stderr) in [("hunter2", ""), ("", "hunter2"), ("hunter2", "hunter2")] {
        let error = CmdError::failed(&cmd, output(Status::Exited(3), stdout, stderr));
        assert_eq!(error.to_string(), "/usr/bin/secret: exit status 3");
    }
}
