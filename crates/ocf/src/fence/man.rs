//! A fence agent's manual page, from the same declaration as its metadata.

use super::{Action, Fence, parameters};
use crate::man::roff::{Page, escape, prose};
use crate::man::{DATE, facts};
use crate::meta::{about, paragraphs};
use crate::{Parameter, ParameterKind};

/// The manual page of a fence agent, in section 8.
pub fn page<F: Fence>() -> String {
    let command = F::command();
    let version = command.get_version().unwrap_or_default();
    let parameters = parameters::<F>();
    let (summary, description) = about(&command);
    let mut page = Page::default();
    page.line(&format!(
        ".TH {} 8 {DATE} \"Hastor {version}\" \"Fence agents\"",
        escape(&F::NAME.to_uppercase())
    ));
    page.line(".nh\n.ad l");
    page.section("NAME");
    page.line(&format!("{} \\- {}", escape(F::NAME), prose(&summary)));
    page.section("SYNOPSIS");
    let name = escape(F::NAME);
    page.line(&format!(
        "\\fB{name}\\fR [\\fB\\-o\\fR \\fIaction\\fR] [\\fIoption\\fR ...]\n.br\n\\fB{name}\\fR < \\fIparameters\\fR"
    ));
    page.section("DESCRIPTION");
    let description = paragraphs(&description);
    let more = description.get(1..).filter(|more| !more.is_empty());
    page.paragraphs(".PP", more.unwrap_or(&description));
    page.section("PARAMETERS");
    page.text(
        "Without options, the agent reads them from standard input, as lines `name=value`, which is how the cluster \
         gives them. In names, `-` and `_` are the same. A value is taken without blanks around it and without one \
         pair of quotation marks; that of a password or key is taken exactly as it is.",
    );
    for parameter in &parameters {
        let mut facts = facts(parameter, &parameters);
        facts.push(format!("`{}`", option(parameter)));
        if !parameter.aliases.is_empty() {
            let names: Vec<String> = parameter
                .aliases
                .iter()
                .map(|it| format!("`{it}`"))
                .collect();
            facts.push(format!("deprecated names {}", names.join(" and ")));
        }
        page.tag(&parameter.name, &facts);
        page.paragraphs(".IP", &paragraphs(&parameter.description));
    }
    page.line(".PP");
    page.text(
        "Of two names for one parameter the newer one counts; different values for them are an error. Names that are \
         not known are passed over with a warning on standard input, and are an error among options.",
    );
    page.section("ACTIONS");
    for (_, name, purpose) in Action::ALL {
        page.tag(name, &[]);
        page.text(purpose);
    }
    page.section("EXIT STATUS");
    for (code, meaning) in [
        ("0", "Done. From `status`: the target has power."),
        (
            "1",
            "Failed, or in doubt. The reason is on standard error. That the device cannot be reached, or that \
             time ran out, is never taken for \"off\".",
        ),
        ("2", "From `status`: the target has no power."),
    ] {
        page.tag(code, &[]);
        page.text(meaning);
    }
    page.section("EXAMPLE");
    page.text("Words in capital letters stand for values of your own. For `crm configure`:");
    let params = F::EXAMPLE.join(" ");
    let kind = F::NAME;
    page.code(&format!(
        "primitive fence-NODE stonith:{kind} \\\n    params pcmk_host_list=NODE {params} \\\n    op monitor interval=300s timeout=60s"
    ));
    page.line(".PP");
    page.text("With `pcs`:");
    page.code(&format!(
        "pcs stonith create fence-NODE {kind} \\\n    pcmk_host_list=NODE {params} \\\n    op monitor interval=300s timeout=60s"
    ));
    page.section("SEE ALSO");
    page.line("\\fBcrm\\fR(8),\n\\fBpacemaker\\-fenced\\fR(7),\n\\fBpcs\\fR(8),\n\\fBstonith_admin\\fR(8)");
    page.into_source()
}

/// As a person types it.
fn option(parameter: &Parameter) -> String {
    let long = parameter.name.replace('_', "-");
    let value = match parameter.kind {
        ParameterKind::Boolean => "",
        _ => "=...",
    };
    match parameter.short {
        Some(letter) => format!("-{letter}, --{long}{value}"),
        None => format!("--{long}{value}"),
    }
}
