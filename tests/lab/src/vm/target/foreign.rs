//! What somebody else has made on the same node is left alone, and is not taken for ours.

use anyhow::{Context, Result, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::super::storage::Disk;
use super::super::writer::PROGRAM;
use super::{IQN, act, listing, unchanged};

const THEIRS: &str = "iqn.2026-01.example.hastor:theirs";

/// Makes a target with a LUN, as an administrator does; prints the LUN's serial number.
const MAKE: &str = r#"set -e
targetcli /iscsi set global auto_add_default_portal=false >/dev/null
targetcli /backstores/block create name=theirs dev="$1" >/dev/null
targetcli /iscsi create "$2" >/dev/null
targetcli "/iscsi/$2/tpg1/luns" create /backstores/block/theirs >/dev/null
targetcli "/iscsi/$2/tpg1/portals" create 192.0.2.1 3261 >/dev/null
targetcli "/iscsi/$2/tpg1/acls" create iqn.2026-01.example.hastor:their-client >/dev/null
cat /sys/kernel/config/target/core/iblock_*/theirs/wwn/vpd_unit_serial
"#;

/// Ours comes and goes beside theirs, killed or not; and is refused where it would be theirs.
pub fn run(lab: &Guests) -> Result<()> {
    let disks = lab.local_disks("n1", 2, "64M")?;
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    let [disk, their_disk] = &paths[..] else {
        anyhow::bail!("two disks were to be added, and these are there: {paths:?}")
    };
    let words = ["bash", "-c", MAKE, "make", their_disk, THEIRS];
    let said = exec::output("n1", &words, b"").context("making a target with targetcli")?;
    let serial = said.rsplit(": ").next().unwrap_or_default().trim();
    ensure!(!serial.is_empty(), "no serial number in {said:?}");
    let before = listing("n1")?;
    let theirs = || -> Result<Vec<String>> {
        let all = listing("n1")?;
        let lines = all.lines().filter(|line| line.contains("theirs"));
        Ok(lines.map(str::to_owned).collect())
    };
    let theirs_before = theirs()?;

    let iqn = format!("iqn={IQN}");
    let path = format!("path={disk}");
    let ours = [iqn.as_str(), "portals=192.0.2.1:3260", "lun=1", &path];
    act("n1", &[], "start", &ours)?.expect(0)?;
    act("n1", &[], "monitor", &ours)?.expect(0)?;
    ensure!(
        theirs()? == theirs_before,
        "a start beside it has changed their target"
    );
    act("n1", &[], "stop", &ours)?.expect(0)?;
    unchanged("n1", &before).context("after a stop")?;

    for call in (20..400).step_by(60) {
        let number = call.to_string();
        // It may have ended before that call: then it has started.
        act(
            "n1",
            &[PROGRAM, "killed", "--call", &number],
            "start",
            &ours,
        )?;
        ensure!(
            theirs()? == theirs_before,
            "a start killed at system call {call} has changed their target"
        );
        act("n1", &[], "stop", &ours)?.expect(0)?;
        unchanged("n1", &before).with_context(|| format!("killed at system call {call}"))?;
    }

    let their_iqn = format!("iqn={THEIRS}");
    let their_path = format!("path={their_disk}");
    let their_serial = format!("scsi_sn={serial}");
    let cases = [
        (
            "the same IQN",
            vec![their_iqn.as_str(), "portals=192.0.2.1:3260", "lun=1", &path],
            THEIRS,
        ),
        (
            "the same serial number",
            [&ours[..], &[their_serial.as_str()]].concat(),
            serial,
        ),
        (
            "the same device",
            vec![iqn.as_str(), "portals=192.0.2.1:3260", "lun=1", &their_path],
            their_disk.as_str(),
        ),
    ];
    for (what, parameters, named) in cases {
        let ended = act("n1", &[], "start", &parameters)?;
        let reasons = ended.reasons();
        ensure!(
            ended.code != 0 && reasons.len() == 1 && reasons[0].contains(named),
            "{what}: exit code {}, and the reason does not name {named}: {:?}",
            ended.code,
            ended.said
        );
        unchanged("n1", &before).with_context(|| format!("{what}, after a start"))?;
        act("n1", &[], "stop", &parameters)?
            .expect(0)
            .context(what)?;
        unchanged("n1", &before).with_context(|| format!("{what}, after a stop"))?;
    }
    Ok(())
}
