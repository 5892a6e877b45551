//! XML as a tree of elements with attributes: a CIB has nothing else.

use std::fmt;

use anyhow::{Context, Result, ensure};

/// An element. Comments are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// `primitive`
    pub name: String,
    /// In the order of the text.
    pub attributes: Vec<(String, String)>,
    /// In the order of the text.
    pub children: Vec<Element>,
}

impl Element {
    /// An element without attributes and children.
    pub fn new(name: &str) -> Element {
        Element {
            name: name.to_owned(),
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Adds an attribute that is not there yet.
    pub fn with(mut self, name: &str, value: &str) -> Element {
        self.attributes.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Reads a document. Text between elements, which a CIB never has, is an error: it would get lost. The output of
    /// Pacemaker's tools has some, in places that nobody asks for: see [`Element::parse_answer`].
    pub fn parse(text: &str) -> Result<Element> {
        let document = roxmltree::Document::parse(text).context("no XML")?;
        let stray = document
            .descendants()
            .find(|node| node.is_text() && !node.text().unwrap_or_default().trim().is_empty());
        ensure!(
            stray.is_none(),
            "text between elements: {:?}; expected none in a CIB",
            stray.and_then(|node| node.text()).unwrap_or_default()
        );
        Ok(copy(document.root_element()))
    }

    /// Reads the answer of a tool, and leaves out its text.
    pub fn parse_answer(text: &str) -> Result<Element> {
        let document = roxmltree::Document::parse(text).context("no XML")?;
        Ok(copy(document.root_element()))
    }

    /// An attribute's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    }

    /// An attribute's value, or nothing.
    pub fn word(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The attribute `id`, or nothing.
    pub fn id(&self) -> &str {
        self.word("id")
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.attributes.iter_mut().find(|(it, _)| it == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.attributes.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The first child with this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The children with this name.
    pub fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child with this name, which is made if it is not there.
    pub fn child_or_new(&mut self, name: &str) -> &mut Element {
        let at = self.children.iter().position(|child| child.name == name);
        let at = at.unwrap_or_else(|| {
            self.children.push(Element::new(name));
            self.children.len() - 1
        });
        &mut self.children[at]
    }

    /// The child with this name and id, which is made if there is none with that id.
    pub fn child_with_id(&mut self, name: &str, id: &str) -> &mut Element {
        let at = self.children.iter().position(|child| child.id() == id);
        let at = at.unwrap_or_else(|| {
            self.children.push(Element::new(name).with("id", id));
            self.children.len() - 1
        });
        &mut self.children[at]
    }

    /// The primitives in it, or it itself if it is one, in the order of the text.
    pub fn primitives(&self) -> impl Iterator<Item = &Element> {
        let all = self.all().into_iter();
        all.filter(|it| it.name == "primitive")
    }

    /// This element and all in it, in the order of the text.
    pub fn all(&self) -> Vec<&Element> {
        let mut all = vec![self];
        all.extend(self.children.iter().flat_map(Element::all));
        all
    }

    /// The pairs (`nvpair`) of all its sets with this name, in the order of the text.
    pub fn pairs<'a>(&'a self, sets: &'a str) -> Vec<(&'a str, &'a str)> {
        self.children_named(sets)
            .flat_map(|set| set.children_named("nvpair"))
            .map(|pair| (pair.word("name"), pair.word("value")))
            .collect()
    }
}

fn copy(node: roxmltree::Node) -> Element {
    Element {
        name: node.tag_name().name().to_owned(),
        attributes: node
            .attributes()
            .map(|attribute| (attribute.name().to_owned(), attribute.value().to_owned()))
            .collect(),
        children: node
            .children()
            .filter(roxmltree::Node::is_element)
            .map(copy)
            .collect(),
    }
}

/// As XML, indented by two blanks, with an end of line.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        indented(self, 0, f)
    }
}

fn indented(element: &Element, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (indent, name) = ("  ".repeat(depth), &element.name);
    write!(f, "{indent}<{name}")?;
    for (name, value) in &element.attributes {
        write!(f, " {name}=\"{}\"", escaped(value))?;
    }
    if element.children.is_empty() {
        return writeln!(f, "/>");
    }
    writeln!(f, ">")?;
    let mut children = element.children.iter();
    children.try_for_each(|child| indented(child, depth + 1, f))?;
    writeln!(f, "{indent}</{name}>")
}

/// Text as an attribute's value has it.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // As they are, a reader would make blanks of them.
            '\n' => escaped += "&#10;",
            '\t' => escaped += "&#9;",
            '\r' => escaped += "&#13;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        let text = "<a x=\"&lt;&amp;&quot;&#10;\">\n  <b/>\n  <c y=\"1\"/>\n</a>\n";
        let element = Element::parse(text).unwrap();
        assert_eq!(element.get("x"), Some("<&\"\n"));
        assert_eq!(element.to_string(), text);
    }

    #[test]
    fn text_is_not_lost_silently() {
        let error = Element::parse("<a>words</a>").unwrap_err();
        assert_eq!(
            error.to_string(),
            "text between elements: \"words\"; expected none in a CIB"
        );
        assert_eq!(
            Element::parse_answer("<a>words</a>").unwrap(),
            Element::new("a")
        );
    }
}
