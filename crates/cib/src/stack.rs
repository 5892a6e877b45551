//! A stack: a template of a CIB, and the declaration of its values.

use std::borrow::Cow;
use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, ensure};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::element::{Element, escaped};
use crate::values::Declaration;

/// The stacks that are part of the program: name, template, values.
const BUILT_IN: &[(&str, &str, &str)] = &[(
    "zfs-iscsi",
    include_str!("../../../cib-templates/zfs-iscsi/template.xml"),
    include_str!("../../../cib-templates/zfs-iscsi/values.toml"),
)];

/// What a template's own check says begins so.
const REFUSED: &str = "refused: ";

/// A template and the declaration of its values.
///
/// The template is a CIB with the statements of Jinja. All values that are declared can be used in it; those that are
/// optional and left out are `none`. `stack` is the stack's name, `portal(ip)` an address with iSCSI's port, and
/// `refuse(text)` ends it with an error.
#[derive(Clone, Debug)]
pub struct Stack {
    name: String,
    template: Cow<'static, str>,
    values: Cow<'static, str>,
}

impl Stack {
    /// The names of the stacks that are built in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, ..)| *name)
    }

    /// A stack that is built in.
    pub fn built_in(name: &str) -> Option<Stack> {
        let (name, template, values) = BUILT_IN.iter().find(|(it, ..)| *it == name)?;
        Some(Stack {
            name: (*name).to_owned(),
            template: Cow::Borrowed(template),
            values: Cow::Borrowed(values),
        })
    }

    /// A stack from the texts of its `template.xml` and `values.toml`.
    pub fn new(name: &str, template: String, values: String) -> Stack {
        Stack {
            name: name.to_owned(),
            template: Cow::Owned(template),
            values: Cow::Owned(values),
        }
    }

    /// Its name, which is also that of the tag in the CIB that lists what belongs to it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of its `values.toml`: declaration, explanation and example of its values.
    pub fn values(&self) -> &str {
        &self.values
    }

    /// The CIB with the values of the text `given` (TOML), of which those in `changed` (`pools.tank1.home`, `head2`) are
    /// replaced.
    ///
    /// # Errors
    /// Of a value that is unknown, missing, or not what it has to be: one line that names it.
    pub fn render(&self, given: &str, changed: &[(String, String)]) -> Result<String> {
        let declaration = Declaration::parse(&self.values)
            .with_context(|| format!("values.toml of the stack {}", self.name))?;
        let mut values = declaration.check(given, changed)?;
        values.insert("stack".to_owned(), self.name.clone().into());
        let environment = environment();
        let template = environment
            .template_from_named_str("template.xml", &self.template)
            .map_err(in_one_line)?;
        let text = template
            .render(Value::from_serialize(&values))
            .map_err(in_one_line)?;
        let text = indented(&text);
        let cib = Element::parse(&text).context("what the template makes")?;
        let mut ids = BTreeSet::new();
        for element in cib.all() {
            if let (false, Some(id)) = (element.name == "obj_ref", element.get("id")) {
                ensure!(
                    // Pacemaker numbers nodes by themselves.
                    element.name == "node" || ids.insert(id),
                    "the values make two elements with the id \"{id}\"; expected names that differ"
                );
            }
        }
        Ok(text)
    }
}

/// The text with each line as far in as it is deep: in a template, each element or comment has a line of its own.
fn indented(text: &str) -> String {
    let (mut depth, mut indented) = (0_usize, String::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let closes = line.starts_with("</");
        depth = depth.saturating_sub(usize::from(closes));
        indented += &format!("{}{line}\n", "  ".repeat(depth));
        let whole = closes || line.starts_with("<!") || line.ends_with("/>");
        depth += usize::from(!whole);
    }
    indented
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, _, value| {
        let text = value.to_string();
        let safe = value.is_safe();
        out.write_str(&if safe { text } else { escaped(&text) })
            .map_err(Error::from)
    });
    environment.add_function("refuse", |text: String| -> Result<String, Error> {
        Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("{REFUSED}{text}"),
        ))
    });
    environment.add_function("portal", |ip: String| match ip.contains(':') {
        true => format!("[{ip}]:3260"),
        false => format!("{ip}:3260"),
    });
    environment
}

