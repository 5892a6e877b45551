//! What `zfs get -Hp -o name,property,value,source` prints.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// A property as one dataset has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its value; `-` if it has none.
    pub value: String,
    /// Where that comes from: `local`, `received`, `inherited from tank`, `default`, `temporary`, or `-`.
    pub source: String,
}

impl Property {
    /// Was it given to this very dataset, by `zfs set` or `zfs receive`?
    pub fn is_own(&self) -> bool {
        matches!(self.source.as_str(), "local" | "received")
    }
}

/// Datasets in the order in which they are printed, each with its properties.
pub fn properties(text: &str) -> Result<Vec<(String, BTreeMap<String, Property>)>> {
    let mut found: Vec<(String, BTreeMap<String, Property>)> = Vec::new();
    for line in text.lines() {
        // A value may have tabs in it, no other column can.
        let mut words = line.splitn(3, '\t');
        let parts = (words.next(), words.next(), words.next());
        let columns = match parts {
            (Some(name), Some(property), Some(rest)) => rest
                .rsplit_once('\t')
                .map(|(value, source)| (name, property, value, source)),
            _ => None,
        };
        let (name, property, value, source) = columns
            .with_context(|| format!("\"{line}\": expected name, property, value and source"))?;
        let property = (
            property.to_owned(),
            Property {
                value: value.to_owned(),
                source: source.to_owned(),
            },
        );
        match found.last_mut().filter(|(last, _)| last == name) {
            Some((_, properties)) => {
                properties.insert(property.0, property.1);
            }
            None => found.push((name.to_owned(), BTreeMap::from([property]))),
        }
    }
    Ok(found)
}

/// The same, of each property the value only.
pub fn parse(text: &str) -> Result<Vec<(String, BTreeMap<String, String>)>> {
    let values = |properties: BTreeMap<String, Property>| {
        properties
            .into_iter()
            .map(|(name, property)| (name, property.value))
            .collect()
    };
    Ok(properties(text)?
        .into_iter()
        .map(|(name, properties)| (name, values(properties)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_of_ones_own_and_one_of_the_parent() {
        let text = "tank/a\torg.hastor:lun\t3\tlocal\n\
                    tank/a\torg.hastor:guid\ta\tb\treceived\n\
                    tank/b\torg.hastor:lun\t3\tinherited from tank\n\
                    tank/b\torg.hastor:guid\t-\t-\n";
        let found = properties(text).unwrap();
        assert_eq!(found.len(), 2);
        let (a, b) = (&found[0].1, &found[1].1);
        assert!(a["org.hastor:lun"].is_own() && a["org.hastor:guid"].is_own());
        assert_eq!(a["org.hastor:guid"].value, "a\tb");
        assert!(!b["org.hastor:lun"].is_own() && !b["org.hastor:guid"].is_own());
    }

    #[test]
    fn a_line_without_all_columns_is_an_error() {
        for wrong in ["tank", "tank\ta", "tank\ta\tb"] {
            assert!(properties(wrong).is_err(), "{wrong}");
        }
    }
}
