//! What was found, as a table, as CSV and as a picture.

use std::fmt::Write;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::plot::{FAINT, INK, WIDTH, drawing, font};
use super::{Found, LOSS, MOVE, Outage};
use crate::timeline::shares::Shares;
use crate::vm::zfs_iscsi::Whose;

/// How the two are called.
pub fn name(whose: Whose) -> &'static str {
    match whose {
        Whose::Ours => "ours",
        Whose::Peers => "peers",
    }
}

/// Takes one part out of all.
type Part = fn(&Shares) -> f64;

/// The parts of a gap, in the order in which they are shown, each with its colour.
const PARTS: [(&str, Part, RGBColor); 6] = [
    ("detection", |it| it.detection, RGBColor(134, 142, 150)),
    ("fencing", |it| it.fencing, RGBColor(192, 57, 43)),
    ("import", |it| it.import, RGBColor(41, 98, 168)),
    ("agents", |it| it.agents, RGBColor(226, 142, 44)),
    ("Pacemaker", |it| it.pacemaker, RGBColor(9, 105, 100)),
    ("client", |it| it.client, RGBColor(150, 110, 180)),
];

/// One line of the table: the outage in the middle of all, by its length.
struct Row {
    whose: Whose,
    luns: usize,
    what: &'static str,
    median: Outage,
    longest: f64,
    count: usize,
}

fn rows(all: &[Found]) -> Vec<Row> {
    let mut rows = Vec::new();
    for what in [MOVE, LOSS] {
        for found in all {
            let mut sorted = found.outages(what).to_vec();
            sorted.sort_by(|a, b| a.gap.total_cmp(&b.gap));
            let middle = sorted.len().saturating_sub(1) / 2;
            if let (Some(median), Some(last)) = (sorted.get(middle), sorted.last()) {
                rows.push(Row {
                    whose: found.whose,
                    luns: found.luns,
                    what,
                    median: *median,
                    longest: last.gap,
                    count: sorted.len(),
                });
            }
        }
    }
    rows
}

/// Seconds that are neither noticing, nor fencing, nor the import, which is the kernel's for the most part.
fn rest(shares: &Shares) -> f64 {
    shares.agents + shares.pacemaker + shares.client
}

/// The table.
pub fn table(all: &[Found]) -> String {
    let mut text = format!(
        "{:13} {:>4}  {:6}{:>8}{:>9}",
        "", "LUNs", "", "gap, s", "longest"
    );
    for (part, _, _) in PARTS {
        let _ = write!(text, "{part:>11}");
    }
    text += "\n";
    let rows = rows(all);
    for row in &rows {
        let _ = write!(
            text,
            "{:13} {:4}  {:6}{:8.2}{:9.2}",
            row.what,
            row.luns,
            name(row.whose),
            row.median.gap,
            row.longest
        );
        for (_, part, _) in PARTS {
            let _ = write!(text, "{:11.2}", part(&row.median.shares));
        }
        let _ = writeln!(text, "   {} times", row.count);
    }
    text += "\n";
    for ours in rows.iter().filter(|row| row.whose == Whose::Ours) {
        let peers = rows.iter().find(|row| {
            row.whose == Whose::Peers && (row.what, row.luns) == (ours.what, ours.luns)
        });
        if let Some(peers) = peers {
            let _ = writeln!(
                text,
                "{}, {} LUNs: the peers' gap is {:.1} times ours; of ours, {:.2} s are neither detection, fencing nor import, \
                 of theirs {:.2} s",
                ours.what,
                ours.luns,
                peers.median.gap / ours.median.gap,
                rest(&ours.median.shares),
                rest(&peers.median.shares)
            );
        }
    }
    for found in all {
        let _ = writeln!(
            text,
            "monitoring, {} LUNs, {}: {:.1} ms of processor time a second on both heads together, Pacemaker's own included",
            found.luns,
            name(found.whose),
            found.monitoring
        );
    }
    text
}

/// Every single outage, one line each.
pub fn csv(all: &[Found]) -> String {
    let mut text = "whose,luns,what,gap_s".to_owned();
    for (part, _, _) in PARTS {
        let _ = write!(text, ",{}_s", part.to_lowercase());
    }
    text += "\n";
    for found in all {
        for what in [MOVE, LOSS] {
            for outage in found.outages(what) {
                let (whose, luns) = (name(found.whose), found.luns);
                let _ = write!(text, "{whose},{luns},{what},{:.3}", outage.gap);
                for (_, part, _) in PARTS {
                    let _ = write!(text, ",{:.3}", part(&outage.shares));
                }
                text += "\n";
            }
        }
    }
    text
}

