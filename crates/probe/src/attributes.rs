//! Transient node attributes: what nodes tell each other, until they leave the cluster. By Pacemaker's own `attrd_updater`.
//!
//! A public one is written into the CIB, and every change of it makes Pacemaker break off what it does and decide anew. A
//! private one is known to the attribute managers of all nodes, and to nobody else.

use std::time::Duration;

use host::{Cmd, CmdError, Host};

/// Tells everybody, in at most `limit`.
pub fn tell(host: &Host, name: &str, value: &str, limit: Duration) -> Result<(), CmdError> {
    run(host, &["--name", name, "--update", value], limit).map(drop)
}

/// The same, by a private attribute.
pub fn tell_privately(
    host: &Host,
    name: &str,
    value: &str,
    limit: Duration,
) -> Result<(), CmdError> {
    run(
        host,
        &["--name", name, "--private", "--update", value],
        limit,
    )
    .map(drop)
}

/// What the nodes have told: node and value. That nobody has told anything may be an error.
pub fn told(host: &Host, name: &str, limit: Duration) -> Result<Vec<(String, String)>, CmdError> {
    let said = run(host, &["--name", name, "--query", "--all"], limit)?;
    Ok(said.lines().filter_map(line).collect())
}

fn run(host: &Host, words: &[&str], limit: Duration) -> Result<String, CmdError> {
    let command = Cmd::new("attrd_updater").args(words).at_most(limit);
    Ok(host.run(&command)?.stdout)
}

/// A line such as `name="hastor-hostid" host="n2" value="0a0b0c0d"`.
fn line(line: &str) -> Option<(String, String)> {
    let value = |name: &str| line.split_once(&format!("{name}=\""))?.1.split('"').next();
    Some((value("host")?.to_owned(), value("value")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_node_and_value() {
        let told = line(r#"name="hastor-hostid" host="n1" value="000000ff""#);
        assert_eq!(told, Some(("n1".to_owned(), "000000ff".to_owned())));
        assert_eq!(line("Could not query value"), None);
    }
}
