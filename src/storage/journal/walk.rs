//! The way through the segments that count, record by record: which commits are whole, and where it ends. Decides what is
//! a torn end and what is damage, and hands over each commit as soon as it is known to count.

use std::collections::VecDeque;

use super::copy::TakeCommit;
use super::file::LogFile;
use super::for_each_frame_of;
use super::layout::{Found, Mark, RecordHead, RecordKind, SECTOR, SegmentHead, record_at, record_bytes};
use super::scan::Scanned;
use super::snapshot::{Body, Live, Parts};
use crate::storage::contract::CommitNo;
use crate::storage::error::StorageError;
use crate::storage::record::{ChainBase, Flaw, JournalMeta};

/// See the module.
pub(super) struct Walk<'a> {
    log: &'a LogFile,
    mark: Mark,
    /// All up to this commit was durable.
    proven: u64,
    /// All up to this commit is forgotten: of the first of them only some parts may be there.
    trimmed: u64,
    segments: VecDeque<Live>,
    /// Where the parts of the commit that is being put together end: place among the segments, end.
    open: Vec<(usize, u32)>,
    parts: Parts,
    /// Parts of this commit are missing: what follows of it is passed over.
    broken: bool,
    meta: Option<JournalMeta>,
    bases: VecDeque<(CommitNo, ChainBase)>,
    each: TakeCommit<'a>,
}

