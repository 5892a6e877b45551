//! A target on both heads at once, a clone whose promoted instance is the way to use: the client has two paths to one disk,
//! and ALUA tells it which of them is good.

use anyhow::{Context, Result, bail, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::super::storage::{Disk, by_path, gather_paths, wait_for_paths};
use super::{INITIATORS, IQN, MONITOR, log_in, longest_gap, no_errors};
use crate::cib::primitive;
use crate::cluster::{Cluster, RECOVER};
use crate::layout::{self, CLIENT};
use crate::progress::more;
use crate::room::now;

/// So many moves of the promoted role, while the client writes.
pub fn run(lab: &Guests, moves: usize) -> Result<()> {
    let cluster = &lab.cluster;
    let disk = lab.shared_disks(1, "64M")?;
    let disk = disk.first().map(Disk::path).context("no disk was added")?;
    cluster.load(&configuration(cluster, &disk))?;
    // By the scores that the instances tell.
    cluster.wait_for("an instance that is promoted by itself", RECOVER, || {
        let status = cluster.status()?;
        let mut resources = status.resources.iter();
        let promoted = resources.any(|it| it.id == "target" && it.role == "Promoted");
        ensure!(promoted, "none is: {:?}", status.resources);
        Ok(())
    })?;
    promote(cluster, "n1")?;
    gather_paths(CLIENT)?;
    let heads = ["n1", "n2"];
    let addresses = heads
        .map(|head| layout::number(head).map(layout::service_address))
        .into_iter()
        .collect::<Result<Vec<String>>>()?;
    let disks: Vec<String> = addresses
        .iter()
        .map(|address| by_path(address, IQN, 1))
        .collect();
    let words: Vec<&str> = addresses.iter().map(String::as_str).collect();
    log_in(cluster, &words, &disks)?;
    let look = || -> Result<Vec<Path>> { disks.iter().map(|disk| Path::look(disk)).collect() };
    let identities = |paths: &[Path]| -> Vec<Identity> {
        paths.iter().map(|path| path.identity.clone()).collect()
    };

    let first = look()?;
    let (one, two) = match &first[..] {
        [one, two] => (&one.identity, &two.identity),
        _ => bail!("two paths were expected"),
    };
    more(format_args!("n1: {one:?}"));
    more(format_args!("n2: {two:?}"));
    ensure!(
        (&one.naa, &one.serial) == (&two.naa, &two.serial),
        "not one disk: {one:?}, {two:?}"
    );
    // Linux keeps one state for each group of a disk: two heads in the same group would overwrite each other's.
    ensure!(
        one.group != two.group,
        "both heads are the same target port group: {one:?}, {two:?}"
    );

    let map = format!("/dev/mapper/3{}", one.naa);
    wait_for_paths(CLIENT, std::slice::from_ref(&map))?;
    let mut writer = lab.write(&map, "paths")?;
    for number in 1..=moves {
        let (promoted, begin) = (heads[number % 2], now());
        promote(cluster, promoted)?;
        writer
            .wait_for(20)
            .with_context(|| format!("after the move to {promoted}"))?;
        cluster.wait_for("the states of both paths", RECOVER, || {
            let paths = look()?;
            ensure!(
                identities(&paths) == identities(&first),
                "not who they were: {paths:?}, before {first:?}"
            );
            for (head, path) in heads.iter().zip(&paths) {
                let good = path.state == ACTIVE;
                ensure!(
                    good == (*head == promoted),
                    "{head}, {promoted} is promoted: {path:?}"
                );
            }
            Ok(())
        })?;
        let gap = longest_gap(&writer.acks()?, begin)?;
        more(format_args!(
            "promoted on {promoted}: the client's longest gap {gap:.1} s"
        ));
    }
    let report = writer.finish()?;
    report.check()?;
    no_errors(&report.acks)?;
    lab.settled()
}

/// The target on every head, of the same disk.
fn configuration(cluster: &Cluster, disk: &str) -> String {
    let (initiators, luns) = (INITIATORS.join(" "), format!("1={disk}"));
    let parameters = [
        ("iqn", IQN),
        ("portals", "0.0.0.0:3260"),
        ("allowed_initiators", initiators.as_str()),
        ("luns", luns.as_str()),
    ];
    let (interval, timeout) = MONITOR;
    let promoted = format!(
        r#"<op id="target-monitor-promoted" name="monitor" role="Promoted" interval="31s" timeout="{timeout}"/>
    <op id="target-promote" name="promote" interval="0s" timeout="180s"/>
    <op id="target-demote" name="demote" interval="0s" timeout="180s"/>
  </operations>"#
    );
    let target = primitive(
        "target",
        "hastor",
        "lio-target",
        &parameters,
        (interval, timeout),
    )
    .replace("</operations>", &promoted);
    let clone = format!(
        r#"<clone id="targets">
  <meta_attributes id="targets-meta"><nvpair id="targets-promotable" name="promotable" value="true"/><nvpair id="targets-notify" name="notify" value="true"/></meta_attributes>
  {target}
</clone>"#
    );
    cluster.cib().resources(&clone).to_xml()
}

/// Has the target promoted on this head, and waits for it, and for the other instance.
fn promote(cluster: &Cluster, head: &str) -> Result<()> {
    let constraint = format!(
        r#"<rsc_location id="promoted" rsc="targets" role="Promoted" node="{head}" score="INFINITY"/>"#
    );
    cluster.admin(&[
        "cibadmin",
        "--modify",
        "--allow-create",
        "--scope",
        "constraints",
        "--xml-text",
        &constraint,
    ])?;
    cluster.wait_for(&format!("the target promoted on {head}"), RECOVER, || {
        let status = cluster.status()?;
        let instances = status
            .resources
            .iter()
            .filter(|resource| resource.id == "target");
        let mut roles: Vec<(&str, &str)> = instances
            .flat_map(|resource| {
                let nodes = resource.nodes.iter();
                nodes.map(|node| (node.as_str(), resource.role.as_str()))
            })
            .collect();
        roles.sort_unstable();
        let wanted = cluster.nodes.iter().map(|node| {
            let role = if node == head {
                "Promoted"
            } else {
                "Unpromoted"
            };
            (node.as_str(), role)
        });
        ensure!(wanted.eq(roles.iter().copied()), "{roles:?}");
        Ok(())
    })
}

/// ALUA's state active/optimized (SPC-4, REPORT TARGET PORT GROUPS).
const ACTIVE: u32 = 0;

/// Who is at the end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    naa: String,
    serial: String,
    /// Target port group, relative target port.
    group: u32,
    port: u32,
}

