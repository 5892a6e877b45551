//! What cannot work is refused in one line that names the parameter, or the device, and its value.

use anyhow::{Context, Result, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::super::storage::Disk;
use super::{IQN, act, listing, unchanged};

/// What is wrong, the parameters, the exit codes that say so, and what the reason has to name.
type Case<'a> = (&'a str, [&'a str; 3], &'a [i32], &'a [&'a str]);

/// Says no, says why, and leaves nothing.
pub fn run(lab: &Guests) -> Result<()> {
    let disks = lab.local_disks("n1", 2, "64M")?;
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    let [free, used] = &paths[..] else {
        anyhow::bail!("two disks were to be added, and these are there: {paths:?}")
    };
    let mount = format!("mke2fs -q {used} && mkdir -p /run/used && mount {used} /run/used");
    exec::output("n1", &["sh", "-c", &mount], b"")?;
    let before = listing("n1")?;

    let one = format!("luns=1={free}");
    let twice = format!("luns=1={free} 1={used}");
    let mounted = format!("luns=1={used}");
    let iqn = format!("iqn={IQN}");
    let portal = "portals=192.0.2.1:3260";
    #[rustfmt::skip] // one line a case
    let cases: [Case; 8] = [
        ("no IQN", ["iqn=Not a name", portal, &one], &[2, 6], &["iqn", "Not a name"]),
        ("an IQN without a date", ["iqn=iqn.example:x", portal, &one], &[2, 6], &["iqn", "iqn.example:x"]),
        ("a port too high", [&iqn, "portals=192.0.2.1:99999", &one], &[2, 6], &["portals", "192.0.2.1:99999"]),
        ("a host's name", [&iqn, "portals=head.example:3260", &one], &[2, 6], &["portals", "head.example:3260"]),
        ("no such LUN number", [&iqn, portal, "luns=one=/dev/null"], &[2, 6], &["luns", "one=/dev/null"]),
        ("a LUN number twice", [&iqn, portal, &twice], &[2, 6], &["luns", used]),
        ("no such device", [&iqn, portal, "luns=1=/dev/no-such-disk"], &[1, 2, 5], &["/dev/no-such-disk"]),
        ("a device in use", [&iqn, portal, &mounted], &[1], &[used]),
    ];
    for (what, parameters, codes, named) in cases {
        let ended = act("n1", &[], "start", &parameters)?;
        ensure!(
            codes.contains(&ended.code),
            "{what}: exit code {}, expected one of {codes:?}: {}",
            ended.code,
            ended.said
        );
        let [reason] = ended.reasons()[..] else {
            anyhow::bail!("{what}: not one reason, but this: {:?}", ended.said)
        };
        for word in named {
            ensure!(
                reason.contains(word),
                "{what}: the reason does not name {word}: {reason}"
            );
        }
        unchanged("n1", &before).with_context(|| format!("{what}, after a start"))?;
        act("n1", &[], "stop", &parameters)?
            .expect(0)
            .with_context(|| what.to_owned())?;
    }
    Ok(())
}
