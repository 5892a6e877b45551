//! Spans as a drawing: a row for each of those who worked, seconds from left to right.

use super::rows::{Placed, Scale, Side, rows, text_width};
use super::shapes::{escaped, line, rect, text};
use super::spans::{Kind, Lane, Span};

/// Of the drawing, in pixels, as all lengths here.
const WIDTH: f64 = 1200.0;

/// Right of the lanes' names.
const LEFT: f64 = 116.0;

/// Where the lanes end.
const RIGHT: f64 = WIDTH - 20.0;

/// Top of the first row of captions, and height of each.
const CAPTIONS: f64 = 63.0;
const CAPTION: f64 = 15.0;

/// Of a row; its bar is a little lower.
const ROW: f64 = 21.0;
const BAR: f64 = 16.0;

/// Above the first row of a lane and below its last one.
const PAD: f64 = 4.0;

const INK: &str = "#1f2933";
const FAINT: &str = "#dee2e6";
const FAILED: &str = "#c1121f";

/// Name, colour and colour of the text on it. They differ in lightness too.
const KINDS: [(Kind, &str, &str, &str); 9] = [
    (Kind::Detection, "detection", "#f2c14e", INK),
    (Kind::Fencing, "fencing", "#c8553d", "#ffffff"),
    (Kind::Import, "start of a pool", "#096964", "#ffffff"),
    (Kind::Start, "start", "#7cc6a4", INK),
    (Kind::Stop, "stop", "#7d5ba6", "#ffffff"),
    (Kind::Change, "other action", "#9fc0e8", INK),
    (Kind::Monitor, "probe, monitor", "#cdb892", INK),
    (Kind::Pacemaker, "Pacemaker", "#aab4be", INK),
    (Kind::Client, "client", "#3e4c59", "#ffffff"),
];

/// A whole SVG that needs nothing else: spans in lanes, and marks (seconds, caption) across all of them. The background
/// is white, not clear, so that it can be read in a dark viewer too.
pub fn draw(title: &str, spans: &[Span], marks: &[(f64, String)]) -> String {
    let ends = spans.iter().flat_map(|span| [span.begin, span.end]);
    let scale = Scale::new(ends.chain(marks.iter().map(|mark| mark.0)), LEFT, RIGHT);
    let captions = captions(marks, &scale);
    let top = CAPTIONS + CAPTION * count(&captions) as f64;
    let strips = strips(spans, &scale, top);
    let bottom = strips.last().map_or(top, |strip| strip.top + strip.height);

    let mut body = legend(spans);
    for strip in strips.iter().step_by(2) {
        body += &rect(0.0, strip.top, WIDTH, strip.height, "fill=\"#f5f7f9\"");
    }
    body += &axis(&scale, top, bottom);
    body += &lines(&captions, bottom);
    for strip in &strips {
        let middle = strip.top + strip.height / 2.0 + 4.0;
        body += &text(12.0, middle, "font-weight=\"bold\"", &name(strip.lane));
        for placed in &strip.bars {
            body += &bar(placed, strip.top + PAD + placed.row as f64 * ROW);
        }
    }

    let height = bottom + 40.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\" fill=\"{INK}\">\n\
         <title>{title}</title>\n{background}{heading}{body}</svg>\n",
        title = escaped(title),
        background = rect(0.0, 0.0, WIDTH, height, "fill=\"#ffffff\""),
        heading = text(12.0, 26.0, "font-size=\"16\" font-weight=\"bold\"", title),
    )
}

/// A lane as it is drawn.
struct Strip<'a> {
    lane: &'a Lane,
    bars: Vec<Placed<'a, Span>>,
    top: f64,
    height: f64,
}

