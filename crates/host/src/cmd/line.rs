//! The texts by which commands are named in logs and errors: each is one line.

use std::borrow::Cow;
use std::time::Duration;

/// How much of what a tool said goes into an error, in bytes.
const SAID: usize = 500;

/// A word as a shell takes it. Control characters are written as escapes, in the form that bash
/// and POSIX 2024 know, so that the line stays one.
pub(super) fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    if !word.chars().any(char::is_control) {
        return Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")));
    }
    let mut quoted = String::from("$'");
    for c in word.chars() {
        match c {
            '\n' => quoted.push_str(r"\n"),
            '\t' => quoted.push_str(r"\t"),
            '\'' | '\\' => quoted.extend(['\\', c]),
            // Octal, because \x takes as many digits as follow in some shells.
            c if c.is_control() => {
                let bytes = c.to_string().into_bytes();
                bytes
                    .iter()
                    .for_each(|byte| quoted.push_str(&format!(r"\{byte:03o}")));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// The last `count` lines that are not empty, on one line.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let mut lines: Vec<&str> = text
        .lines()
        .rev()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(count)
        .collect();
    lines.reverse();
    let mut line = lines.join("; ").replace(char::is_control, " ");
    if line.len() > SAID {
        let end = (0..=SAID)
            .rev()
            .find(|at| line.is_char_boundary(*at))
            .unwrap_or(0);
        line.truncate(end);
        line.push_str("...");
    }
    line
}

/// Where a program was looked for; an absolute path says it itself.
pub(super) fn searched(program: &str) -> String {
    match program.contains('/') {
        true => String::new(),
        false => format!(" (not in {})", super::SEARCH.join(":")),
    }
}

/// Why a command was not waited for any longer.
pub(super) fn too_slow(after: Duration, abandoned: bool) -> String {
    if after.is_zero() {
        return "not started, because no time was left".to_owned();
    }
    let stuck = if abandoned {
        ", and is stuck in the kernel"
    } else {
        ""
    };
    format!("did not finish within {:.1} s{stuck}", after.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_a_shell_would_split_or_expand_are_quoted() {
        for plain in ["tank/a@b", "10.0.0.0/24:/tank", "a=b", "-o", "100%"] {
            assert_eq!(quoted(plain), plain);
        }
        for (word, line) in [
            ("", "''"),
            ("a b", "'a b'"),
            ("$HOME", "'$HOME'"),
            ("~", "'~'"),
            ("[::1]", "'[::1]'"),
            ("a\nb'c\\", r"$'a\nb\'c\\'"),
            ("\u{1b}1\u{85}", r"$'\0331\302\205'"),
            ("größe", "'größe'"),
        ] {
            assert_eq!(quoted(word), line);
        }
    }

    #[test]
    fn what_was_said_is_one_line_of_a_bounded_length() {
        assert_eq!(last_lines("a\nb\u{7}c\td\n", 3), "a; b c d");
        assert_eq!(last_lines("\n \n", 3), "");
        let long = last_lines(&"ä".repeat(400), 1);
        assert_eq!(long, format!("{}...", "ä".repeat(250)));
    }
}
