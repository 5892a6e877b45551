//! Packed nvlists: the named values that ZFS keeps in labels and in zpool.cache.
//!
//! Both encodings are read (module/nvpair/nvpair.c of OpenZFS): XDR, big-endian, which labels are
//! in, and the native one, in the byte order of the machine that wrote it, which zpool.cache is
//! in. What is read comes from disks, so that nothing in it is trusted.

use std::fmt;

/// How deep lists may lie in each other: as deep as the kernel's own decoder goes.
const MAX_DEPTH: usize = 20;

/// A value in an nvlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An unsigned number of 64 bits.
    U64(u64),
    /// A text. What is no UTF-8 in it is replaced.
    String(String),
    /// Yes or no.
    Boolean(bool),
    /// A name that says something by being there.
    Flag,
    /// A list in the list.
    List(List),
    /// Several lists.
    Lists(Vec<List>),
    /// Several unsigned numbers of 64 bits: how many. What they are nothing here needs.
    Numbers(usize),
    /// A value of a type that nothing here needs; this is the type's number.
    Other(u32),
}

/// Named values, in the order in which they were packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(Vec<(String, Value)>);

/// Why this is no nvlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The first byte names neither of the encodings.
    Encoding(u8),
    /// A native encoding in the byte order of other machines.
    ByteOrder,
    /// A version that this does not know.
    Version(u32),
    /// It ends before it is over.
    TooShort,
    /// A size, a name or a number in it is impossible.
    Malformed,
    /// Lists lie deeper in each other than the kernel would read.
    TooDeep,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Encoding(byte) => write!(f, "no packed nvlist: it begins with {byte}"),
            Error::ByteOrder => write!(f, "an nvlist in the byte order of another machine"),
            Error::Version(version) => write!(f, "an nvlist of unknown version {version}"),
            Error::TooShort => write!(f, "an nvlist that is cut off"),
            Error::Malformed => write!(f, "an nvlist that is damaged"),
            Error::TooDeep => write!(f, "an nvlist nested more than {MAX_DEPTH} deep"),
        }
    }
}

impl std::error::Error for Error {}

impl List {
    /// Reads a packed nvlist. What follows it is ignored.
    pub fn unpack(packed: &[u8]) -> Result<List, Error> {
        let [encoding, order, _, _] = *packed.first_chunk().ok_or(Error::TooShort)?;
        let little = order == 1;
        let mut bytes = Bytes(&packed[4..]);
        match encoding {
            0 if little == cfg!(target_endian = "little") => native::outermost(&mut bytes),
            0 => Err(Error::ByteOrder),
            1 => xdr::list(&mut bytes, 0),
            other => Err(Error::Encoding(other)),
        }
    }

    /// The names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter()
            .find_map(|(other, value)| (other == name).then_some(value))
    }

    /// The number of this name.
    pub fn u64(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::U64(number) => Some(*number),
            _ => None,
        }
    }

    /// The text of this name.
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The list of this name.
    pub fn list(&self, name: &str) -> Option<&List> {
        match self.get(name)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// How many numbers stand under a name.
    pub fn numbers(&self, name: &str) -> usize {
        match self.get(name) {
            Some(Value::Numbers(count)) => *count,
            _ => 0,
        }
    }

    /// The lists of this name; none if there are none.
    pub fn lists(&self, name: &str) -> &[List] {
        match self.get(name) {
            Some(Value::Lists(lists)) => lists,
            _ => &[],
        }
    }
}

/// The numbers of the types that are told apart (`data_type_t` in include/sys/nvpair.h).
mod kind {
    pub const BOOLEAN: u32 = 1;
    pub const UINT64: u32 = 8;
    pub const STRING: u32 = 9;
    pub const UINT64_ARRAY: u32 = 16;
    pub const NVLIST: u32 = 19;
    pub const NVLIST_ARRAY: u32 = 20;
    pub const BOOLEAN_VALUE: u32 = 21;
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(Error::TooShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Error::TooShort)?;
        self.0 = rest;
        Ok(*taken)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A size as it is in the packed form, which must not be negative.
fn size(number: u32) -> Result<usize, Error> {
    i32::try_from(number)
        .ok()
        .and_then(|number| usize::try_from(number).ok())
        .ok_or(Error::Malformed)
}

mod xdr {
    use super::{Bytes, Error, List, MAX_DEPTH, Value, kind, size, text};