/// The lanes in their order, from `top` down.
fn strips<'a>(spans: &'a [Span], scale: &Scale, mut top: f64) -> Vec<Strip<'a>> {
    let mut lanes: Vec<&Lane> = spans.iter().map(|span| &span.lane).collect();
    lanes.sort();
    lanes.dedup();
    let strip = |lane: &'a Lane| {
        let mut spans: Vec<&Span> = spans.iter().filter(|span| span.lane == *lane).collect();
        spans.sort_by(|a, b| a.begin.total_cmp(&b.begin));
        let bars = spans.into_iter().map(|span| {
            let (x, end) = (scale.x(span.begin), scale.x(span.end));
            (span, x, (end - x).max(2.0), short(&span.label))
        });
        let bars = rows(bars, RIGHT);
        let height = count(&bars) as f64 * ROW - (ROW - BAR) + 2.0 * PAD;
        top += height;
        Strip {
            lane,
            bars,
            top: top - height,
            height,
        }
    };
    lanes.into_iter().map(strip).collect()
}

/// How many rows there are.
fn count<T>(placed: &[Placed<T>]) -> usize {
    placed.iter().map(|p| p.row + 1).max().unwrap_or(0)
}

fn name(lane: &Lane) -> String {
    match lane {
        Lane::Detection => "Corosync".to_owned(),
        Lane::Fencing => "fencing".to_owned(),
        Lane::Pacemaker => "Pacemaker".to_owned(),
        Lane::Action { node } => format!("agents on {node}"),
        Lane::Client { name } => format!("client: {name}"),
    }
}

/// What the colours mean, as far as they occur.
fn legend(spans: &[Span]) -> String {
    let mut body = String::new();
    let mut x = 12.0;
    let mut entry = |style: &str, name: &str| {
        body += &rect(x, 38.0, 12.0, 12.0, style);
        body += &text(x + 17.0, 48.0, "", name);
        x += 17.0 + text_width(name) + 16.0;
    };
    for (kind, name, colour, _) in KINDS {
        if spans.iter().any(|span| span.kind() == kind) {
            entry(&format!("fill=\"{colour}\""), name);
        }
    }
    if spans.iter().any(Span::failed) {
        entry(&outline("#ffffff"), "failed");
    }
    body
}

fn outline(fill: &str) -> String {
    format!("fill=\"{fill}\" stroke=\"{FAILED}\" stroke-width=\"2\"")
}

/// The seconds below the lanes, and thin lines up from them.
fn axis(scale: &Scale, top: f64, bottom: f64) -> String {
    let mut body = String::new();
    for (at, label) in scale.ticks() {
        let x = scale.x(at);
        body += &line(x, top, bottom + 4.0, &format!("stroke=\"{FAINT}\""));
        body += &text(x, bottom + 17.0, "text-anchor=\"middle\"", &label);
    }
    let middle = (LEFT + RIGHT) / 2.0;
    body + &text(middle, bottom + 33.0, "text-anchor=\"middle\"", "seconds")
}

/// The captions of marks, each beside its line.
fn captions<'a>(marks: &'a [(f64, String)], scale: &Scale) -> Vec<Placed<'a, (f64, String)>> {
    let mut marks: Vec<_> = marks.iter().collect();
    marks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bars = marks
        .into_iter()
        .map(|mark| (mark, scale.x(mark.0), 0.0, short(&mark.1)));
    rows(bars, RIGHT)
}

/// Marks with their captions, and lines from these down.
fn lines(captions: &[Placed<(f64, String)>], bottom: f64) -> String {
    let mut body = String::new();
    for placed in captions {
        let dashes = format!("stroke=\"{INK}\" stroke-dasharray=\"4 3\"");
        let top = CAPTIONS + CAPTION * placed.row as f64;
        body += &line(placed.x, top, bottom, &dashes);
    }
    for placed in captions {
        let top = CAPTIONS + CAPTION * placed.row as f64;
        // So that the lines of others do not cross it.
        let (from, to) = placed.extent();
        if placed.side == Side::Left {
            body += &rect(from, top, to - from - 2.0, CAPTION, "fill=\"#ffffff\"");
        } else {
            body += &rect(from + 2.0, top, to - from, CAPTION, "fill=\"#ffffff\"");
        }
        body += &label(placed, top + 10.0, INK);
    }
    body
}

