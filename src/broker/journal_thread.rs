//! The thread of group commit: everything that waits goes into one durable commit, then the shards are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;

use super::Inner;
use super::inbox::{Envelope, ToJournal};
use crate::ids::FrameNo;
use crate::storage::{CommitNo, EncodedFrame, Journal, StorageError};

/// Bytes gathered for one commit before it is made.
const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Runs until told to stop, or until the first error: then nothing is acknowledged any more.
pub(super) fn run(
    mut journal: impl Journal,
    messages: Receiver<ToJournal>,
    inner: Arc<Inner>,
    last: CommitNo,
) {
    if let Err(error) = serve(&mut journal, &messages, &inner, last) {
        inner.fail(error);
        // Answer nobody; senders of barriers see their channel closed.
        for message in messages {
            if matches!(message, ToJournal::Stop) {
                return;
            }
        }
    }
}

fn serve(
    journal: &mut impl Journal,
    messages: &Receiver<ToJournal>,
    inner: &Inner,
    mut last: CommitNo,
) -> Result<(), StorageError> {
    let mut frames = Vec::new();
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        let mut bytes = 0;
        while let Some(message) = next.take() {
            match message {
                ToJournal::Append(frame) => {
                    bytes += frame.bytes.len();
                    frames.push(frame);
                }
                ToJournal::Trim(upto) => journal.trim(upto)?,
                ToJournal::Barrier(answer) => {
                    last = commit(journal, &mut frames, inner, last)?;
                    let _ = answer.send(last);
                }
                ToJournal::Stop => {
                    commit(journal, &mut frames, inner, last)?;
                    return Ok(());
                }
            }
            if bytes < COMMIT_BYTES_MAX {
                next = messages.try_recv().ok();
            }
        }
        last = commit(journal, &mut frames, inner, last)?;
    }
    Ok(())
}

/// Makes one durable commit of the frames and tells their shards.
fn commit(
    journal: &mut impl Journal,
    frames: &mut Vec<EncodedFrame>,
    inner: &Inner,
    last: CommitNo,
) -> Result<CommitNo, StorageError> {
    if frames.is_empty() {
        return Ok(last);
    }
    let begun = inner.clock.nanos();
    let commit = journal.append(frames)?;
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    inner.journal_stats.commits.fetch_add(1, Ordering::Relaxed);
    inner.journal_stats.nanos.fetch_add(inner.clock.nanos() - begun, Ordering::Relaxed);
    inner.journal_stats.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    let mut durable: Vec<Option<FrameNo>> = vec![None; inner.shards.len()];
    for frame in frames.drain(..) {
        durable[usize::from(frame.shard.0)] = Some(frame.no);
    }
    for (shard, frame) in inner.shards.iter().zip(durable) {
        if let Some(frame) = frame {
            shard.send_now(Envelope::Durable { frame });
        }
    }
    Ok(commit)
}
