//! The store at rest: what a checkpoint writes is found again, by id, by server, after replays and expiry.

use redb::ReadableDatabase;
use redb::backends::InMemoryBackend;

use super::*;
use crate::engine::{ImagePart, KeyDigest, KeyRow, ServerRow};
use crate::ids::{Seq, StoreId};
use crate::storage::Recovery;
use crate::storage::contract::{Checkpoint, Recovered};
use crate::storage::open::{OpenOptions, open_with_backends};
use crate::storage::record::samples;

fn open() -> (RedbRest, Recovery) {
    open_with_backends(InMemoryBackend::new(), InMemoryBackend::new(), OpenOptions::default()).unwrap()
}

fn command(server: u32, seq: u64, status: Status) -> CommandRow {
    let id = CommandId { server: ServerId(server), seq: Seq(seq) };
    let rev = if status == Status::Pending { 1 } else { 3 };
    CommandRow { id, status, rev, status_at: UnixMs(seq), ..samples::plain_command(16) }
}

fn order(seq: u64) -> OrderRow {
    let id = OrderId { store: StoreId(1), seq: Seq(seq) };
    OrderRow { id, accepted_at: UnixMs(seq), ..samples::full_order() }
}

/// An order as it is found at rest: its key is among the keys.
fn at_rest(seq: u64) -> OrderRow {
    OrderRow { key: None, ..order(seq) }
}

fn key(seq: u64) -> KeyRow {
    let order = OrderId { store: StoreId(1), seq: Seq(seq) };
    KeyRow { digest: KeyDigest { key: seq, body: 1 }, order, at: UnixMs(seq) }
}

fn checkpoint(part: ImagePart) -> Checkpoint {
    Checkpoint { parts: vec![part], totals: vec![(ShardNo(0), FrameNo(1))] }
}

fn seqs(page: &EndedPage) -> Vec<u64> {
    page.commands.iter().map(|row| row.id.seq.0).collect()
}

#[test]
fn commands_and_orders_are_found_only_under_their_whole_id() {
    let (rest, _) = open();
    let live = vec![command(1, 64, Status::Pending)];
    let ended = vec![command(2, 128, Status::Completed)];
    let part = ImagePart { live, ended, orders: vec![order(64)], ..ImagePart::default() };
    rest.write(checkpoint(part)).unwrap();
    let id = |server, seq| CommandId { server: ServerId(server), seq: Seq(seq) };
    assert_eq!(rest.command(id(1, 64)).unwrap(), Some(command(1, 64, Status::Pending)));
    assert_eq!(rest.command(id(2, 128)).unwrap(), Some(command(2, 128, Status::Completed)));
    assert_eq!(rest.command(id(2, 64)).unwrap(), None, "another server's");
    assert_eq!(rest.command(id(1, 65)).unwrap(), None);
    assert_eq!(rest.order(order(64).id).unwrap(), Some(at_rest(64)));
    assert_eq!(rest.order(OrderId { store: StoreId(2), seq: Seq(64) }).unwrap(), None, "another store's");
}

#[test]
fn what_ends_leaves_the_live_ones() {
    let (rest, _) = open();
    let live = vec![command(1, 64, Status::Pending), command(1, 65, Status::Pending)];
    rest.write(checkpoint(ImagePart { live, ..ImagePart::default() })).unwrap();
    let ended = vec![command(1, 64, Status::Completed)];
    // A part that saw it live, written together with one that saw it end.
    let stale = ImagePart { live: vec![command(1, 64, Status::Pending)], ..ImagePart::default() };
    let part = ImagePart {
        ended,
        no_longer_live: vec![command(1, 64, Status::Completed).id],
        ..ImagePart::default()
    };
    rest.write(Checkpoint { parts: vec![stale, part], totals: vec![] }).unwrap();
    let table = rest.db().begin_read().unwrap().open_table(LIVE.table).unwrap();
    let (key, block) = table.first().unwrap().unwrap();
    let left: Vec<Seq> = LIVE.rows(key.value(), block.value()).unwrap().iter().map(|(seq, _)| *seq).collect();
    assert_eq!((left, table.iter().unwrap().count()), (vec![Seq(65)], 1));
}

