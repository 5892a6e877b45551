//! Changing the cluster's configuration: shown, checked, asked for, done, and waited for.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cib::{
    Change, Element, Resource, Status, changes, members, merge, retire, with_configuration,
    with_devices_of,
};

use crate::pacemaker::Pacemaker;
use crate::parameters;
use crate::saved::{Before, Saved};

/// Properties that are no configuration: what Pacemaker has found, and when it was last asked to look again.
const PACEMAKERS: [&str; 5] = [
    "dc-version",
    "cluster-infrastructure",
    "cluster-name",
    "have-watchdog",
    "last-lrm-refresh",
];

/// A change, and with whom it is talked over.
pub struct Apply<'a> {
    pub pacemaker: &'a Pacemaker<'a>,
    pub saved: &'a Saved<'a>,
    /// Nobody is asked.
    pub yes: bool,
    /// What others have changed may be undone; what they have made may be replaced.
    pub force: bool,
    pub wait: Duration,
    pub answers: &'a mut dyn BufRead,
    pub out: &'a mut dyn Write,
}

impl Apply<'_> {
    /// Puts a stack in.
    pub fn stack(mut self, name: &str, stack: &Element) -> Result<()> {
        let live = self.pacemaker.cib()?;
        let adopt = self.force;
        let wanted = merge(&live, stack, name, adopt)?;
        if self.agreed(&live, &wanted, true)? {
            let path = self.place(configuration(&live)?)?;
            self.replace(&path, &live, &|live| merge(live, stack, name, adopt))?;
            writeln!(
                self.out,
                "Applied. To go back: hastor apply --rollback ({path})"
            )?;
        }
        let ours = members(&wanted, name);
        self.report(&wanted, |resource| ours.contains(&resource.id))
    }

    /// Takes the last change back.
    pub fn rollback(mut self) -> Result<()> {
        let live = self.pacemaker.cib()?;
        let before = self.saved.newest()?;
        let before = before.with_context(|| {
            let dir = self.saved.dir();
            format!("{dir}: there is nothing to go back to on this node")
        })?;
        writeln!(self.out, "Going back to {}", before.path)?;
        let now = configuration(&live)?;
        let is_back = changes_of_others(&before.configuration, now).is_empty();
        match changed_since(&before, now) {
            _ if is_back => {}
            None => ensure!(
                self.force,
                "nothing was changed, because it is not known what has become of it, and so not what others have changed since; \
                 expected --force"
            ),
            Some(others) if others.is_empty() => {}
            Some(others) => {
                writeln!(
                    self.out,
                    "Since then others have changed:\n  {}\n",
                    others.join("\n  ")
                )?;
                ensure!(
                    self.force,
                    "nothing was changed, because this would also undo what others have changed since; expected the \
                     configuration as hastor left it, or --force"
                );
            }
        }
        let back = |live: &Element| -> Result<Element> {
            let mut wanted = before.configuration.clone();
            // Nodes come and go by themselves.
            if let Some(nodes) = configuration(live)?.child("nodes") {
                *wanted.child_or_new("nodes") = nodes.clone();
            }
            Ok(wanted)
        };
        let wanted = back(&live)?;
        // Others' may have been stopped long ago.
        let rested: Vec<String> = match self.pacemaker.cib_file {
            Some(_) => Vec::new(),
            None => {
                let untouched = untouched(now, &wanted);
                let all = self.pacemaker.status()?.resources.into_iter();
                let rested = all.filter(|it| it.nodes.is_empty() && untouched.contains(it.base()));
                rested.map(|it| it.id).collect()
            }
        };
        let all: BTreeSet<&str> = wanted.primitives().map(Element::id).collect();
        // An empty configuration, for one, is not valid: it has no fencing.
        if self.agreed(&live, &wanted, false)? {
            self.replace(&before.path, &live, &back)?;
            writeln!(self.out, "Gone back.")?;
        }
        self.saved.forget(&before.path)?;
        self.report(&wanted, |resource| {
            all.contains(resource.base()) && !rested.contains(&resource.id)
        })
    }

    /// Where the configuration is kept that is there before a change. If an earlier one has not got to its end, and nobody has
    /// changed anything since, this one goes on from there.
    fn place(&self, live: &Element) -> Result<String> {
        // One that cannot be read is none to go on from.
        let newest = self.saved.newest().ok().flatten();
        let unfinished = newest.filter(|it| !it.is_done);
        let same = |it: &Before| changed_since(it, live).is_some_and(|others| others.is_empty());
        match unfinished.filter(same) {
            Some(before) => Ok(before.path),
            None => self.saved.push(live),
        }
    }

    /// Shows what would be changed and what comes of it. True if it shall be done; false if there is nothing to do. It has
    /// to be valid, or else what is not is shown.
    fn agreed(&mut self, live: &Element, wanted: &Element, valid: bool) -> Result<bool> {
        let before = configuration(live)?;
        let list = changes(before, wanted);
        if list.is_empty() {
            writeln!(self.out, "Nothing is to be changed.")?;
            return Ok(false);
        }
        writeln!(self.out, "In the configuration:\n{}", lines(&list))?;
        let cib = with_configuration(live, wanted);
        let mut said = self.pacemaker.objections(&cib)?;
        if !said.is_empty() && valid {
            // What others are warned of, as that something will be gone in a later version, is for them to mend.
            let old = self.pacemaker.objections(live)?;
            let (known, new): (Vec<String>, Vec<String>) = said
                .into_iter()
                .partition(|line| old.contains(line) && !line.to_lowercase().contains("error"));
            ensure!(
                new.is_empty(),
                "crm_verify does not accept the configuration:\n{}",
                [new, known].concat().join("\n")
            );
            said = known;
        }
        if !said.is_empty() {
            let said = said.join("\n");
            writeln!(
                self.out,
                "It was so before, but crm_verify says of it:\n{said}\n"
            )?;
        }
        let answers = parameters::ask(self.pacemaker.host, before, wanted);
        for agent in &answers.absent {
            writeln!(
                self.out,
                "{agent} is not installed on this node: its parameters are not checked.\n"
            )?;
        }
        if !answers.refusals.is_empty() {
            let said = answers.refusals.join("\n");
            ensure!(!valid, "agents do not accept their parameters:\n{said}");
            writeln!(self.out, "Agents do not accept their parameters:\n{said}\n")?;
        }
        let (_, devices) = with_devices_of(before, wanted);
        if !devices.is_empty() {
            writeln!(
                self.out,
                "{} will be removed last. A node that was fenced by it and stays in the cluster needs another device.\n",
                devices.join(", ")
            )?;
        }
        let (retiring, ids) = retire(before, wanted);
        if !ids.is_empty() {
            let foreseen = self
                .pacemaker
                .foresee(&with_configuration(live, &retiring))?;
            writeln!(
                self.out,
                "First, what goes is stopped. Pacemaker will:\n{foreseen}"
            )?;
        }
        let foreseen = self.pacemaker.foresee(&cib)?;
        writeln!(self.out, "Then Pacemaker will:\n{foreseen}")?;
        if !self.yes {
            write!(self.out, "Do it? [yes/no] ")?;
            self.out.flush()?;
            let mut answer = String::new();
            self.answers.read_line(&mut answer).context("the answer")?;
            ensure!(
                ["yes", "y"].contains(&answer.trim()),
                "nothing was changed, because the answer was {:?}; expected yes, or --yes",
                answer.trim()
            );
        }
        // Replacing the configuration would undo what others have changed since.
        ensure!(
            configuration(&self.pacemaker.cib()?)? == before,
            "nothing was changed, because somebody else has changed the configuration in the meantime; expected it as it \
             was: do this again"
        );
        Ok(true)
    }

    /// Replaces the configuration, which is kept at `path`, by what `wanted` makes of it. What it has no longer is stopped before,
    /// in order; fencing devices are removed when all else is done. That takes time: if others change something meanwhile,
    /// nothing is removed.
    fn replace(
        &mut self,
        path: &str,
        live: &Element,
        wanted: &dyn Fn(&Element) -> Result<Element>,
    ) -> Result<()> {
        let mut made = wanted(live)?;
        let mut before = configuration(live)?.clone();
        let is_cluster = self.pacemaker.cib_file.is_none();
        let (retiring, ids) = retire(&before, &made);
        if is_cluster && !ids.is_empty() {
            writeln!(self.out, "Stopping {} ...", ids.join(", "))?;
            self.out.flush()?;
            self.step(path, &before, &retiring)?;
            let pending = self.pacemaker.pending(self.wait)?;
            let status = self.pacemaker.status()?;
            let active = |it: &&Resource| ids.contains(&it.id) && !it.nodes.is_empty();
            let active = status.resources.iter().filter(active);
            let active: Vec<String> = active.map(how).collect();
            ensure!(
                pending.is_empty() && active.is_empty(),
                "what is to be removed is told to stop, but nothing is removed yet, because it has not stopped within {} s{}; \
                 do this again once it has",
                self.wait.as_secs(),
                named(&active)
            );
            let done = "what is to be removed has stopped, but nothing is removed yet";
            made = wanted(&self.undisturbed(&retiring, done)?)?;
            before = retiring;
        }
        let (kept, devices) = with_devices_of(&before, &made);
        let named_devices = devices.join(", ");
        if is_cluster && !devices.is_empty() {
            // All else may be done already, by a change that was broken off here.
            if kept != before {
                self.step(path, &before, &kept)?;
            }
            writeln!(
                self.out,
                "Waiting for the cluster before {named_devices} is removed ..."
            )?;
            self.out.flush()?;
            let pending = self.pacemaker.pending(self.wait)?;
            ensure!(
                pending.is_empty(),
                "{named_devices} is not removed yet, because the cluster has not settled within {} s, and may need it; pending: {}; \
                 do this again once it has",
                self.wait.as_secs(),
                pending.join("; ")
            );
            let done = format!("all else is done, but {named_devices} is not removed yet");
            made = wanted(&self.undisturbed(&kept, &done)?)?;
            before = kept;
        }
        self.step(path, &before, &made)?;
        self.saved.done(path)
    }

    /// The CIB, if its configuration is still `ours`.
    fn undisturbed(&self, ours: &Element, done: &str) -> Result<Element> {
        let live = self.pacemaker.cib()?;
        let others = changes_of_others(ours, configuration(&live)?);
        ensure!(
            others.is_empty(),
            "{done}, because somebody else has changed the configuration in the meantime ({}); expected it as it was: do this \
             again",
            others.join("; ")
        );
        Ok(live)
    }

    /// One replacement. What there can be afterwards is kept before, whatever becomes of this program.
    fn step(&self, path: &str, from: &Element, to: &Element) -> Result<()> {
        self.saved.between(path, from, to)?;
        self.pacemaker.replace(to)
    }

    /// Waits, and says how it went; that one does not run which `has_to`, and can, is an error.
    fn report(&mut self, wanted: &Element, has_to: impl Fn(&Resource) -> bool) -> Result<()> {
        if let Some(file) = &self.pacemaker.cib_file {
            writeln!(
                self.out,
                "{file} is a file: there is no cluster to wait for."
            )?;
            return Ok(());
        }
        writeln!(self.out, "Waiting for the cluster ...")?;
        let pending = self.pacemaker.pending(self.wait)?;
        let status = self.pacemaker.status()?;
        let resting = resting(&status, wanted);
        let fallen = status.resources.iter().filter(|it| it.runs_on().is_none());
        let (rest, astray): (Vec<&Resource>, Vec<&Resource>) = fallen
            .partition(|it| !has_to(it) || (resting.contains(&it.id) && !it.failed && !it.blocked));
        let astray: Vec<String> = astray.iter().map(|it| how(it)).collect();
        for failure in &status.failures {
            let (action, node, reason) = (&failure.action, &failure.node, &failure.reason);
            writeln!(
                self.out,
                "failed   {} {action} on {node}: {reason}",
                failure.resource
            )?;
        }
        ensure!(
            pending.is_empty(),
            "not settled after {} s, pending: {}{}",
            self.wait.as_secs(),
            pending.join("; "),
            match astray.is_empty() {
                true => String::new(),
                false => format!("; not running{}", named(&astray)),
            }
        );
        if !astray.is_empty() {
            bail!("settled, but not all runs{}", named(&astray));
        }
        if status.resources.is_empty() {
            writeln!(self.out, "The cluster has no resources.")?;
            return Ok(());
        }
        match rest.is_empty() {
            true => writeln!(self.out, "All is as it should be:")?,
            false => writeln!(self.out, "All runs that has to:")?,
        }
        for resource in &status.resources {
            writeln!(self.out, "  {} {}", resource.id, resource.told())?;
        }
        Ok(())
    }
}

