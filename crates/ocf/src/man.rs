//! An agent's manual page, in roff, from the same declaration as its metadata.
//!
//! It describes a resource agent: parameters, actions, exit codes, and how to configure one. It
//! is no page of a command with options. Like the metadata it depends on the declaration alone.

#[cfg(test)]
mod tests;

mod markdown;
pub(crate) mod roff;

use std::fmt::Write as _;

use crate::declaration::COMMON_OPERATIONS;
use crate::meta::{about, paragraphs, type_name};
use crate::{Agent, Exit, Operation, Parameter, ParameterKind, parameters};
use roff::{Page, escape, prose};

/// The day of the release whose version the pages show.
pub const DATE: &str = "2026-11-21";

/// The manual page of an agent.
pub fn page<A: Agent>() -> String {
    let command = A::command();
    let name = command.get_name();
    let version = command.get_version().unwrap_or_default();
    let parameters = parameters::<A>();
    let (summary, description) = about(&command);
    let mut page = Page::default();
    page.line(&format!(
        ".TH {} 7 {DATE} \"Hastor {version}\" \"OCF resource agents\"",
        escape(&format!("OCF_HASTOR_{}", name.to_uppercase()))
    ));
    // Names and commands must not be broken by hyphens that are not part of them.
    page.line(".nh\n.ad l");
    page.section("NAME");
    page.line(&format!(
        "ocf_hastor_{} \\- {}",
        escape(name),
        prose(&summary)
    ));
    page.synopsis::<A>(name, &parameters);
    page.section("DESCRIPTION");
    let description = paragraphs(&description);
    // The first is the title, which NAME has.
    let more = description.get(1..).filter(|more| !more.is_empty());
    page.paragraphs(".PP", more.unwrap_or(&description));
    page.section("PARAMETERS");
    page.text(
        "The cluster gives each in the environment, with `OCF_RESKEY_` before its name. By hand, \
         it can also be given behind the action, as in `--name=value`.",
    );
    for parameter in &parameters {
        page.tag(&parameter.name, &facts(parameter, &parameters));
        page.paragraphs(".IP", &paragraphs(&parameter.description));
    }
    page.actions::<A>();
    page.exit_status(is_promotable::<A>());
    page.markdown(A::MANUAL);
    page.example::<A>(name, &parameters);
    page.section("FILES");
    page.tag(&format!("/usr/lib/ocf/resource.d/hastor/{name}"), &[]);
    page.text("The agent.");
    page.tag(&format!("/run/hastor/{name}"), &[]);
    page.text("What instances note between two actions. It may be removed at any time.");
    page.section("SEE ALSO");
    page.line("\\fBcrm\\fR(8),\n\\fBcrm_resource\\fR(8),\n\\fBpacemakerd\\fR(8),\n\\fBpcs\\fR(8)");
    page.into_source()
}

impl Page {
    fn synopsis<A: Agent>(&mut self, name: &str, parameters: &[Parameter]) {
        self.section("SYNOPSIS");
        for parameter in parameters.iter().filter(|it| it.deprecated.is_none()) {
            let setting = format!(
                "\\fBOCF_RESKEY_{}\\fR=\\fI{}\\fR",
                escape(&parameter.name),
                type_name(&parameter.kind)
            );
            self.line(&if parameter.required {
                setting
            } else {
                format!("[{setting}]")
            });
        }
        let mut actions: Vec<&str> = Vec::new();
        for operation in operations::<A>() {
            if !actions.contains(&operation.name) {
                actions.push(operation.name);
            }
        }
        let actions = actions
            .iter()
            .map(|name| format!("\\fB{}\\fR", escape(name)));
        let actions = actions.collect::<Vec<_>>().join("\n| ");
        self.line(&format!(
            ".br\n\\fB{}\\fR\n{{\\~{actions}\\~}}",
            escape(name)
        ));
    }

    fn actions<A: Agent>(&mut self) {
        self.section("ACTIONS");
        self.text("Timeouts and intervals are suggestions: the ones in the configuration count.");
        for operation in operations::<A>() {
            let mut facts = vec![format!("timeout {} s", operation.timeout)];
            facts.extend(
                operation
                    .interval
                    .map(|interval| format!("interval {interval} s")),
            );
            facts.extend(operation.depth.map(|depth| format!("depth {depth}")));
            facts.extend(operation.role.map(|role| format!("role {role}")));
            self.tag(operation.name, &facts);
            self.text(purpose(&operation));
        }
        self.tag("status", &[]);
        self.text("The same as `monitor`.");
        self.tag("man", &[]);
        self.text("Prints this page.");
        for (name, purpose) in A::COMMANDS {
            self.tag(name, &[]);
            self.text(&format!("By hand only: {purpose}."));
        }
    }

    fn exit_status(&mut self, promotable: bool) {
        self.section("EXIT STATUS");
        for (exit, meaning) in EXITS {
            let of_roles = matches!(
                exit,
                Exit::Promoted | Exit::FailedPromoted | Exit::DegradedPromoted
            );
            if promotable || !of_roles {
                self.tag(&(*exit as u8).to_string(), &[]);
                self.text(meaning);
            }
        }
    }

