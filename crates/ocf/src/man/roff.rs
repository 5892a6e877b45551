//! Text as roff's man macros, where every character of it is only itself.

use std::fmt::Write as _;

/// Source lines are filled up to here.
pub(super) const WIDTH: usize = 78;

/// A page that is being written.
#[derive(Default)]
pub(crate) struct Page(String);

impl Page {
    pub(crate) fn line(&mut self, roff: &str) {
        self.0.push_str(roff);
        self.0.push('\n');
    }

    pub(crate) fn section(&mut self, title: &str) {
        self.line(&format!(".SH {title}"));
    }

    /// A term in bold, with what is to be known at a glance; its text comes next.
    pub(crate) fn tag(&mut self, term: &str, facts: &[String]) {
        let facts = facts.join(", ");
        let facts = if facts.is_empty() {
            facts
        } else {
            format!(" ({})", prose(&facts))
        };
        self.line(&format!(".TP\n\\fB{}\\fR{facts}", escape(term)));
    }

    /// A paragraph, filled at spaces.
    pub(crate) fn text(&mut self, text: &str) {
        let mut width = 0;
        for word in prose(text).split_whitespace() {
            if width > 0 && width + 1 + word.len() > WIDTH {
                self.0.push('\n');
                width = 0;
            } else if width > 0 {
                self.0.push(' ');
                width += 1;
            }
            // At the beginning of a line, a dot would make a request of it.
            if width == 0 && word.starts_with('.') {
                self.0.push_str("\\&");
            }
            self.0.push_str(word);
            width += word.len();
        }
        self.0.push('\n');
    }

    pub(crate) fn paragraphs(&mut self, between: &str, paragraphs: &[String]) {
        for (index, paragraph) in paragraphs.iter().enumerate() {
            if index > 0 {
                self.line(between);
            }
            self.text(paragraph);
        }
    }

    pub(crate) fn code(&mut self, code: &str) {
        self.line(".PP\n.RS 4\n.EX");
        for line in code.lines() {
            self.line(&escape(line));
        }
        self.line(".EE\n.RE");
    }

    /// The page as it is now.
    pub(crate) fn into_source(self) -> String {
        self.0
    }
}

/// Text in roff, with what stands between backticks in bold.
pub(crate) fn prose(text: &str) -> String {
    let spans: Vec<&str> = text.split('`').collect();
    if spans.len() % 2 == 0 {
        return escape(text);
    }
    let mut roff = String::new();
    for (index, span) in spans.into_iter().enumerate() {
        if index % 2 == 0 {
            roff.push_str(&escape(span));
        } else {
            let _ = write!(roff, "\\fB{}\\fR", escape(span));
        }
    }
    roff
}

/// Text in roff, each character as itself: what roff would take for an instruction, or would
/// print as a typographic relative that cannot be pasted into a shell.
pub(crate) fn escape(text: &str) -> String {
    let mut roff = String::new();
    for character in text.chars() {
        match character {
            '\\' => roff.push_str("\\e"),
            '-' => roff.push_str("\\-"),
            '\'' => roff.push_str("\\(aq"),
            '`' => roff.push_str("\\(ga"),
            '^' => roff.push_str("\\(ha"),
            '~' => roff.push_str("\\(ti"),
            '"' => roff.push_str("\\(dq"),
            character if character.is_ascii() => roff.push(character),
            character => {
                let _ = write!(roff, "\\[u{:04X}]", u32::from(character));
            }
        }
    }
    roff
}
