//! What was found, as a picture.

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::results::Results;
use super::subject::Program;

pub(super) const WIDTH: u32 = 960;

/// Above the bars: title and legend.
const TOP: u32 = 78;

/// Below them: the numbers of the axis.
const BOTTOM: u32 = 46;

/// Of the names of the groups.
const LEFT: u32 = 260;

/// Height of a bar.
const BAR: u32 = 19;

/// Rows of a group: its bars and a gap.
const ROWS: usize = Program::ALL.len() + 1;

pub(super) const INK: RGBColor = RGBColor(31, 41, 51);
pub(super) const FAINT: RGBColor = RGBColor(222, 226, 230);

/// Told apart also without colours: they differ in lightness.
fn colour(program: Program) -> RGBColor {
    match program {
        Program::True => RGBColor(173, 181, 189),
        Program::Vip => RGBColor(9, 105, 100),
        Program::Peer => RGBColor(226, 142, 44),
    }
}

/// Bars of the median wall time on a logarithmic scale, grouped by action. The background is white, not clear, so that
/// it can be read in a dark viewer too.
pub fn svg(results: &Results) -> Result<String> {
    let rows = results.groups.len() * ROWS;
    let height = TOP + BOTTOM + rows as u32 * BAR;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        heading(&root)?;
        bars(&root, results)?;
        root.present().map_err(drawing)?;
    }
    Ok(text)
}

fn heading(root: &DrawingArea<SVGBackend, Shift>) -> Result<()> {
    let title = font(19).style(FontStyle::Bold).color(&INK);
    root.draw(&Text::new(
        "Wall time of an action: median, logarithmic scale, shorter is better",
        (18, 14),
        title,
    ))
    .map_err(drawing)?;
    let mut x = LEFT as i32;
    for program in Program::ALL {
        root.draw(&Rectangle::new(
            [(x, 48), (x + 14, 62)],
            colour(program).filled(),
        ))
        .map_err(drawing)?;
        let style = TextStyle::from(font(14))
            .pos(Pos::new(HPos::Left, VPos::Center))
            .color(&INK);
        root.draw(&Text::new(program.name(), (x + 21, 55), style))
            .map_err(drawing)?;
        x += 110;
    }
    Ok(())
}

fn bars(root: &DrawingArea<SVGBackend, Shift>, results: &Results) -> Result<()> {
    let (low, high) = range(results).context("nothing was measured")?;
    let rows = results.groups.len() * ROWS;
    let mut chart = ChartBuilder::on(root)
        .margin_top(TOP)
        .margin_right(28)
        .x_label_area_size(BOTTOM)
        .y_label_area_size(LEFT)
        .build_cartesian_2d((low..high).log_scale(), (rows as f64)..0.0)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .axis_style(FAINT)
        .bold_line_style(FAINT)
        .light_line_style(WHITE)
        .x_labels(8)
        .x_label_formatter(&|ms| axis(*ms))
        .x_label_style(font(13).color(&INK))
        .draw()
        .map_err(drawing)?;
    let middle = |side| Pos::new(side, VPos::Center);
    let value = TextStyle::from(font(13))
        .pos(middle(HPos::Left))
        .color(&INK);
    let name = TextStyle::from(font(14))
        .pos(middle(HPos::Right))
        .color(&INK);
    for (number, group) in results.groups.iter().enumerate() {
        let top = (number * ROWS) as f64 + 0.5;
        let label = EmptyElement::at((low, top + 1.5))
            + Text::new(group.kind.title(), (-12, 0), name.clone());
        chart.draw_series([label]).map_err(drawing)?;
        for (index, row) in group.rows.iter().enumerate() {
            let top = top + index as f64;
            let bar = [(low, top + 0.08), (row.wall.median, top + 0.92)];
            chart
                .draw_series([Rectangle::new(bar, colour(row.program).filled())])
                .map_err(drawing)?;
            let label = EmptyElement::at((row.wall.median, top + 0.5))
                + Text::new(amount(row.wall.median), (7, 0), value.clone());
            chart.draw_series([label]).map_err(drawing)?;
        }
    }
    Ok(())
}

/// From below the shortest bar to where the label of the longest one has room.
fn range(results: &Results) -> Option<(f64, f64)> {
    let all = || {
        let rows = results.groups.iter().flat_map(|group| &group.rows);
        rows.map(|row| row.wall.median).filter(|ms| *ms > 0.0)
    };
    let (min, max) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
    Some((10_f64.powf((min * 0.7).log10().floor()), max * 3.0))
}

/// With about three digits.
fn amount(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        ..10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

/// A number of the axis.
fn axis(ms: f64) -> String {
    if ms < 1000.0 {
        format!("{} ms", (ms * 1e3).round() / 1e3)
    } else {
        format!("{} s", ms / 1e3)
    }
}

pub(super) fn font(size: i32) -> FontDesc<'static> {
    ("sans-serif", size).into_font()
}

/// plotters' errors borrow from what they draw on.
pub(super) fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::example;
    use super::*;

    #[test]
    fn is_valid_and_complete() {
        let text = svg(&example()).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        assert_eq!(document.root_element().tag_name().name(), "svg");
        let count = |name: &str| {
            document
                .descendants()
                .filter(|node| node.tag_name().name() == name)
                .count()
        };
        // The background, three squares of the legend, and the bars.
        assert_eq!(count("rect"), 1 + 3 + 7 * 3);
        for expected in ["stop", "vip", "0.75 ms", "60.0 ms", "10 ms"] {
            let found = document
                .descendants()
                .any(|node| node.text().is_some_and(|text| text.trim() == expected));
            assert!(found, "{expected}: {text}");
        }
    }

    #[test]
    fn nothing_measured_is_an_error() {
        let mut results = example();
        results.groups.clear();
        assert!(svg(&results).is_err());
    }
}
