//! The configurations that were there before a change, on this node: `DIR/before/NUMBER.xml`, the newest with the highest
//! number; and what became of it, `DIR/before/NUMBER.after.xml`, or `NUMBER.meanwhile.xml` as long as the change has not got
//! to its end.

use anyhow::{Context, Result};
use cib::Element;
use host::Host;

/// How many are kept.
const KEPT: usize = 20;

/// One of them.
pub struct Before {
    pub path: String,
    pub configuration: Element,
    /// What became of it, as far as the change got.
    pub after: Option<Element>,
    /// Did it get to its end?
    pub is_done: bool,
}

/// A place for them.
pub struct Saved<'a> {
    host: &'a Host,
    dir: String,
}

impl Saved<'_> {
    pub fn new<'a>(host: &'a Host, state_dir: &str) -> Result<Saved<'a>> {
        let dir = std::path::absolute(state_dir).with_context(|| state_dir.to_owned())?;
        Ok(Saved {
            host,
            dir: format!("{}/before", dir.to_string_lossy()),
        })
    }

    /// Keeps one, readable for its owner only; where.
    pub fn push(&self, configuration: &Element) -> Result<String> {
        let numbers = self.numbers()?;
        let next = numbers.last().map_or(1, |last| last + 1);
        let path = self.path(next);
        self.meanwhile(&path, configuration)?;
        self.host.save(&path, &configuration.to_string())?;
        let old = (numbers.len() + 1).saturating_sub(KEPT);
        for number in numbers.iter().take(old) {
            self.forget(&self.path(*number))?;
        }
        Ok(path)
    }

    /// Keeps what has become of the one at `path` before the change is at its end.
    pub fn meanwhile(&self, path: &str, configuration: &Element) -> Result<()> {
        self.host.save(&meanwhile(path), &configuration.to_string())
    }

    /// Keeps what the change has made of the one at `path`.
    pub fn made(&self, path: &str, configuration: &Element) -> Result<()> {
        self.host.save(&after(path), &configuration.to_string())?;
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
        Ok(Some(Before {
            is_done: meanwhile.is_none(),
            after: match meanwhile {
                None => self.read(&after(&path))?,
                some => some,
            },
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

/// Where that is which has become of the one at `path` so far.
fn meanwhile(path: &str) -> String {
    format!("{}.meanwhile.xml", path.trim_end_matches(".xml"))
}

/// Where that is which a change has made of the one at `path`.
fn after(path: &str) -> String {
    format!("{}.after.xml", path.trim_end_matches(".xml"))
}
