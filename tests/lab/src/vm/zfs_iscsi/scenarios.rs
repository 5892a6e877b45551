//! What can happen to the stack while two clients write. Each scenario begins and ends with both heads up and each pool at
//! home, so that they can follow each other on one [`Appliance`].

use std::fs;

use anyhow::{Context, Result, ensure};

use super::super::guests::Guests;
use super::super::{Parcel, exec};
use super::{Appliance, POOLS, Pool, Whose};
use crate::cluster::RECOVER;
use crate::control;
use crate::layout::{self, CLIENT};
use crate::progress::more;
use crate::room::now;

/// What happens, by its name; the head that is fenced for it, and nobody else is; and how.
pub type Scenario = (
    &'static str,
    Option<&'static str>,
    fn(&mut Appliance) -> Result<()>,
);

/// What the stack is for. It ends there, so that it can be part of every run.
pub const LOST: &[Scenario] = &[("power loss", Some(SECOND.home), lost)];

/// What an administrator does, and what happens when a lost head comes back.
#[rustfmt::skip] // one line a scenario
pub const CHANGED: &[Scenario] = &[
    ("planned move", None, planned_move),
    ("power loss, and return", Some(SECOND.home), lost_and_back),
    ("hastor applied again", None, applied_again),
    ("address removed, and back", None, address_removed),
    ("both pools started at once on a head", None, started_at_once),
];

/// What can happen to heads and their disks.
#[rustfmt::skip]
pub const HEADS: &[Scenario] = &[
    ("hung head", Some(SECOND.home), hung_head),
    ("all disks of a head lost", Some(SECOND.home), disks_lost),
    ("rolling restart", None, rolling_restart),
    ("both heads without power", None, cold_start),
];

/// What can happen to cables.
#[rustfmt::skip]
pub const NETWORKS: &[Scenario] = &[
    ("cluster link cut", Some(SECOND.home), cluster_link_cut),
    ("client off one network", None, client_link_cut),
    ("head off one network", None, head_link_cut),
    ("BMC unreachable", Some(SECOND.home), bmc_unreachable),
];

/// What can happen to programs.
#[rustfmt::skip]
pub const PROGRAMS: &[Scenario] = &[
    ("Pacemaker killed", Some(SECOND.home), pacemaker_killed),
    ("agents replaced", None, agents_replaced),
];

/// Some scenarios, one after the other on one stack.
pub fn run(lab: &Guests, scenarios: &[Scenario]) -> Result<()> {
    let mut stack = Appliance::begin(lab, Whose::Ours, 2)?;
    for (name, fenced, act) in scenarios {
        let begin = now();
        let others = |head: &&str| Some(*head) != *fenced;
        let others: Vec<&str> = POOLS.iter().map(|pool| pool.home).filter(others).collect();
        let count = |stack: &Appliance| -> Result<usize> {
            others.iter().map(|head| stack.fencings(head)).sum()
        };
        let before = count(&stack)?;
        act(&mut stack)
            .and_then(|()| stack.no_errors())
            .and_then(|()| only_fenced(*fenced, begin))
            .and_then(|()| {
                // Heads that have booted have forgotten older ones.
                ensure!(count(&stack)? <= before, "{others:?}: one was fenced");
                Ok(())
            })
            .with_context(|| format!("scenario \"{name}\""))?;
        more(format_args!("{name}: {:.0} s", now() - begin));
    }
    stack.end()
}

/// Wants that no other head than this one was switched off by its BMC since then, as the machine room's log has it.
fn only_fenced(expected: Option<&str>, since: f64) -> Result<()> {
    let log = fs::read_to_string(layout::room_log()).context("the machine room's log")?;
    for line in log.lines() {
        let Some((time, what)) = line.split_once(' ') else {
            continue;
        };
        let Some((head, who)) = what.split_once(" power off for ") else {
            continue;
        };
        let late = time.parse::<f64>().is_ok_and(|time| time >= since);
        ensure!(
            !late || who.starts_with("lab") || Some(head) == expected,
            "{head} was fenced, which nobody expected: {line}"
        );
    }
    Ok(())
}