/// A path of the client, and ALUA's state of its group.
#[derive(Debug)]
struct Path {
    identity: Identity,
    state: u32,
}

impl Path {
    /// Asks the target through this disk.
    fn look(disk: &str) -> Result<Path> {
        let ask = |words: &[&str]| exec::output(CLIENT, &[words, &[disk]].concat(), b"");
        let pages = ask(&["sg_vpd", "--page=di"])? + &ask(&["sg_vpd", "--page=sn"])?;
        let groups = ask(&["sg_rtpg"])?;
        Path::parse(&pages, &groups).with_context(|| format!("{disk}: {pages}{groups}"))
    }

    fn parse(pages: &str, groups: &str) -> Result<Path> {
        let after = |text: &str, start: &str| -> Result<String> {
            let word = text
                .split_once(start)
                .and_then(|(_, rest)| rest.split_whitespace().next());
            word.map(str::to_owned)
                .with_context(|| format!("no \"{start}\""))
        };
        let number = |text: &str, start: &str| -> Result<u32> {
            let digits = after(text, start)?;
            u32::from_str_radix(digits.trim_start_matches("0x"), 16)
                .with_context(|| format!("{start} {digits:?}"))
        };
        let naa = pages
            .split_whitespace()
            .filter_map(|word| word.trim_matches(['[', ']']).strip_prefix("0x"))
            .find(|digits| digits.len() == 32 && digits.starts_with('6'))
            .context("no NAA identifier of 16 bytes")?;
        let group = number(pages, "Target port group:")?;
        // The target tells of all groups that it knows.
        let (_, state) = groups
            .split_inclusive("target port group id ")
            .skip(1)
            .map(|text| {
                let state = number(text, "asymmetric access state :");
                (number(text, ":"), state)
            })
            .find(|(id, _)| id.as_ref().is_ok_and(|id| *id == group))
            .context("the path's group is not reported")?;
        Ok(Path {
            identity: Identity {
                naa: naa.to_owned(),
                serial: after(pages, "Product serial number:")?,
                group,
                port: number(pages, "Relative target port:")?,
            },
            state: state?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clone_is_xml_and_watched_in_both_roles() {
        let cluster = Cluster::of_guests(vec!["n1".to_owned(), "n2".to_owned()]);
        let xml = configuration(&cluster, "/dev/disk/by-id/wwn-1");
        let document = roxmltree::Document::parse(&xml).unwrap();
        let monitors: Vec<_> = document
            .descendants()
            .filter(|node| node.attribute("name") == Some("monitor"))
            .filter(|node| {
                node.attribute("id")
                    .is_some_and(|id| id.starts_with("target"))
            })
            .map(|node| node.attribute("role"))
            .collect();
        assert_eq!(monitors, [None, Some("Promoted")]);
    }

    #[test]
    fn a_path_as_sg3_utils_show_it() {
        let pages = "Device Identification VPD page:
  Addressed logical unit:
    designator type: NAA,  code set: Binary
      0x60014050123456789abcdef012345678
    designator type: T10 vendor identification,  code set: ASCII
      vendor id: LIO-ORG
      vendor specific: target:0123
  Target port:
    designator type: Relative target port,  code set: Binary
     transport: Internet SCSI (iSCSI)
      Relative target port: 0x2
    designator type: Target port group,  code set: Binary
     transport: Internet SCSI (iSCSI)
      Target port group: 0x11
Unit serial number VPD page:
  Product serial number: 0123
";
        let groups = "Report target port groups:
  target port group id : 0x0 , Pref=0, Rtpg_fmt=0
    target port group asymmetric access state : 0x00
    T_SUP : 1, O_SUP : 1
  target port group id : 0x11 , Pref=0, Rtpg_fmt=0
    target port group asymmetric access state : 0x02
    T_SUP : 1, O_SUP : 1
";
        let path = Path::parse(pages, groups).unwrap();
        let identity = Identity {
            naa: "60014050123456789abcdef012345678".to_owned(),
            serial: "0123".to_owned(),
            group: 0x11,
            port: 2,
        };
        assert_eq!((path.identity, path.state), (identity, 2));
        assert!(Path::parse(pages, "").is_err());
    }
}