fn configuration(cib: &Element) -> Result<&Element> {
    cib.child("configuration")
        .context("the CIB has no <configuration>")
}

/// What others have changed since a change by this program, wherever that has ended; None if it left nothing to compare with.
fn changed_since(before: &Before, now: &Element) -> Option<Vec<String>> {
    let left = before.left.iter();
    left.map(|left| changes_of_others(left, now))
        .min_by_key(Vec::len)
}

/// What somebody else has changed: not what Pacemaker writes down itself, and not nodes, which stay as they are.
fn changes_of_others(ours: &Element, now: &Element) -> Vec<String> {
    let by_itself = |change: &Change| {
        let property = change.element.strip_prefix("property ");
        property.is_some_and(|name| PACEMAKERS.contains(&name))
            || change.element.starts_with("node ")
    };
    let all = changes(ours, now).into_iter();
    all.filter(|change| !by_itself(change))
        .map(|change| change.to_string())
        .collect()
}

fn lines(list: &[Change]) -> String {
    list.iter().map(|change| format!("  {change}\n")).collect()
}

/// Those that are the same in both configurations, and so is what they are in.
fn untouched<'a>(before: &'a Element, after: &Element) -> BTreeSet<&'a str> {
    let all = |of: &'a Element| of.child("resources").map_or(&[][..], |it| &it.children);
    let kept = after.child("resources").map_or(&[][..], |it| &it.children);
    let same = all(before).iter().filter(|it| kept.contains(it));
    same.flat_map(Element::primitives)
        .map(Element::id)
        .collect()
}

