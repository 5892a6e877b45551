//! Where stacks and values come from.

use std::path::Path;

use anyhow::{Context, Result};
use cib::Stack;
use host::Host;

use crate::arguments::Rendered;

/// A stack by its name; a name with a slash is a directory.
pub fn stack(host: &Host, name: &str) -> Result<Stack> {
    if name.contains('/') {
        let text = |file: &str| read(host, &format!("{}/{file}", name.trim_end_matches('/')));
        let dir = std::path::absolute(name).with_context(|| name.to_owned())?;
        let base = dir.file_name().unwrap_or_default().to_string_lossy();
        return Ok(Stack::new(
            &base,
            text("template.xml")?,
            text("values.toml")?,
        ));
    }
    Stack::built_in(name).with_context(|| {
        let known: Vec<&str> = Stack::names().collect();
        let known = known.join(", ");
        format!("there is no stack {name}; expected one of {known}, or a directory with a slash in its name")
    })
}

/// The CIB of a stack with its values.
pub fn rendered(host: &Host, asked: &Rendered) -> Result<(Stack, String)> {
    let stack = stack(host, &asked.stack)?;
    let values = read(host, &asked.values)?;
    let text = stack
        .render(&values, &asked.set)
        .with_context(|| asked.values.clone())?;
    Ok((stack, text))
}

fn read(host: &Host, path: &str) -> Result<String> {
    let absolute = std::path::absolute(Path::new(path)).with_context(|| path.to_owned())?;
    let text = host.read(&absolute.to_string_lossy())?;
    text.with_context(|| format!("{path}: there is no such file"))
}
