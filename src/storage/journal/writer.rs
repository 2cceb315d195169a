//! Writing the log: records into the segment that is open, the next segment when it is full, one sync, then the mark.
//! Never writes a sector that holds something durable, nor into a segment that is not free.
//!
//! A free segment is used again before the file grows, and it grows by zeros that are really written: a sync that only
//! overwrites has no new extents to write down. Where it can, it has grown beforehand ([`Room`]).

use std::collections::BTreeSet;

use super::file::LogFile;
use super::layout::{
    Mark, OPENING_STEP, RECORD_HEAD, RecordHead, RecordKind, SECTOR, SegmentHead, record_bytes,
};
use super::room::{Room, write_zeros};
use super::snapshot::Live;
use crate::storage::contract::CommitNo;
use crate::storage::error::StorageError;
use crate::storage::record::JournalMeta;

/// Free segments that there should be: made ahead beside the commits, and kept when the rest is cut off. A busy broker fills
/// one in some 30 ms, and making one takes less.
const SPARE_SEGMENTS: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) log: LogFile,
    slots: u32,
    free: BTreeSet<u32>,
    /// A slot is being made ready by somebody else.
    claimed: bool,
    /// The file could not be made longer, and no segment was begun since.
    refused: bool,
    boot: u32,
    /// The number of the newest segment in the file, whatever it holds.
    newest: u64,
    /// The segment that is written, and those before it that were begun since the last [`Writer::make_durable`].
    open: Vec<Live>,
    /// The first of `open` was begun before.
    continued: bool,
    /// What the next segment says of itself: the meta row, sealed.
    meta: Vec<u8>,
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// What a sync made durable.
#[derive(Debug)]
pub(super) struct Written {
    /// The segments that were written to.
    pub(super) segments: Vec<Live>,
    /// The first of them is one that was there before.
    pub(super) continued: bool,
}

