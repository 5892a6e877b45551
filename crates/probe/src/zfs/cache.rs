//! The file by which a machine remembers which pools it imports at boot (zpool.cache): a packed list of pools by name.

use anyhow::Result;

use super::nvlist::{List, Value};

/// A pool in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Its name.
    pub name: String,
    /// Its GUID.
    pub guid: Option<u64>,
}

/// The pools in the content of a file; an empty file has none.
pub fn pools(content: &[u8]) -> Result<Vec<Cached>> {
    if content.is_empty() {
        return Ok(Vec::new());
    }
    let list = List::unpack(content)?;
    let pools = list.iter().map(|(name, config)| Cached {
        name: name.to_owned(),
        guid: match config {
            Value::List(config) => config.number("pool_guid"),
            _ => None,
        },
    });
    Ok(pools.collect())
}
