//! `fence_hastor_lab`: the fence agent of the lab, which asks the machine room for power off and on.
//!
//! FenceAgentAPI: `key=value` lines on standard input, or `-o ACTION -n NODE` by hand. Reboot answers as soon as the
//! power is off; it comes back in the background.

use std::collections::HashMap;
use std::io::Read;

use anyhow::{Context, Result, bail};

use crate::control;
use crate::layout::CLIENT;

const METADATA: &str = r#"<?xml version="1.0" ?>
<resource-agent name="fence_hastor_lab" shortdesc="Power switch of the test lab">
<longdesc>Cuts and restores the power of the nodes of the test lab, through its machine room. For tests only.</longdesc>
<vendor-url>https://github.com/hastor/hastor</vendor-url>
<parameters>
  <parameter name="action" unique="0" required="1">
    <getopt mixed="-o, --action=[action]"/>
    <content type="string" default="reboot"/>
    <shortdesc lang="en">Fencing action</shortdesc>
  </parameter>
  <parameter name="plug" unique="0" required="0">
    <getopt mixed="-n, --plug=[node]"/>
    <content type="string"/>
    <shortdesc lang="en">Name of the node</shortdesc>
  </parameter>
</parameters>
<actions>
  <action name="on" automatic="0"/>
  <action name="off"/>
  <action name="reboot"/>
  <action name="status"/>
  <action name="list"/>
  <action name="monitor"/>
  <action name="metadata"/>
  <action name="validate-all"/>
</actions>
</resource-agent>
"#;

/// Exit code of `status` when the power is off.
const OFF: i32 = 2;

/// Runs the agent; its exit code.
pub fn run() -> i32 {
    match act() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fence_hastor_lab: {error:#}");
            1
        }
    }
}

fn act() -> Result<i32> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let parameters = if words.is_empty() {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("reading standard input")?;
        from_input(&text)
    } else {
        from_words(&words)?
    };
    let plug = || {
        parameters
            .get("plug")
            .map(String::as_str)
            .context("no plug given: which node?")
    };
    let asker = nix::unistd::gethostname().context("name of this node")?;
    let asker = asker.to_string_lossy();
    match parameters.get("action").map_or("reboot", String::as_str) {
        "metadata" | "meta-data" => print!("{METADATA}"),
        "validate-all" => {}
        "monitor" => drop(control::ask(&["list"])?),
        "list" => {
            for machine in control::machines()?
                .iter()
                .filter(|machine| machine.name != CLIENT)
            {
                println!("{},", machine.name);
            }
        }
        "status" => {
            return Ok(if control::ask(&["status", plug()?])? == "on" {
                0
            } else {
                OFF
            });
        }
        action @ ("off" | "on" | "reboot") => drop(control::ask(&[action, plug()?, &asker])?),
        other => bail!("unsupported action {other:?}"),
    }
    Ok(0)
}

fn from_input(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn from_words(words: &[String]) -> Result<HashMap<String, String>> {
    let mut parameters = HashMap::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (key, value) = word
            .split_once('=')
            .map_or((word.as_str(), None), |(k, v)| (k, Some(v.to_owned())));
        let key = match key {
            "-o" | "--action" => "action",
            "-n" | "--plug" => "plug",
            _ => bail!("unknown option {word:?}: expected -o ACTION and -n NODE"),
        };
        let value = value
            .or_else(|| words.next().cloned())
            .with_context(|| format!("{word}: no value"))?;
        parameters.insert(key.to_owned(), value);
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_call() {
        let input = from_input("action=off\nnodename=n2\nplug=n2\n");
        assert_eq!(
            (input["action"].as_str(), input["plug"].as_str()),
            ("off", "n2")
        );
        let words: Vec<String> = ["-o", "status", "--plug=n1"].map(str::to_owned).into();
        let parsed = from_words(&words).unwrap();
        assert_eq!(
            (parsed["action"].as_str(), parsed["plug"].as_str()),
            ("status", "n1")
        );
        assert!(from_words(&["--ip".to_owned()]).is_err());
    }
}