/// The pools by their homes: the first is that of n1, whom a race of fencings favours.
const FIRST: &Pool = &POOLS[0];
const SECOND: &Pool = &POOLS[1];

/// Waits until the second head has been fenced more often than that, and its pool is on the first and written to again.
fn taken_over(stack: &mut Appliance, before: usize, since: f64) -> Result<()> {
    stack.wait_fenced(SECOND.home, before)?;
    stack.wait_on(SECOND, FIRST.home)?;
    stack.written()?;
    stack.tell_gaps(since)
}

/// A pool goes to the other head and back.
fn planned_move(stack: &mut Appliance) -> Result<()> {
    for head in [SECOND.home, FIRST.home] {
        let begin = now();
        stack.move_to(FIRST, head)?;
        stack.written()?;
        stack.tell_gaps(begin)?;
    }
    stack.lab.settled()
}

/// Both pools start on one head at the same time, so that the one's target is built while the other's import has the lock of
/// all pools.
fn started_at_once(stack: &mut Appliance) -> Result<()> {
    let (cluster, begin) = (&stack.lab.cluster, now());
    let tell = |pool: &Pool, role: &str| {
        let group = pool.group();
        let words = [
            "--resource",
            &group,
            "--meta",
            "--set-parameter",
            "target-role",
        ];
        let words = [&["crm_resource"], &words[..], &["--parameter-value", role]].concat();
        cluster.admin(&words).map(drop)
    };
    for pool in &POOLS {
        tell(pool, "Stopped")?;
    }
    cluster.wait_for("both pools stopped", super::SETTLE, || {
        let status = cluster.status()?;
        for id in POOLS.iter().flat_map(Pool::resources) {
            let resource = status.resources.iter().find(|it| it.id == id);
            let nodes = &resource.with_context(|| format!("there is no {id}"))?.nodes;
            ensure!(nodes.is_empty(), "{id} is on {nodes:?}");
        }
        Ok(())
    })?;
    let group = SECOND.group();
    let words = ["--resource", &group, "--node", FIRST.home];
    cluster.admin(&[&["crm_resource", "--move"], &words[..]].concat())?;
    for pool in &POOLS {
        tell(pool, "Started")?;
    }
    for pool in &POOLS {
        stack.wait_on(pool, FIRST.home)?;
    }
    cluster.admin(&["crm_resource", "--clear", "--resource", &group])?;
    stack.written()?;
    stack.tell_gaps(begin)?;
    stack.restored()
}

/// A head loses its power, and the other one has both pools.
fn lost(stack: &mut Appliance) -> Result<()> {
    let before = stack.fencings(SECOND.home)?;
    let cut = stack.lab.cluster.power_off(SECOND.home)?;
    taken_over(stack, before, cut)
}

/// The same; and the other one keeps both pools when the head is back.
fn lost_and_back(stack: &mut Appliance) -> Result<()> {
    lost(stack)?;
    let cluster = &stack.lab.cluster;
    let done = actions(stack)?;
    stack.lab.wait_rejoined()?;
    stack.lab.idle()?;
    for pool in &POOLS {
        stack
            .whole_on(&cluster.status()?, pool, FIRST.home)
            .with_context(|| format!("after {} came back", SECOND.home))?;
    }
    let after = actions(stack)?;
    ensure!(
        done == after,
        "the return of {} made {} do more: {after:?}, before {done:?}",
        SECOND.home,
        FIRST.home
    );
    stack.restored()
}