    pub fn list(bytes: &mut Bytes, depth: usize) -> Result<List, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        match u32(bytes)? {
            0 => {}
            version => return Err(Error::Version(version)),
        }
        let _flags = u32(bytes)?;
        let mut list = List::default();
        loop {
            let (encoded, decoded) = (size(u32(bytes)?)?, u32(bytes)?);
            if decoded == 0 {
                return Ok(list);
            }
            // The size counts the two numbers that were just read.
            let pair = encoded.checked_sub(8).ok_or(Error::Malformed)?;
            list.0
                .push(self::pair(&mut Bytes(bytes.take(pair)?), depth)?);
        }
    }

    fn pair(bytes: &mut Bytes, depth: usize) -> Result<(String, Value), Error> {
        let name = string(bytes)?;
        let (kind, count) = (u32(bytes)?, size(u32(bytes)?)?);
        let value = match kind {
            kind::BOOLEAN => Value::Flag,
            kind::BOOLEAN_VALUE => Value::Boolean(u32(bytes)? != 0),
            kind::UINT64 => Value::U64(u64::from_be_bytes(bytes.array()?)),
            kind::STRING => Value::String(string(bytes)?),
            kind::UINT64_ARRAY => Value::Numbers(count),
            kind::NVLIST => Value::List(list(bytes, depth + 1)?),
            kind::NVLIST_ARRAY => {
                // Grows with what is there, not with what the count promises.
                let lists = (0..count).map(|_| list(bytes, depth + 1));
                Value::Lists(lists.collect::<Result<_, _>>()?)
            }
            other => Value::Other(other),
        };
        Ok((name, value))
    }

    fn u32(bytes: &mut Bytes) -> Result<u32, Error> {
        bytes.array().map(u32::from_be_bytes)
    }

    fn string(bytes: &mut Bytes) -> Result<String, Error> {
        let size = size(u32(bytes)?)?;
        let taken = bytes.take(size)?;
        bytes.take(size.next_multiple_of(4) - size)?;
        Ok(text(taken))
    }
}

mod native {
    use super::{Bytes, Error, List, MAX_DEPTH, Value, kind, size, text};

    /// The size of a pair's fixed part: `nvpair_t`.
    const PAIR: usize = 16;

    pub fn outermost(bytes: &mut Bytes) -> Result<List, Error> {
        match u32(bytes)? {
            0 => {}
            version => return Err(Error::Version(version)),
        }
        let _flags = u32(bytes)?;
        list(bytes, 0)
    }

    /// A list in a list has no header where its pairs are: that is in the pair it is the value of.
    fn list(bytes: &mut Bytes, depth: usize) -> Result<List, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let mut list = List::default();
        loop {
            let size = size(u32(bytes)?)?;
            if size == 0 {
                return Ok(list);
            }
            // The size counts the number that was just read.
            let rest = size.checked_sub(4).ok_or(Error::Malformed)?;
            let pair = bytes.take(rest)?;
            list.0.push(self::pair(pair, bytes, depth)?);
        }
    }

    /// Reads a pair, without its size. The pairs of lists that are its value follow behind it.
    fn pair(pair: &[u8], behind: &mut Bytes, depth: usize) -> Result<(String, Value), Error> {
        let mut bytes = Bytes(pair);
        let name_size = usize::from(u16::from_ne_bytes(bytes.array()?));
        let _reserved: [u8; 2] = bytes.array()?;
        let (count, kind) = (size(u32(&mut bytes)?)?, u32(&mut bytes)?);
        let name = terminated(bytes.take(name_size)?)?;
        let padding = (PAIR + name_size).next_multiple_of(8) - (PAIR + name_size);
        bytes.take(padding.min(bytes.0.len()))?;
        let value = match kind {
            kind::BOOLEAN => Value::Flag,
            kind::BOOLEAN_VALUE => Value::Boolean(u32(&mut bytes)? != 0),
            kind::UINT64 => Value::U64(u64::from_ne_bytes(bytes.array()?)),
            kind::STRING => Value::String(terminated(bytes.0)?),
            kind::UINT64_ARRAY => Value::Numbers(count),
            kind::NVLIST => Value::List(list(behind, depth + 1)?),
            kind::NVLIST_ARRAY => {
                let lists = (0..count).map(|_| list(behind, depth + 1));
                Value::Lists(lists.collect::<Result<_, _>>()?)
            }
            other => Value::Other(other),
        };
        Ok((name, value))
    }

    fn u32(bytes: &mut Bytes) -> Result<u32, Error> {
        bytes.array().map(u32::from_ne_bytes)
    }

    /// The text up to the zero byte that has to be in it.
    fn terminated(bytes: &[u8]) -> Result<String, Error> {
        let mut parts = bytes.splitn(2, |byte| *byte == 0);
        match (parts.next(), parts.next()) {
            (Some(before), Some(_)) => Ok(text(before)),
            _ => Err(Error::Malformed),
        }
    }
}

