//! The manual pages: what the command line says of itself, in roff.

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::arguments::Arguments;

/// The page of the program, or of one of its verbs.
pub fn page(verb: Option<&str>) -> Result<Vec<u8>> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let version = program.get_version().unwrap_or_default().to_owned();
    let command = match verb {
        None => program,
        // They are required unless there is --rollback: the synopsis knows only required and not.
        Some("apply") => ["stack", "values"]
            .into_iter()
            .fold(find(&program, "apply")?.clone(), |command, id| {
                command.mut_arg(id, |argument| argument.required(false))
            }),
        Some(verb) => find(&program, verb)?.clone(),
    };
    let mut text = Vec::new();
    let page = Man::new(command)
        .section("8")
        .date(ocf::man::DATE)
        .manual("Hastor");
    page.source(format!("Hastor {version}")).render(&mut text)?;
    Ok(text)
}

fn find<'a>(program: &'a Command, verb: &str) -> Result<&'a Command> {
    program.find_subcommand(verb).with_context(|| {
        let names = program.get_subcommands().filter(|it| !it.is_hide_set());
        let names: Vec<&str> = names.map(Command::get_name).collect();
        format!("verb \"{verb}\": expected one of {}", names.join(", "))
    })
}