/// The call numbers of what the first head has done last for each resource: they change when anything is started or
/// stopped there.
fn actions(stack: &Appliance) -> Result<Vec<String>> {
    let cib = stack
        .lab
        .cluster
        .output(FIRST.home, &["cibadmin", "--query", "--scope", "status"])?;
    let document = roxmltree::Document::parse(&cib)?;
    let mut found: Vec<String> = document
        .descendants()
        .filter(|node| node.has_tag_name("node_state"))
        .filter(|node| node.attribute("uname") == Some(FIRST.home))
        .flat_map(|node| node.descendants())
        .filter(|node| node.has_tag_name("lrm_rsc_op"))
        .filter(|node| matches!(node.attribute("operation"), Some("start" | "stop")))
        .filter_map(|node| {
            let key = node.attribute("operation_key")?;
            Some(format!("{key} {}", node.attribute("call-id")?))
        })
        .collect();
    // Fencing devices may go where they are needed.
    found.retain(|action| !action.starts_with("fence-"));
    found.sort();
    Ok(found)
}

/// A head stands still, and is fenced.
fn hung_head(stack: &mut Appliance) -> Result<()> {
    let before = stack.fencings(SECOND.home)?;
    let since = stack.lab.freeze(SECOND.home)?;
    taken_over(stack, before, since)?;
    stack.restored()
}

/// The heads see each other no more, and both live: the favoured one survives, and has both pools.
fn cluster_link_cut(stack: &mut Appliance) -> Result<()> {
    let cluster = &stack.lab.cluster;
    let before = stack.fencings(SECOND.home)?;
    let cut = cluster.cut(SECOND.home)?;
    taken_over(stack, before, cut)?;
    cluster.heal(SECOND.home)?;
    stack.restored()
}

/// A client is cut off one of its networks: it goes on through the other, and the cluster has nothing to do with it.
fn client_link_cut(stack: &mut Appliance) -> Result<()> {
    let before = actions(stack)?;
    let cut: f64 = control::ask(&["cut", CLIENT, "client"])?.trim().parse()?;
    stack.written()?;
    stack.tell_gaps(cut)?;
    let after = actions(stack)?;
    ensure!(
        before == after,
        "the cluster did {after:?}, before {before:?}"
    );
    control::ask(&["heal", CLIENT, "client"])?;
    stack.restored()
}

/// The cable of a head is pulled out of one storage network: that address alone fails, and comes back by itself.
fn head_link_cut(stack: &mut Appliance) -> Result<()> {
    let cluster = &stack.lab.cluster;
    let [pool, target, lost, other] = FIRST.resources();
    let of_pool = |actions: Vec<String>| -> Vec<String> {
        let ours = |action: &String| action.starts_with(&pool) || action.starts_with(&target);
        actions.into_iter().filter(ours).collect()
    };
    let before = of_pool(actions(stack)?);
    let since = now();
    control::ask(&["nic", FIRST.home, "down", "client"])?;
    cluster.wait_for("the address to fail alone", RECOVER, || {
        let status = cluster.status()?;
        let resource = status.resources.iter().find(|it| it.id == lost);
        let nodes = &resource.context("no such resource")?.nodes;
        let failed = status
            .failures
            .iter()
            .any(|failure| failure.contains(&format!("{lost}_start")));
        ensure!(nodes.is_empty() && failed, "{lost} is on {nodes:?}");
        Ok(())
    })?;
    stack.written()?;
    let status = cluster.status()?;
    for id in [&pool, &target, &other] {
        let node = status.runs_on(id)?;
        ensure!(node == FIRST.home, "{id} went to {node}");
    }
    let after = of_pool(actions(stack)?);
    ensure!(
        before == after,
        "pool or target did {after:?}, before {before:?}"
    );
    stack.tell_gaps(since)?;
    control::ask(&["nic", FIRST.home, "up", "client"])?;
    // Without anybody's help, once its failures have been forgotten.
    stack.wait_on(FIRST, FIRST.home)?;
    stack.restored()
}

