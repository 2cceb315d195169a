//! Which of two journals is put first when both are sound and differ. Never looks at one of a mirror that may be old.
//!
//! A crash between the two syncs of a commit leaves it on one side alone: then either side will do. But the last commit on
//! the data directory's disk may also have been lost or damaged where the durable mark, which is one sync behind, does not
//! tell; then only the mirror still has what was acknowledged. So the journal that recovers further is taken, whichever
//! side was synced first.

use std::path::Path;

use super::Mirror;
use crate::storage::check::open_log;
use crate::storage::contract::CommitNo;
use crate::storage::error::StorageError;
use crate::storage::journal::{LogFile, scan};
use crate::storage::open::JOURNAL_FILE;

/// Where a journal ends: the last commit, and the run of its newest segment, whose number must not be given out twice.
type End = (CommitNo, u32);

impl Mirror {
    /// Puts the mirror's journal in the place of one that is sound and ends before it.
    pub(super) fn take_further_journal(&self) -> Result<(), StorageError> {
        let marks = &self.0.marks;
        // What cannot be read, or is damaged, shows when the data directory is opened, and is replaced then.
        let Some((data, ours)) = end_of(&marks.data) else { return Ok(()) };
        let Some((mirror, theirs)) = end_of(&marks.dir) else { return Ok(()) };
        // Two logs of which one is no copy of the other were put there by hand: their numbers say nothing.
        if !data.is_of_one_with(&mirror) || theirs <= ours {
            return Ok(());
        }
        drop((data, mirror));
        let ((CommitNo(ours), _), (CommitNo(theirs), _)) = (ours, theirs);
        tracing::error!(ours, theirs, "the mirror's journal has commits that the data directory's lacks");
        self.put_back(JOURNAL_FILE).map(|_| ())
    }
}

fn end_of(dir: &Path) -> Option<(LogFile, End)> {
    let log = open_log(dir).ok()?;
    let found = scan(&log).ok()?;
    Some((log, (found.last, found.meta.boot)))
}
