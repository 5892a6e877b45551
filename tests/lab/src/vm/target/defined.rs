//! A target that a file in its pool describes: it knows its initiator by passwords, changes while that one writes, and is
//! the same disk on the other head. And a disk that is passed through as it is (pscsi).

use anyhow::{Context, Result, bail, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::super::storage::{by_path, identity, wait_for_paths};
use super::{INITIATORS, IQN, act, listing, log_in, log_out, make_pool, no_errors, unchanged};
use crate::cluster::RECOVER;
use crate::layout::CLIENT;

/// The addresses of both heads.
const ADDRESSES: [(&str, &str); 2] = [("n1", "192.0.2.1"), ("n2", "192.0.2.2")];

const DEFINITION: &str = "/tank/ha/lio.toml";

/// What the client has to give, and what the target gives in return.
const PASSWORDS: [(&str, &str); 2] = [
    ("/etc/hastor-lab-in", "open-for-client"),
    ("/etc/hastor-lab-out", "answer-of-tank"),
];

/// The client finds the target and logs in by passwords: ADDRESS IQN PASSWORD PASSWORD
const LOG_IN: &str = r#"set -e
iscsiadm -m discovery -t sendtargets -p "$1"
for pair in authmethod=CHAP username=client password=$3 username_in=tank password_in=$4; do
	iscsiadm -m node -T "$2" -p "$1" -o update -n node.session.auth.${pair%%=*} -v "${pair#*=}"
done
iscsiadm -m node -T "$2" -p "$1" --login
"#;

/// All of it.
pub fn run(lab: &Guests) -> Result<()> {
    make_pool(lab, 2)?;
    let before: Vec<String> = ADDRESSES
        .iter()
        .map(|(head, _)| listing(head))
        .collect::<Result<_>>()?;
    for (head, _) in ADDRESSES {
        for (path, password) in PASSWORDS {
            let script = r#"umask 077 && cat >"$1""#;
            let words = ["sh", "-c", script, "write", path];
            exec::output(head, &words, format!("{password}\n").as_bytes())?;
        }
    }
    let definition = format!("definition={DEFINITION}");
    let ours = [definition.as_str()];

    import("n1")?;
    define(&[1])?;
    act("n1", &[], "start", &ours)?.expect(0)?;
    act("n1", &[], "monitor", &ours)?.expect(0)?;
    passwords_count()?;
    let disk = by_path(ADDRESSES[0].1, IQN, 1);
    let before_move = identity(CLIENT, &disk)?;
    changes(lab, &ours).context("changes while the client writes")?;
    secrets_are_kept()?;
    log_out()?;
    act("n1", &[], "stop", &ours)?.expect(0)?;
    unchanged("n1", &before[0])?;
    exec::output("n1", &["zpool", "export", "tank"], b"")?;

    import("n2")?;
    act("n2", &[], "start", &ours)?.expect(0)?;
    log_in_by_passwords(ADDRESSES[1].1, PASSWORDS.map(|(_, password)| password))?;
    let there = by_path(ADDRESSES[1].1, IQN, 1);
    wait_for_paths(CLIENT, std::slice::from_ref(&there))?;
    let found = identity(CLIENT, &there)?;
    ensure!(
        found == before_move,
        "the disk is {found} on n2, and was {before_move} on n1"
    );
    log_out()?;
    act("n2", &[], "stop", &ours)?.expect(0)?;
    unchanged("n2", &before[1])?;
    exec::output(
        CLIENT,
        &["iscsiadm", "-m", "node", "-T", IQN, "-o", "delete"],
        b"",
    )?;

    passed_through(lab).context("a disk that is passed through")?;
    unchanged("n1", &before[0])
}

fn import(head: &str) -> Result<()> {
    let script = "zpool import -o cachefile=none tank && udevadm settle --timeout=100";
    exec::output(head, &["sh", "-c", script], b"").map(drop)
}

/// Writes the definition, with these volumes as LUNs of the same numbers; beside the second one there is a file.
fn define(volumes: &[usize]) -> Result<()> {
    let mut luns: Vec<String> = volumes
        .iter()
        .map(|number| format!("{{ number = {number}, volume = \"tank/lun{number}\" }}"))
        .collect();
    let mut write = r#"cat >"$1""#.to_owned();
    if volumes.len() > 1 {
        // The agent makes none: it could be in the wrong place, with what is looked for hidden below.
        write += " && truncate -s 16M /tank/ha/scratch";
        luns.push("{ number = 9, file = \"/tank/ha/scratch\", size = \"16M\" }".to_owned());
    }
    let [incoming, outgoing] = PASSWORDS.map(|(path, _)| path);
    let text = format!(
        r#"[[target]]
iqn = "{IQN}"
initiators = ["{}"]
lun = [{}]
chap = {{ user = "client", password_file = "{incoming}", mutual_user = "tank", mutual_password_file = "{outgoing}" }}
"#,
        INITIATORS[0],
        luns.join(", ")
    );
    let words = ["sh", "-c", &write, "write", DEFINITION];
    exec::output("n1", &words, text.as_bytes()).map(drop)
}

/// Nobody gets in without the right password, and the client believes no target without it.
fn passwords_count() -> Result<()> {
    let [(_, incoming), (_, outgoing)] = PASSWORDS;
    // It is the target that refuses the first, and the client itself the second.
    for (what, given, said) in [
        (
            "a wrong password",
            ["wrong-password-1", outgoing],
            "authorization failure",
        ),
        (
            "a wrong password of the target's",
            [incoming, "wrong-password-2"],
            "non-retryable iSCSI login failure",
        ),
    ] {
        match log_in_by_passwords(ADDRESSES[0].1, given) {
            Ok(()) => bail!("{what}: the client is logged in"),
            Err(error) if format!("{error:#}").contains(said) => {}
            Err(error) => return Err(error.context(what)),
        }
    }
    log_in_by_passwords(ADDRESSES[0].1, [incoming, outgoing])?;
    wait_for_paths(CLIENT, &[by_path(ADDRESSES[0].1, IQN, 1)])
}

fn log_in_by_passwords(address: &str, [incoming, outgoing]: [&str; 2]) -> Result<()> {
    let words = [
        "bash", "-c", LOG_IN, "log-in", address, IQN, incoming, outgoing,
    ];
    exec::output(CLIENT, &words, b"").map(drop)
}

/// LUNs come, grow and go; whoever is logged in stays so.
fn changes(lab: &Guests, ours: &[&str]) -> Result<()> {
    let address = ADDRESSES[0].1;
    let [one, two, file] = [1, 2, 9].map(|number| by_path(address, IQN, number));
    let errors = connection_errors()?;
    let mut writer = lab.write(&one, "defined")?;
    writer.wait_for(20)?;
    let reload = || -> Result<()> {
        act("n1", &[], "reload-agent", ours)?.expect(0)?;
        act("n1", &[], "monitor", ours)?.expect(0)?;
        let said = act("n1", &[], "plan", ours)?.expect(0)?.said;
        ensure!(
            said.contains("nothing would change"),
            "after a reload: {said}"
        );
        exec::output(CLIENT, &["iscsiadm", "-m", "session", "--rescan"], b"").map(drop)
    };

    define(&[1, 2])?;
    exec::output("n1", &["zfs", "set", "volsize=64M", "tank/lun1"], b"")?;
    reload()?;
    wait_for_paths(CLIENT, &[two.clone(), file.clone()])?;
    for (path, size) in [(&one, 64 << 20), (&two, 32 << 20), (&file, 16 << 20)] {
        lab.cluster.wait_for("the size of a LUN", RECOVER, || {
            let found = exec::output(CLIENT, &["blockdev", "--getsize64", path], b"")?;
            ensure!(found.trim() == size.to_string(), "{path}: {}", found.trim());
            Ok(())
        })?;
    }
    read(&two)?;
    read(&file)?;

    define(&[1])?;
    reload()?;
    for path in [&two, &file] {
        ensure!(
            read(path).is_err(),
            "{path}, which was removed, can be read"
        );
    }
    writer.wait_for(20)?;
    let report = writer.finish()?;
    report.check()?;
    no_errors(&report.acks)?;
    let now = connection_errors()?;
    ensure!(now == errors, "the client has lost its session: {now:?}");
    Ok(())
}

/// A disk without a LUN has no blocks after a rescan: to read none of them is no error.
fn read(path: &str) -> Result<()> {
    let script = format!("dd if={path} bs=4096 count=1 iflag=direct | wc -c");
    let count = exec::output(CLIENT, &["sh", "-c", &script], b"")?;
    ensure!(count.trim() == "4096", "{path}: {} bytes", count.trim());
    Ok(())
}

/// What the client's kernel has said of connections that were lost.
fn connection_errors() -> Result<String> {
    let script = "dmesg | grep 'detected conn error' || true";
    exec::output(CLIENT, &["sh", "-c", script], b"")
}

/// No password is in a log, nor in what the agent keeps for itself.
fn secrets_are_kept() -> Result<()> {
    // Not as an argument: the lab's own calls are written down.
    let script = r#"read -r password
journalctl --boot | grep -F -e "$password"
grep -rsF -e "$password" /run
true"#;
    for (_, password) in PASSWORDS {
        let input = format!("{password}\n");
        let found = exec::output("n1", &["sh", "-c", script], input.as_bytes())?;
        ensure!(found.is_empty(), "a password can be read: {}", found.trim());
    }
    Ok(())
}

/// The client sees the disk itself, with the name that its maker has given it.
fn passed_through(lab: &Guests) -> Result<()> {
    let disks = lab.local_disks("n1", 1, "64M")?;
    let disk = disks.first().context("no disk was added")?;
    let parameters = [
        format!("iqn={IQN}"),
        format!("allowed_initiators={}", INITIATORS[0]),
        "liot_bstype=pscsi".to_owned(),
        format!("path={}", disk.path()),
        "lun=1".to_owned(),
    ];
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    act("n1", &[], "start", &parameters)?.expect(0)?;
    act("n1", &[], "monitor", &parameters)?.expect(0)?;
    let path = by_path(ADDRESSES[0].1, IQN, 1);
    log_in(&lab.cluster, &[ADDRESSES[0].1], std::slice::from_ref(&path))?;
    read(&path)?;
    let said = exec::output(CLIENT, &["sg_inq", &path], b"")?;
    ensure!(
        said.contains("lab disk"),
        "it is not the disk itself: {said}"
    );
    log_out()?;
    act("n1", &[], "stop", &parameters)?.expect(0).map(drop)
}