impl Writer {
    /// Of a log with so many slots, in which `live` are taken. Its first record begins a segment.
    pub(super) fn new(log: LogFile, slots: u32, newest: u64, live: impl Iterator<Item = u32>) -> Writer {
        let taken: BTreeSet<u32> = live.collect();
        Writer {
            log,
            slots,
            free: (0..slots).filter(|slot| !taken.contains(slot)).collect(),
            claimed: false,
            refused: false,
            boot: 0,
            newest,
            open: Vec::new(),
            continued: false,
            meta: Vec::new(),
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// Whether anything was written.
    pub(super) fn has_begun(&self) -> bool {
        !self.open.is_empty()
    }

    /// The run of which the next segments are, and where the journal stands: from the next record on.
    pub(super) fn set_meta(&mut self, meta: &JournalMeta) {
        (self.boot, self.meta) = (meta.boot, meta.encode());
    }

    /// Begins a segment that follows `previous`: what stands there after commit `last` does not count from now on.
    pub(super) fn begin_run(&mut self, last: CommitNo, previous: u64) -> Result<(), StorageError> {
        // A crash while it grew may have left a part of the last slot.
        if self.log.len()? < self.log.offset(self.slots) {
            self.log.set_len(self.slots)?;
        }
        self.newest = (self.newest / OPENING_STEP + 2) * OPENING_STEP - 1;
        self.begin(last.0, 0, previous)
    }

    /// Begins the next segment before its time.
    pub(super) fn begin_next(&mut self, last: CommitNo) -> Result<(), StorageError> {
        self.begin(last.0, 0, self.open.last().map_or(0, |live| live.no))
    }

    /// The meta row; `last`: the commit before it.
    pub(super) fn put_meta(&mut self, last: CommitNo) -> Result<(), StorageError> {
        if self.room() < record_bytes(self.meta.len()) {
            return self.begin_next(last);
        }
        self.put_meta_here(last.0);
        Ok(())
    }

    fn put_meta_here(&mut self, last: u64) {
        let length = u32::try_from(self.meta.len()).expect("a row of at most SHARDS_MAX bases");
        let head = RecordHead { kind: RecordKind::Meta, last: true, part: 0, commit: last, length };
        let meta = std::mem::take(&mut self.meta);
        self.put(head, &mut &meta[..]);
        self.meta = meta;
    }

    /// A commit: these pieces one after the other, in as many parts as segments make of them.
    pub(super) fn put_commit<'a>(
        &mut self,
        no: CommitNo,
        pieces: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), StorageError> {
        let mut left: usize = pieces.clone().map(<[u8]>::len).sum();
        let mut source = Pieces { current: &[], rest: pieces };
        let mut part = 0;
        loop {
            if self.room() < SECTOR {
                self.begin(no.0 - 1, part, self.open.last().map_or(0, |live| live.no))?;
            }
            let taken = left.min(self.room() - RECORD_HEAD);
            left -= taken;
            let length = u32::try_from(taken).expect("a segment is far below 4 GiB");
            let head = RecordHead { kind: RecordKind::Commit, last: left == 0, part, commit: no.0, length };
            self.put(head, &mut source);
            part += 1;
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Bytes left in the segment that is open.
    fn room(&self) -> usize {
        self.open.last().map_or(0, |live| self.log.segment_bytes() - live.end as usize)
    }

    fn put(&mut self, head: RecordHead, source: &mut impl Source) {
        let start = self.buffer.len();
        self.buffer.resize(start + RECORD_HEAD, 0);
        source.give(head.length as usize, &mut self.buffer);
        let live = self.open.last_mut().expect("a segment was begun");
        head.finish(&mut self.buffer, start, &self.log.head, live.no, live.end as usize);
        let bytes = u32::try_from(self.buffer.len() - start).expect("a segment is far below 4 GiB");
        live.end += bytes;
        live.top = live.top.max(head.commit);
    }

    /// The next segment, after `parts` of the commit that follows `after`.
    fn begin(&mut self, after: u64, parts: u32, previous: u64) -> Result<(), StorageError> {
        self.flush()?;
        self.refused = false;
        let slot = match self.free.pop_first() {
            Some(slot) => slot,
            None => self.grow()?,
        };
        self.newest += 1;
        let head = SegmentHead { no: self.newest, slot, boot: self.boot, previous, after, parts };
        self.buffer_at = self.log.offset(slot);
        self.buffer.extend_from_slice(&head.encode(&self.log.head));
        self.open.push(Live { no: head.no, slot, end: SECTOR as u32, top: after });
        self.put_meta_here(after);
        Ok(())
    }

    fn grow(&mut self) -> Result<u32, StorageError> {
        let slot = self.slots;
        self.log.set_len(slot + 1)?;
        let (mut at, end) = (self.log.offset(slot), self.log.offset(slot + 1));
        while at < end {
            let written = write_zeros(&*self.log.backend, at, end);
            at += written.map_err(|error| self.log.file.io("write", &error))?;
        }
        self.slots += 1;
        Ok(slot)
    }

    /// Whether [`Writer::claim`] would give a slot.
    pub(super) fn wants_room(&self) -> bool {
        let few = self.free.len() < SPARE_SEGMENTS as usize;
        few && !self.claimed && !self.refused && self.log.beside.is_some() && self.has_begun()
    }

    /// A slot at the end of the file, to be made ready beside the commits and brought back; one at a time.
    pub(super) fn claim(&mut self) -> Option<Room> {
        let beside = self.log.beside.clone().filter(|_| self.wants_room())?;
        let slot = self.slots;
        if let Err(error) = self.log.set_len(slot + 1) {
            // Of a commit that needs it this would be the end.
            tracing::warn!(%error, "cannot make room in the journal ahead of time");
            self.refused = true;
            return None;
        }
        self.slots += 1;
        self.claimed = true;
        Some(Room { slot, beside, from: self.log.offset(slot), to: self.log.offset(slot + 1) })
    }

    /// What was claimed may be used.
    pub(super) fn bring_back(&mut self, room: Room) {
        self.claimed = false;
        self.free.insert(room.slot);
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if !self.buffer.is_empty() {
            self.log.write(self.buffer_at, &self.buffer)?;
            self.buffer_at += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// One sync for all that was put since the last one, then the mark; `last`: the last commit among it.
    pub(super) fn make_durable(&mut self, last: CommitNo) -> Result<Written, StorageError> {
        self.flush()?;
        self.log.sync()?;
        self.write_mark(last)?;
        let segments = self.open.clone();
        self.open.drain(..self.open.len().saturating_sub(1));
        Ok(Written { segments, continued: std::mem::replace(&mut self.continued, true) })
    }

    fn write_mark(&self, last: CommitNo) -> Result<(), StorageError> {
        let (segment, end) = self.open.last().map_or((0, 0), |live| (live.no, live.end));
        self.log.write_mark(&Mark { slots: self.slots, commit: last.0, segment, end })
    }

    /// These segments may be used again.
    pub(super) fn free(&mut self, slots: impl Iterator<Item = u32>) {
        self.free.extend(slots);
    }

    /// Whether the open segment stands behind free ones and keeps the file long, with `live` segments in use.
    pub(super) fn stands_far(&self, live: usize) -> bool {
        let near = u32::try_from(live).unwrap_or(u32::MAX).saturating_add(SPARE_SEGMENTS);
        let slot = self.open.last().map_or(0, |live| live.slot);
        slot >= near && self.free.first().is_some_and(|free| *free < near)
    }

    /// Cuts free segments off the end of the file but for a few; true = that was done. The mark must say so first, for a
    /// file that is shorter than it says is damaged.
    pub(super) fn cut(&mut self, last: CommitNo) -> Result<bool, StorageError> {
        let used = (0..self.slots).rev().find(|slot| !self.free.contains(slot)).map_or(0, |slot| slot + 1);
        let live = self.slots - u32::try_from(self.free.len()).expect("there are fewer free ones than slots");
        let wanted = used.max(live + SPARE_SEGMENTS);
        if wanted >= self.slots {
            return Ok(false);
        }
        self.free.split_off(&wanted);
        self.slots = wanted;
        self.write_mark(last)?;
        self.log.sync()?;
        self.log.set_len(wanted)?;
        Ok(true)
    }
}

/// Where the body of a record comes from.
trait Source {
    /// Adds the next `bytes` of it.
    fn give(&mut self, bytes: usize, to: &mut Vec<u8>);
}

impl Source for &[u8] {
    fn give(&mut self, bytes: usize, to: &mut Vec<u8>) {
        let (given, rest) = self.split_at(bytes);
        to.extend_from_slice(given);
        *self = rest;
    }
}

/// Slices as one.
struct Pieces<'a, I> {
    current: &'a [u8],
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Source for Pieces<'a, I> {
    fn give(&mut self, mut bytes: usize, to: &mut Vec<u8>) {
        while bytes > 0 {
            if self.current.is_empty() {
                self.current = self.rest.next().expect("the pieces have as many bytes as were counted");
                continue;
            }
            let taken = bytes.min(self.current.len());
            self.current.give(taken, to);
            bytes -= taken;
        }
    }
}
