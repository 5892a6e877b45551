//! The configurations that were there before a change, on this node: `DIR/before/NUMBER.xml`, the newest with the highest
//! number; and what the change made of it, `DIR/before/NUMBER.after.xml`.

use anyhow::{Context, Result};
use cib::Element;
use host::Host;

/// How many are kept.
const KEPT: usize = 20;

/// One of them.
pub struct Before {
    pub path: String,
    pub configuration: Element,
    /// What the change made of it, if it got to its end.
    pub after: Option<Element>,
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
        self.host.save(&path, &configuration.to_string())?;
        let old = (numbers.len() + 1).saturating_sub(KEPT);
        for number in numbers.iter().take(old) {
            self.forget(&self.path(*number))?;
        }
        Ok(path)
    }

    /// Keeps what the change has made of the one at `path`.
    pub fn made(&self, path: &str, configuration: &Element) -> Result<()> {
        self.host.save(&after(path), &configuration.to_string())
    }

    /// The newest.
    pub fn newest(&self) -> Result<Before> {
        let numbers = self.numbers()?;
        let newest = numbers.last().with_context(|| {
            format!("{}: there is nothing to go back to on this node", self.dir)
        })?;
        let path = self.path(*newest);
        let configuration = self.read(&path)?.with_context(|| path.clone())?;
        let after = self.read(&after(&path))?;
        Ok(Before {
            path,
            configuration,
            after,
        })
    }

    fn read(&self, path: &str) -> Result<Option<Element>> {
        let text = self.host.read(path)?;
        text.map(|text| Element::parse(&text).with_context(|| path.to_owned()))
            .transpose()
    }

    /// Forgets one.
    pub fn forget(&self, path: &str) -> Result<()> {
        self.host.remove(&after(path))?;
        self.host.remove(path)
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

/// Where that is which a change has made of the one at `path`.
fn after(path: &str) -> String {
    format!("{}.after.xml", path.trim_end_matches(".xml"))
}