/// Resources that do not run because somebody wants it so: they are told to stop or taken out of management, or bound to one
/// that is; and fencing devices, while a node is not there to run them.
fn resting(status: &Status, configuration: &Element) -> BTreeSet<String> {
    let all = status.resources.iter().filter(|it| it.nodes.is_empty());
    let told = all.filter(|it| it.target_role.as_deref() == Some("Stopped") || !it.managed);
    let mut resting: BTreeSet<String> = told.map(|it| it.id.clone()).collect();
    // What is bound to one of them may have others bound to itself.
    loop {
        let before = resting.len();
        for constraint in configuration.all() {
            let (of, to) = match constraint.name.as_str() {
                "rsc_colocation" => ("rsc", "with-rsc"),
                "rsc_order" => ("then", "first"),
                _ => continue,
            };
            let always = ["", "INFINITY", "+INFINITY"].contains(&constraint.word("score"))
                && ["", "Mandatory"].contains(&constraint.word("kind"));
            if always && resting.contains(constraint.word(to)) {
                resting.insert(constraint.word(of).to_owned());
            }
        }
        for group in configuration.all() {
            if group.name != "group" {
                continue;
            }
            // Each member is bound to those before it.
            let mut rests = resting.contains(group.id());
            for member in group.children_named("primitive") {
                rests |= resting.contains(member.id());
                if rests {
                    resting.insert(member.id().to_owned());
                }
            }
        }
        if resting.len() == before {
            break;
        }
    }
    let all_there = status.nodes.iter().all(|node| node.state == "online");
    let devices = status.resources.iter().filter(|it| {
        let stopped = it.nodes.is_empty() && it.pending.is_none();
        let failed = status.failures.iter().any(|of| of.resource == it.id);
        it.agent.starts_with("stonith:") && stopped && !failed && !all_there
    });
    resting.extend(devices.map(|it| it.id.clone()));
    resting
}

/// What a resource does.
fn how(resource: &Resource) -> String {
    format!("{} is {}", resource.id, resource.told())
}

fn named(resources: &[String]) -> String {
    match resources.is_empty() {
        true => String::new(),
        false => format!(": {}", resources.join("; ")),
    }
}
