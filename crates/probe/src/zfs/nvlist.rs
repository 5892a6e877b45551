//! Packed lists of names and values, in the form that stands on disks (XDR, RFC 4506): big-endian, in units of four bytes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// A list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List(BTreeMap<String, Value>);

/// A value of the kinds that are of use here.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(u64),
    Text(String),
    List(List),
    Lists(Vec<List>),
    /// Any other.
    Other,
}

/// How deep lists may lie in lists: a vdev tree of a mirror below a replacing vdev has five levels.
const DEPTH: u32 = 16;

/// Kinds of values (data_type_t).
const UINT64: u32 = 8;
const STRING: u32 = 9;
const NVLIST: u32 = 19;
const NVLIST_ARRAY: u32 = 20;

impl List {
    /// Decodes a packed list from its first byte on; what follows it is not looked at.
    pub fn unpack(bytes: &[u8]) -> Result<List> {
        // Encoding, byte order of the host that wrote it, two reserved bytes.
        match bytes.first() {
            Some(1) => {}
            Some(0) => bail!("a list in a machine's own encoding, expected XDR"),
            _ => bail!("no packed list"),
        }
        let mut input = Input(bytes.get(4..).context("a list that is cut off")?);
        list(&mut input, DEPTH)
    }

    /// All names with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn list(&self, name: &str) -> Option<&List> {
        match self.0.get(name)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub fn lists(&self, name: &str) -> &[List] {
        match self.0.get(name) {
            Some(Value::Lists(lists)) => lists,
            _ => &[],
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .context("a list that is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn double(&mut self) -> Result<u64> {
        Ok(u64::from(self.word()?) << 32 | u64::from(self.word()?))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.word()? as usize;
        let bytes = self.take(length)?;
        self.take(length.next_multiple_of(4) - length)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn list(input: &mut Input<'_>, depth: u32) -> Result<List> {
    ensure!(depth > 0, "lists that lie too deep in each other");
    input.take(8)?; // Version and flags.
    let mut found = BTreeMap::new();
    loop {
        // A pair's size covers everything from its own first byte on; zero ends the list.
        let size = input.word()? as usize;
        let decoded = input.word()?;
        if size == 0 && decoded == 0 {
            return Ok(List(found));
        }
        let body = size.checked_sub(8).context("a pair without content")?;
        let mut pair = Input(input.0.get(..body).context("a list that is cut off")?);
        let name = pair.text()?;
        let (kind, count) = (pair.word()?, pair.word()?);
        let value = match kind {
            UINT64 => Value::Number(pair.double()?),
            STRING => Value::Text(pair.text()?),
            NVLIST => Value::List(list(&mut pair, depth - 1)?),
            NVLIST_ARRAY => {
                let lists = (0..count).map(|_| list(&mut pair, depth - 1));
                Value::Lists(lists.collect::<Result<_>>()?)
            }
            _ => Value::Other,
        };
        input.take(body)?;
        found.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = List::unpack(&bytes);
            let _ = List::unpack(&[&[1, 1, 0, 0][..], &bytes[..]].concat());
        }
    }
}