/// A head sees its disks no more: it is fenced, because it cannot let go of the pool, and the other one has it.
fn disks_lost(stack: &mut Appliance) -> Result<()> {
    let (before, since) = (stack.fencings(SECOND.home)?, now());
    for disk in &stack.disks {
        control::ask(&["disk", "pull", &disk.name, SECOND.home])?;
    }
    stack.wait_fenced(SECOND.home, before)?;
    for disk in &stack.disks {
        control::ask(&["disk", "push", &disk.name, SECOND.home])?;
    }
    stack.wait_on(SECOND, FIRST.home)?;
    stack.written()?;
    stack.tell_gaps(since)?;
    stack.restored()
}

/// A head and its BMC lose their power: nobody may take over before somebody knows, and `hastor status` says why.
fn bmc_unreachable(stack: &mut Appliance) -> Result<()> {
    let cluster = &stack.lab.cluster;
    let before = stack.fencings(SECOND.home)?;
    control::ask(&["bmc", SECOND.home, "cut"])?;
    let since = cluster.power_off(SECOND.home)?;
    let status = || cluster.output(FIRST.home, &["hastor", "status"]);
    let told = cluster.wait_for("a fencing that fails", RECOVER, || {
        let told = status()?;
        let line = told.lines().find(|line| line.contains("fencing failed"));
        line.map(str::to_owned)
            .with_context(|| format!("hastor status does not tell of it: {told}"))
    })?;
    more(format_args!("hastor status: {}", told.trim()));
    // Again once more has been tried.
    let failed = || cluster.fence_events(FIRST.home, SECOND.home, "failed");
    let first = failed()?;
    cluster.wait_for("another fencing that fails", RECOVER, || {
        let now = failed()?;
        ensure!(now > first, "{now} have failed");
        Ok(())
    })?;
    let words = ["zpool", "list", "-H", "-o", "name"];
    let pools = cluster.output(FIRST.home, &words)?;
    ensure!(
        pools.lines().eq([FIRST.name]),
        "{} has {pools:?} although nobody knows about {}",
        FIRST.home,
        SECOND.home
    );
    control::ask(&["bmc", SECOND.home, "heal"])?;
    taken_over(stack, before, since)?;
    stack.restored()
}

/// Each head is shut down in order and started again, one after the other, as for an update: nobody is fenced.
fn rolling_restart(stack: &mut Appliance) -> Result<()> {
    let cluster = &stack.lab.cluster;
    for (head, other) in [(FIRST.home, SECOND.home), (SECOND.home, FIRST.home)] {
        let begin = now();
        let stop = [
            "timeout",
            "900",
            "systemctl",
            "stop",
            "pacemaker",
            "corosync",
        ];
        exec::output(head, &stop, b"")?;
        for pool in &POOLS {
            cluster.wait_for(&format!("{} on {other}", pool.name), super::SETTLE, || {
                stack.whole_on(&cluster.status_of(other)?, pool, other)
            })?;
        }
        stack.written()?;
        stack.tell_gaps(begin)?;
        cluster.power_off(head)?;
        cluster.power_on(head)?;
        stack.lab.wait_rejoined()?;
        stack.lab.settled()?;
    }
    stack.restored()
}

/// Both heads lose their power and get it again: all comes up without anybody's help; both pools on one head, if that is up
/// much earlier.
fn cold_start(stack: &mut Appliance) -> Result<()> {
    let cluster = &stack.lab.cluster;
    let begin = now();
    for head in &cluster.nodes {
        cluster.power_off(head)?;
    }
    for head in &cluster.nodes {
        cluster.power_on(head)?;
    }
    stack.lab.wait_rejoined()?;
    stack.written()?;
    stack.tell_gaps(begin)?;
    stack.restored()
}

/// All daemons of Pacemaker are killed on a head: whatever the cluster makes of it, all runs in the end.
fn pacemaker_killed(stack: &mut Appliance) -> Result<()> {
    let cluster = &stack.lab.cluster;
    let controller = "pacemaker-controld";
    let (old, begin) = (cluster.process(SECOND.home, controller)?, now());
    cluster.output(SECOND.home, &["pkill", "-KILL", "^pacemaker"])?;
    // It has to have gone before it can be waited for that it is back: by systemd within seconds, or fenced.
    cluster.wait_for_another(SECOND.home, controller, &old)?;
    stack.lab.wait_rejoined()?;
    stack.written()?;
    stack.tell_gaps(begin)?;
    stack.restored()
}

