//! Elements of an SVG as text. `style` is any more attributes of theirs.

/// A rectangle by its upper left corner.
pub fn rect(x: f64, y: f64, width: f64, height: f64, style: &str) -> String {
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {style}/>\n"
    )
}

/// A line downwards.
pub fn line(x: f64, top: f64, bottom: f64, style: &str) -> String {
    format!("<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" {style}/>\n")
}

/// A text by the beginning of its base line.
pub fn text(x: f64, y: f64, style: &str, text: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>\n",
        escaped(text)
    )
}

/// As XML; what XML does not allow at all becomes a space.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_kinds() {
        assert_eq!(
            escaped("<a b=\"c\"> & d\u{7}\n\u{ffff}ä"),
            "&lt;a b=&quot;c&quot;&gt; &amp; d   ä"
        );
        assert_eq!(
            text(1.25, 2.0, "fill=\"red\"", "a<b"),
            "<text x=\"1.2\" y=\"2.0\" fill=\"red\">a&lt;b</text>\n"
        );
    }
}
