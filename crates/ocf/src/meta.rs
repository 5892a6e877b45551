//! An agent's metadata, as the OCF resource agent API 1.1 defines it.
//!
//! Pacemaker asks for it before every start, as an unprivileged user and with next to no
//! environment, so it depends on the declaration alone: no file, no variable, no clock.

#[cfg(test)]
pub(crate) mod tests;

use std::io;

use clap::Command;
use quick_xml::Writer;
use quick_xml::escape::partial_escape;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::declaration::COMMON_OPERATIONS;
use crate::{Agent, Operation, Parameter, ParameterKind, parameters};

/// The grammar, which is installed with the agents. `ocf-tester` asks for one, and the one that the resource-agents package
/// installs knows nothing of OCF 1.1. It cannot come within the document: Pacemaker 3.0.0 logs an error for each line of it,
/// and forks for each, whenever it reads metadata, which is at every start.
const GRAMMAR: &str = "resource-agent SYSTEM \"/usr/lib/ocf/lib/hastor/ra-api-1.1.dtd\"";

/// The metadata of an agent, in XML.
pub fn metadata<A: Agent>() -> String {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    write_document::<A>(&mut xml).expect("memory takes every write");
    let mut text = String::from_utf8(xml.into_inner()).expect("the writer was given text only");
    text.push('\n');
    text
}

type Xml = Writer<Vec<u8>>;

fn write_document<A: Agent>(xml: &mut Xml) -> io::Result<()> {
    let command = A::command();
    // No encoding: crmsh hands the document over as text, and lxml refuses text that names one.
    xml.write_event(Event::Decl(BytesDecl::new("1.0", None, None)))?;
    xml.write_event(Event::DocType(BytesText::from_escaped(GRAMMAR)))?;
    let agent = xml
        .create_element("resource-agent")
        .with_attribute(("name", command.get_name()))
        .with_attributes(command.get_version().map(|version| ("version", version)));
    agent.write_inner_content(|xml| {
        // OCF's version. The agent's own is the attribute above.
        xml.create_element("version")
            .write_text_content(BytesText::new("1.1"))?;
        let (summary, description) = about(&command);
        write_descriptions(xml, &summary, &description)?;
        xml.create_element("parameters")
            .write_inner_content(|xml| {
                parameters::<A>()
                    .iter()
                    .try_for_each(|parameter| write_parameter(xml, parameter))
            })?;
        xml.create_element("actions")
            .write_inner_content(|xml| actions::<A>().try_for_each(|it| write_action(xml, it)))?;
        Ok(())
    })?;
    Ok(())
}

fn write_parameter(xml: &mut Xml, parameter: &Parameter) -> io::Result<()> {
    let element = xml
        .create_element("parameter")
        .with_attribute(("name", parameter.name.as_str()))
        .with_attributes(parameter.unique_group.map(|group| ("unique-group", group)))
        // OCF 1.0's word, which says "on its own". crmsh still reads no other.
        .with_attributes(parameter.unique_alone.then_some(("unique", "1")))
        .with_attribute(("required", yes_no(parameter.required)))
        .with_attribute(("reloadable", yes_no(parameter.reloadable)));
    element.write_inner_content(|xml| {
        if let Some(successor) = parameter.deprecated {
            xml.create_element("deprecated")
                .write_inner_content(|xml| {
                    let element = xml.create_element("replaced-with");
                    element.with_attribute(("name", successor)).write_empty()?;
                    Ok(())
                })?;
        }
        write_descriptions(xml, &parameter.summary, &parameter.description)?;
        write_content(xml, parameter)
    })?;
    Ok(())
}

fn write_content(xml: &mut Xml, parameter: &Parameter) -> io::Result<()> {
    let element = xml
        .create_element("content")
        .with_attribute(("type", type_name(&parameter.kind)))
        .with_attributes(
            parameter
                .default
                .as_deref()
                .map(|default| ("default", default)),
        );
    let ParameterKind::Select(values) = &parameter.kind else {
        element.write_empty()?;
        return Ok(());
    };
    element.write_inner_content(|xml| {
        for value in values {
            let option = xml.create_element("option");
            option
                .with_attribute(("value", value.as_str()))
                .write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_action(xml: &mut Xml, action: Operation) -> io::Result<()> {
    let interval = action.interval.map(seconds);
    let depth = action.depth.map(|depth| depth.to_string());
    xml.create_element("action")
        .with_attribute(("name", action.name))
        .with_attribute(("timeout", seconds(action.timeout).as_str()))
        .with_attributes(interval.as_deref().map(|interval| ("interval", interval)))
        .with_attributes(depth.as_deref().map(|depth| ("depth", depth)))
        .with_attributes(action.role.map(|role| ("role", role)))
        .write_empty()?;
    Ok(())
}

/// OCF wants the long one first.
fn write_descriptions(xml: &mut Xml, summary: &str, description: &str) -> io::Result<()> {
    for (name, text) in [
        ("longdesc", paragraphs(description).join("\n\n")),
        ("shortdesc", summary.into()),
    ] {
        // Quotation marks may stand in a text as they are.
        let text = BytesText::from_escaped(partial_escape(text));
        xml.create_element(name)
            .with_attribute(("lang", "en"))
            .write_text_content(text)?;
    }
    Ok(())
}

/// What an agent is, in one line and at length.
pub(crate) fn about(command: &Command) -> (String, String) {
    let summary = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let description = command.get_long_about().map(ToString::to_string);
    (summary.clone(), description.unwrap_or(summary))
}

/// The paragraphs of a doc comment. Its first line is a title without a full stop; at the head
/// of a text it becomes a sentence, since pcs runs the paragraphs together.
pub(crate) fn paragraphs(description: &str) -> Vec<String> {
    let mut paragraphs: Vec<String> = description
        .split("\n\n")
        .map(|paragraph| paragraph.trim().to_owned())
        .filter(|paragraph| !paragraph.is_empty())
        .collect();
    if let [title, _, ..] = paragraphs.as_mut_slice() {
        if !title.ends_with(['.', '!', '?', ':']) {
            title.push('.');
        }
    }
    paragraphs
}

/// The name that OCF has for what a parameter's values look like.
pub(crate) fn type_name(kind: &ParameterKind) -> &'static str {
    match kind {
        ParameterKind::Boolean => "boolean",
        ParameterKind::Integer => "integer",
        // OCF has no word for a time, and half a second is no integer.
        ParameterKind::String | ParameterKind::Seconds => "string",
        ParameterKind::Select(_) => "select",
    }
}

/// Everything the agent advertises. `status` is the plain monitor under its name of old, which
/// people and scripts still use; pcs knows to leave it out of a configuration.
fn actions<A: Agent>() -> impl Iterator<Item = Operation> {
    let own = A::OPERATIONS.iter().copied();
    let plain = own.clone().find(|operation| {
        operation.name == "monitor" && operation.depth == Some(0) && operation.role.is_none()
    });
    let status = plain.map(|monitor| Operation {
        name: "status",
        ..monitor
    });
    own.chain(status).chain(COMMON_OPERATIONS.iter().copied())
}

fn yes_no(is: bool) -> &'static str {
    if is { "1" } else { "0" }
}

fn seconds(count: u32) -> String {
    format!("{count}s")
}
