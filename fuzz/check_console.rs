//! Any bytes as what a game server prints: lines do not depend on how the bytes arrive, stay bounded, and no chat message
//! is taken for a player who joins or leaves.
//!
//! Compiled into the library, in its tests and under `cfg(fuzzing)` alone: the parser is nobody's business outside.

use super::{LINE_BYTES_MAX, Lines, Notice, Patterns};
use crate::limits::PLAYER_NAME_BYTES_MAX;

fn lines(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<String> {
    let (mut lines, mut seen) = (Lines::default(), Vec::new());
    for piece in pieces {
        lines.feed(piece.as_ref(), |line| seen.push(line.to_owned()));
        assert!(lines.partial.len() <= LINE_BYTES_MAX);
    }
    seen
}

/// Panics if the console's output `data` is read as what it does not say.
pub fn check_console(data: &[u8]) {
    let patterns = Patterns::new(&[], &[], Some("Done \\(")).expect("good patterns");
    let whole = lines(std::iter::once(data));
    let width = data.first().map_or(1, |first| usize::from(*first) % 7 + 1);
    assert_eq!(whole, lines(data.chunks(width)), "pieces change nothing");
    for line in &whole {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        if let Some(Notice::Joined(name) | Notice::Left(name)) = patterns.read(line) {
            assert!((1..=PLAYER_NAME_BYTES_MAX).contains(&name.len()) && line.contains(&name));
        }
    }
    // The same as chat: what a server prints before it is the server's own.
    let own = Patterns::new(&[], &[], None).expect("good patterns");
    for line in whole {
        for prefix in ["[12:00:00] [Server thread/INFO]: <Eve> ", "[12:00:00 INFO]: [Eve] ", "<Eve> "] {
            assert_eq!(own.read(&format!("{prefix}{line}")), None, "{prefix}{line}");
        }
    }
}

#[test]
fn the_corpus_of_console_lines_holds() {
    crate::corpus::replay("console", check_console);
}
