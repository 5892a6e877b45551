//! The manual pages: what the command line says of itself, in roff.

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

use crate::arguments::Arguments;

/// The page of the program, or of one of its verbs.
pub fn page(verb: Option<&str>) -> Result<Vec<u8>> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let version = program.get_version().unwrap_or_default().to_owned();
    let command = match verb {
        None => program,
        Some(verb) => {
            let names = program.get_subcommands().filter(|it| !it.is_hide_set());
            let names: Vec<&str> = names.map(clap::Command::get_name).collect();
            let expected = || format!("verb \"{verb}\": expected one of {}", names.join(", "));
            program
                .find_subcommand(verb)
                .with_context(expected)?
                .clone()
        }
    };
    // The synopsis knows only required and not: with --rollback these are not.
    let command = match verb {
        Some("apply") => command
            .mut_arg("stack", |argument| argument.required(false))
            .mut_arg("values", |argument| argument.required(false)),
        _ => command,
    };
    let mut text = Vec::new();
    let page = Man::new(command)
        .section("8")
        .date(ocf::man::DATE)
        .manual("Hastor");
    page.source(format!("Hastor {version}")).render(&mut text)?;
    Ok(text)
}
