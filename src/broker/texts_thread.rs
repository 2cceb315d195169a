//! The thread that reads texts of waiting commands for the shards: a shard never waits for a disk.
//!
//! When many servers come back at a time, what all of them want is read in one walk through the store: rows lie there in the
//! order of acceptance, and one by one each would cost a walk of its own.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::Inner;
use super::inbox::Envelope;
use crate::engine::Input;
use crate::ids::{Seq, ServerId, ShardNo};
use crate::storage::{Rest, StorageError};

/// Texts wanted in one walk, after which no more readings join it.
const WANTED_MAX: usize = 1024 * 1024;
/// Bytes of texts that one walk gathers.
const BYTES_MAX: usize = 32 * 1024 * 1024;

type Texts = Vec<(Seq, Arc<str>)>;

/// Texts that a shard asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) shard: ShardNo,
    pub(super) server: ServerId,
    /// By rising seq.
    pub(super) seqs: Vec<Seq>,
}

/// Runs until it is told to stop by `None`, or until the first error.
pub(super) fn run(channel: &Receiver<Option<Wanted>>, inner: &Arc<Inner>) {
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() {
            match channel.recv() {
                Ok(Some(wanted)) => waiting.push(wanted),
                Ok(None) | Err(_) => return,
            }
        }
        let mut count: usize = waiting.iter().map(|wanted| wanted.seqs.len()).sum();
        while count < WANTED_MAX
            && let Ok(next) = channel.try_recv()
        {
            let Some(wanted) = next else { return };
            count += wanted.seqs.len();
            waiting.push(wanted);
        }
        match read(&*inner.rest, &mut waiting) {
            Ok(answers) => {
                answers.into_iter().for_each(|(shard, answer)| inner.shard(shard).send_now(answer))
            }
            Err(error) => return inner.fail(error),
        }
    }
}

/// One walk: answers those of whom it came to something, and leaves the others waiting.
pub(super) fn read(
    rest: &dyn Rest,
    waiting: &mut Vec<Wanted>,
) -> Result<Vec<(ShardNo, Envelope)>, StorageError> {
    let places = waiting.iter().enumerate();
    let mut all: Vec<(Seq, usize)> =
        places.flat_map(|(place, wanted)| wanted.seqs.iter().map(move |seq| (*seq, place))).collect();
    all.sort_unstable();
    let seqs: Vec<Seq> = all.iter().map(|(seq, _)| *seq).collect();
    let walk = rest.texts(&seqs, BYTES_MAX)?;
    let mut answers: Vec<Option<Texts>> = vec![None; waiting.len()];
    let mut texts = walk.texts.into_iter().peekable();
    for (seq, place) in &all[..walk.looked_at] {
        let answer = answers[*place].get_or_insert_default();
        answer.extend(texts.next_if(|(found, _)| found == seq));
    }
    let mut answered = Vec::new();
    let mut left = Vec::new();
    for (wanted, answer) in waiting.drain(..).zip(answers) {
        match answer {
            Some(texts) => {
                let input = Input::Texts { server: wanted.server, texts };
                answered.push((wanted.shard, Envelope::Plain(input)));
            }
            None => left.push(wanted),
        }
    }
    *waiting = left;
    Ok(answered)
}
