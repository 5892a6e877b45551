//! What `zfs get -Hp -o name,property,value,source` prints.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// Datasets in the order in which they are printed, each with the values of its properties.
pub fn parse(text: &str) -> Result<Vec<(String, BTreeMap<String, String>)>> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split('\t');
        let mut word = || {
            words
                .next()
                .with_context(|| format!("\"{line}\": expected name, property, value and source"))
        };
        let (name, property, value) = (word()?, word()?, word()?);
        match found.last_mut().filter(|(last, _)| last == name) {
            Some((_, properties)) => {
                properties.insert(property.to_owned(), value.to_owned());
            }
            None => found.push((
                name.to_owned(),
                BTreeMap::from([(property.to_owned(), value.to_owned())]),
            )),
        }
    }
    Ok(found)
}
