//! A record on disk: a header from which every other byte follows.
//!
//! Numbers are little-endian. The first sector of 512 bytes begins with the header:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic, also at the begin of every further sector |
//! | 8 | 8 | checksum of the whole record, computed with zeros here |
//! | 16 | 4 | size of the record in bytes |
//! | 20 | 4 | zeros |
//! | 24 | 8 | sequence number |
//! | 32 | 8 | slot |
//! | 40 | 8 | number of slots |
//! | 48 | 8 | time it was made, nanoseconds since 1970 by the guest's clock |
//! | 56 | 32 | the writer's name, filled up with zeros |
//!
//! All else is pseudo-random, from a seed that is the header's own hash. So a sector of another record, of another
//! slot's, of the same record's earlier version or of anything else cannot pass for the right one.

/// A record's size is a multiple of this, in bytes: what any disk and any file system takes with `O_DIRECT`.
pub const BLOCK: usize = 4096;
/// The longest writer's name, in bytes.
pub const LONGEST_NAME: usize = 32;

const MAGIC: &[u8; 8] = b"HASTORW1";
const SECTOR: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 8..16;
const HEADER: usize = 88;

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who wrote it: 1 to 32 letters, digits, `.`, `_` or `-`.
    pub writer: String,
    /// Its number.
    pub seq: u64,
    /// The slot it was written for.
    pub slot: u64,
    /// Number of slots of the ring it was written for.
    pub slots: u64,
    /// When it was made, nanoseconds since 1970.
    pub time: u64,
}

/// What a slot's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Zeros.
    Empty,
    /// No part of it is of a record.
    Foreign,
    /// Not one whole record, but some of its sectors are parts of records.
    Torn {
        /// What the header says, if there is one. It may lie.
        header: Option<Header>,
        /// The first byte that is not what the header promises.
        at: usize,
    },
    /// A whole record, every byte of it right.
    Record(Header),
}

/// Is this a name that a record has room for, and a log's line too?
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(plain)
}

