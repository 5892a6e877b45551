//! What was found, for the terminal.

use super::results::{Group, Kind, Results, Row};
use super::subject::Program;

/// Two lines of head per column.
const HEAD: [[&str; 9]; 2] = [
    [
        "wall time",
        "median",
        "min",
        "p95",
        "CPU",
        "processes",
        "largest",
        "times",
        "times",
    ],
    [
        "",
        "ms",
        "ms",
        "ms",
        "ms",
        "created",
        "MiB",
        "/bin/true",
        "vip",
    ],
];

const NOTES: &str = "\
Everything ran on this machine in this run, in turns and in changing order, in namespaces of its
own. Wall time is from before the process is made until it has been waited for. CPU is the user and
system time of the process and all its descendants, those left behind included (getrusage).
Processes are counted by the kernel's counter of process ids. The largest process is the one with
the highest peak of resident memory (VmHWM at its end, in runs that are not timed). What the agents
log is thrown away.
[1] Not the same work within the action. Both announce the address 5 times, by a request and a
    reply each; vip's start ends after the last one (5 ms apart), IPaddr2's start leaves a process
    behind that goes on (200 ms apart) after start has reported success. The next run waits for it.
[2] Both announce once; still, vip before start ends, and IPaddr2 in a process left behind.
stop: IPaddr2 would also end a process that still announces; here there is none any more.
IPaddr2 is a shell script; its size is without the shell and the programs that it runs.
";

/// The table, sizes and notes.
pub fn text(results: &Results) -> String {
    let mut lines: Vec<Line> = HEAD
        .iter()
        .map(|row| Line::Cells(row.map(str::to_owned)))
        .collect();
    for group in &results.groups {
        lines.push(Line::Title(format!(
            "\n{}{} ({} runs each)",
            group.kind.title(),
            group.kind.note(),
            group.runs
        )));
        lines.extend(group.rows.iter().map(|row| Line::Cells(cells(group, row))));
    }
    let mut text = aligned(&lines);
    text += "\nexecutable\n";
    for program in Program::ALL {
        let kib = results.size(program) as f64 / 1024.0;
        text += &format!("  {:10}{kib:7.0} KiB\n", program.name());
    }
    format!("{text}\n{}{NOTES}{}", share(results), background(results))
}

/// What the concurrent monitors mean for a node.
fn share(results: &Results) -> String {
    let Some(group) = results.group(Kind::Many) else {
        return String::new();
    };
    let percent = |program| group.row(program).map(|row| row.cpu.median / 1e4 * 1e2);
    match (percent(Program::Vip), percent(Program::Peer)) {
        (Some(vip), Some(peer)) => format!(
            "100 addresses, monitored every 10 s: {vip:.1} % of a processor with vip, {peer:.1} % with IPaddr2\n\n"
        ),
        _ => String::new(),
    }
}

fn cells(group: &Group, row: &Row) -> [String; 9] {
    let ms = |value: f64| format!("{value:.2}");
    let times = |to: Program| match group.times(row.program, to) {
        Some(times) if row.program != to => format!("{times:.1}"),
        _ => String::new(),
    };
    let mut created = match row.created {
        Some((min, max)) if min == max => min.to_string(),
        Some((min, max)) => format!("{min}-{max}"),
        None => "?".into(),
    };
    if row.threads > 0 {
        created += &format!(" ({} threads)", row.threads);
    }
    [
        format!("  {}", row.program.name()),
        ms(row.wall.median),
        ms(row.wall.min),
        ms(row.wall.p95),
        ms(row.cpu.median),
        created,
        row.peak_kib
            .map_or("-".into(), |kib| format!("{:.1}", kib as f64 / 1024.0)),
        times(Program::True),
        match row.program {
            Program::True => String::new(),
            _ => times(Program::Vip),
        },
    ]
}

/// A note for each row with CPU time that was used after the action had ended.
fn background(results: &Results) -> String {
    let rows = results
        .groups
        .iter()
        .flat_map(|group| group.rows.iter().map(move |row| (group, row)));
    rows.filter(|(_, row)| row.background_ms >= 0.005)
        .map(|(group, row)| {
            format!(
                "Left behind by {} ({}): {:.2} of its {:.2} ms of CPU.\n",
                row.program.name(),
                group.kind.title(),
                row.background_ms,
                row.cpu.median
            )
        })
        .collect()
}

/// A line of the table.
enum Line {
    Cells([String; 9]),
    Title(String),
}

/// The first column to the left, numbers to the right.
fn aligned(lines: &[Line]) -> String {
    let mut widths = [0; 9];
    for line in lines {
        if let Line::Cells(cells) = line {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
    }
    let mut text = String::new();
    for line in lines {
        match line {
            Line::Title(title) => text += title,
            Line::Cells(cells) => {
                let mut row = String::new();
                for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
                    row += &match index {
                        0 => format!("{cell:width$}"),
                        _ => format!("  {cell:>width$}"),
                    };
                }
                text += row.trim_end();
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::example;
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let text = text(&example());
        let rows: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("  IPaddr2 ") && !line.ends_with("KiB"))
            .collect();
        assert_eq!(rows.len(), 7);
        for row in rows {
            let words: Vec<&str> = row.split_whitespace().collect();
            assert_eq!(
                words,
                [
                    "IPaddr2", "60.00", "54.00", "78.00", "48.00", "41", "3.0", "120.0", "80.0"
                ]
            );
        }
        let columns: Vec<_> = text.lines().filter_map(|line| line.find(".00 ")).collect();
        assert!(columns.iter().all(|column| *column == columns[0]), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }

    #[test]
    fn what_was_left_behind_is_told() {
        let mut results = example();
        let start = results
            .groups
            .iter_mut()
            .find(|group| group.kind == Kind::Start)
            .unwrap();
        start.rows[2].background_ms = 2.5;
        let expected =
            "Left behind by IPaddr2 (start, default announcements): 2.50 of its 48.00 ms of CPU.";
        assert!(text(&results).contains(expected));
    }
}
