//! The verbs, each in a few lines.

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cib::{Element, Stack, crm_script, pcs_script};
use host::Host;

use crate::apply::Apply;
use crate::arguments::{Arguments, Form, Verb};
use crate::manual;
use crate::overview::Overview;
use crate::pacemaker::Pacemaker;
use crate::saved::Saved;
use crate::sources;

/// Between two looks at the cluster.
const PACE: Duration = Duration::from_secs(2);

/// Does what is asked for.
pub fn carry_out(
    asked: &Arguments,
    host: &Host,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<()> {
    let cib_file = asked.cib_file()?;
    if let Some(file) = &cib_file {
        // Pacemaker's tools say that they cannot connect.
        ensure!(host.size(file)?.is_some(), "{file}: there is no such file");
    }
    let pacemaker = Pacemaker { host, cib_file };
    match &asked.verb {
        Verb::Values { stack: None } => {
            for name in Stack::names() {
                writeln!(out, "{name}")?;
            }
        }
        Verb::Values { stack: Some(name) } => {
            out.write_all(sources::stack(host, name)?.values().as_bytes())?;
        }
        Verb::Render { stack, form } => {
            let (_, text) = sources::rendered(host, stack)?;
            let text = match form {
                Form::Xml => text,
                Form::Crm => crm_script(&Element::parse(&text)?)?,
                Form::Pcs => pcs_script(&Element::parse(&text)?)?,
            };
            out.write_all(text.as_bytes())?;
        }
        Verb::Apply { change, yes, wait } => {
            let apply = Apply {
                pacemaker: &pacemaker,
                saved: &Saved::new(host, &asked.state_dir()?),
                yes: *yes,
                force: change.force,
                wait: Duration::from_secs((*wait).into()),
                answers,
                out,
            };
            match &change.stack {
                Some(stack) => {
                    let (stack, text) = sources::rendered(host, stack)?;
                    apply.stack(stack.name(), &Element::parse(&text)?)?;
                }
                None => apply.rollback()?,
            }
        }
        Verb::Man { verb } => out.write_all(&manual::page(verb.as_deref())?)?,
        Verb::Status { watch: true, .. } => loop {
            // While the local node is restarted, say, there is nothing to be seen.
            let screen = match look(&pacemaker) {
                Ok(overview) => overview.to_string(),
                Err(error) => format!("{error:#}\n"),
            };
            // Cursor home, and what is below it erased: ECMA-48.
            write!(out, "\x1b[H\x1b[J{screen}")?;
            out.flush()?;
            host.sleep(PACE);
        },
        Verb::Status { json: true, .. } => {
            let text = serde_json::to_string_pretty(&look(&pacemaker)?).context("JSON")?;
            writeln!(out, "{text}")?;
        }
        Verb::Status { .. } => write!(out, "{}", look(&pacemaker)?)?,
    }
    Ok(())
}

fn look(pacemaker: &Pacemaker) -> Result<Overview> {
    // First that whose tool says in words why the cluster cannot be asked.
    let cib = pacemaker.cib()?;
    Overview::new(pacemaker.status()?, &cib, pacemaker.host)
}
