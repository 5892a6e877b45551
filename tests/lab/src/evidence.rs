//! What helps to understand a failure afterwards.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::agents::root;
use crate::cluster::Cluster;
use crate::layout::{self, STATE};
use crate::{control, interrupt};

/// Keeps logs of all nodes, their CIBs and their view of the cluster under `target/lab/failed`; a sentence that says where.
pub fn keep(cluster: &Cluster, name: &str) -> String {
    let folder = root()
        .join("target/lab/failed")
        .join(name.replace([' ', ':'], "-"));
    if interrupt::ending() {
        return "interrupted".to_owned();
    }
    match copy(cluster, &folder) {
        Ok(()) => format!("logs of all nodes: {}", folder.display()),
        Err(error) => format!("logs could not be kept: {error:#}"),
    }
}

fn copy(cluster: &Cluster, folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::copy(format!("{STATE}/room.log"), folder.join("room.log"))?;
    // What writers in guests were promised, and what heads told of their pools and addresses.
    for entry in fs::read_dir(format!("{STATE}/acks"))
        .into_iter()
        .flatten()
        .flatten()
    {
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    // One that stands still would let every command wait.
    let machines = control::machines().unwrap_or_default();
    let frozen = |node: &String| machines.iter().any(|m| m.name == *node && m.frozen);
    for node in cluster.nodes.iter().filter(|node| !frozen(node)) {
        let place = folder.join(node);
        fs::create_dir_all(&place)?;
        for file in ["console.log", "qemu.log"] {
            let source = layout::home(node).join(file);
            if source.exists() {
                fs::copy(&source, place.join(file))?;
            }
        }
        // A node without power has nothing to say, and that is worth knowing too.
        let or_why = |said: Result<String>| said.unwrap_or_else(|error| format!("{error:#}\n"));
        for daemon in ["pacemaker", "corosync"] {
            let text = or_why(cluster.log(node, daemon));
            fs::write(place.join(format!("{daemon}.log")), text)?;
        }
        let (query, view) = (["cibadmin", "--query"], ["crm_mon", "-1rf"]);
        let mut asked = vec![("cib.xml", &query[..]), ("crm_mon.txt", &view)];
        // Only a guest has a kernel of its own, whose console is quiet.
        if place.join("console.log").exists() {
            asked.push(("kernel.log", &["dmesg"]));
        }
        for (file, words) in asked {
            fs::write(place.join(file), or_why(cluster.output(node, words)))?;
        }
    }
    Ok(())
}
