//! Texts in the store at rest: read back along the table, and kept by rows that come without them.

use std::sync::Arc;

use redb::backends::InMemoryBackend;

use crate::engine::{CommandRow, ImagePart, Status};
use crate::ids::{CommandId, FrameNo, Seq, ServerId, ShardNo};
use crate::storage::contract::{Checkpoint, Rest};
use crate::storage::open::{OpenOptions, open_with_backends};
use crate::storage::record::samples;
use crate::storage::{LogJournal, RedbRest};

fn row(seq: u64, status: Status) -> CommandRow {
    let id = CommandId { server: ServerId(1), seq: Seq(seq) };
    CommandRow { id, status, text: Some(format!("text {seq}").into()), ..samples::plain_command(16) }
}

fn checkpoint(rest: &RedbRest, part: ImagePart) {
    rest.write(Checkpoint { parts: vec![part], totals: vec![(ShardNo(0), FrameNo(1))] }).unwrap();
}

/// A store with live commands 1 to 1,000.
fn store() -> (LogJournal, RedbRest) {
    let files = (InMemoryBackend::new(), InMemoryBackend::new());
    let (journal, rest, _) = open_with_backends(files.0, files.1, OpenOptions::default()).unwrap();
    let live = (1..=1000).map(|seq| row(seq, Status::Pending)).collect();
    checkpoint(&rest, ImagePart { live, ..ImagePart::default() });
    (journal, rest)
}

fn text(seq: u64) -> (Seq, Arc<str>) {
    (Seq(seq), format!("text {seq}").into())
}

#[test]
fn texts_are_found_at_any_distance_from_each_other() {
    let (_journal, rest) = store();
    for apart in [1, 2, 31, 32, 33, 34, 40, 300, 999] {
        let seqs: Vec<u64> = (1..=1000).step_by(apart).collect();
        let walk = rest.texts(&seqs.iter().map(|seq| Seq(*seq)).collect::<Vec<_>>(), usize::MAX).unwrap();
        assert_eq!(walk.looked_at, seqs.len());
        assert_eq!(walk.texts, seqs.into_iter().map(text).collect::<Vec<_>>(), "{apart} apart");
    }
}

#[test]
fn a_walk_ends_where_its_bytes_do_and_has_looked_at_one_at_the_least() {
    let (_journal, rest) = store();
    let seqs: Vec<Seq> = (1..=9).map(Seq).collect();
    for (bytes, looked_at) in [(0, 0), (1, 1), (6, 1), (7, 2), (13, 3)] {
        let walk = rest.texts(&seqs, bytes).unwrap();
        assert_eq!((walk.looked_at, walk.texts.len()), (looked_at, looked_at), "{bytes} bytes");
    }
}

#[test]
fn what_has_ended_is_left_out_and_what_is_nowhere_is_damage() {
    let (_journal, rest) = store();
    let ended = vec![row(500, Status::Completed), row(1000, Status::Cancelled)];
    let no_longer_live = vec![Seq(500), Seq(1000)];
    checkpoint(&rest, ImagePart { ended, no_longer_live, ..ImagePart::default() });
    let walk = rest.texts(&[499, 500, 501, 1000].map(Seq), usize::MAX).unwrap();
    assert_eq!((walk.looked_at, walk.texts), (4, vec![text(499), text(501)]));
    let error = rest.texts(&[Seq(1001)], usize::MAX).unwrap_err().to_string();
    assert!(error.contains("the row is missing"), "{error}");
}

#[test]
fn a_row_without_its_text_keeps_the_one_at_rest() {
    let (_journal, rest) = store();
    let without = |seq, status| CommandRow { text: None, rev: 2, ..row(seq, status) };
    let live = vec![without(1, Status::Failed)];
    let ended = vec![without(2, Status::Cancelled)];
    checkpoint(&rest, ImagePart { live, ended, no_longer_live: vec![Seq(2)], ..ImagePart::default() });
    for (seq, status) in [(1, Status::Failed), (2, Status::Cancelled)] {
        let whole = CommandRow { rev: 2, ..row(seq, status) };
        assert_eq!(rest.command(whole.id).unwrap(), Some(whole.clone()));
        // As it was in memory a moment ago, and as it is there.
        let (older, same) = (CommandRow { rev: 1, ..without(seq, Status::Pending) }, without(seq, status));
        let mut rows = [older, same];
        rest.complete(&mut rows).unwrap();
        assert_eq!(rows, [whole.clone(), whole]);
    }
}
