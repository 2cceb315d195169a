//! Texts in the store at rest: read back server by server, and kept by rows that come without them.

use std::sync::Arc;

use redb::backends::InMemoryBackend;

use crate::engine::{CommandRow, ImagePart, Status};
use crate::ids::{CommandId, FrameNo, Seq, ServerId, ShardNo};
use crate::storage::RedbRest;
use crate::storage::contract::{Checkpoint, Rest};
use crate::storage::open::{OpenOptions, open_with_backends};
use crate::storage::record::samples;

const SERVER: ServerId = ServerId(1);

fn id(seq: u64) -> CommandId {
    CommandId { server: SERVER, seq: Seq(seq) }
}

fn row(seq: u64, status: Status) -> CommandRow {
    CommandRow { id: id(seq), status, text: Some(format!("text {seq}").into()), ..samples::plain_command(16) }
}

fn checkpoint(rest: &RedbRest, part: ImagePart) {
    rest.write(Checkpoint { parts: vec![part], totals: vec![(ShardNo(0), FrameNo(1))] }).unwrap();
}

/// A store with live commands 1 to 1,000.
fn store() -> RedbRest {
    let files = (InMemoryBackend::new(), InMemoryBackend::new());
    let (rest, _) = open_with_backends(files.0, files.1, OpenOptions::default()).unwrap();
    let live = (1..=1000).map(|seq| row(seq, Status::Pending)).collect();
    checkpoint(&rest, ImagePart { live, ..ImagePart::default() });
    rest
}

fn text(seq: u64) -> (Seq, Arc<str>) {
    (Seq(seq), format!("text {seq}").into())
}

#[test]
fn texts_are_found_at_any_distance_from_each_other() {
    let rest = store();
    for apart in [1, 2, 31, 32, 33, 34, 40, 300, 999] {
        let seqs: Vec<u64> = (1..=1000).step_by(apart).collect();
        let wanted: Vec<Seq> = seqs.iter().map(|seq| Seq(*seq)).collect();
        let texts = rest.texts(SERVER, &wanted, usize::MAX).unwrap();
        assert_eq!(texts, seqs.into_iter().map(text).collect::<Vec<_>>(), "{apart} apart");
    }
}

#[test]
fn a_walk_ends_where_its_bytes_do_and_has_one_at_the_least() {
    let rest = store();
    let seqs: Vec<Seq> = (1..=9).map(Seq).collect();
    for (bytes, count) in [(0, 1), (1, 1), (6, 1), (7, 2), (13, 3)] {
        assert_eq!(rest.texts(SERVER, &seqs, bytes).unwrap().len(), count, "{bytes} bytes");
    }
    assert!(rest.texts(SERVER, &[], 1).unwrap().is_empty());
}

#[test]
fn what_has_ended_is_left_out() {
    let rest = store();
    let ended = vec![row(500, Status::Completed), row(1000, Status::Cancelled)];
    let no_longer_live = vec![id(500), id(1000)];
    checkpoint(&rest, ImagePart { ended, no_longer_live, ..ImagePart::default() });
    let texts = |seqs: &[u64]| {
        let seqs: Vec<Seq> = seqs.iter().map(|seq| Seq(*seq)).collect();
        rest.texts(SERVER, &seqs, usize::MAX).unwrap()
    };
    assert_eq!(texts(&[499, 500, 501, 1000]), [text(499), text(501)]);
    assert_eq!(texts(&[500, 501]), [text(501)]);
    assert!(texts(&[1000]).is_empty());
}

#[test]
fn a_row_without_its_text_keeps_the_one_at_rest() {
    let rest = store();
    let without = |seq, status| CommandRow { text: None, rev: 2, ..row(seq, status) };
    let live = vec![without(1, Status::Failed)];
    let ended = vec![without(2, Status::Cancelled)];
    checkpoint(&rest, ImagePart { live, ended, no_longer_live: vec![id(2)], ..ImagePart::default() });
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

#[test]
fn a_text_that_is_nowhere_is_damage() {
    let rest = store();
    let mut rows = [CommandRow { text: None, ..row(1001, Status::Pending) }];
    let error = rest.complete(&mut rows).unwrap_err().to_string();
    assert!(error.contains("live_blocks/1,1001: the row is missing"), "{error}");
    checkpoint(&rest, ImagePart { no_longer_live: vec![id(500)], ..ImagePart::default() });
    for seqs in [&[500, 501][..], &[499, 500, 501], &[1000, 1001], &[1001]] {
        let seqs: Vec<Seq> = seqs.iter().map(|seq| Seq(*seq)).collect();
        let error = rest.texts(SERVER, &seqs, usize::MAX).unwrap_err().to_string();
        assert!(error.contains("the row is missing"), "{error}");
    }
    assert!(rest.texts(ServerId(2), &[Seq(1)], 1).is_err(), "another server's");
}
