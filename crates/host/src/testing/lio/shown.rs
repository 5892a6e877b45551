//! What the test tree shows of configfs. It is changed only where something else is to be seen.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::items::Item;
use crate::testing::Tree;

/// The texts that attributes show, a file each. An attribute is a hard link to one: a backstore comes with a hundred of
/// them, and making that many files each time is what tests would spend their time with.
pub(super) struct Texts {
    dir: TempDir,
    files: BTreeMap<String, PathBuf>,
}

impl Texts {
    pub(super) fn new() -> Texts {
        let dir = TempDir::with_prefix("texts-");
        Texts {
            dir: dir.unwrap_or_else(|error| panic!("making a directory for the test: {error}")),
            files: BTreeMap::new(),
        }
    }

    /// The file with this text.
    fn file(&mut self, text: &str) -> &PathBuf {
        if !self.files.contains_key(text) {
            let file = self.dir.path().join(self.files.len().to_string());
            done(&file.display().to_string(), fs::write(&file, text));
            self.files.insert(text.to_owned(), file);
        }
        &self.files[text]
    }
}

/// A directory, as it is seen.
#[derive(Default)]
pub(super) struct Shown {
    attributes: BTreeMap<&'static str, String>,
    links: BTreeMap<String, Vec<String>>,
    children: BTreeMap<String, Shown>,
}

impl Shown {
    /// From now on this directory, which lies at `path`, is seen as the item is.
    pub(super) fn follow(&mut self, item: &Item, tree: &Tree, texts: &mut Texts, path: &str) {
        let at = |name: &str| format!("{path}/{name}");
        self.children.retain(|name, _| {
            let stays = item.children.contains_key(name);
            if !stays {
                tree.remove(&at(name));
            }
            stays
        });
        self.links.retain(|name, target| {
            let stays = item.links.get(name) == Some(target);
            if !stays {
                tree.remove(&at(name));
            }
            stays
        });
        for (name, attribute) in &item.attributes {
            let before = self.attributes.get(name);
            if before == Some(&attribute.value) {
                continue;
            }
            if before.is_some() {
                tree.remove(&at(name));
            }
            let text = texts.file(&attribute.value);
            done(&at(name), fs::hard_link(text, tree.path(&at(name))));
            self.attributes.insert(name, attribute.value.clone());
        }
        for (name, target) in &item.links {
            if !self.links.contains_key(name) {
                let shown = shown_target(path, target);
                done(&at(name), symlink(shown, tree.path(&at(name))));
                self.links.insert(name.clone(), target.clone());
            }
        }
        for (name, child) in &item.children {
            let shown = self.children.entry(name.clone()).or_insert_with(|| {
                done(&at(name), fs::create_dir(tree.path(&at(name))));
                Shown::default()
            });
            shown.follow(child, tree, texts, &at(name));
        }
    }

    /// A line for each thing in it.
    pub(super) fn describe(&self, path: &str, lines: &mut String) {
        for (name, value) in &self.attributes {
            lines.push_str(&format!("{path}{name} = {value:?}\n"));
        }
        for (name, target) in &self.links {
            lines.push_str(&format!("{path}{name} -> {}\n", target.join("/")));
        }
        for (name, child) in &self.children {
            let below = format!("{path}{name}/");
            lines.push_str(&format!("{below}\n"));
            child.describe(&below, lines);
        }
    }
}

/// A link in configfs goes up to its root, and down from there.
fn shown_target(path: &str, target: &[String]) -> String {
    let depth = path
        .trim_start_matches(super::engine::CONFIGFS)
        .matches('/')
        .count();
    "../".repeat(depth) + &target.join("/")
}

fn done(path: &str, result: io::Result<()>) {
    result.unwrap_or_else(|error| panic!("showing {path}: {error}"));
}
