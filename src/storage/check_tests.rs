//! A sound directory checks; each thing that can be wrong with a row, or between rows, is named, and nothing changes.

use redb::WriteTransaction;

use super::*;
use crate::engine::{
    Change, CommandRow, EditedChange, ImagePart, KeyDigest, KeyRow, OrderRow, ServerRow, Status,
};
use crate::ids::{AuditId, CommandId, FrameNo, OrderId, Seq, ServerId, ShardNo, StoreId};
use crate::storage::blocks::place;
use crate::storage::contract::{Checkpoint, Journal, Rest};
use crate::storage::open::{OpenOptions, open as open_directory};
use crate::storage::record::registry::encode_store;
use crate::storage::record::{ServerEntry, encode_block, encode_command, samples};
use crate::storage::registry::{
    AUDIT, AUDIT_BY_STORE, Actor, AuditAction, AuditOutcome, AuditRecord, AuditTarget, REGISTRY_STORES,
    RegistryDb, RegistryMeta, RowChange, Store,
};
use crate::storage::tables::{ENDED, ENDED_BY_SERVER, KEYS, LIVE, ORDERS, ORDERS_BY_CHECKPOINT, SERVERS};
use crate::storage::{FrameEncoder, FrameHash};
use crate::time::UnixMs;

const STORE: StoreId = StoreId(1);
const DAY_MS: u64 = 24 * 3600 * 1000;

fn command(seq: u64, status: Status, at: u64) -> CommandRow {
    let id = CommandId { server: ServerId(1), seq: Seq(seq) };
    let order = OrderId { store: STORE, seq: Seq(seq) };
    let (accepted_at, status_at) = (UnixMs(1_000), UnixMs(at));
    CommandRow { id, order, status, rev: 2, accepted_at, status_at, ..samples::plain_command(16) }
}

fn order(seq: u64) -> OrderRow {
    let id = OrderId { store: STORE, seq: Seq(seq) };
    let commands = vec![CommandId { server: ServerId(1), seq: Seq(seq) }].into();
    let key = Some(KeyDigest { key: seq, body: 1 });
    OrderRow { id, accepted_at: UnixMs(1_000), key, commands, ..samples::full_order() }
}

fn key(seq: u64) -> KeyRow {
    let order = OrderId { store: STORE, seq: Seq(seq) };
    KeyRow { digest: KeyDigest { key: seq, body: 1 }, order, at: UnixMs(1_000) }
}

/// A live command (64) and two that ended in two checkpoints (128, 192, the latter at `last_end`), two commits, a registry.
fn directory(last_end: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (rest, recovery) = open_directory(dir.path(), OpenOptions::default()).unwrap();
    let (mut journal, _) = recovery.replay(&rest, &mut |_| {}).unwrap();
    let servers = |ended| vec![ServerRow { server: ServerId(1), ended }];
    let first = ImagePart {
        live: vec![command(64, Status::Pending, 1_000), command(192, Status::Pending, 1_000)],
        ended: vec![command(128, Status::Completed, 2_000)],
        orders: vec![order(64), order(128), order(192)],
        keys: vec![key(64), key(128), key(192)],
        servers: servers([1, 0, 0]),
        next_seq: 256,
        ..ImagePart::default()
    };
    let second = ImagePart {
        ended: vec![command(192, Status::Cancelled, last_end)],
        no_longer_live: vec![CommandId { server: ServerId(1), seq: Seq(192) }],
        servers: servers([1, 1, 0]),
        ..ImagePart::default()
    };
    for part in [first, second] {
        rest.write(Checkpoint { parts: vec![part], totals: vec![(ShardNo(0), FrameNo(0))] }).unwrap();
    }
    let mut encoder = FrameEncoder::new(ShardNo(0), 1, FrameNo(0), FrameHash::default());
    for no in 1..=2 {
        let id = CommandId { server: ServerId(1), seq: Seq(64) };
        let edit = EditedChange { id, rev: 2, at: UnixMs(3), text: "say hi".into() };
        journal.append(&[encoder.encode(FrameNo(no), &[Change::Edited(Box::new(edit))])]).unwrap();
    }
    drop((journal, rest));
    let (mut registry, _) = RegistryDb::open(dir.path()).unwrap();
    let meta = RegistryMeta { next_store: 2, next_server: 1, next_key: 1, data_key_check: [3; 16] };
    let record = AuditRecord {
        id: AuditId(1),
        at: UnixMs(1),
        action: AuditAction::StoreCreated,
        outcome: AuditOutcome::Done,
        by: Actor::LOCAL,
        on: AuditTarget::default(),
    };
    let store = Store { id: STORE, name: "default".into(), created_at: UnixMs(1) };
    registry.commit(&meta, &[RowChange::Store(store), RowChange::Audit(record.into())]).unwrap();
    dir
}

