//! Numbers and flags as the kernel reads them from what is written into an attribute.

use nix::errno::Errno;

/// A whole number of at most `max`, decimal, or with the prefix 0x or 0 as in C. One newline may follow, nothing else.
pub(super) fn number(text: &str, max: u64) -> Result<u64, Errno> {
    let digits = text.strip_suffix('\n').unwrap_or(text);
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let (digits, radix) = radix_of(digits);
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(Errno::EINVAL);
    }
    match u64::from_str_radix(digits, radix) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Errno::ERANGE),
    }
}

/// A whole number of 32 bits.
pub(super) fn number32(text: &str) -> Result<u32, Errno> {
    number(text, u32::MAX.into()).map(|number| number as u32)
}

/// A whole number of 16 bits.
pub(super) fn number16(text: &str) -> Result<u16, Errno> {
    number(text, u16::MAX.into()).map(|number| number as u16)
}

/// Yes or no: only the first character counts, after an `o` the second.
///
/// Newer kernels also know `e` and `d`; nobody should rely on that.
pub(super) fn flag(text: &str) -> Result<bool, Errno> {
    let mut letters = text.chars().map(|letter| letter.to_ascii_lowercase());
    match (letters.next(), letters.next()) {
        (Some('y' | 't' | '1'), _) | (Some('o'), Some('n')) => Ok(true),
        (Some('n' | 'f' | '0'), _) | (Some('o'), Some('f')) => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}

/// The number a text begins with, 0 if it begins with none, and what follows: how options and keys are read.
pub(super) fn leading(text: &str) -> (u64, &str) {
    let (digits, radix) = radix_of(text);
    let end = digits
        .find(|digit: char| !digit.is_digit(radix))
        .unwrap_or(digits.len());
    let number = digits[..end].chars().fold(0u64, |number, digit| {
        let digit = digit.to_digit(radix).unwrap_or(0);
        number.wrapping_mul(radix.into()).wrapping_add(digit.into())
    });
    (number, &digits[end..])
}

/// The digits, and their radix. The 0 of an octal number is one of its digits.
fn radix_of(text: &str) -> (&str, u32) {
    let hexadecimal = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .filter(|digits| digits.starts_with(|digit: char| digit.is_ascii_hexdigit()));
    match hexadecimal {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_in_c() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("12\n", Ok(12)),
            ("0x1f", Ok(31)),
            ("010", Ok(8)),
            ("+3", Ok(3)),
            ("65535", Ok(65535)),
            ("65536", Err(Errno::ERANGE)),
            ("99999999999999999999999", Err(Errno::ERANGE)),
            ("08", Err(Errno::EINVAL)),
            ("", Err(Errno::EINVAL)),
            ("\n", Err(Errno::EINVAL)),
            (" 1", Err(Errno::EINVAL)),
            ("1 ", Err(Errno::EINVAL)),
            ("-1", Err(Errno::EINVAL)),
            ("1\n\n", Err(Errno::EINVAL)),
        ] {
            assert_eq!(number16(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_flag_is_known_by_its_first_letter() {
        for yes in ["1", "1\n", "y", "Yes", "true", "on", "10"] {
            assert_eq!(flag(yes), Ok(true), "{yes:?}");
        }
        for no in ["0", "n", "No", "off\n"] {
            assert_eq!(flag(no), Ok(false), "{no:?}");
        }
        for neither in ["", "\n", "2", " 1", "o", "-1"] {
            assert_eq!(flag(neither), Err(Errno::EINVAL), "{neither:?}");
        }
    }

    #[test]
    fn a_leading_number_ends_where_its_digits_end() {
        assert_eq!(leading("12abc"), (12, "abc"));
        assert_eq!(leading("0x10,"), (16, ","));
        assert_eq!(leading("08"), (0, "8"));
        assert_eq!(leading("abc"), (0, "abc"));
    }
}