const TOP: u32 = 78;
const BAR: u32 = 26;
const LEFT: u32 = 220;

/// Bars of the gaps, each divided among those who had it. The background is white, so that it can be read in a dark viewer
/// too.
pub fn svg(all: &[Found]) -> Result<String> {
    let rows = rows(all);
    let longest = rows.iter().map(|row| row.median.gap).fold(0.0, f64::max);
    let size = (WIDTH, TOP + 46 + rows.len() as u32 * BAR);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        let title = font(19).style(FontStyle::Bold).color(&INK);
        let words = "How long a client waits, seconds: shorter is better";
        root.draw(&Text::new(words, (18, 14), title))
            .map_err(drawing)?;
        let left = |size: i32| {
            TextStyle::from(font(size))
                .pos(Pos::new(HPos::Left, VPos::Center))
                .color(&INK)
        };
        for (number, (part, _, colour)) in PARTS.iter().enumerate() {
            let x = 18 + number as i32 * 120;
            let square = Rectangle::new([(x, 48), (x + 14, 62)], colour.filled());
            root.draw(&square).map_err(drawing)?;
            root.draw(&Text::new(*part, (x + 21, 55), left(14)))
                .map_err(drawing)?;
        }
        let mut chart = ChartBuilder::on(&root)
            .margin_top(TOP)
            .margin_right(28)
            .x_label_area_size(46)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(0.0..(longest * 1.12).max(1.0), (rows.len() as f64)..0.0)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .axis_style(FAINT)
            .bold_line_style(FAINT)
            .light_line_style(WHITE)
            .x_label_style(font(13).color(&INK))
            .draw()
            .map_err(drawing)?;
        let right = TextStyle::from(font(14))
            .pos(Pos::new(HPos::Right, VPos::Center))
            .color(&INK);
        for (number, row) in rows.iter().enumerate() {
            let top = number as f64;
            let words = format!("{}, {} LUNs, {}", row.what, row.luns, name(row.whose));
            let label =
                EmptyElement::at((0.0, top + 0.5)) + Text::new(words, (-12, 0), right.clone());
            chart.draw_series([label]).map_err(drawing)?;
            let mut at = 0.0;
            for (_, part, colour) in PARTS {
                let length = part(&row.median.shares);
                let bar = [(at, top + 0.12), (at + length, top + 0.88)];
                chart
                    .draw_series([Rectangle::new(bar, colour.filled())])
                    .map_err(drawing)?;
                at += length;
            }
            let value = format!("{:.1} s", row.median.gap);
            let label = EmptyElement::at((at, top + 0.5)) + Text::new(value, (7, 0), left(13));
            chart.draw_series([label]).map_err(drawing)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(whose: Whose, gaps: [f64; 3]) -> Found {
        let outage = |gap| Outage {
            gap,
            shares: Shares {
                import: 1.0,
                agents: gap - 1.0,
                ..Shares::default()
            },
        };
        Found {
            whose,
            luns: 8,
            moves: gaps.map(outage).into(),
            losses: Vec::new(),
            monitoring: 12.0,
        }
    }

    #[test]
    fn the_median_counts_and_the_ratio_is_told() {
        let all = [
            found(Whose::Ours, [4.0, 2.0, 9.0]),
            found(Whose::Peers, [50.0, 40.0, 30.0]),
        ];
        let text = table(&all);
        let ratio = "planned move, 8 LUNs: the peers' gap is 10.0 times ours; of ours, 3.00 s";
        assert!(text.contains(ratio), "{text}");
        assert!(text.contains("9.00"), "the longest: {text}");
        assert!(!text.contains("power loss"), "none was measured: {text}");
        assert_eq!(csv(&all).lines().count(), 7);
        let picture = svg(&all).unwrap();
        let document = roxmltree::Document::parse(&picture).unwrap();
        let bars = document
            .descendants()
            .filter(|node| node.has_tag_name("rect"))
            .count();
        // The background, the legend, and the parts of two bars.
        assert_eq!(bars, 1 + 6 + 2 * 6);
    }
}