/// Changes a file as only somebody with redb at hand can.
fn tamper(dir: &Path, file: &str, work: impl FnOnce(&WriteTransaction)) {
    let db = Database::open(dir.join(file)).unwrap();
    let transaction = db.begin_write().unwrap();
    work(&transaction);
    transaction.commit().unwrap();
    db.close().unwrap();
}

/// Puts a row into a table of blocks, or removes it.
fn change<K: Place>(
    blocks: &'static Blocks<K>,
    place: K,
    row: Option<Vec<u8>>,
) -> impl FnOnce(&WriteTransaction) {
    move |transaction| {
        let mut table = transaction.open_table(blocks.table).unwrap();
        blocks.apply(&DbFile::new(STORE_FILE.as_ref()), &mut table, &[(place, row)]).unwrap();
    }
}

fn bytes(dir: &Path) -> Vec<Vec<u8>> {
    DATABASE_FILES.iter().filter_map(|name| fs::read(dir.join(name)).ok()).collect()
}

/// The records that a check finds damaged; it must leave the files as they are.
fn damaged(dir: &Path) -> Vec<String> {
    let before = bytes(dir);
    let report = check(dir, &mut Unwatched).unwrap();
    assert!(bytes(dir) == before, "a check changed a file");
    assert_eq!(report.damaged, report.findings.len() as u64);
    report.findings.into_iter().map(|found| format!("{}: {}", found.record, found.flaw)).collect()
}

#[track_caller]
fn expect(file: &str, work: impl FnOnce(&WriteTransaction), expected: &[&str]) {
    let dir = directory(3_000);
    tamper(dir.path(), file, work);
    let found = damaged(dir.path());
    for expected in expected {
        assert!(found.iter().any(|found| found.starts_with(expected)), "{expected} is not among {found:?}");
    }
}

/// Where in a log the head of a record of this kind and commit begins.
fn record_in(log: &[u8], kind: u8, commit: u64) -> usize {
    let is = |sector: &[u8]| sector[8..11] == [b'f', b'j', kind] && sector[16..24] == commit.to_le_bytes();
    let at = log.chunks(512).position(|sector| sector.len() == 512 && is(sector));
    at.expect("it is there") * 512
}

#[track_caller]
fn expect_in_log(change: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let dir = directory(3_000);
    let path = dir.path().join(JOURNAL_FILE);
    let mut log = fs::read(&path).unwrap();
    change(&mut log);
    fs::write(&path, log).unwrap();
    let found = damaged(dir.path());
    assert!(found.iter().any(|found| found.starts_with(expected)), "{expected} is not among {found:?}");
}

#[test]
fn a_sound_directory_checks_and_every_row_is_counted() {
    let dir = directory(3_000);
    let report = check(dir.path(), &mut Unwatched).unwrap();
    assert_eq!(report.findings, []);
    assert!(report.related && report.data_key_check == Some([3; 16]));
    let rows = |file: &str, table: &str| {
        let counts: Vec<u64> = report
            .tables
            .iter()
            .filter(|count| (count.file, count.table) == (file, table))
            .map(|count| count.rows)
            .collect();
        assert_eq!(counts.len(), 1, "{file}, {table}");
        counts[0]
    };
    assert_eq!(
        (rows(JOURNAL_FILE, "commits"), rows(STORE_FILE, "live_blocks"), rows(STORE_FILE, "ended_blocks")),
        (2, 1, 2)
    );
    assert_eq!((rows(STORE_FILE, "ended_by_server"), rows(STORE_FILE, "order_blocks")), (2, 3));
    assert_eq!((rows(REGISTRY_FILE, "stores"), rows(REGISTRY_FILE, "audit")), (1, 1));
}

