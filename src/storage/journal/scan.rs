//! Finding out at an opening what the log holds: first which segments count, which takes a look at their heads, then all that is
//! in them, in one pass. Writes nothing.
//!
//! What was not synced when the power went may be there in any sectors and in none. So the newest segment, or several of
//! one large commit, may be there half: they are passed over unless something says that they were durable. Everything up
//! to the durable mark, and up to what any later head or record was written after, must be found: else it is damage.

use std::collections::VecDeque;

use super::copy::TakeCommit;
use super::file::LogFile;
use super::layout::{Found, Mark, RecordKind, SECTOR, SegmentHead, record_at, record_bytes};
use super::snapshot::Live;
use super::walk::Walk;
use crate::storage::contract::CommitNo;
use crate::storage::error::StorageError;
use crate::storage::record::{ChainBase, Flaw, JournalMeta};

/// What was found.
#[derive(Debug)]
pub(in crate::storage) struct Scanned {
    /// Where the journal stands.
    pub(in crate::storage) meta: JournalMeta,
    /// The last commit.
    pub(in crate::storage) last: CommitNo,
    /// Segments that hold what is not forgotten, by rising number, and the newest.
    pub(super) segments: VecDeque<Live>,
    /// The ends of chains after each commit that is not forgotten.
    pub(super) bases: VecDeque<(CommitNo, ChainBase)>,
    /// The highest number of any segment in the file.
    pub(super) newest: u64,
    /// Slots in the file.
    pub(super) slots: u32,
}

/// A place that does not hold, in words.
type Broken = (String, Flaw);

/// Looks at the whole log.
pub(in crate::storage) fn scan(log: &LogFile) -> Result<Scanned, StorageError> {
    Chain::find(log)?.walk(log, &mut |_, _| Ok(()))
}

/// The segments that count.
#[derive(Debug)]
pub(in crate::storage) struct Chain {
    /// By rising number.
    heads: Vec<SegmentHead>,
    /// Where the journal stands, as the last of them says.
    pub(in crate::storage) meta: JournalMeta,
    mark: Mark,
    /// The last commit that any head of a segment was written after.
    after: u64,
    /// The highest number of any segment in the file.
    newest: u64,
    /// Slots in the file.
    slots: u32,
}

impl Chain {
    /// Looks at the heads of all segments, and into the newest.
    pub(in crate::storage) fn find(log: &LogFile) -> Result<Chain, StorageError> {
        let mark = log.read_mark()?;
        let length = log.len()?;
        if length < log.offset(mark.slots) {
            return Err(log.file.broken("its end", "it is shorter than it was written"));
        }
        let all = log.read_heads(length)?;
        let newest = all.last().map_or(0, |head| head.no);
        let after = all.iter().map(|head| head.after).max().unwrap_or(0);
        let (heads, meta) = find_chain(log, &mark, &all)?;
        Ok(Chain { heads, meta, mark, after, newest, slots: log.slots(length) })
    }

    /// Goes through them, and hands over each commit that counts and is not forgotten, in order, its frames one after the other.
    ///
    /// # Errors
    /// `Damaged` where something is missing or does not check, a failed read, or what `each` returns.
    pub(in crate::storage) fn walk(
        &self,
        log: &LogFile,
        each: TakeCommit<'_>,
    ) -> Result<Scanned, StorageError> {
        let mut walk = Walk::new(log, self.mark, self.after, self.meta.trimmed, each);
        walk.run(&self.heads)?;
        let found = walk.into_scanned(self.newest, self.slots);
        if found.meta != self.meta {
            let flaw = Flaw::new("the newest segment says another thing than what counts of it");
            return Err(log.file.damaged("meta", super::JOURNAL_KEY, flaw));
        }
        Ok(found)
    }
}

/// The segments of a chain, by rising number, and where the journal stands.
type Links = (Vec<SegmentHead>, JournalMeta);

/// The chain of the newest segment that is whole enough; a newer one is passed over unless it was durable.
fn find_chain(log: &LogFile, mark: &Mark, heads: &[SegmentHead]) -> Result<Links, StorageError> {
    let mut buffer = Vec::new();
    for newest in (0..heads.len()).rev() {
        if heads[newest].no < mark.segment {
            break;
        }
        match chain_to(log, heads, newest, &mut buffer)? {
            Ok(chain) => return Ok(chain),
            Err((record, flaw)) if heads[newest].no <= mark.segment => {
                return Err(log.file.broken(&record, flaw));
            }
            Err(_) => {}
        }
    }
    match mark.segment {
        0 => Ok(Links::default()),
        no => Err(log.file.broken(&format!("segments/{no}"), "it is missing")),
    }
}

/// The chain that ends with this segment: it begins where the first commit begins that is not forgotten.
fn chain_to(
    log: &LogFile,
    heads: &[SegmentHead],
    newest: usize,
    buffer: &mut Vec<u8>,
) -> Result<Result<Links, Broken>, StorageError> {
    log.read_segment(heads[newest].slot, log.segment_bytes(), buffer)?;
    let meta = match last_meta(log, &heads[newest], buffer) {
        Ok(meta) => meta,
        Err(flaw) => return Ok(Err(("meta/journal".to_owned(), flaw))),
    };
    let mut chain = vec![heads[newest]];
    let mut at = newest;
    while (heads[at].after, heads[at].parts) > (meta.trimmed, 0) {
        let previous = heads[at].previous;
        match heads[..at].binary_search_by_key(&previous, |head| head.no) {
            Ok(found) => at = found,
            Err(_) => return Ok(Err((format!("segments/{previous}"), Flaw::new("it is missing")))),
        }
        chain.push(heads[at]);
    }
    chain.reverse();
    Ok(Ok((chain, meta)))
}

/// The last meta record of a segment, up to what does not check. The first record of each segment is one.
fn last_meta(log: &LogFile, head: &SegmentHead, bytes: &[u8]) -> Result<JournalMeta, Flaw> {
    let mut found = Err(Flaw::new("the checksum does not match"));
    let mut at = SECTOR;
    while let Found::Whole(record, body) = record_at(bytes, at, head.no, &log.head) {
        if record.kind == RecordKind::Meta {
            found = Ok(JournalMeta::decode(body)?);
        } else if found.is_err() {
            break;
        }
        at += record_bytes(body.len());
    }
    found
}
