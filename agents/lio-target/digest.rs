//! Names and numbers made of a text, the same on every node: by its MD5 sum, which keeps nothing secret, and which the peers'
//! agents and stmf-ha take for the same purpose.

use md5::{Digest, Md5};

/// The first bytes of the sum.
pub fn bytes<const COUNT: usize>(text: &str) -> [u8; COUNT] {
    let sum = Md5::digest(text.as_bytes());
    std::array::from_fn(|at| sum[at])
}

/// The first hex digits of the sum, at most 32.
pub fn hex(text: &str, digits: usize) -> String {
    let sum: String = bytes::<16>(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    sum.chars().take(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_that_md5sum_prints() {
        // printf resource | md5sum
        assert_eq!(hex("resource", 32), "96ab4e163f4ee03aaa4d1051aa51d204");
        assert_eq!(bytes::<2>("resource"), [0x96, 0xab]);
    }
}
