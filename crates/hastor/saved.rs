//! The configurations that were there before a change, on this node: `DIR/before/NUMBER.xml`, the newest with the highest
//! number; and what a change is making of it, `DIR/before/NUMBER.after.xml`, from `NUMBER.meanwhile.xml`, which is there until
//! the change has got to its end.

use anyhow::{Context, Result};
use cib::Element;
use host::Host;

/// How many are kept.
const KEPT: usize = 20;

/// One of them.
pub struct Before {
    pub path: String,
    pub configuration: Element,
    /// What the change can have left, wherever it has ended.
    pub left: Vec<Element>,
    /// Did it get to its end?
    pub is_done: bool,
}

/// A place for them.
pub struct Saved<'a> {
    host: &'a Host,
    dir: String,
}

impl Saved<'_> {
    pub fn new<'a>(host: &'a Host, state_dir: &str) -> Saved<'a> {
        Saved {
            host,
            dir: format!("{state_dir}/before"),
        }
    }

    /// Keeps one, readable for its owner only; where.
    pub fn push(&self, configuration: &Element) -> Result<String> {
        let numbers = self.numbers()?;
        let next = numbers.last().map_or(1, |last| last + 1);
        let path = self.path(next);
        self.host.save_durably(&path, &configuration.to_string())?;
        let old = (numbers.len() + 1).saturating_sub(KEPT);
        for number in numbers.iter().take(old) {
            self.forget(&self.path(*number))?;
        }
        Ok(path)
    }

    /// Keeps what the one at `path` has become so far, and what is made of it next.
    pub fn between(&self, path: &str, from: &Element, to: &Element) -> Result<()> {
        // This node may be fenced next, because something could not be stopped.
        self.host
            .save_durably(&meanwhile(path), &from.to_string())?;
        self.host.save_durably(&after(path), &to.to_string())
    }

    /// The change of the one at `path` is at its end.
    pub fn done(&self, path: &str) -> Result<()> {
        self.host.remove(&meanwhile(path))
    }

    /// The newest, if there is one.
    pub fn newest(&self) -> Result<Option<Before>> {
        let Some(newest) = self.numbers()?.pop() else {
            return Ok(None);
        };
        let path = self.path(newest);
        let configuration = self.read(&path)?.with_context(|| path.clone())?;
        let meanwhile = self.read(&meanwhile(&path))?;
        let after = self.read(&after(&path))?;
        Ok(Some(Before {
            is_done: meanwhile.is_none(),
            left: meanwhile.into_iter().chain(after).collect(),
            path,
            configuration,
        }))
    }

    fn read(&self, path: &str) -> Result<Option<Element>> {
        let text = self.host.read(path)?;
        text.map(|text| Element::parse(&text).with_context(|| path.to_owned()))
            .transpose()
    }

    /// Forgets one.
    pub fn forget(&self, path: &str) -> Result<()> {
        self.host.remove(path)?;
        self.host.remove(&after(path))?;
        self.host.remove(&meanwhile(path))
    }

    /// Where they are.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    fn path(&self, number: u32) -> String {
        format!("{}/{number}.xml", self.dir)
    }

    fn numbers(&self) -> Result<Vec<u32>> {
        let names = self.host.list(&self.dir)?;
        let numbers = names.iter().filter_map(|name| name.strip_suffix(".xml"));
        let mut numbers: Vec<u32> = numbers.filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// Where that is which the one at `path` has become so far.
fn meanwhile(path: &str) -> String {
    format!("{}.meanwhile.xml", path.trim_end_matches(".xml"))
}

/// Where that is which is made of the one at `path`.
fn after(path: &str) -> String {
    format!("{}.after.xml", path.trim_end_matches(".xml"))
}
