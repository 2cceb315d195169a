//! What is durable in the log at one instant, and reading it from front to back: for backups and checks, also
//! while commits go on. Looks at no byte behind what was durable then.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::copy::TakeCommit;
use super::file::LogFile;
use super::layout::{Found, RecordKind, SECTOR, record_at, record_bytes};
use super::scan::Scanned;
use crate::storage::contract::CommitNo;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{Flaw, JournalMeta};

/// A segment that holds what is not forgotten yet, or is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    /// Its number.
    pub(super) no: u64,
    pub(super) slot: u32,
    /// Where its last durable record ends that counts.
    pub(super) end: u32,
    /// The highest commit that has a part in it; without one, the last before it.
    pub(super) top: u64,
}

/// What is durable.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// By rising number; the last is being written.
    pub(super) segments: VecDeque<Live>,
    pub(super) meta: JournalMeta,
    pub(super) last: CommitNo,
}

/// What the journal and those who copy it share.
#[derive(Debug)]
pub(in crate::storage) struct Shared {
    pub(super) log: LogFile,
    pub(super) shape: Mutex<Shape>,
    /// As long as anybody else holds it, no segment is used again.
    pub(super) pin: Arc<()>,
}

impl Shared {
    /// The state of now. Segments that it names are not used again until it is dropped.
    pub(in crate::storage) fn snapshot(&self) -> LogSnapshot {
        let shape = self.shape.lock();
        LogSnapshot {
            log: self.log.clone(),
            segments: shape.segments.iter().copied().collect(),
            meta: shape.meta.clone(),
            last: shape.last,
            _pin: Arc::clone(&self.pin),
        }
    }
}

/// The log at one instant.
#[derive(Debug)]
pub(in crate::storage) struct LogSnapshot {
    pub(super) log: LogFile,
    pub(super) segments: Vec<Live>,
    /// Where the journal stood.
    pub(in crate::storage) meta: JournalMeta,
    /// The last commit.
    pub(in crate::storage) last: CommitNo,
    _pin: Arc<()>,
}

impl LogSnapshot {
    /// A log that nobody writes to.
    pub(in crate::storage) fn of(log: &LogFile, found: Scanned) -> LogSnapshot {
        let segments = found.segments.into_iter().collect();
        let log = log.clone();
        LogSnapshot { log, segments, meta: found.meta, last: found.last, _pin: Arc::new(()) }
    }

    /// The name of the file, for the errors about it.
    pub(in crate::storage) fn file(&self) -> &DbFile {
        &self.log.file
    }

    /// Hands over every commit that is not forgotten, in order, its frames one after the other.
    ///
    /// # Errors
    /// `Damaged` at the first that does not check, a failed read, or what `each` returns.
    pub(in crate::storage) fn read(&self, each: TakeCommit<'_>) -> Result<(), StorageError> {
        let mut buffer = Vec::new();
        let mut parts = Parts { body: Vec::new(), next: None, done: self.meta.trimmed };
        for segment in &self.segments {
            let end = segment.end as usize;
            self.log.read_segment(segment.slot, end, &mut buffer)?;
            let mut at = SECTOR;
            while at < end {
                let (head, body) = match record_at(&buffer, at, segment.no, &self.log.head) {
                    Found::Whole(head, body) => (head, body),
                    Found::Torn(_) => return Err(self.damaged(parts.done + 1, "the checksum does not match")),
                    Found::Nothing => return Err(self.damaged(parts.done + 1, "it is missing")),
                };
                at += record_bytes(body.len());
                // Parts of forgotten commits may stand at the start.
                if head.kind == RecordKind::Meta || head.commit <= self.meta.trimmed {
                    continue;
                }
                let of_commit = parts.take(head.commit, head.part, head.last, body);
                match of_commit.map_err(|flaw| self.log.file.damaged("commits", parts.done + 1, flaw))? {
                    Some(Body::Own) => each(CommitNo(head.commit), &parts.body)?,
                    Some(Body::Given) => each(CommitNo(head.commit), body)?,
                    None => {}
                }
            }
        }
        if parts.done != self.last.0 || parts.next.is_some() {
            return Err(self.damaged(parts.done + 1, "it is missing"));
        }
        Ok(())
    }

    fn damaged(&self, commit: u64, words: &str) -> StorageError {
        self.log.file.damaged("commits", commit, Flaw::new(words))
    }
}

/// Where the body of a commit that is whole now lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// In the record that was given.
    Given,
    /// In what was gathered.
    Own,
}

/// Commits, put together from their parts.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) body: Vec<u8>,
    /// The part that has to come next; `None` between two commits.
    pub(super) next: Option<u32>,
    /// The last commit that was whole.
    pub(super) done: u64,
}

impl Parts {
    /// Takes a part, which must be the next one; says whether the commit is whole now, and where.
    pub(super) fn take(
        &mut self,
        commit: u64,
        part: u32,
        last: bool,
        body: &[u8],
    ) -> Result<Option<Body>, Flaw> {
        let expected = (self.done + 1, self.next.unwrap_or(0));
        if (commit, part) != expected {
            return Err(Flaw::new(format!(
                "part {part} of commit {commit} where part {} of commit {} belongs",
                expected.1, expected.0
            )));
        }
        let alone = part == 0 && last;
        if !alone {
            if part == 0 {
                self.body.clear();
            }
            self.body.extend_from_slice(body);
        }
        if !last {
            self.next = Some(part + 1);
            return Ok(None);
        }
        (self.next, self.done) = (None, commit);
        Ok(Some(if alone { Body::Given } else { Body::Own }))
    }

    /// Forgets the parts of a commit that was never whole.
    pub(super) fn forget(&mut self) {
        self.next = None;
        self.body.clear();
    }
}
