//! What a node keeps over a power cut: configuration, CIB and logs, each in a directory of the lab.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use anyhow::{Context, Result};

use crate::layout::{self, DISK, Owner};

/// The first CIB: a short `dc-deadtime`, because 20 of the first 22 seconds of a cluster are spent waiting for it.
/// Fencing comes with the CIB that is loaded later, when all nodes are there; else an early node would fence a late one.
pub const SEED: &str = r#"<cib validate-with="pacemaker-3.7" epoch="1" num_updates="0" admin_epoch="0">
  <configuration>
    <crm_config>
      <cluster_property_set id="lab-properties">
        <nvpair id="lab-dc-deadtime" name="dc-deadtime" value="2s"/>
        <nvpair id="lab-stonith-enabled" name="stonith-enabled" value="false"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources/>
    <constraints/>
  </configuration>
  <status/>
</cib>
"#;

/// Makes the directories of a machine, with the configuration of a cluster of `nodes`.
pub fn create(name: &str, nodes: &[String]) -> Result<()> {
    let cluster = cluster_user()?;
    for (directory, owner) in DISK {
        let path = layout::on_disk(name, directory);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        if *owner == Owner::Cluster {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o750))?;
            chown(&path, Some(cluster.0), Some(cluster.1))?;
        }
    }
    let library = layout::on_disk(name, "/var/lib/pacemaker");
    for directory in ["blackbox", "cib", "cores", "pengine"] {
        let path = library.join(directory);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750))?;
        chown(&path, Some(cluster.0), Some(cluster.1))?;
    }
    let cib = library.join("cib/cib.xml");
    fs::write(&cib, SEED)?;
    fs::set_permissions(&cib, fs::Permissions::from_mode(0o600))?;
    chown(&cib, Some(cluster.0), Some(cluster.1))?;
    fs::write(
        layout::on_disk(name, "/etc/corosync").join("corosync.conf"),
        corosync_conf(nodes, 1000)?,
    )?;
    fs::write(layout::home(name).join("hosts"), hosts(nodes)?)?;
    Ok(())
}

/// User and group id of Pacemaker's daemons. Read from the files: a static executable has no name service.
pub fn cluster_user() -> Result<(u32, u32)> {
    Ok((
        id_in("/etc/passwd", "hacluster")?,
        id_in("/etc/group", "haclient")?,
    ))
}

fn id_in(file: &str, name: &str) -> Result<u32> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    line.and_then(|line| line.split(':').nth(2)?.parse().ok())
        .with_context(|| format!("{file}: no {name}; the package pacemaker makes it"))
}

/// One `key: value` a line, also inside `node { }`: Corosync takes nothing else.
/// `token` is Corosync's timeout for the loss of a node, in ms.
pub fn corosync_conf(nodes: &[String], token: u32) -> Result<String> {
    let mut text = "totem {
  version: 2
  cluster_name: hastor-lab
  transport: knet
  crypto_cipher: none
  crypto_hash: none
  token: TOKEN
}
logging {
  to_stderr: no
  to_syslog: no
  to_logfile: yes
  logfile: /var/log/corosync/corosync.log
  timestamp: hires
}
system {
  move_to_root_cgroup: no
}
quorum {
  provider: corosync_votequorum
"
    .replace("TOKEN", &token.to_string());
    if nodes.len() == 2 {
        text += "  two_node: 1\n";
    }
    text += "}\nnodelist {\n";
    for name in nodes {
        let number = layout::number(name)?;
        let address = layout::ring_address(number);
        text += &format!(
            "  node {{\n    name: {name}\n    nodeid: {number}\n    ring0_addr: {address}\n  }}\n"
        );
    }
    Ok(text + "}\n")
}

/// `/etc/hosts` of every machine.
pub fn hosts(nodes: &[String]) -> Result<String> {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for name in nodes {
        text += &format!("{} {name}\n", layout::ring_address(layout::number(name)?));
    }
    Ok(text)
}
