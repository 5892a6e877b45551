//! A fence agent's metadata, in the form of fence-agents, which is OCF 1.0's with words of its own.
//! Like an agent's, it depends on the declaration alone.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::{Action, Fence, parameters};
use crate::meta::{about, paragraphs};
use crate::{Parameter, ParameterKind};

/// The metadata of a fence agent, in XML.
pub fn metadata<F: Fence>() -> String {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    write_document::<F>(&mut xml).expect("memory takes every write");
    let mut text = String::from_utf8(xml.into_inner()).expect("the writer was given text only");
    text.push('\n');
    text
}

type Xml = Writer<Vec<u8>>;

fn write_document<F: Fence>(xml: &mut Xml) -> io::Result<()> {
    let (summary, description) = about(&F::command());
    // No encoding, and no <version>: pcs would hold the document against the rules of OCF 1.1,
    // which it does not follow.
    xml.write_event(Event::Decl(BytesDecl::new("1.0", None, None)))?;
    let agent = xml
        .create_element("resource-agent")
        .with_attribute(("name", F::NAME))
        .with_attribute(("shortdesc", summary.as_str()));
    agent.write_inner_content(|xml| {
        let description = paragraphs(&description).join("\n\n");
        xml.create_element("longdesc")
            .write_text_content(BytesText::new(&description))?;
        xml.create_element("vendor-url")
            .write_text_content(BytesText::new(F::VENDOR_URL))?;
        xml.create_element("parameters")
            .write_inner_content(|xml| {
                parameters::<F>()
                    .iter()
                    .try_for_each(|parameter| write_names(xml, parameter))
            })?;
        xml.create_element("actions").write_inner_content(|xml| {
            Action::ALL.iter().try_for_each(|(action, name, _)| {
                let element = xml.create_element("action").with_attribute(("name", *name));
                // 1 would have the cluster power on every node that joins.
                let joins = (*action == Action::On).then_some(("automatic", "0"));
                element.with_attributes(joins).write_empty()?;
                Ok(())
            })
        })?;
        Ok(())
    })?;
    Ok(())
}

/// The parameter, and again under each of its older names.
fn write_names(xml: &mut Xml, parameter: &Parameter) -> io::Result<()> {
    // There is room for one: the name that fence-agents had.
    let obsoletes = parameter.aliases.first();
    let obsoletes = obsoletes.map(|alias| ("obsoletes", alias.as_str()));
    write_parameter(xml, &parameter.name, parameter, obsoletes)?;
    for alias in &parameter.aliases {
        write_parameter(xml, alias, parameter, Some(("deprecated", "1")))?;
    }
    Ok(())
}

fn write_parameter(
    xml: &mut Xml,
    name: &str,
    parameter: &Parameter,
    standing: Option<(&str, &str)>,
) -> io::Result<()> {
    let required = if parameter.required { "1" } else { "0" };
    let element = xml
        .create_element("parameter")
        .with_attribute(("name", name))
        .with_attribute(("unique", "0"))
        .with_attribute(("required", required))
        .with_attributes(standing);
    element.write_inner_content(|xml| {
        xml.create_element("getopt")
            .with_attribute(("mixed", option(parameter).as_str()))
            .write_empty()?;
        write_content(xml, parameter)?;
        // The only text there is room for: it has to say it all.
        let text = paragraphs(&parameter.description).join(" ");
        xml.create_element("shortdesc")
            .with_attribute(("lang", "en"))
            .write_text_content(BytesText::new(&text))?;
        Ok(())
    })?;
    Ok(())
}

/// As in `-a, --ip=[ip]`.
fn option(parameter: &Parameter) -> String {
    let long = parameter.name.replace('_', "-");
    let short = parameter.short.map(|letter| format!("-{letter}, "));
    let value = match parameter.kind {
        ParameterKind::Boolean => String::new(),
        _ => format!("=[{}]", parameter.name),
    };
    format!("{}--{long}{value}", short.unwrap_or_default())
}

fn write_content(xml: &mut Xml, parameter: &Parameter) -> io::Result<()> {
    let kind = match parameter.kind {
        ParameterKind::Boolean => "boolean",
        ParameterKind::Integer => "integer",
        ParameterKind::Seconds => "second",
        ParameterKind::String => "string",
        ParameterKind::Select(_) => "select",
    };
    let default = parameter.default.as_deref();
    let element = xml
        .create_element("content")
        .with_attribute(("type", kind))
        .with_attributes(default.map(|default| ("default", default)));
    let ParameterKind::Select(values) = &parameter.kind else {
        element.write_empty()?;
        return Ok(());
    };
    element.write_inner_content(|xml| {
        values.iter().try_for_each(|value| {
            let option = xml.create_element("option");
            option
                .with_attribute(("value", value.as_str()))
                .write_empty()?;
            Ok(())
        })
    })?;
    Ok(())
}