#[test]
fn the_last_part_wins_within_a_checkpoint() {
    let (rest, _) = open();
    let newer = CommandRow { rev: 2, ..command(1, 64, Status::Failed) };
    let parts = [command(1, 64, Status::Pending), newer.clone()]
        .map(|row| ImagePart { live: vec![row], ..ImagePart::default() });
    rest.write(Checkpoint { parts: parts.into(), totals: vec![] }).unwrap();
    assert_eq!(rest.command(newer.id).unwrap(), Some(newer));
}

#[test]
fn an_abandoned_checkpoint_stores_nothing() {
    let (rest, _) = open();
    let part = ImagePart { live: vec![command(1, 64, Status::Pending)], ..ImagePart::default() };
    let mut parts = [NextPart::Part(Box::new(part)), NextPart::Abandoned].into_iter();
    assert!(!rest.write_parts(&[], &mut || parts.next().unwrap()).unwrap());
    assert_eq!(rest.command(command(1, 64, Status::Pending).id).unwrap(), None);
    rest.write(checkpoint(ImagePart::default())).unwrap();
}

#[test]
fn ended_commands_come_newest_checkpoint_first_and_never_twice() {
    let (rest, _) = open();
    let batches: [&[u64]; 3] = [&[70, 66, 68], &[90, 80], &[85, 68]];
    for batch in batches {
        let ended = batch.iter().map(|seq| command(1, *seq, Status::Completed));
        let ended = ended.chain([command(2, batch[0] + 1, Status::Cancelled)]).collect();
        rest.write(checkpoint(ImagePart { ended, ..ImagePart::default() })).unwrap();
    }
    let all = rest.ended(ServerId(1), None, None, 100).unwrap();
    assert_eq!(seqs(&all), [85, 80, 90, 66, 68, 70], "68 was replayed and stays where it was");
    assert_eq!(all.next, None);

    for limit in 1..7 {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = rest.ended(ServerId(1), None, from, limit).unwrap();
            assert!(page.commands.len() <= limit);
            found.extend(seqs(&page));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(found, seqs(&all), "pages of {limit}");
    }
    assert!(seqs(&rest.ended(ServerId(1), Some(Status::Expired), None, 9).unwrap()).is_empty());
    assert_eq!(seqs(&rest.ended(ServerId(2), Some(Status::Cancelled), None, 9).unwrap()), [86, 91, 71]);
    assert!(seqs(&rest.ended(ServerId(3), None, None, 9).unwrap()).is_empty());
}

#[test]
fn expiry_goes_in_steps_oldest_first_and_leaves_the_rest() {
    let (rest, _) = open();
    for start in [100, 200, 300] {
        let ended = (start..start + 5).map(|seq| command(1, seq, Status::Completed)).collect();
        let orders = (start..start + 3).map(order).collect();
        let keys = (start..start + 3).map(key).collect();
        rest.write(checkpoint(ImagePart { ended, orders, keys, ..ImagePart::default() })).unwrap();
    }
    let expire = |ended, keys| rest.expire(UnixMs(ended), UnixMs(keys), 4).unwrap();
    assert_eq!(expire(102, 102), 0, "the youngest of the checkpoint is too young");
    assert_eq!(expire(300, 103), 4, "a row of keys and three orders");
    assert_eq!(rest.order(order(102).id).unwrap(), None);
    assert_eq!(expire(300, 103), 4);
    assert_eq!(rest.order(order(202).id).unwrap(), None);
    assert_eq!(seqs(&rest.ended(ServerId(1), None, None, 99).unwrap()).len(), 14, "half-way through a row");
    while expire(300, 103) == 4 {}
    let left = rest.ended(ServerId(1), None, None, 99).unwrap();
    assert_eq!(seqs(&left), [300, 301, 302, 303, 304]);
    assert_eq!(rest.order(order(300).id).unwrap(), Some(at_rest(300)));
    let keys = rest.db().begin_read().unwrap().open_table(KEYS).unwrap();
    assert_eq!(keys.iter().unwrap().count(), 2);
}