/// Packs lists as ZFS does, for tests.
#[cfg(test)]
pub(crate) mod pack {
    use super::{List, Value, kind};

    pub fn list<const N: usize>(pairs: [(&str, Value); N]) -> List {
        List(pairs.map(|(name, value)| (name.to_owned(), value)).into())
    }

    pub fn string(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    pub fn xdr(list: &List) -> Vec<u8> {
        let mut packed = vec![1, 1, 0, 0];
        packed.extend(xdr_list(list));
        packed
    }

    fn xdr_list(list: &List) -> Vec<u8> {
        let mut packed = [0u32, 1].map(u32::to_be_bytes).concat();
        for (name, value) in list.iter() {
            let mut pair = xdr_string(name);
            let (kind, count, content) = match value {
                Value::U64(number) => (kind::UINT64, 1, number.to_be_bytes().to_vec()),
                Value::String(text) => (kind::STRING, 1, xdr_string(text)),
                Value::Boolean(yes) => {
                    let content = u32::from(*yes).to_be_bytes().to_vec();
                    (kind::BOOLEAN_VALUE, 1, content)
                }
                Value::Flag => (kind::BOOLEAN, 0, Vec::new()),
                Value::List(list) => (kind::NVLIST, 1, xdr_list(list)),
                Value::Lists(lists) => {
                    let content = lists.iter().flat_map(xdr_list).collect();
                    (kind::NVLIST_ARRAY, lists.len(), content)
                }
                Value::Numbers(count) => {
                    let size = (*count as u32).to_be_bytes().to_vec();
                    let numbers = vec![0; 8 * count];
                    (kind::UINT64_ARRAY, *count, [size, numbers].concat())
                }
                // An array of two short numbers stands for what is skipped.
                Value::Other(kind) => (*kind, 2, [0, 0, 0, 2].repeat(3)),
            };
            pair.extend(kind.to_be_bytes());
            pair.extend((count as u32).to_be_bytes());
            pair.extend(content);
            packed.extend((pair.len() as u32 + 8).to_be_bytes());
            packed.extend(64u32.to_be_bytes());
            packed.extend(pair);
        }
        packed.extend([0; 8]);
        packed
    }

    fn xdr_string(text: &str) -> Vec<u8> {
        let mut packed = (text.len() as u32).to_be_bytes().to_vec();
        packed.extend(text.as_bytes());
        packed.resize(packed.len().next_multiple_of(4), 0);
        packed
    }

    pub fn native(list: &List) -> Vec<u8> {
        let order = u8::from(cfg!(target_endian = "little"));
        let mut packed = vec![0, order, 0, 0];
        packed.extend([0u32, 1].map(u32::to_ne_bytes).concat());
        packed.extend(native_list(list));
        packed
    }

    fn native_list(list: &List) -> Vec<u8> {
        let mut packed = Vec::new();
        for (name, value) in list.iter() {
            let (kind, count, content, behind) = match value {
                Value::U64(number) => (kind::UINT64, 1, number.to_ne_bytes().to_vec(), vec![]),
                Value::String(text) => (kind::STRING, 1, [text.as_bytes(), &[0]].concat(), vec![]),
                Value::Boolean(yes) => {
                    let content = u32::from(*yes).to_ne_bytes().to_vec();
                    (kind::BOOLEAN_VALUE, 1, content, vec![])
                }
                Value::Flag => (kind::BOOLEAN, 0, vec![], vec![]),
                Value::List(list) => (kind::NVLIST, 1, vec![0; 24], native_list(list)),
                Value::Lists(lists) => {
                    let content = vec![0; 32 * lists.len()];
                    let behind = lists.iter().flat_map(native_list).collect();
                    (kind::NVLIST_ARRAY, lists.len(), content, behind)
                }
                Value::Numbers(count) => (kind::UINT64_ARRAY, *count, vec![0; 8 * count], vec![]),
                Value::Other(kind) => (*kind, 2, vec![2; 8], vec![]),
            };
            let mut pair = vec![0; 4];
            pair.extend((name.len() as u16 + 1).to_ne_bytes());
            pair.extend([0; 2]);
            pair.extend((count as u32).to_ne_bytes());
            pair.extend(kind.to_ne_bytes());
            pair.extend(name.as_bytes());
            pair.push(0);
            pair.resize(pair.len().next_multiple_of(8), 0);
            pair.extend(content);
            pair.resize(pair.len().next_multiple_of(8), 0);
            let size = (pair.len() as u32).to_ne_bytes();
            pair[..4].copy_from_slice(&size);
            packed.extend(pair);
            packed.extend(behind);
        }
        packed.extend([0; 4]);
        packed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> List {
        pack::list([
            ("version", Value::U64(5000)),
            ("name", pack::string("tank")),
            ("numbers", Value::Numbers(3)),
            ("others", Value::Other(13)),
            ("here", Value::Flag),
            ("yes", Value::Boolean(true)),
            (
                "tree",
                Value::List(pack::list([
                    ("type", pack::string("mirror")),
                    (
                        "children",
                        Value::Lists(vec![
                            pack::list([("guid", Value::U64(1))]),
                            pack::list([("guid", Value::U64(u64::MAX))]),
                        ]),
                    ),
                ])),
            ),
            ("last", pack::string("")),
        ])
    }

    #[test]
    fn both_encodings_are_read() {
        let list = example();
        assert_eq!(List::unpack(&pack::xdr(&list)), Ok(list.clone()));
        assert_eq!(List::unpack(&pack::native(&list)), Ok(list));
    }

    #[test]
    fn values_are_found_by_name_and_type() {
        let list = example();
        assert_eq!(list.u64("version"), Some(5000));
        assert_eq!(list.string("name"), Some("tank"));
        assert_eq!(list.u64("name"), None);
        assert_eq!((list.numbers("numbers"), list.numbers("version")), (3, 0));
        assert_eq!(list.string("nothing"), None);
        let tree = list.list("tree").unwrap();
        assert_eq!(tree.lists("children")[1].u64("guid"), Some(u64::MAX));
        assert_eq!(tree.lists("type"), []);
    }

    #[test]
    fn what_is_no_nvlist_is_told_apart() {
        assert_eq!(List::unpack(b"zfs"), Err(Error::TooShort));
        assert_eq!(List::unpack(b"text"), Err(Error::Encoding(b't')));
        let mut foreign = pack::native(&example());
        foreign[1] ^= 1;
        assert_eq!(List::unpack(&foreign), Err(Error::ByteOrder));
        let mut newer = pack::xdr(&example());
        newer[7] = 3;
        assert_eq!(List::unpack(&newer), Err(Error::Version(3)));
    }

    #[test]
    fn a_list_that_is_cut_off_anywhere_is_an_error() {
        for packed in [pack::xdr(&example()), pack::native(&example())] {
            for size in 0..packed.len() {
                assert!(List::unpack(&packed[..size]).is_err(), "{size}");
            }
        }
    }

    #[test]
    fn lists_nest_as_deep_as_the_kernel_reads_and_no_deeper() {
        let nested = |depth| {
            (0..depth).fold(List::default(), |inner, _| {
                pack::list([("inner", Value::List(inner))])
            })
        };
        for pack in [pack::xdr, pack::native] {
            assert!(List::unpack(&pack(&nested(MAX_DEPTH))).is_ok());
            let deeper = List::unpack(&pack(&nested(MAX_DEPTH + 1)));
            assert_eq!(deeper, Err(Error::TooDeep));
        }
    }

    #[test]
    fn a_count_that_promises_too_much_is_an_error() {
        let one = pack::list([("x", Value::Lists(vec![List::default()]))]);
        // Where the count of the only pair is.
        for (mut packed, at) in [(pack::xdr(&one), 32), (pack::native(&one), 20)] {
            assert_eq!(packed[at..at + 4].iter().sum::<u8>(), 1);
            packed[at..at + 4].copy_from_slice(&[0x7f; 4]);
            assert!(List::unpack(&packed).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(
            encoding in 0u8..3, order in 0u8..2, rest: Vec<u8>
        ) {
            let _ = List::unpack(&[&[encoding, order, 0, 0], &rest[..]].concat());
        }

        #[test]
        fn a_damaged_list_is_an_answer_or_an_error(at: prop::sample::Index, byte: u8, native: bool) {
            let mut packed = if native { pack::native(&example()) } else { pack::xdr(&example()) };
            let at = at.index(packed.len());
            packed[at] = byte;
            let _ = List::unpack(&packed);
        }
    }
}