/// Makes a record of the buffer's size, which is a positive multiple of [`BLOCK`].
pub fn encode(header: &Header, buffer: &mut [u8]) {
    assert!(
        !buffer.is_empty() && buffer.len() % BLOCK == 0 && is_name(&header.writer),
        "a record of {} bytes by {:?}",
        buffer.len(),
        header.writer
    );
    let size = buffer.len() as u32;
    buffer[..HEADER].fill(0);
    buffer[..8].copy_from_slice(MAGIC);
    buffer[16..20].copy_from_slice(&size.to_le_bytes());
    let numbers = [header.seq, header.slot, header.slots, header.time];
    for (place, number) in buffer[24..56].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    buffer[56..56 + header.writer.len()].copy_from_slice(header.writer.as_bytes());

    let mut random = SplitMix(hash(&buffer[..HEADER]));
    for place in buffer[HEADER..].chunks_exact_mut(8) {
        place.copy_from_slice(&random.next().to_le_bytes());
    }
    for sector in buffer.chunks_exact_mut(SECTOR) {
        sector[..8].copy_from_slice(MAGIC);
    }
    let checksum = hash(buffer);
    buffer[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a slot's bytes, a positive multiple of [`BLOCK`].
pub fn decode(bytes: &[u8]) -> Found {
    if bytes.iter().all(|byte| *byte == 0) {
        return Found::Empty;
    }
    let header = header(bytes);
    let Some(header) = header else {
        let ours = bytes
            .chunks_exact(SECTOR)
            .any(|sector| sector.starts_with(MAGIC));
        return match ours {
            true => Found::Torn {
                header: None,
                at: 0,
            },
            false => Found::Foreign,
        };
    };
    let mut right = vec![0; bytes.len()];
    encode(&header, &mut right);
    let differs = |at: &usize| right[*at] != bytes[*at];
    // A wrong checksum alone would hide where the tear is.
    let at = (0..bytes.len())
        .filter(|at| !CHECKSUM.contains(at))
        .find(differs)
        .or(CHECKSUM.into_iter().find(differs));
    match at {
        None => Found::Record(header),
        Some(at) => Found::Torn {
            header: Some(header),
            at,
        },
    }
}

fn header(bytes: &[u8]) -> Option<Header> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    if !bytes.starts_with(MAGIC) || number(16)? != bytes.len() as u64 {
        return None;
    }
    let name = bytes.get(56..HEADER)?;
    let end = name.iter().position(|byte| *byte == 0);
    let writer = std::str::from_utf8(&name[..end.unwrap_or(name.len())]).ok()?;
    is_name(writer).then_some(Header {
        writer: writer.into(),
        seq: number(24)?,
        slot: number(32)?,
        slots: number(40)?,
        time: number(48)?,
    })
}

/// FNV-1a of 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// A generator of which every seed gives another sequence (Steele, Lea and Flood, 2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(writer: &str, seq: u64, slots: u64, blocks: usize) -> (Header, Vec<u8>) {
        let header = Header {
            writer: writer.into(),
            seq,
            slot: seq % slots,
            slots,
            time: seq.wrapping_mul(1_000_003),
        };
        let mut bytes = vec![0xaa; blocks * BLOCK];
        encode(&header, &mut bytes);
        (header, bytes)
    }

    #[test]
    fn nothing_and_something_else() {
        assert_eq!(decode(&[0; BLOCK]), Found::Empty);
        assert_eq!(decode(&[b'x'; BLOCK]), Found::Foreign);
        let mut late = [0; BLOCK];
        late[BLOCK - 1] = 1;
        assert_eq!(decode(&late), Found::Foreign);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let (_, bytes) = record("client-1", 259, 256, 1);
        assert_eq!(&bytes[..8], b"HASTORW1");
        assert_eq!(&bytes[16..24], &[0, 16, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[24..32], &[3, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[32..40], &[3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[40..48], &[0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[56..66], b"client-1\0\0");
        assert_eq!(&bytes[3584..3592], b"HASTORW1");
    }

    #[test]
    fn names() {
        assert!(is_name("w") && is_name("Client_1.a-b") && is_name(&"x".repeat(32)));
        assert!(!is_name("") && !is_name("a b") && !is_name("ä") && !is_name(&"x".repeat(33)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            writer in "[A-Za-z0-9._-]{1,32}", seq: u64, slots in 1u64.., blocks in 1usize..4
        ) {
            let (header, bytes) = record(&writer, seq, slots, blocks);
            prop_assert_eq!(decode(&bytes), Found::Record(header));
        }

        #[test]
        fn no_changed_bit_passes(seq: u64, at in 0..2 * BLOCK, bit in 0..8) {
            let (_, mut bytes) = record("w", seq, 64, 2);
            bytes[at] ^= 1u8 << bit;
            prop_assert!(matches!(decode(&bytes), Found::Torn { .. }), "{:?}", decode(&bytes));
        }

        /// Any mix of the sectors of two versions of a slot, or of an empty slot and a version, is neither of them.
        #[test]
        fn no_mix_of_two_records_passes(
            seq in 0u64..1000, later in 0u64..3, mask in 1u16..0xffff
        ) {
            let old = match later {
                0 => vec![0; 2 * BLOCK],
                laps => record("w", seq + 64 * laps, 64, 2).1,
            };
            let (_, new) = record("w", seq, 64, 2);
            let mut mixed = old.clone();
            for sector in (0..16).filter(|sector| mask & (1 << sector) != 0) {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                mixed[range.clone()].copy_from_slice(&new[range]);
            }
            prop_assert!(matches!(decode(&mixed), Found::Torn { .. }), "{:?}", decode(&mixed));
        }

        #[test]
        fn garbage_is_no_record(bytes in proptest::collection::vec(any::<u8>(), BLOCK)) {
            prop_assert_eq!(decode(&bytes), Found::Foreign);
        }
    }

    #[test]
    fn a_tear_is_told_where_it_is() {
        let (header, mut bytes) = record("w", 5, 64, 1);
        let (_, other) = record("w", 69, 64, 1);
        bytes[2048..].copy_from_slice(&other[2048..]);
        let at = 2048 + 8;
        let header = Some(header);
        assert_eq!(decode(&bytes), Found::Torn { header, at });
    }
}
