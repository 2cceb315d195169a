//! What a plugin says about a command that it was given.

use crate::ids::Seq;
use crate::limits::{ERROR_BYTES_MAX, OUTPUT_BYTES_MAX};
use crate::protocol::{Outcome, ResultRef};

/// The report of one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The command.
    pub seq: Seq,
    /// The attempt, as it was delivered.
    pub attempt: u16,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed; cut to `ERROR_BYTES_MAX` bytes.
    pub error: Option<String>,
    /// What it printed; cut to `OUTPUT_BYTES_MAX` bytes.
    pub output: Option<String>,
}

impl Report {
    /// A report without texts.
    pub fn new(seq: Seq, attempt: u16, outcome: Outcome) -> Report {
        Report { seq, attempt, outcome, error: None, output: None }
    }

    pub(super) fn as_ref(&self) -> ResultRef<'_> {
        ResultRef {
            id: self.seq.0,
            attempt: self.attempt,
            outcome: self.outcome,
            error: self.error.as_deref(),
            output: self.output.as_deref(),
        }
    }

    /// The same report with its texts cut to what the protocol carries.
    pub(super) fn cut(mut self) -> Report {
        cut(&mut self.error, ERROR_BYTES_MAX);
        cut(&mut self.output, OUTPUT_BYTES_MAX);
        self
    }
}

fn cut(text: &mut Option<String>, bytes_max: usize) {
    if let Some(text) = text {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}