/// The agents are installed anew while they are in use, again and again: no monitor meets half of one.
fn agents_replaced(stack: &mut Appliance) -> Result<()> {
    let begin = now();
    let parcel = Parcel::pack(true)?;
    let guests = stack.lab.plan.guests()?;
    let cluster = &stack.lab.cluster;
    // Besides the monitors of the cluster, which are rare: one call after the other of each agent.
    let call = r#"cd /usr/lib/ocf/resource.d/hastor
until [ -e /run/replaced ]; do
	for agent in *; do ./$agent meta-data >/dev/null || exit 1; done
done"#;
    let heads = cluster.nodes.iter();
    let mut calls = heads
        .map(|head| cluster.spawn(head, &["timeout", "900", "sh", "-c", call]))
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..5 {
        parcel.deliver(&guests)?;
        stack.written()?;
    }
    for (head, call) in cluster.nodes.iter().zip(&mut calls) {
        cluster.output(head, &["touch", "/run/replaced"])?;
        let status = call.wait()?;
        ensure!(
            status.success(),
            "{head}: a call of an agent failed: {status}"
        );
    }
    stack.tell_gaps(begin)?;
    stack.lab.settled()
}

/// What `hastor apply` says. Not bounded as other commands: under emulation each of Pacemaker's tools takes seconds.
fn apply(words: &[&str]) -> Result<String> {
    exec::output("n1", &[&["hastor", "apply", "--yes"], words].concat(), b"")
}

/// An address leaves the stack and comes back: it is stopped before it is removed, and its client goes on over the other one.
fn address_removed(stack: &mut Appliance) -> Result<()> {
    const WITHOUT: &str = "/root/without.toml";
    let begin = now();
    let ([_, gone], (san, _)) = (SECOND.addresses, super::values::SANS[1]);
    let text = super::values::text(stack.luns)?;
    let block = format!("\n[[pools.addresses]]\nsan = \"{san}\"\nip = \"{gone}\"\n");
    let without = text.replace(&block, "");
    ensure!(without != text, "the values have no {block}");
    let write = format!("cat >{WITHOUT}");
    exec::output("n1", &["sh", "-c", &write], without.as_bytes())?;
    let said = apply(&["zfs-iscsi", "--values", WITHOUT])?;
    let [.., vip] = SECOND.resources();
    ensure!(said.contains(&format!("Stopping {vip} ...")), "{said}");
    let holders = stack.holders(gone)?;
    ensure!(holders.is_empty(), "{gone} is on {holders:?}");
    stack.written()?;
    apply(&["--rollback"])?;
    stack.wait_home()?;
    stack.wait_for_paths()?;
    stack.written()?;
    stack.tell_gaps(begin)?;
    stack.lab.settled()
}

/// The same values change nothing; another value changes what it names, and nothing is interrupted; and back.
fn applied_again(stack: &mut Appliance) -> Result<()> {
    let begin = now();
    let before = actions(stack)?;
    let values = ["zfs-iscsi", "--values", super::VALUES];
    let said = apply(&values)?;
    ensure!(said.contains("Nothing is to be changed."), "{said}");
    let said = apply(&[&values[..], &["--set", "cluster.stickiness=300"]].concat())?;
    ensure!(said.contains("200 -> 300"), "{said}");
    let said = apply(&["--rollback"])?;
    ensure!(said.contains("300 -> 200"), "{said}");
    ensure!(
        before == actions(stack)?,
        "something was started or stopped"
    );
    stack.written()?;
    stack.tell_gaps(begin)?;
    stack.lab.settled()
}
