//! The same stack as it is built today: of the agents that Pacemaker's distributors ship, fenced by `fence_ipmilan`.

use std::fmt::Write;

use anyhow::Result;

use super::values::{INITIATORS, SANS};
use super::{POOLS, Pool};
use crate::cib::peers_primitive;
use crate::{bmc, layout};

/// Interval and timeout of all monitors: as in our stack, with time for agents that take seconds.
const MONITOR: (&str, &str) = ("10s", "90s");

/// A CIB with it, with so many LUNs on each pool.
pub fn cib(luns: usize) -> Result<String> {
    let mut resources = String::new();
    for head in POOLS.iter().map(|pool| pool.home) {
        resources += &fencing(head, layout::number(head)?)?;
    }
    let mut constraints = String::new();
    for pool in &POOLS {
        resources += &group(pool, luns);
        let (name, home) = (pool.name, pool.home);
        write!(
            constraints,
            r#"<rsc_location id="home-{name}" rsc="{}" node="{home}" score="100"/>
<rsc_location id="elsewhere-{home}" rsc="fence-{home}" node="{home}" score="-INFINITY"/>"#,
            pool.group()
        )?;
    }
    Ok(format!(
        r#"<cib validate-with="pacemaker-3.7" epoch="1" num_updates="0" admin_epoch="0">
  <configuration>
    <crm_config>
      <cluster_property_set id="peers-properties">
        <nvpair id="peers-stonith-enabled" name="stonith-enabled" value="true"/>
        <nvpair id="peers-stonith-timeout" name="stonith-timeout" value="120s"/>
        <nvpair id="peers-concurrent-fencing" name="concurrent-fencing" value="true"/>
        <nvpair id="peers-no-quorum-policy" name="no-quorum-policy" value="stop"/>
        <nvpair id="peers-load-threshold" name="load-threshold" value="1000%"/>
        <nvpair id="peers-node-action-limit" name="node-action-limit" value="64"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources>{resources}</resources>
    <constraints>{constraints}</constraints>
    <rsc_defaults>
      <meta_attributes id="peers-defaults">
        <nvpair id="peers-stickiness" name="resource-stickiness" value="200"/>
      </meta_attributes>
    </rsc_defaults>
  </configuration>
  <status/>
</cib>
"#
    ))
}

fn fencing(head: &str, number: u8) -> Result<String> {
    let mut pairs = vec![
        ("ip", layout::bmc_address(number)),
        ("username", bmc::USER.to_owned()),
        ("password", bmc::PASSWORD.to_owned()),
        ("lanplus", "1".to_owned()),
        ("pcmk_host_list", head.to_owned()),
        ("pcmk_host_check", "static-list".to_owned()),
    ];
    if head == POOLS[0].home {
        pairs.push(("pcmk_delay_base", "10s".to_owned()));
    }
    let mut text = String::new();
    for (name, value) in pairs {
        write!(
            text,
            r#"<nvpair id="fence-{head}-{name}" name="{name}" value="{value}"/>"#
        )?;
    }
    Ok(format!(
        r#"<primitive id="fence-{head}" class="stonith" type="fence_ipmilan">
<instance_attributes id="fence-{head}-params">{text}</instance_attributes>
<operations><op id="fence-{head}-start" name="start" interval="0s" timeout="60s"/>
<op id="fence-{head}-monitor" name="monitor" interval="300s" timeout="60s"/></operations></primitive>"#
    ))
}

/// The resources of a pool, in the order of their start. The target wants the addresses of its portals to be there: so the
/// port is blocked until all is complete.
pub fn members(pool: &Pool, luns: usize) -> Vec<String> {
    let name = pool.name;
    let of_sans = |part: &str| SANS.map(|(san, _)| format!("{part}-{name}-{san}"));
    let mut members = Vec::from(of_sans("block"));
    members.push(format!("pool-{name}"));
    members.extend(of_sans("vip"));
    members.push(format!("target-{name}"));
    members.extend((1..=luns).map(|lun| format!("lun{lun}-{name}")));
    members.extend(of_sans("unblock"));
    members
}

fn group(pool: &Pool, luns: usize) -> String {
    let (name, iqn) = (pool.name, pool.iqn());
    let member = |id: &str, kind: &str, parameters: &[(&str, &str)]| {
        peers_primitive(id, kind, parameters, MONITOR)
    };
    let notes = format!("/{name}/ha");
    // One for each address: without any, it would be all addresses of the host, those of the other pool among them.
    let portblock = |action: &str| -> String {
        let one = |((san, _), address): (&(&str, &str), &str)| {
            let mut parameters = vec![
                ("protocol", "tcp"),
                ("portno", "3260"),
                ("ip", address),
                ("action", action),
            ];
            // So that clients notice at once that their connections have ended.
            if action == "unblock" {
                parameters.push(("tickle_dir", &notes));
            }
            member(&format!("{action}-{name}-{san}"), "portblock", &parameters)
        };
        SANS.iter().zip(pool.addresses).map(one).collect()
    };
    let portals = pool.addresses.map(|address| format!("{address}:3260"));
    let (portals, kind) = (portals.join(" "), ("implementation", "lio-t"));
    let mut text = portblock("block");
    text += &member(
        &format!("pool-{name}"),
        "ZFS",
        &[("pool", name), ("importargs", "-d /dev/disk/by-id")],
    );
    for ((san, nic), address) in SANS.iter().zip(pool.addresses) {
        let parameters = [("ip", address), ("cidr_netmask", "24"), ("nic", nic)];
        text += &member(&format!("vip-{name}-{san}"), "IPaddr2", &parameters);
    }
    text += &member(
        &format!("target-{name}"),
        "iSCSITarget",
        &[
            kind,
            ("iqn", &iqn),
            ("portals", &portals),
            ("allowed_initiators", INITIATORS),
        ],
    );
    for lun in 1..=luns {
        let (number, path) = (lun.to_string(), format!("/dev/zvol/{name}/lun{lun}"));
        let parameters = [
            kind,
            ("target_iqn", iqn.as_str()),
            ("lun", &number),
            ("path", &path),
        ];
        text += &member(&format!("lun{lun}-{name}"), "iSCSILogicalUnit", &parameters);
    }
    text += &portblock("unblock");
    format!(r#"<group id="{}">{text}</group>"#, pool.group())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_their_members_in_order() {
        let text = cib(2).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        for pool in &POOLS {
            let group = document
                .descendants()
                .find(|node| node.attribute("id") == Some(&pool.group()))
                .unwrap();
            let found: Vec<_> = group
                .children()
                .filter_map(|node| node.attribute("id"))
                .collect();
            assert_eq!(found, members(pool, 2));
        }
        assert!(text.contains("fence_ipmilan") && !text.contains("provider=\"hastor\""));
    }
}
