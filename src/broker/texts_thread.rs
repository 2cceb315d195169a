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

/// Texts wanted, after which nobody joins those who wait for the same walk.
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
    while let Some(mut waiting) = gather(channel) {
        // Whoever comes meanwhile waits for the next time: those with the oldest commands would always be the first.
        while !waiting.is_empty() && !inner.is_stopping() {
            match read(&*inner.rest, &mut waiting) {
                Ok(answers) => {
                    answers.into_iter().for_each(|(shard, answer)| inner.shard(shard).send_now(answer));
                }
                Err(error) => return inner.fail(error),
            }
        }
    }
}

/// Waits for somebody, and takes all who are there; `None` to stop.
fn gather(channel: &Receiver<Option<Wanted>>) -> Option<Vec<Wanted>> {
    let first = channel.recv().ok()??;
    let mut count = first.seqs.len();
    let mut waiting = vec![first];
    while count < WANTED_MAX
        && let Ok(next) = channel.try_recv()
    {
        let wanted = next?;
        count += wanted.seqs.len();
        waiting.push(wanted);
    }
    Some(waiting)
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

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    fn wanted(server: u32) -> Wanted {
        Wanted { shard: ShardNo(0), server: ServerId(server), seqs: vec![Seq(u64::from(server))] }
    }

    #[test]
    fn those_who_are_there_are_gathered_and_a_stop_is_seen() {
        let (sender, channel) = unbounded();
        (1..=3).for_each(|server| sender.send(Some(wanted(server))).unwrap());
        let waiting = gather(&channel).unwrap();
        assert_eq!(waiting.iter().map(|wanted| wanted.server.0).collect::<Vec<_>>(), [1, 2, 3]);
        sender.send(Some(wanted(4))).unwrap();
        sender.send(None).unwrap();
        assert!(gather(&channel).is_none());
    }
}
