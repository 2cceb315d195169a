//! How subcommands speak: tables and sentences on stdout, colour only on a terminal, JSON for scripts.
//!
//! Progress goes to stderr and only to a terminal, so that output can always be piped.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

pub(super) use crate::progress::{progress, spinner};

/// Headings.
pub(super) const BOLD: Style = Style::new().bold();
/// Details that may be skipped.
pub(super) const DIM: Style = Style::new().dimmed();
/// What went well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What waits.
pub(super) const WAIT: Style = AnsiColor::Yellow.on_default();
/// What needs somebody.
pub(super) const BAD: Style = AnsiColor::Red.on_default();
/// Errors.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// A text in a style; the escape codes are dropped where stdout is not a terminal.
pub(super) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The style of a command's or server's status.
pub(super) fn status_style(status: &str) -> Style {
    match status {
        "completed" | "online" => GOOD,
        "failed" | "in_doubt" => BAD,
        "pending" | "delivered" | "awaiting_player" => WAIT,
        _ => DIM,
    }
}

/// Writes one line to stdout.
pub(super) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{text}")
}

/// Writes a JSON document to stdout: indented for people, the same document for scripts.
pub(super) fn json(value: &Value) -> io::Result<()> {
    line(format_args!("{value:#}"))
}

/// A cell of a table.
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A plain cell; control characters of foreign texts are escaped so that they cannot drive the terminal.
    pub(super) fn new(text: impl AsRef<str>) -> Cell {
        Cell { text: printable(text.as_ref()), style: Style::new() }
    }

    /// A plain cell, set to the right of this many columns.
    pub(super) fn right(text: impl AsRef<str>, width: usize) -> Cell {
        Cell::new(format!("{:>width$}", text.as_ref()))
    }

    /// A cell with the colour of its status.
    pub(super) fn status(text: &str) -> Cell {
        Cell { text: printable(text), style: status_style(text) }
    }
}

/// Control characters, and those that turn the direction of what follows or take no room.
fn drives_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text whose control characters are shown instead of obeyed.
pub(super) fn printable(text: &str) -> String {
    if text.chars().any(drives_terminal) {
        text.chars()
            .flat_map(|c| if drives_terminal(c) { c.escape_default().collect() } else { vec![c] })
            .collect()
    } else {
        text.to_owned()
    }
}

/// Writes a table: a bold heading, columns as wide as their widest cell.
pub(super) fn table(headings: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut out = anstream::stdout().lock();
    let heading: Vec<String> =
        headings.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}")).collect();
    writeln!(out, "{}", styled(BOLD, heading.join("  ").trim_end()))?;
    for row in rows {
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let last = place + 1 == row.len();
            let pad = if last { 0 } else { width - cell.text.chars().count() + 2 };
            write!(out, "{}{:pad$}", styled(cell.style, &cell.text), "")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("a\u{202e}b\u{2066}"), "a\\u{202e}b\\u{2066}");
        assert_eq!(printable("diamond 64 \u{e9}"), "diamond 64 \u{e9}");
    }
}
