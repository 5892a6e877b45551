//! What can happen to guests. Each scenario gets a cluster restored from the snapshot a moment ago, and leaves it as it is.

use anyhow::{Context, Result, bail, ensure};

use super::exec;
use super::guests::Guests;
use super::observer::Observer;
use super::plan::Network;
use super::writer::{self, Writer};
use crate::cluster::{Cluster, RECOVER};
use crate::control;
use crate::layout::{self, CLIENT, FLOATING};
use crate::room::now;

/// A head loses its power while it holds a floating address: its BMC is asked, the address moves, the head boots and
/// comes back.
pub fn power_loss(lab: &Guests) -> Result<()> {
    let observer = Observer::start(lab, &[], &[FLOATING])?;
    crate::scenarios::power_loss(&lab.cluster)?;
    lab.wait_rejoined()?;
    observer.check()
}

/// A head stands still: it is fenced for real, by its BMC, and never goes on from where it was.
pub fn frozen(lab: &Guests) -> Result<()> {
    let cluster = &lab.cluster;
    let observer = Observer::start(lab, &[], &[FLOATING])?;
    let holder = start_address(cluster)?;
    let since = lab.freeze(&holder)?;
    cluster.wait_fenced(&holder, since)?;
    let new = cluster.wait_moved("vip", &holder)?;
    cluster.wait_reachable(FLOATING, &new)?;
    lab.wait_rejoined()?;
    observer.check_on(FLOATING, &new)
}

/// A start of the address is killed in the middle: Pacemaker sees a failure, and brings it up elsewhere.
pub fn killed_start(lab: &Guests) -> Result<()> {
    let cluster = &lab.cluster;
    for node in &cluster.nodes {
        lab.kill_action(node, "hastor/vip", "start", 60)?;
    }
    cluster.load(&cluster.cib().vip("vip", FLOATING).to_xml())?;
    cluster.wait_for("a failed start", RECOVER, || {
        let failures = cluster.status()?.failures;
        ensure!(
            failures.iter().any(|failure| failure.contains("vip_start")),
            "failures: {failures:?}"
        );
        Ok(())
    })?;
    // Each node has used up its one kill by the second try.
    cluster.admin(&["crm_resource", "--cleanup"])?;
    cluster.wait_for("the address up", RECOVER, || {
        let status = cluster.status()?;
        if let Err(error) = status.runs_on("vip") {
            cluster.admin(&["crm_resource", "--cleanup"])?;
            bail!("{error:#}");
        }
        Ok(())
    })?;
    let holder = cluster.wait_started("vip")?;
    cluster.wait_reachable(FLOATING, &holder)
}

/// A head loses its power, and its BMC with it: nobody may take over before the fence has succeeded.
pub fn bmc_unreachable(lab: &Guests) -> Result<()> {
    let cluster = &lab.cluster;
    let holder = start_address(cluster)?;
    control::ask(&["bmc", &holder, "cut"])?;
    let since = cluster.power_off(&holder)?;
    let other = cluster.talker()?;
    cluster.wait_for("a fence that fails", RECOVER, || {
        let failed = cluster.fence_events(&other, &holder, "failed")?;
        ensure!(failed > 0, "none has failed");
        Ok(())
    })?;
    // Read so that a head that cannot be read is an error, and not an address that is not there.
    let addresses = super::read(&other, "/proc/net/fib_trie")?;
    let own = layout::service_address(layout::number(&other)?);
    ensure!(
        addresses.contains(&format!("|-- {own}\n")),
        "{other} does not show its own address: {addresses}"
    );
    ensure!(
        !addresses.contains(&format!("|-- {FLOATING}\n")),
        "the address moved to {other} although the fence had failed"
    );
    control::ask(&["bmc", &holder, "heal"])?;
    cluster.wait_fenced(&holder, since)?;
    let new = cluster.wait_moved("vip", &holder)?;
    cluster.wait_reachable(FLOATING, &new)
}

/// A record that was acknowledged is wiped out, and the proof fails: a test of the test.
pub fn lost_record(lab: &Guests) -> Result<()> {
    let disk = &lab.local_disks(CLIENT, 1, "64M")?[0].path();
    let mut writer = lab.write(disk, "client")?;
    writer.wait_for(50)?;
    let acks = writer.stop()?;
    writer::verify(CLIENT, disk, &acks)?
        .check()
        .context("before anything was lost")?;
    let of = format!("of={disk}");
    lab.cluster.output(
        CLIENT,
        &[
            "dd",
            "if=/dev/zero",
            &of,
            "bs=4096",
            "seek=30",
            "count=1",
            "oflag=direct",
        ],
    )?;
    let report = writer::verify(CLIENT, disk, &acks)?;
    ensure!(!report.is_ok(), "a lost record was not noticed:\n{report}");
    let text = report.to_string();
    ensure!(
        text.contains("slot 30: record "),
        "the report does not name record 30:\n{text}"
    );
    Ok(())
}