    fn example<A: Agent>(&mut self, name: &str, parameters: &[Parameter]) {
        let mut values = String::new();
        // If none is required, what tells the resource from others: something else can stand for it.
        let some = parameters.iter().any(|it| it.required);
        let shown = |it: &&Parameter| it.required || (!some && it.unique_alone);
        for parameter in parameters.iter().filter(shown) {
            let _ = write!(
                values,
                " {}={}",
                parameter.name,
                parameter.name.to_uppercase()
            );
        }
        let mut crm = format!("primitive my-{name} ocf:hastor:{name}");
        if !values.is_empty() {
            let _ = write!(crm, " \\\n    params{values}");
        }
        for operation in A::OPERATIONS {
            let _ = write!(crm, " \\\n    op {}", settings(operation));
        }
        let mut pcs = format!("pcs resource create my-{name} ocf:hastor:{name}{values}");
        if is_promotable::<A>() {
            let _ = write!(
                crm,
                "\nclone my-{name}-clone my-{name} \\\n    meta promotable=true notify=true interleave=true"
            );
            pcs.push_str(" \\\n    promotable notify=true interleave=true");
        }
        self.section("EXAMPLE");
        self.text("Words in capital letters stand for values of your own. For `crm configure`:");
        self.code(&crm);
        self.line(".PP");
        self.text("With `pcs`, which takes the operations from the agent's metadata:");
        self.code(&pcs);
    }
}

fn operations<A: Agent>() -> impl Iterator<Item = Operation> {
    A::OPERATIONS.iter().chain(COMMON_OPERATIONS).copied()
}

fn is_promotable<A: Agent>() -> bool {
    A::OPERATIONS
        .iter()
        .any(|operation| operation.name == "promote")
}

/// An operation as crmsh writes it.
fn settings(operation: &Operation) -> String {
    let mut text = format!("{} timeout={}s", operation.name, operation.timeout);
    if let Some(interval) = operation.interval {
        let _ = write!(text, " interval={interval}s");
    }
    if let Some(depth) = operation.depth.filter(|depth| *depth > 0) {
        let _ = write!(text, " OCF_CHECK_LEVEL={depth}");
    }
    if let Some(role) = operation.role {
        let _ = write!(text, " role={role}");
    }
    text
}

/// What is to be known of a parameter at a glance.
pub(crate) fn facts(parameter: &Parameter, all: &[Parameter]) -> Vec<String> {
    let mut facts = vec![match &parameter.kind {
        ParameterKind::Select(values) => {
            let values = values
                .iter()
                .map(|value| format!("`{value}`"))
                .collect::<Vec<_>>();
            format!("one of {}", values.join(" | "))
        }
        ParameterKind::Seconds => "seconds".to_owned(),
        kind => type_name(kind).to_owned(),
    }];
    if parameter.required {
        facts.push("required".into());
    }
    facts.extend(
        parameter
            .default
            .as_ref()
            .map(|default| format!("default `{default}`")),
    );
    if parameter.unique_alone {
        facts.push("unique".into());
    } else if let Some(group) = parameter.unique_group {
        let others: Vec<String> = all
            .iter()
            .filter(|other| other.unique_group == Some(group) && other.name != parameter.name)
            .map(|other| format!("`{}`", other.name))
            .collect();
        facts.push(format!("unique together with {}", others.join(" and ")));
    }
    if parameter.reloadable {
        facts.push("reloadable".into());
    }
    facts.extend(
        parameter
            .deprecated
            .map(|successor| format!("deprecated: use `{successor}`")),
    );
    facts
}

fn purpose(operation: &Operation) -> &'static str {
    match (operation.name, operation.depth.unwrap_or(0)) {
        ("start", _) => "Brings the resource up. What is up already stays as it is.",
        ("stop", _) => "Takes the resource away, and succeeds only if nothing of it is left here.",
        ("monitor", 0..10) => {
            "Tells what the resource is doing here, from what the kernel says. Changes nothing."
        }
        ("monitor", 10..20) => {
            "Also tries the resource out, within a bound. The depth is `OCF_CHECK_LEVEL`."
        }
        ("monitor", _) => {
            "Also finds out everything that can be found out. The depth is `OCF_CHECK_LEVEL`."
        }
        ("promote", _) => "Gives the resource the promoted role.",
        ("demote", _) => "Takes the promoted role back.",
        ("notify", _) => "Hears what the cluster does to other instances of the clone.",
        ("reload-agent", _) => "Applies changed parameters that are reloadable, without a restart.",
        ("validate-all", _) => {
            "Checks the parameters against each other. With `OCF_CHECK_LEVEL` at 10 or more, also \
             whether this host could run the resource."
        }
        ("meta-data", _) => "Prints the agent's metadata, in XML.",
        _ => "",
    }
}

const EXITS: &[(Exit, &str)] = &[
    (Exit::Success, "Done. From `monitor`: the resource runs."),
    (
        Exit::Generic,
        "Failed, or in doubt. The reason is on standard error.",
    ),
    (Exit::Args, "The parameters cannot work on this host."),
    (Exit::Unimplemented, "There is no such action."),
    (Exit::Permission, "Not allowed to do what is needed."),
    (
        Exit::NotInstalled,
        "Something that is needed is not installed.",
    ),
    (
        Exit::NotConfigured,
        "The parameters cannot work on any host.",
    ),
    (
        Exit::NotRunning,
        "From `monitor`: nothing of the resource is here.",
    ),
    (
        Exit::Promoted,
        "From `monitor`: the resource runs, in the promoted role.",
    ),
    (
        Exit::FailedPromoted,
        "From `monitor`: the resource failed in the promoted role.",
    ),
    (
        Exit::Degraded,
        "From `monitor`: the resource runs, but somebody should look at it.",
    ),
    (
        Exit::DegradedPromoted,
        "From `monitor`: the resource runs in the promoted role, but somebody should look at it.",
    ),
];
