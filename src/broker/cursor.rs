//! The place where a listing of a server's commands goes on: first in memory, then at rest.

use std::fmt;

use crate::ids::Seq;
use crate::storage::EndedCursor;

/// Text forms: `m` (from the start), `m<seq>`, `r<checkpoint>.<seq>`. Opaque to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Commands in memory after this one.
    Memory(Option<Seq>),
    /// Commands at rest from there.
    Rest(EndedCursor),
}

impl Cursor {
    pub(super) fn parse(text: &str) -> Option<Cursor> {
        let (kind, rest) = text.split_at_checked(1)?;
        match kind {
            "m" if rest.is_empty() => Some(Cursor::Memory(None)),
            "m" => Some(Cursor::Memory(Some(Seq(rest.parse().ok()?)))),
            "r" => {
                let (checkpoint, after) = rest.split_once('.')?;
                let cursor =
                    EndedCursor { checkpoint: checkpoint.parse().ok()?, after: Seq(after.parse().ok()?) };
                Some(Cursor::Rest(cursor))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cursor::Memory(None) => f.write_str("m"),
            Cursor::Memory(Some(seq)) => write!(f, "m{}", seq.0),
            Cursor::Rest(cursor) => write!(f, "r{}.{}", cursor.checkpoint, cursor.after.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_read_back() {
        let rest = Cursor::Rest(EndedCursor { checkpoint: 4, after: Seq(9) });
        for cursor in [Cursor::Memory(None), Cursor::Memory(Some(Seq(7))), rest] {
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in ["", "x1", "m-1", "r1", "r1.x", "ä"] {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }
}