#[test]
fn what_two_lists_name_expires_once() {
    let (rest, _) = open();
    let ended = vec![command(1, 100, Status::Completed), command(1, 101, Status::Completed)];
    rest.write(checkpoint(ImagePart { ended, ..ImagePart::default() })).unwrap();
    let transaction = rest.db().begin_write().unwrap();
    let again = crate::storage::record::EndedIndex { before: 1, latest: UnixMs(101), seqs: vec![Seq(100)] };
    let row = again.encode(2, ServerId(1));
    transaction.open_table(ENDED_BY_SERVER).unwrap().insert((2, 1), &row[..]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(rest.expire(UnixMs(200), UnixMs(0), 9).unwrap(), 3);
    assert_eq!(rest.command(command(1, 100, Status::Completed).id).unwrap(), None);
}

#[test]
fn totals_are_replaced_and_survive_lists() {
    let (rest, _) = open();
    let servers = vec![ServerRow { server: ServerId(1), ended: [5, 0, 1] }];
    let ended = vec![command(1, 64, Status::Completed), command(2, 65, Status::Completed)];
    rest.write(checkpoint(ImagePart { servers, ended, next_seq: 700, ..ImagePart::default() })).unwrap();
    let servers = vec![ServerRow { server: ServerId(1), ended: [6, 0, 1] }];
    rest.write(checkpoint(ImagePart { servers, ..ImagePart::default() })).unwrap();
    assert_eq!(seqs(&rest.ended(ServerId(1), None, None, 9).unwrap()), [64]);
    assert_eq!(rest.meta().next_seq, 700);
    assert_eq!(rest.meta().total(ShardNo(0)), FrameNo(1));
}

#[test]
fn replay_hands_out_totals_live_ones_and_keys_in_this_order() {
    let (rest, recovery) = open();
    let live = vec![command(2, 129, Status::Failed), command(1, 64, Status::Pending)];
    let servers = vec![ServerRow { server: ServerId(1), ended: [5, 0, 1] }];
    let keys = vec![key(7)];
    rest.write(checkpoint(ImagePart { live, servers, keys, ..ImagePart::default() })).unwrap();
    let mut seen = Vec::new();
    let (_journal, report) = recovery
        .replay(&rest, &mut |piece| {
            seen.push(match piece {
                Recovered::Server(row) => format!("server {}", row.server.0),
                Recovered::Live(row) => format!("live {}", row.id),
                Recovered::Key(row) => format!("key {}", row.digest.key),
                Recovered::Frame { .. } => "frame".into(),
            });
        })
        .unwrap();
    assert_eq!(seen, ["server 1", "live cmd_1_64", "live cmd_2_129", "key 7"]);
    assert_eq!((report.live, report.keys, report.frames, report.next_seq), (2, 1, 0, 130));
}

#[test]
fn a_damaged_row_names_table_and_key() {
    let (rest, _) = open();
    let live = vec![command(1, 64, Status::Pending)];
    rest.write(checkpoint(ImagePart { live, ..ImagePart::default() })).unwrap();
    let transaction = rest.db().begin_write().unwrap();
    transaction.open_table(LIVE.table).unwrap().insert((1, 64), &b"no such thing"[..]).unwrap();
    transaction.commit().unwrap();
    let error = rest.command(CommandId { server: ServerId(1), seq: Seq(64) }).unwrap_err();
    assert!(error.to_string().contains("store.redb is damaged at live_blocks/1,64"), "{error}");
}

#[test]
fn after_a_failure_nothing_more_is_written() {
    let (rest, _) = open();
    let transaction = rest.db().begin_write().unwrap();
    transaction.open_table(SERVERS).unwrap().insert(1, &b"no such thing"[..]).unwrap();
    transaction.commit().unwrap();
    let ended = |server, seq| {
        checkpoint(ImagePart { ended: vec![command(server, seq, Status::Completed)], ..ImagePart::default() })
    };
    let first = rest.write(ended(1, 64)).unwrap_err().to_string();
    assert!(first.contains("damaged at servers/1"), "{first}");
    let second = rest.write(ended(2, 128)).expect_err("of another server, but it is refused as well");
    assert_eq!(second.to_string(), first);
}
