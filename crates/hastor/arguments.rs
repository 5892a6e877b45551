//! What can be asked for.

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Highly available storage on Pacemaker
#[derive(Debug, Parser)]
#[command(name = "hastor", version)]
pub struct Arguments {
    /// Work on a CIB in a file instead of the cluster's
    #[arg(long, global = true, value_name = "FILE")]
    pub cib_file: Option<String>,
    /// Where the configurations are kept to which --rollback goes back: /var/lib/hastor, with --cib-file FILE.hastor
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<String>,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the stacks, or print the values of one, each explained: the beginning of a file of one's own
    Values {
        /// Name of a stack
        stack: Option<String>,
    },
    /// Print a stack's configuration, changing nothing
    Render {
        #[command(flatten)]
        stack: Rendered,
        /// As a CIB, for "crm configure load update", or as a script of pcs commands
        #[arg(long = "as", value_enum, default_value_t = Form::Xml)]
        form: Form,
    },
    /// Put a stack into the cluster's configuration, and wait until it runs
    Apply {
        #[command(flatten)]
        change: Change,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// How long to wait until the cluster is settled, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 600,
            value_parser = clap::value_parser!(u32).range(1..=86_400))]
        wait: u32,
    },
    /// Show nodes, pools, targets, addresses and fencing devices
    Status {
        /// Show it again every two seconds, until interrupted
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the manual page of this program, or of one of its verbs
    #[command(hide = true)]
    Man {
        /// values, render, apply or status
        verb: Option<String>,
    },
}

/// A stack and its values.
#[derive(Debug, Args)]
pub struct Rendered {
    /// Name of a stack, or a directory with its template.xml and values.toml
    pub stack: String,
    /// The values: see "hastor values STACK"
    #[arg(long, value_name = "FILE")]
    pub values: String,
    /// Replace one of the values, such as pools.tank1.home=head2; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

/// What is applied.
#[derive(Debug, Args)]
pub struct Change {
    #[command(flatten)]
    pub stack: Option<Rendered>,
    /// Instead of a stack: the configuration that was there before the last change by hastor on this node
    #[arg(long, conflicts_with_all = ["stack", "values", "set"], required_unless_present = "stack")]
    pub rollback: bool,
    /// Replace resources that have the names of the stack's and are none of it; with --rollback, undo also what others
    /// have changed since
    #[arg(long)]
    pub force: bool,
}

impl Arguments {
    /// The CIB's file, wherever Pacemaker's tools are run.
    pub fn cib_file(&self) -> Result<Option<String>> {
        self.cib_file.as_deref().map(absolute).transpose()
    }

    /// Where configurations are kept. Those of a file are no business of the cluster.
    pub fn state_dir(&self) -> Result<String> {
        match (&self.state_dir, &self.cib_file) {
            (Some(dir), _) => absolute(dir),
            (None, Some(file)) => Ok(absolute(file)? + ".hastor"),
            (None, None) => Ok("/var/lib/hastor".to_owned()),
        }
    }
}

fn absolute(path: &str) -> Result<String> {
    let absolute = std::path::absolute(path).with_context(|| path.to_owned())?;
    Ok(absolute.to_string_lossy().into_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    Xml,
    Crm,
    Pcs,
}

fn assignment(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