impl<'a> Walk<'a> {
    /// `after`: the last commit that any head of a segment was written after. `each` takes those that are not forgotten.
    pub(super) fn new(
        log: &'a LogFile,
        mark: Mark,
        after: u64,
        trimmed: u64,
        each: TakeCommit<'a>,
    ) -> Walk<'a> {
        Walk {
            log,
            mark,
            proven: mark.commit.max(after),
            trimmed,
            segments: VecDeque::new(),
            open: Vec::new(),
            parts: Parts { body: Vec::new(), next: None, done: 0 },
            broken: false,
            meta: None,
            bases: VecDeque::new(),
            each,
        }
    }

    /// Goes through all of them.
    pub(super) fn run(&mut self, chain: &[SegmentHead]) -> Result<(), StorageError> {
        let mut bytes = Vec::new();
        // Why the segment before ended where it did.
        let mut flaw = Flaw::new("it is missing");
        if let Some(first) = chain.first() {
            self.parts.done = first.after;
            self.parts.next = (first.parts > 0).then_some(first.parts);
        }
        for (place, head) in chain.iter().enumerate() {
            if place > 0 {
                self.enter(head, &flaw)?;
            }
            let (no, slot) = (head.no, head.slot);
            self.segments.push_back(Live { no, slot, end: SECTOR as u32, top: head.after });
            self.log.read_segment(head.slot, self.log.segment_bytes(), &mut bytes)?;
            let (at, why) = self.records(head, &bytes)?;
            flaw = why;
            if place + 1 == chain.len() {
                self.end(head, &bytes, at, &flaw)?;
            }
        }
        if self.parts.done < self.proven {
            return Err(self.damaged(&flaw));
        }
        self.check_start(chain)
    }

    fn damaged(&self, flaw: &Flaw) -> StorageError {
        self.log.file.damaged("commits", self.parts.done + 1, flaw.clone())
    }

    /// From one segment to the next, whose head says where the one before it ended.
    fn enter(&mut self, head: &SegmentHead, flaw: &Flaw) -> Result<(), StorageError> {
        if head.after > self.parts.done {
            return Err(self.damaged(flaw));
        }
        if head.after < self.parts.done {
            let words = format!("it follows commit {} where {} belongs", head.after, self.parts.done);
            return Err(self.log.file.damaged("segments", head.no, Flaw::new(words)));
        }
        if head.parts == 0 {
            // An opening passed over what had been begun; or nothing had.
            self.pass_over();
        } else if self.parts.next != Some(head.parts) {
            self.broken = true;
        }
        Ok(())
    }

    /// What was begun and is not whole does not count.
    fn pass_over(&mut self) {
        self.broken = false;
        self.open.clear();
        self.parts.forget();
    }

    /// The records of a segment, up to where it ends for us, and why it does.
    fn records(&mut self, head: &SegmentHead, bytes: &[u8]) -> Result<(usize, Flaw), StorageError> {
        let mut at = SECTOR;
        loop {
            let (record, body) = match record_at(bytes, at, head.no, &self.log.head) {
                Found::Whole(record, body) => (record, body),
                Found::Torn(_) => return Ok((at, Flaw::new("the checksum does not match"))),
                Found::Nothing => return Ok((at, Flaw::new("it is missing"))),
            };
            let next = at + record_bytes(body.len());
            match record.kind {
                // Also of a commit that is passed over: what the store holds it holds.
                RecordKind::Meta if record.commit == self.parts.done => self.take_meta(body, next)?,
                RecordKind::Meta => {
                    return Ok((at, Flaw::new(format!("a record after commit {}", record.commit))));
                }
                RecordKind::Commit if self.broken => {
                    return Ok((at, Flaw::new("parts of it are missing")));
                }
                RecordKind::Commit => {
                    if let Err(flaw) = self.take_part(&record, body, next)? {
                        return Ok((at, flaw));
                    }
                }
            }
            at = next;
        }
    }

    fn take_meta(&mut self, body: &[u8], next: usize) -> Result<(), StorageError> {
        let meta = JournalMeta::decode(body);
        self.meta = Some(meta.map_err(|flaw| self.log.file.damaged("meta", super::JOURNAL_KEY, flaw))?);
        if !self.broken && self.open.last().is_none_or(|open| open.0 + 1 != self.segments.len()) {
            self.last_segment().end = end(next);
        }
        Ok(())
    }

    fn last_segment(&mut self) -> &mut Live {
        self.segments.back_mut().expect("records stand in a segment")
    }

    fn take_part(
        &mut self,
        record: &RecordHead,
        body: &[u8],
        next: usize,
    ) -> Result<Result<(), Flaw>, StorageError> {
        let whole = match self.parts.take(record.commit, record.part, record.last, body) {
            Ok(whole) => whole,
            Err(flaw) => return Ok(Err(flaw)),
        };
        let place = self.segments.len() - 1;
        self.open.retain(|open| open.0 != place);
        self.open.push((place, end(next)));
        let Some(whole) = whole else { return Ok(Ok(())) };
        for (place, end) in self.open.drain(..) {
            (self.segments[place].end, self.segments[place].top) = (end, record.commit);
        }
        let gathered = std::mem::take(&mut self.parts.body);
        let frames = if whole == Body::Own { &gathered[..] } else { body };
        let no = CommitNo(record.commit);
        if no.0 > self.trimmed {
            for_each_frame_of(frames, |frame| {
                self.bases.push_back((no, frame.base()));
                Ok(())
            })
            .map_err(|flaw| self.log.file.damaged("commits", no.0, flaw))?;
            (self.each)(no, frames)?;
        }
        self.parts.body = gathered;
        Ok(Ok(()))
    }

    /// The last segment ended at `at`: nothing behind it may have been durable.
    fn end(&mut self, head: &SegmentHead, bytes: &[u8], at: usize, flaw: &Flaw) -> Result<(), StorageError> {
        let marked = self.mark.segment == head.no && at < self.mark.end as usize;
        let later = (at..bytes.len()).step_by(SECTOR).filter_map(|at| {
            let record = RecordHead::decode(bytes, at, head.no, &self.log.head)?;
            Some(record.durable_before())
        });
        if marked || later.max().is_some_and(|durable| durable > self.parts.done) {
            return Err(self.damaged(flaw));
        }
        self.pass_over();
        Ok(())
    }

    /// The first commit that is not forgotten begins in the first segment.
    fn check_start(&mut self, chain: &[SegmentHead]) -> Result<(), StorageError> {
        let trimmed = self.meta.as_ref().map_or(0, |meta| meta.trimmed);
        let begins = chain.first().is_none_or(|first| (first.after, first.parts) <= (trimmed, 0));
        if !begins || trimmed > self.parts.done {
            let flaw = Flaw::new("what it says is forgotten does not fit the segments");
            return Err(self.log.file.damaged("meta", super::JOURNAL_KEY, flaw));
        }
        let forgotten = self.bases.partition_point(|(no, _)| no.0 <= trimmed);
        self.bases.drain(..forgotten);
        Ok(())
    }

    /// What was found; number of the newest segment and slots are those of the file.
    pub(super) fn into_scanned(self, newest: u64, slots: u32) -> Scanned {
        Scanned {
            meta: self.meta.unwrap_or_default(),
            last: CommitNo(self.parts.done),
            segments: self.segments,
            bases: self.bases,
            newest,
            slots,
        }
    }
}

fn end(at: usize) -> u32 {
    u32::try_from(at).expect("a segment is far below 4 GiB")
}
