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
pub(super) const BYTES_MAX: usize = 32 * 1024 * 1024;

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
            match read(&*inner.rest, &mut waiting, BYTES_MAX) {
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
    bytes_max: usize,
) -> Result<Vec<(ShardNo, Envelope)>, StorageError> {
    let places = waiting.iter().enumerate();
    let mut all: Vec<(Seq, usize)> =
        places.flat_map(|(place, wanted)| wanted.seqs.iter().map(move |seq| (*seq, place))).collect();
    all.sort_unstable();
    let seqs: Vec<Seq> = all.iter().map(|(seq, _)| *seq).collect();
    let walk = rest.texts(&seqs, bytes_max)?;
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
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::engine::{CommandRow, ImagePart, Note, OnDoubt, Status};
    use crate::ids::{CommandId, OrderId, StoreId};
    use crate::storage::{Checkpoint, OpenOptions, open_with_backends};
    use crate::time::UnixMs;

    fn wanted(server: u32, seqs: &[u64]) -> Wanted {
        let seqs = seqs.iter().map(|seq| Seq(*seq)).collect();
        Wanted { shard: ShardNo(0), server: ServerId(server), seqs }
    }

    #[test]
    fn those_who_are_there_are_gathered_and_a_stop_is_seen() {
        let (sender, channel) = unbounded();
        (1..=3).for_each(|server| sender.send(Some(wanted(server, &[1]))).unwrap());
        let waiting = gather(&channel).unwrap();
        assert_eq!(waiting.iter().map(|wanted| wanted.server.0).collect::<Vec<_>>(), [1, 2, 3]);
        sender.send(Some(wanted(4, &[1]))).unwrap();
        sender.send(None).unwrap();
        assert!(gather(&channel).is_none());
    }

    fn row(seq: u64) -> CommandRow {
        let entry = crate::engine::HistoryEntry {
            status: Status::Pending,
            at: UnixMs(1),
            attempt: 1,
            note: Note::None,
            error: None,
        };
        CommandRow {
            id: CommandId { server: ServerId(1), seq: Seq(seq) },
            order: OrderId { store: StoreId(1), seq: Seq(seq) },
            rev: 1,
            status: Status::Pending,
            status_at: UnixMs(1),
            accepted_at: UnixMs(1),
            attempt: 1,
            retries: 0,
            unanswered: 0,
            next_at: None,
            after: None,
            text: Some(seq.to_string().into()),
            player: None,
            require_online: false,
            not_before: None,
            expires_at: None,
            on_doubt: OnDoubt::Hold,
            labels: None,
            error: None,
            output: None,
            history: vec![entry],
        }
    }

    /// The answers of one walk: whose, and which texts.
    fn answers(rest: &dyn Rest, waiting: &mut Vec<Wanted>, bytes_max: usize) -> Vec<(u32, Vec<String>)> {
        let answers = read(rest, waiting, bytes_max).unwrap().into_iter();
        answers
            .map(|(_, answer)| match answer {
                Envelope::Plain(Input::Texts { server, texts }) => {
                    (server.0, texts.iter().map(|(_, text)| text.to_string()).collect())
                }
                _ => panic!("another answer"),
            })
            .collect()
    }

    #[test]
    fn everybody_gets_their_own_texts_and_who_got_none_goes_on_waiting() {
        let files = (InMemoryBackend::new(), InMemoryBackend::new());
        let (_journal, rest, _) = open_with_backends(files.0, files.1, OpenOptions::default()).unwrap();
        let live = (1..=9).map(row).collect();
        let parts = vec![ImagePart { live, ..ImagePart::default() }];
        rest.write(Checkpoint { parts, totals: Vec::new() }).unwrap();
        let mut waiting = vec![wanted(1, &[5, 9]), wanted(2, &[1, 3, 8]), wanted(3, &[2, 6])];
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        // Three bytes: 1, 2 and 3.
        let first = answers(&rest, &mut waiting, 3);
        assert_eq!(first, [(2, texts(&["1", "3"])), (3, texts(&["2"]))]);
        assert_eq!(waiting.len(), 1);
        assert_eq!(answers(&rest, &mut waiting, 3), [(1, texts(&["5", "9"]))]);
        assert!(waiting.is_empty());
    }
}