/// Two nodes write the same disk, each believing that it is alone, and the proof fails: a test of the test.
pub fn two_writers(lab: &Guests) -> Result<()> {
    let disk = lab.shared_disks(1, "64M")?[0].path();
    let mut first = Writer::start("n1", &disk, "n1")?;
    first.wait_for(30)?;
    let mut second = Writer::start("n2", &disk, "n2")?;
    second.wait_for(30)?;
    // Whoever notices first may have ended its writer already.
    let _ = first.wait_for(30);
    let mut noticed = 0;
    for (name, writer) in [("n1", first), ("n2", second)] {
        match writer.finish() {
            Ok(report) if report.is_ok() => {}
            Ok(_) => noticed += 1,
            // It has found what it did not write, has said so, and has ended by itself.
            Err(error) => {
                let log = std::fs::read_to_string(writer::log_of(name))?;
                ensure!(log.contains(" wrong "), "{error:#}");
                noticed += 1;
            }
        }
    }
    ensure!(
        noticed > 0,
        "two nodes wrote the same disk, and nobody noticed"
    );
    Ok(())
}

/// A disk is pulled, returns errors, and hangs; each time it is as before when that is undone.
pub fn disks(lab: &Guests) -> Result<()> {
    let disk = lab.shared_disks(1, "64M")?.remove(0);
    let (name, path) = (disk.name.as_str(), disk.path());
    let read = format!("dd if={path} of=/dev/null bs=4096 count=1 iflag=direct 2>&1");
    let reads = |node: &str| lab.cluster.output(node, &["sh", "-c", &read]);
    reads("n1")?;

    control::ask(&["disk", "errors", name, "n1", "on"])?;
    let failed = reads("n1")
        .err()
        .context("a disk that returns errors was read")?;
    ensure!(
        failed.to_string().contains("Input/output error"),
        "{failed:#}"
    );
    reads("n2").context("the other head, whose disk is well")?;
    control::ask(&["disk", "errors", name, "n1", "off"])?;
    reads("n1").context("after the errors")?;

    control::ask(&["disk", "hang", name, "n1", "on"])?;
    let slow = format!("{{ {read}; echo $? >/run/hang-ended; }} >/dev/null 2>&1 </dev/null &");
    lab.cluster.output("n1", &["sh", "-c", &slow])?;
    let device = lab.cluster.output("n1", &["readlink", "-f", &path])?;
    let device = device.trim().trim_start_matches("/dev/");
    let inflight = format!("/sys/block/{device}/inflight");
    lab.cluster.wait_for("a request under way", RECOVER, || {
        let text = super::read("n1", &inflight)?;
        ensure!(text.split_whitespace().next() != Some("0"), "{text}");
        Ok(())
    })?;
    reads("n2").context("the other head, whose disk does not hang")?;
    ensure!(
        super::read("n1", "/run/hang-ended").is_err(),
        "a request ended on a disk that hangs"
    );
    control::ask(&["disk", "hang", name, "n1", "off"])?;
    lab.cluster.wait_for("the request to end", RECOVER, || {
        let code = super::read("n1", "/run/hang-ended")?;
        ensure!(code.trim() == "0", "it ended with {}", code.trim());
        Ok(())
    })?;

    control::ask(&["disk", "pull", name, "n1"])?;
    lab.cluster.wait_for("the disk gone", RECOVER, || {
        ensure!(reads("n1").is_err(), "it can still be read");
        Ok(())
    })?;
    reads("n2").context("the other head, whose disk was not pulled")?;
    control::ask(&["disk", "push", name, "n1"])?;
    super::storage::wait_for_paths("n1", std::slice::from_ref(&path))?;
    reads("n1")
        .map(drop)
        .context("after the disk was pushed in again")
}

/// Persistent reservations of the shelf's LUNs are real: who is not registered cannot write.
pub fn reservations(lab: &Guests) -> Result<()> {
    let path = &lab.shelf_disks(2, "64M")?[1];
    let run = |node: &str, script: &str| {
        let script = script.replace("DISK", path);
        lab.cluster.output(node, &["sh", "-c", &script])
    };
    let write = "dd if=/dev/zero of=DISK bs=4096 count=1 oflag=direct 2>&1";
    run("n1", write)?;
    run("n2", write)?;
    run("n1", "sg_persist --out --register --param-sark=0x1 DISK")?;
    run(
        "n1",
        "sg_persist --out --reserve --param-rk=0x1 --prout-type=5 DISK",
    )?;
    run("n1", write).context("the head that holds the reservation")?;
    ensure!(
        run("n2", write).is_err(),
        "a head without registration wrote to a reserved disk"
    );
    run("n2", "sg_persist --out --register --param-sark=0x2 DISK")?;
    run("n2", write)
        .map(drop)
        .context("a head that is registered")
}

