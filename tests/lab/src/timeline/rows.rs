//! Where things of a drawing go: seconds along its width, and as few rows as keep labels apart.

/// Between what stands side by side.
const SPACE: f64 = 4.0;

/// Between numbers of the axis, at least.
const TICK: f64 = 64.0;

/// Seconds as pixels.
pub struct Scale {
    first: f64,
    last: f64,
    left: f64,
    right: f64,
}

impl Scale {
    /// From `left` to `right`: all these times, and 0.
    pub fn new(times: impl Iterator<Item = f64>, left: f64, right: f64) -> Scale {
        let (first, last) = times.fold((0.0, 0.0), |(first, last): (f64, f64), at| {
            (first.min(at), last.max(at))
        });
        Scale {
            first,
            // Something has to be there to divide by.
            last: if last > first { last } else { first + 1.0 },
            left,
            right,
        }
    }

    /// The place of a time.
    pub fn x(&self, at: f64) -> f64 {
        self.left + (at - self.first) / (self.last - self.first) * (self.right - self.left)
    }

    /// Times that people like to read, with their numbers: 1, 2 or 5 times a power of ten apart.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let least = (self.last - self.first) * TICK / (self.right - self.left);
        let power = 10f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| *step >= least)
            .unwrap_or(least);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let numbers = (self.first / step).ceil() as i64..=(self.last / step).floor() as i64;
        numbers
            .map(|number| number as f64 * step)
            .map(|at| (at, format!("{at:.decimals$}")))
            .collect()
    }
}

/// A bar with its label.
pub struct Placed<'a, T> {
    /// What it stands for.
    pub of: &'a T,
    /// Counted from above.
    pub row: usize,
    /// Where the bar begins.
    pub x: f64,
    /// How long it is.
    pub width: f64,
    /// The label.
    pub text: String,
    /// Where that is.
    pub side: Side,
}

/// Where a label stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// On its bar.
    Inside,
    /// After it.
    Right,
    /// Before it.
    Left,
}

impl<T> Placed<'_, T> {
    /// Where the label begins, or ends if it stands before the bar.
    pub fn anchor(&self) -> f64 {
        match self.side {
            Side::Inside => self.x + SPACE,
            Side::Right => self.x + self.width + SPACE,
            Side::Left => self.x - SPACE,
        }
    }

    /// From where to where it takes all of its row, label included.
    pub fn extent(&self) -> (f64, f64) {
        let (begin, end) = (self.x, self.x + self.width);
        let label = SPACE + text_width(&self.text);
        match self.side {
            Side::Inside => (begin, end),
            Side::Right => (begin, end + label),
            Side::Left => (begin - label, end),
        }
    }
}

/// Puts bars (place, length, label) into the first row where they hide nothing. A label stands on its bar if it fits,
/// else right of it, else left of it. `right` is the edge.
pub fn rows<'a, T>(
    bars: impl Iterator<Item = (&'a T, f64, f64, String)>,
    right: f64,
) -> Vec<Placed<'a, T>> {
    let mut ends: Vec<f64> = Vec::new();
    let mut placed = Vec::new();
    for (of, x, width, text) in bars {
        let needs = text_width(&text);
        let side = if needs + 2.0 * SPACE <= width {
            Side::Inside
        } else if x + width + SPACE + needs <= right {
            Side::Right
        } else {
            Side::Left
        };
        let mut bar = Placed {
            of,
            row: 0,
            x,
            width,
            text,
            side,
        };
        let (from, to) = bar.extent();
        let free = ends.iter().position(|taken| *taken <= from);
        bar.row = free.unwrap_or(ends.len());
        ends.resize(ends.len().max(bar.row + 1), 0.0);
        ends[bar.row] = to + 2.0 * SPACE;
        placed.push(bar);
    }
    placed
}

/// About as much as a text in letters of 11 pixels takes, rather more.
pub fn text_width(text: &str) -> f64 {
    let width = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | ' ' | '.' | ',' | ':' | '-' | '(' | ')' => 4.0,
        'm' | 'w' | 'M' | 'W' => 9.5,
        _ if c.is_uppercase() => 8.0,
        _ => 6.4,
    };
    text.chars().map(width).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(first: f64, last: f64) -> Vec<String> {
        let scale = Scale::new([first, last].into_iter(), 0.0, 1000.0);
        scale
            .ticks()
            .into_iter()
            .map(|(_, number)| number)
            .collect()
    }

    #[test]
    fn round_numbers() {
        assert_eq!(
            ticks(-0.03, 0.31).join(" "),
            "0.00 0.05 0.10 0.15 0.20 0.25 0.30"
        );
        assert_eq!(
            ticks(0.0, 7.0).join(" "),
            "0.0 0.5 1.0 1.5 2.0 2.5 3.0 3.5 4.0 4.5 5.0 5.5 6.0 6.5 7.0"
        );
        assert_eq!(ticks(-3.0, 30.0).join(" "), "0 5 10 15 20 25 30");
        assert_eq!(ticks(0.0, 0.0).len(), 11);
    }

    #[test]
    fn ends_of_the_scale() {
        let scale = Scale::new([30.0, 10.0].into_iter(), 100.0, 400.0);
        assert_eq!((scale.x(0.0), scale.x(30.0)), (100.0, 400.0));
    }

    #[test]
    fn nothing_is_hidden() {
        let bars = [
            (&"inside", 0.0, 200.0),
            (&"while the first is there", 100.0, 5.0),
            (&"after it", 210.0, 2.0),
            (&"at the edge", 390.0, 8.0),
            (&"at the edge too", 391.0, 8.0),
        ];
        let bars = bars.map(|(text, x, width)| (text, x, width, (*text).to_owned()));
        let placed = rows(bars.into_iter(), 400.0);
        let rows: Vec<usize> = placed.iter().map(|bar| bar.row).collect();
        assert_eq!(rows, [0, 1, 0, 0, 1]);
        let sides: Vec<Side> = placed.iter().map(|bar| bar.side).collect();
        assert_eq!(
            sides,
            [
                Side::Inside,
                Side::Right,
                Side::Right,
                Side::Left,
                Side::Left
            ]
        );
        assert_eq!((placed[1].anchor(), placed[3].anchor()), (109.0, 386.0));
    }
}
