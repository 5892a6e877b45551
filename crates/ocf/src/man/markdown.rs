//! The little of Markdown that agents write their manuals in.

use super::roff::Page;

/// Between the code of an example and the text around it.
const FENCE: &str = "```";

impl Page {
    /// Headings, paragraphs, code between fences, and tables of two columns: the first is a term, the second is about it.
    pub(super) fn markdown(&mut self, text: &str) {
        let mut lines = text.lines().peekable();
        let mut is_first = true;
        while let Some(line) = lines.next() {
            if line.starts_with(FENCE) {
                let code: Vec<&str> = lines.by_ref().take_while(|line| *line != FENCE).collect();
                self.code(&code.join("\n"));
            } else if let Some(title) = line.strip_prefix("## ") {
                self.line(&format!(".SS {}", super::roff::escape(title)));
                is_first = true;
            } else if let Some(title) = line.strip_prefix("# ") {
                self.section(&super::roff::escape(title));
                is_first = true;
            } else if let Some(row) = line.strip_prefix("| ") {
                let mut rows = vec![row];
                while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                    rows.push(row.trim_start_matches(['|', ' ']));
                }
                // The first two are the heads of the columns, and the rule under them.
                for (term, about) in rows.iter().skip(2).filter_map(|row| row.split_once(" | ")) {
                    self.tag(&term.replace('`', ""), &[]);
                    self.text(about.trim_end_matches(['|', ' ']));
                }
            } else if !line.is_empty() {
                let mut paragraph = line.to_owned();
                let more = |line: &&str| !line.is_empty() && !line.starts_with(['#', '|', '`']);
                while let Some(line) = lines.next_if(more) {
                    paragraph.push(' ');
                    paragraph.push_str(line);
                }
                // Under a heading it would be superfluous.
                if !is_first {
                    self.line(".PP");
                }
                self.text(&paragraph);
                is_first = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_becomes_what_it_is() {
        let mut page = Page::default();
        page.markdown(
            "# A file\n\nTwo lines\nof `text`.\n\nMore.\n\n```toml\na = 1\n```\n\n## Its keys\n\n| key | value |\n|---|---|\n| `a` | a number |\n",
        );
        assert_eq!(
            page.into_source(),
            ".SH A file\nTwo lines of \\fBtext\\fR.\n.PP\nMore.\n.PP\n.RS 4\n.EX\na = 1\n.EE\n.RE\n.SS Its keys\n.TP\n\\fBa\\fR\na number\n"
        );
    }
}