#[test]
fn a_changed_row_is_named_in_every_table() {
    fn flip<K: redb::Key + 'static>(
        table: TableDefinition<'static, K, &'static [u8]>,
    ) -> impl Fn(&WriteTransaction) {
        move |transaction| {
            let mut table = transaction.open_table(table).unwrap();
            let (key, mut row) = {
                let (key, row) = table.last().unwrap().unwrap();
                (K::as_bytes(&key.value()).as_ref().to_vec(), row.value().to_vec())
            };
            *row.last_mut().unwrap() ^= 1;
            table.insert(K::from_bytes(&key), &row[..]).unwrap();
        }
    }
    let flip_in_log = |kind, commit| {
        move |log: &mut Vec<u8>| {
            let at = record_in(log, kind, commit);
            log[at + 60] ^= 1;
        }
    };
    expect_in_log(flip_in_log(1, 2), "commits/2: the checksum");
    expect_in_log(flip_in_log(2, 0), "meta/journal: the checksum");
    expect(STORE_FILE, flip(LIVE.table), &["live_blocks/1,64: the checksum"]);
    expect(STORE_FILE, flip(ENDED.table), &["ended_blocks/1,128: the checksum"]);
    expect(STORE_FILE, flip(ENDED_BY_SERVER), &["ended_by_server/2,1: the checksum"]);
    expect(STORE_FILE, flip(ORDERS.table), &["order_blocks/64: the checksum"]);
    expect(STORE_FILE, flip(ORDERS_BY_CHECKPOINT), &["orders_by_checkpoint/1,0: the checksum"]);
    expect(STORE_FILE, flip(KEYS), &["keys/1,0: the checksum"]);
    expect(STORE_FILE, flip(SERVERS), &["servers/1: the checksum"]);
    expect(STORE_FILE, flip(META), &["meta/store: the checksum"]);
    expect(REGISTRY_FILE, flip(REGISTRY_STORES), &["stores/1: the checksum"]);
    expect(REGISTRY_FILE, flip(AUDIT), &["audit/1: the checksum"]);
    expect(REGISTRY_FILE, flip(META), &["meta/registry: the checksum"]);
}

#[test]
fn what_a_list_names_is_there_and_what_is_there_is_named() {
    let lost = [
        "ended_by_server/1,1: 128 is not in ended_blocks",
        "order_blocks/128: its command cmd_1_128 is missing",
    ];
    expect(STORE_FILE, change(&ENDED, (1, 128), None), &lost);
    let lost = [
        "live_blocks/1,64: its order",
        "orders_by_checkpoint/1,0: 64 is not in order_blocks",
        "keys/1,0: a key's order",
    ];
    expect(STORE_FILE, change(&ORDERS, 64, None), &lost);
    let lost = ["order_blocks/64: its command cmd_1_64 is missing"];
    expect(STORE_FILE, change(&LIVE, (1, 64), None), &lost);
    let remove = |table: TableDefinition<'static, (u64, u32), &'static [u8]>, key: (u64, u32)| {
        move |transaction: &WriteTransaction| {
            drop(transaction.open_table(table).unwrap().remove(key).unwrap())
        }
    };
    expect(STORE_FILE, remove(ENDED_BY_SERVER, (1, 1)), &["ended_blocks/1,128: no row of ended_by_server"]);
    let lost = ["order_blocks/64: no row of orders_by_checkpoint"];
    expect(STORE_FILE, remove(ORDERS_BY_CHECKPOINT, (1, 0)), &lost);
}

#[test]
fn a_command_is_in_one_place_and_in_its_place() {
    let live = |row: CommandRow| change(&LIVE, (1, 64), Some(encode_command(&row)));
    let ended = |row: CommandRow| change(&ENDED, place(row.id), Some(encode_command(&row)));
    let twice = "live_blocks/1,64: the same number is in ended_blocks";
    expect(STORE_FILE, ended(command(64, Status::Completed, 1)), &[twice]);
    let astray = "live_blocks/1,64: a command that is Expired";
    expect(STORE_FILE, live(command(64, Status::Expired, 1)), &[astray]);
    let astray = "ended_blocks/1,128: a command that is Failed";
    expect(STORE_FILE, ended(command(128, Status::Failed, 1)), &[astray]);
    let other =
        CommandRow { order: OrderId { store: STORE, seq: Seq(128) }, ..command(64, Status::Pending, 1) };
    let unnamed =
        ["live_blocks/1,64: its order, ord_1_128, does not name it", "order_blocks/64: its command"];
    expect(STORE_FILE, live(other), &unnamed);
}

#[test]
fn a_block_has_its_own_rows_and_no_others() {
    let put = |key: (u32, u64), seqs: &'static [u64]| {
        move |transaction: &WriteTransaction| {
            let row = encode_command(&command(64, Status::Pending, 1));
            let rows = seqs.iter().map(|seq| (Seq(*seq), &row[..]));
            let block = encode_block(LIVE.kind, key.seed(), rows);
            transaction.open_table(LIVE.table).unwrap().insert(key, &block[..]).unwrap();
        }
    };
    let flaw = "its rows are not between its key and the next block's";
    expect(STORE_FILE, put((1, 60), &[61, 64]), &[&format!("live_blocks/1,64: {flaw}")]);
    expect(STORE_FILE, put((1, 63), &[62]), &[&format!("live_blocks/1,63: {flaw}")]);
}