fn in_one_line(error: Error) -> anyhow::Error {
    match error.detail().and_then(|text| text.strip_prefix(REFUSED)) {
        Some(text) => anyhow!("value {text}"),
        None => anyhow!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> Stack {
        Stack::built_in("zfs-iscsi").unwrap()
    }

    fn refused(changed: &[(&str, &str)]) -> String {
        let changed: Vec<_> = changed
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let stack = stack();
        stack
            .render(stack.values(), &changed)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_stack_renders_with_its_example_values() {
        for name in Stack::names() {
            let stack = Stack::built_in(name).unwrap();
            let text = stack.render(stack.values(), &[]).unwrap();
            let cib = Element::parse(&text).unwrap();
            assert!(cib.get("crm_feature_set").is_none());
            let tag = cib.all().into_iter().find(|it| it.name == "tag").unwrap();
            assert_eq!(tag.id(), name);
            let mut resources = cib
                .all()
                .into_iter()
                .filter(|it| ["primitive", "group", "clone"].contains(&it.name.as_str()));
            assert!(
                resources.all(|it| tag.children.iter().any(|child| child.id() == it.id())),
                "{name}: a resource is not in the tag"
            );
            let constraints = cib.child("configuration").unwrap().child("constraints");
            for constraint in &constraints.unwrap().children {
                assert!(constraint.id().starts_with(&format!("{name}-")));
            }
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_refused_in_one_line() {
        assert_eq!(
            refused(&[("pools.tank2.iqn", "iqn.2026-01.com.example:tank2")]),
            "value pools.tank2: expected either definition, or iqn and luns"
        );
        assert_eq!(
            refused(&[("sans.san1.prefix", "64")]),
            "value sans.san1.prefix: 64; expected 1 to 32, because 198.51.100.11 is an IPv4 address"
        );
        assert_eq!(
            refused(&[("pools.tank2.addresses.san2.san", "san1")]),
            "the values make two elements with the id \"vip-tank2-san1\"; expected names that differ"
        );
    }

    #[test]
    fn ipv6_addresses_get_brackets_in_portals() {
        let stack = stack();
        let address = |pool: &str, ip: &str| {
            let name = format!("pools.{pool}.addresses.san1.ip");
            (name, ip.to_owned())
        };
        let mut changed = vec![
            address("tank1", "2001:db8::11"),
            address("tank2", "2001:db8::12"),
        ];
        let wrong = stack.render(stack.values(), &changed).unwrap_err();
        let wrong = format!("{wrong:#}");
        assert!(
            wrong.contains("sans.san1.prefix: 24; expected 33 to 128"),
            "{wrong}"
        );
        changed.push(("sans.san1.prefix".to_owned(), "64".to_owned()));
        let text = stack.render(stack.values(), &changed).unwrap();
        assert!(text.contains("value=\"[2001:db8::11]:3260 203.0.113.11:3260\""));
    }

    /// One that is not the only one may fail alone.
    #[test]
    fn the_only_address_takes_its_pool_along() {
        let stack = stack();
        let values = stack.values().replacen(
            "[[pools.addresses]]\nsan = \"san2\"\nip = \"203.0.113.11\"\n",
            "",
            1,
        );
        let critical = |text: &str| text.matches("-meta-critical\"").count();
        let both = stack.render(stack.values(), &[]).unwrap();
        let one = stack.render(&values, &[]).unwrap();
        assert_eq!((critical(&both), critical(&one)), (4, 2));
        assert!(!one.contains("vip-tank1-san1-meta-critical"), "{one}");
    }
}
