//! zpool.cache: the pools that are imported when the machine boots.

use anyhow::{Context, Result};
use host::Host;

use super::nvlist::{List, Value};

/// Where the pools whose property cachefile was not changed are noted.
pub const PATH: &str = "/etc/zfs/zpool.cache";

/// A pool that is noted in a cache file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Its name.
    pub pool: String,
    /// Its number.
    pub guid: Option<u64>,
}

/// The pools in the cache file at `path`; none if there is no such file.
pub fn pools(host: &Host, path: &str) -> Result<Vec<Cached>> {
    match host.read_bytes(path)? {
        Some(content) => parse(&content).with_context(|| format!("reading {path}")),
        None => Ok(Vec::new()),
    }
}

/// Reads the content of a cache file (`spa_config_write` in module/zfs/spa_config.c). An empty
/// file names no pool.
pub fn parse(content: &[u8]) -> Result<Vec<Cached>> {
    if content.is_empty() {
        return Ok(Vec::new());
    }
    let list = List::unpack(content)?;
    let pools = list.iter().filter_map(|(name, value)| match value {
        Value::List(config) => Some(Cached {
            pool: name.to_owned(),
            guid: config.u64("pool_guid"),
        }),
        _ => None,
    });
    Ok(pools.collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use host::testing::Script;

    use super::super::nvlist::pack;
    use super::*;

    fn example() -> List {
        let config = |guid| {
            Value::List(pack::list([
                ("name", pack::string("other")),
                ("pool_guid", Value::U64(guid)),
                ("vdev_tree", Value::List(List::default())),
            ]))
        };
        pack::list([("tank", config(7)), ("two words", config(8))])
    }

    #[test]
    fn the_pools_of_a_cache_file_are_found_in_either_encoding() {
        let expected = [("tank", 7), ("two words", 8)].map(|(pool, guid)| Cached {
            pool: pool.into(),
            guid: Some(guid),
        });
        assert_eq!(parse(&pack::native(&example())).unwrap(), expected);
        assert_eq!(parse(&pack::xdr(&example())).unwrap(), expected);
        assert_eq!(parse(&[]).unwrap(), []);
    }

    #[test]
    fn no_file_has_no_pools_and_one_that_cannot_be_read_is_an_error() {
        let script = Script::empty();
        let host = script.host(Duration::from_secs(1));
        assert_eq!(pools(&host, PATH).unwrap(), []);
        script.write_file(PATH, "text");
        assert_eq!(
            format!("{:#}", pools(&host, PATH).unwrap_err()),
            "reading /etc/zfs/zpool.cache: no packed nvlist: it begins with 116"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(content: Vec<u8>) {
            let _ = parse(&content);
        }
    }
}