/// Networks are cut, lose their carrier, and are slow; each time they are as before when that is undone.
pub fn networks(lab: &Guests) -> Result<()> {
    let cluster = &lab.cluster;
    // The network of replication: Corosync is not disturbed.
    let peer = layout::replication_address(2);
    let network = Network::Replication.word();
    let ping = |count: &str| {
        let words = [
            "ping", "-q", "-n", "-i", "0.2", "-W", "2", "-c", count, &peer,
        ];
        cluster.output("n1", &words)
    };
    ping("2")?;
    control::ask(&["cut", "n1", network])?;
    ensure!(
        ping("2").is_err(),
        "pings get through a network that is cut"
    );
    control::ask(&["heal", "n1", network])?;
    ping("3").context("after the cut")?;

    control::ask(&["nic", "n1", "down", network])?;
    cluster.wait_for("no carrier", RECOVER, || {
        let carrier = super::read("n1", "/sys/class/net/repl0/operstate")?;
        ensure!(carrier.trim() == "down", "{}", carrier.trim());
        Ok(())
    })?;
    control::ask(&["nic", "n1", "up", network])?;
    cluster.wait_for("pings again", RECOVER, || ping("2"))?;

    lab.lame("n1", Network::Replication, 300, 0)?;
    let slow = ping("3")?;
    let fastest = fastest(&slow)?;
    ensure!(
        fastest >= 600.0,
        "300 ms each way, and a ping took {fastest} ms"
    );
    lab.lame("n1", Network::Replication, 0, 100)?;
    ensure!(
        ping("2").is_err(),
        "pings get through a network that loses all"
    );
    lab.lame("n1", Network::Replication, 0, 0)?;
    ping("3").map(drop).context("after it was lame")
}

/// The shortest time of `ping -q`, in ms.
fn fastest(text: &str) -> Result<f64> {
    let times = text.lines().find_map(|line| line.strip_prefix("rtt "));
    let least = times.and_then(|times| times.split_once(" = ")?.1.split('/').next()?.parse().ok());
    least.with_context(|| format!("no times in {text:?}"))
}

/// A file system is filled, a clock is skewed, a process is killed; and all of it undone.
pub fn inside(lab: &Guests) -> Result<()> {
    let cluster = &lab.cluster;
    cluster.output(
        "n1",
        &[
            "sh",
            "-c",
            "mkdir /run/small && mount -t tmpfs -o size=8m tmpfs /run/small",
        ],
    )?;
    let write = ["sh", "-c", "echo x >/run/small/x && sync /run/small/x"];
    lab.fill("n1", "/run/small", true)?;
    ensure!(
        cluster.output("n1", &write).is_err(),
        "a full file system took a file"
    );
    lab.fill("n1", "/run/small", false)?;
    cluster
        .output("n1", &write)
        .context("after there is room again")?;

    let clock =
        |node: &str| -> Result<f64> { Ok(cluster.output(node, &["date", "+%s"])?.trim().parse()?) };
    lab.skew("client", 3600)?;
    ensure!(clock(CLIENT)? - now() > 3000.0, "the clock was not skewed");
    lab.skew("client", 0)?;
    ensure!(
        (clock(CLIENT)? - now()).abs() < 60.0,
        "the clock was not set right"
    );

    let before = cluster.process("n1", "pacemaker-execd")?;
    lab.kill("n1", "pacemaker-execd")?;
    cluster.wait_for_another("n1", "pacemaker-execd", &before)?;
    cluster
        .wait_for("all nodes online again", RECOVER, || cluster.all_online())
        .map(drop)
}

/// The address agent through its life on the guest's kernel, by our own checks and by ocf-tester.
pub fn conformance(_: &Guests) -> Result<()> {
    let parameters = ["ip=192.0.2.10", "cidr_netmask=24", "nic=lan0"];
    let mut words = vec![
        writer::PROGRAM,
        "conformance",
        "/usr/lib/ocf/resource.d/hastor/vip",
    ];
    words.extend(["--every", "25"]);
    words.extend(parameters);
    exec::output("n1", &words, b"")?;
    let mut words = vec!["ocf-tester", "-n", "vip"];
    for parameter in parameters {
        words.extend(["-o", parameter]);
    }
    words.push("/usr/lib/ocf/resource.d/hastor/vip");
    exec::output("n1", &words, b"").map(drop)
}

fn start_address(cluster: &Cluster) -> Result<String> {
    cluster.load(&cluster.cib().vip("vip", FLOATING).to_xml())?;
    let node = cluster.wait_started("vip")?;
    cluster.wait_reachable(FLOATING, &node)?;
    Ok(node)
}
