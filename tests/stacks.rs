//! The stacks in `cib-templates/`: what they make of their example values, and that everything that reads a configuration
//! takes it. `UPDATE=1` rewrites `example.xml` and, with Pacemaker's tools, `failover.txt`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests see the program as its users do"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test may, but clippy does not take what it calls for one"
)]

mod apply;
mod failover;
mod readers;

use std::fs;
use std::path::{Path, PathBuf};

use cib::{Element, Stack};

/// The program.
const HASTOR: &str = env!("CARGO_BIN_EXE_hastor");

fn folder(stack: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("cib-templates").join(stack)
}

/// The path of one of a stack's files, as an argument.
fn file(stack: &str, name: &str) -> String {
    folder(stack).join(name).to_str().unwrap().to_owned()
}

/// The CIB with the example values.
fn example(stack: &str) -> Element {
    let stack = Stack::built_in(stack).unwrap();
    Element::parse(&stack.render(stack.values(), &[]).unwrap()).unwrap()
}

/// Holds a generated text against the one that is committed, or replaces that one.
fn is_committed(stack: &str, name: &str, generated: &str) {
    let path = folder(stack).join(name);
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::write(&path, generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        generated == committed,
        "{} is out of date: UPDATE=1 cargo test stacks; it would be\n{generated}",
        path.display()
    );
}

#[test]
fn every_stack_is_built_in_and_complete() {
    let mut folders: Vec<String> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut stacks: Vec<&str> = Stack::names().collect();
    stacks.sort_unstable();
    assert_eq!(folders, stacks);
    for stack in stacks {
        for name in [
            "template.xml",
            "values.toml",
            "example.xml",
            "failover.txt",
            "README.md",
        ] {
            assert!(folder(stack).join(name).is_file(), "{stack} has no {name}");
        }
    }
}

#[test]
fn the_committed_examples_are_what_the_example_values_make() {
    for name in Stack::names() {
        let stack = Stack::built_in(name).unwrap();
        is_committed(
            name,
            "example.xml",
            &stack.render(stack.values(), &[]).unwrap(),
        );
    }
}
