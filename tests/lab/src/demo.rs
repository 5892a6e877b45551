//! `cargo lab demo --quick`: a power loss, what Pacemaker did about it, and what a client saw of it, in namespaces.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

use crate::agents::root;
use crate::client::{Answer, Asking, silence};
use crate::cluster::{Cluster, RECOVER};
use crate::layout::FLOATING;
use crate::progress::{more, plain, say};
use crate::timeline::shares::Shares;
use crate::timeline::spans::{Kind, Lane, Span};
use crate::timeline::{self, Event};
use crate::{build_agents, evidence, how_to_play, packages, room};

/// Runs the demo; an error if the address did not come back.
pub fn run(agent: &str, keep: bool) -> Result<()> {
    packages::install()?;
    let built = build_agents(agent)?;
    let cluster = Cluster::up(3, &built, agent)?;

    show(&cluster, agent)
        .map_err(|error| anyhow!("{error:#}\n{}", evidence::keep(&cluster, "demo")))?;

    if keep {
        cluster.release()?;
        plain("\nThe cluster keeps running:");
        how_to_play();
        return Ok(());
    }
    drop(cluster);
    plain("");
    say("everything removed");
    Ok(())
}

/// Shows the demo on a cluster that runs.
pub fn show(cluster: &Cluster, agent: &str) -> Result<()> {
    cluster.load(&cluster.cib().vip("vip", FLOATING).to_xml())?;
    let holder = cluster.wait_started("vip")?;
    cluster.wait_reachable(FLOATING, &holder)?;
    say(format_args!(
        "vip: {FLOATING} is on {holder} ({agent}), fencing is on"
    ));

    let (ping, fetch) = (
        Asking::ping(cluster, FLOATING)?,
        Asking::fetch(cluster, FLOATING)?,
    );
    let begin = room::now();
    wait_for_answers(cluster, &ping, &fetch, begin)?;
    say("client: pings and fetches, 20 times a second each");

    say(format_args!("cutting the power of {holder}"));
    let cut = cluster.power_off(&holder)?;
    let new = cluster.wait_moved("vip", &holder)?;
    // Answers of the dying kernel may trickle in; those after the start are the new node's.
    wait_for_answers(cluster, &ping, &fetch, room::now())?;
    say(format_args!("vip: {FLOATING} is on {new}"));
    let back = cluster
        .wait_for("the fenced node", RECOVER, || cluster.all_online())
        .map(|_| room::now() - cut);

    let logs = timeline::logs(cluster, Some(&holder))?;
    let mut events = timeline::of_loss(&logs, &holder, "vip", cut)?;
    events.push(Event::new(
        0.0,
        "demo",
        format!("power of {holder} cut; it held {FLOATING}"),
    ));
    if let Ok(at) = back {
        events.push(Event::new(
            at,
            "pacemaker",
            format!("{holder} is back in the cluster"),
        ));
    }
    let mut spans = timeline::spans::of_failover(&logs, Some(&holder), cut);
    let mut gaps = Vec::new();
    for (what, asking) in [("ping", &ping), ("fetch", &fetch)] {
        let (last, first) = silence(&asking.answers(), cut)
            .with_context(|| format!("{what}: no answer came back"))?;
        events.push(Event::new(
            last.0 - cut,
            "client",
            format!("last answer to {what}{}", from(&last)),
        ));
        events.push(Event::new(
            first.0 - cut,
            "client",
            format!("first answer to {what} again{}", from(&first)),
        ));
        gaps.push((what, (last.0 - cut, first.0 - cut)));
    }
    drop((ping, fetch));
    tell(events);
    plain("\nOutage seen by the client:");
    for (what, gap) in &gaps {
        plain(format_args!(
            "{what} {:.1} s: {}",
            gap.1 - gap.0,
            Shares::of(&spans, *gap)
        ));
    }
    spans.extend(gaps.into_iter().map(|(what, gap)| silent(what, gap)));
    let drawn = draw(&holder, spans)?;
    plain(format_args!("Drawn in {}.", drawn.display()));
    plain(format_args!("{FLOATING} came back on {new}."));
    if let Err(error) = back {
        plain(format_args!(
            "{holder} did not come back into the cluster: {error:#}"
        ));
    }
    Ok(())
}

/// A client's gap, to be drawn.
fn silent(what: &str, (begin, end): (f64, f64)) -> Span {
    Span {
        lane: Lane::Client {
            name: what.to_owned(),
        },
        label: format!("no answer for {:.1} s", end - begin),
        begin,
        end,
    }
}

/// Draws the failover up to a second after the client's last gap; where the drawing is.
fn draw(lost: &str, mut spans: Vec<Span>) -> Result<PathBuf> {
    let gaps = spans.iter().filter(|span| span.kind() == Kind::Client);
    let back = gaps.map(|gap| gap.end).fold(0.0, f64::max);
    spans.retain(|span| span.begin <= back + 1.0);
    let marks = [
        (0.0, format!("power of {lost} cut")),
        (back, "all answers again".to_owned()),
    ];
    let title = format!("Power loss of {lost}, which held {FLOATING}");

    let path = root().join("target/lab/demo.svg");
    fs::create_dir_all(root().join("target/lab"))
        .and_then(|()| fs::write(&path, timeline::svg::draw(&title, &spans, &marks)))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn from(answer: &Answer) -> String {
    if answer.1.is_empty() {
        String::new()
    } else {
        format!(", from {}", answer.1)
    }
}

/// Waits until both ways of asking get answers, a good many of them.
fn wait_for_answers(cluster: &Cluster, ping: &Asking, fetch: &Asking, since: f64) -> Result<()> {
    cluster.wait_for("answers to ping and fetch", RECOVER, || {
        let (pings, fetches) = (ping.count_since(since), fetch.count_since(since));
        if pings < 10 || fetches < 10 {
            bail!("{pings} and {fetches} so far");
        }
        Ok(())
    })
}

fn tell(mut events: Vec<Event>) {
    events.sort_by(|a, b| a.at.total_cmp(&b.at));
    plain("\nWhat happened, in seconds since the power cut:\n");
    for event in events {
        more(format_args!(
            "{:+8.3}  {:10} {}",
            event.at, event.who, event.what
        ));
    }
}