/// A span with its label, and all about it for a pointer that rests on it.
fn bar(placed: &Placed<Span>, y: f64) -> String {
    let span = placed.of;
    let kind = KINDS.iter().find(|(kind, ..)| *kind == span.kind());
    let (fill, on_it) = kind.map_or((FAINT, INK), |(_, _, fill, on_it)| (*fill, *on_it));
    let style = match span.failed() {
        true => outline(fill),
        false => format!("fill=\"{fill}\""),
    };
    let colour = match (placed.side == Side::Inside, span.failed()) {
        (true, _) => on_it,
        (false, true) => FAILED,
        (false, false) => INK,
    };
    format!(
        "<g><title>{}: {}\n{:.3} s to {:.3} s: {:.3} s</title>\n{}{}</g>\n",
        escaped(&name(&span.lane)),
        escaped(&span.label),
        span.begin,
        span.end,
        span.end - span.begin,
        rect(placed.x, y, placed.width, BAR, &style),
        label(placed, y + 12.0, colour),
    )
}

/// The text of a bar or a mark.
fn label<T>(placed: &Placed<T>, y: f64, colour: &str) -> String {
    let anchor = match placed.side {
        Side::Left => " text-anchor=\"end\"",
        Side::Inside | Side::Right => "",
    };
    let style = format!("fill=\"{colour}\"{anchor}");
    text(placed.anchor(), y, &style, &placed.text)
}

/// A label that leaves room for others; the whole of it is told to a pointer.
fn short(label: &str) -> String {
    const MOST: usize = 56;
    if label.chars().count() <= MOST {
        return label.to_owned();
    }
    label.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(node: &str, label: &str, begin: f64, end: f64) -> Span {
        let node = node.to_owned();
        Span {
            lane: Lane::Action { node },
            label: label.to_owned(),
            begin,
            end,
        }
    }

    #[test]
    fn a_whole_drawing_is_xml() {
        let spans = [
            action("n2", "start pool: error (a<b & \"c\"\u{7})", 1.0, 1.05),
            action("n1", "stop pool", 0.0, 4.0),
        ];
        let drawn = draw("<n1> & n2", &spans, &[(0.5, "cut & run".to_owned())]);
        let document = roxmltree::Document::parse(&drawn).unwrap();
        let texts: Vec<&str> = document
            .descendants()
            .filter_map(|node| node.text())
            .collect();
        for expected in [
            "<n1> & n2",
            "cut & run",
            "agents on n1: stop pool\n0.000 s to 4.000 s: 4.000 s",
            "agents on n2: start pool: error (a<b & \"c\" )\n1.000 s to 1.050 s: 0.050 s",
            "start of a pool",
            "failed",
        ] {
            assert!(texts.contains(&expected), "{expected:?} in {texts:?}");
        }
        assert!(!texts.contains(&"fencing"), "{texts:?}");
        assert_eq!(
            drawn,
            draw("<n1> & n2", &spans, &[(0.5, "cut & run".to_owned())])
        );
    }

    #[test]
    fn nothing_to_draw() {
        roxmltree::Document::parse(&draw("nothing", &[], &[])).unwrap();
    }

    #[test]
    fn lanes_have_as_many_rows_as_they_need() {
        let at_once = [
            action("n1", "start a", 0.0, 5.0),
            action("n1", "start b", 1.0, 6.0),
            action("n2", "start c", 0.0, 10.0),
        ];
        let scale = Scale::new([0.0, 10.0].into_iter(), LEFT, RIGHT);
        let strips = strips(&at_once, &scale, 100.0);
        let places: Vec<_> = strips.iter().map(|s| (s.top, s.height)).collect();
        assert_eq!(places, [(100.0, 45.0), (145.0, 24.0)]);
    }

    #[test]
    fn long_labels_are_cut() {
        assert_eq!(short("start pool"), "start pool");
        let cut = short(&"ä".repeat(80));
        assert_eq!(cut.chars().count(), 56);
        assert!(cut.ends_with('…'));
    }
}