#[test]
fn totals_and_the_heads_of_lists_are_checked() {
    let put = |ended, newest| {
        move |transaction: &WriteTransaction| {
            let row = ServerEntry { ended, newest }.encode(ServerId(1));
            transaction.open_table(SERVERS).unwrap().insert(1, &row[..]).unwrap();
        }
    };
    expect(STORE_FILE, put([1, 0, 0], 2), &["servers/1: 1 cancelled where 0 were counted"]);
    expect(STORE_FILE, put([1, 1, 0], 1), &["servers/1: its list leads to 1 of its 2 rows"]);
    let gone = |transaction: &WriteTransaction| {
        drop(transaction.open_table(SERVERS).unwrap().remove(1).unwrap());
    };
    expect(STORE_FILE, gone, &["servers/1: the row is missing"]);
}

#[test]
fn commits_and_frames_have_no_gap() {
    let gone = |log: &mut Vec<u8>| {
        let at = record_in(log, 1, 1);
        log[at..at + 512].fill(0);
    };
    expect_in_log(gone, "commits/1: it is missing");
    let dir = directory(3_000);
    let (rest, recovery) = open_directory(dir.path(), OpenOptions::default()).unwrap();
    let (mut journal, _) = recovery.replay(&rest, &mut |_| {}).unwrap();
    let mut encoder = FrameEncoder::new(ShardNo(0), 2, FrameNo(5), FrameHash([1; 16]));
    journal.append(&[encoder.encode(FrameNo(6), &[])]).unwrap();
    drop((journal, rest));
    let found = damaged(dir.path());
    assert!(found[0].starts_with("commits/3: frame 6 of shard 0 does not follow frame 2"), "{found:?}");
}

#[test]
fn the_registry_is_checked_between_rows() {
    let unknown = |transaction: &WriteTransaction| {
        let store = Store { id: StoreId(7), name: "x".into(), created_at: UnixMs(1) };
        transaction.open_table(REGISTRY_STORES).unwrap().insert(7, &encode_store(&store)[..]).unwrap();
    };
    expect(REGISTRY_FILE, unknown, &["stores/7: a number that was not given out yet"]);
    let unlisted = |transaction: &WriteTransaction| {
        drop(transaction.open_table(AUDIT_BY_STORE).unwrap().remove((0, 1)).unwrap());
    };
    expect(REGISTRY_FILE, unlisted, &["audit/1: it is not listed"]);
    let listed = |transaction: &WriteTransaction| {
        drop(transaction.open_table(AUDIT_BY_STORE).unwrap().insert((0, 9), ()).unwrap());
    };
    expect(REGISTRY_FILE, listed, &["audit_by_store: it lists 2 records"]);
}

#[test]
fn halves_that_may_have_expired_are_not_missed() {
    let forget_order = |transaction: &WriteTransaction| {
        drop(transaction.open_table(ORDERS.table).unwrap().remove(64).unwrap());
        drop(transaction.open_table(ORDERS_BY_CHECKPOINT).unwrap().remove((1, 0)).unwrap());
        drop(transaction.open_table(KEYS).unwrap().remove((1, 0)).unwrap());
    };
    let old = directory(30 * DAY_MS);
    tamper(old.path(), STORE_FILE, forget_order);
    assert_eq!(damaged(old.path()), Vec::<String>::new());
    expect(STORE_FILE, forget_order, &["live_blocks/1,64: its order", "ended_blocks/1,128: its order"]);
}

#[test]
fn files_that_are_missing_in_use_or_of_a_newer_program_cannot_be_checked() {
    let dir = directory(3_000);
    let held = open_directory(dir.path(), OpenOptions::default()).unwrap();
    assert!(matches!(check(dir.path(), &mut Unwatched), Err(StorageError::InUse { .. })));
    drop(held);
    tamper(dir.path(), STORE_FILE, |transaction| {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert(FORMAT_KEY, &(FORMAT_VERSION + 1).to_le_bytes()[..]).unwrap();
    });
    assert!(matches!(check(dir.path(), &mut Unwatched), Err(StorageError::TooNew { .. })));
    fs::remove_file(dir.path().join(JOURNAL_FILE)).unwrap();
    assert!(matches!(check(dir.path(), &mut Unwatched), Err(StorageError::Io { .. })));
    assert!(!dir.path().join(JOURNAL_FILE).exists(), "a check makes no file");
}
