//! Rows and changes for the tests of this folder, and the golden bytes in `golden/`.

use std::path::Path;
use std::sync::Arc;

use crate::engine::{
    AcceptedRow, Change, CommandRow, CompletedChange, DeliveredChange, EditedChange, Few, HistoryEntry,
    KeyDigest, KeyRow, Labels, Note, OnDoubt, OrderAccepted, OrderRow, Player, ResentChange, Status,
    StatusChange,
};
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::time::UnixMs;

const AT: UnixMs = UnixMs(1_790_000_000_000);

fn id(server: u32, seq: u64) -> CommandId {
    CommandId { server: ServerId(server), seq: Seq(seq) }
}

fn text(bytes: usize) -> Arc<str> {
    "lp user Steve parent add vip ".chars().cycle().take(bytes).collect::<String>().into()
}

fn player() -> Player {
    Player { name: "Steve".into(), uuid: Some(0x069a_79f4_44e9_4726_a5be_fca9_0e38_aaf5) }
}

fn labels() -> Box<Labels> {
    Box::new(Labels { stage: Some("renewal".into()), metadata: Some("{\"sku\":7}".into()) })
}

pub(crate) fn full_command() -> CommandRow {
    let entry = |status, at, note, error: Option<&str>| HistoryEntry {
        status,
        at: UnixMs(AT.0 + at),
        attempt: 2,
        note,
        error: error.map(Arc::from),
    };
    CommandRow {
        id: id(12, 641),
        order: OrderId { store: StoreId(3), seq: Seq(640) },
        rev: 4,
        status: Status::Pending,
        status_at: UnixMs(AT.0 + 30),
        accepted_at: AT,
        attempt: 2,
        retries: 1,
        unanswered: 1,
        next_at: Some(UnixMs(AT.0 + 30_000)),
        after: Some(Seq(640)),
        text: Some(text(29)),
        player: Some(player()),
        require_online: true,
        not_before: Some(UnixMs(AT.0 + 5)),
        expires_at: Some(UnixMs(AT.0 + 500_000)),
        on_doubt: OnDoubt::Rerun,
        labels: Some(labels()),
        error: Some("no such group".into()),
        output: Some("äöü".into()),
        history: vec![
            entry(Status::Pending, 0, Note::None, None),
            entry(Status::Delivered, 10, Note::None, None),
            entry(Status::Pending, 30, Note::RetryScheduled, Some("no such group")),
        ],
    }
}

pub(crate) fn plain_command(bytes: usize) -> CommandRow {
    CommandRow {
        rev: 1,
        attempt: 1,
        retries: 0,
        unanswered: 0,
        next_at: None,
        after: None,
        text: Some(text(bytes)),
        player: None,
        require_online: false,
        not_before: None,
        expires_at: None,
        on_doubt: OnDoubt::Hold,
        labels: None,
        error: None,
        output: None,
        history: vec![HistoryEntry {
            status: Status::Pending,
            at: AT,
            attempt: 1,
            note: Note::None,
            error: None,
        }],
        ..full_command()
    }
}

/// To which nothing has happened.
pub(crate) fn new_command(bytes: usize) -> CommandRow {
    CommandRow { status_at: AT, ..plain_command(bytes) }
}

pub(crate) fn full_order() -> OrderRow {
    OrderRow {
        id: OrderId { store: StoreId(3), seq: Seq(640) },
        accepted_at: AT,
        key: Some(KeyDigest { key: u64::MAX, body: 1 }),
        reference: Some("invoice 7".into()),
        player: Some(Player { name: ".Bedrock".into(), uuid: None }),
        ordered: true,
        commands: vec![id(12, 640), id(12, 704)].into(),
    }
}

pub(crate) fn plain_order_row() -> OrderRow {
    OrderRow {
        key: None,
        reference: None,
        player: None,
        ordered: false,
        commands: Few::One(id(12, 640)),
        ..full_order()
    }
}

pub(crate) fn plain_order(bytes: usize) -> Change {
    let command = AcceptedRow {
        id: id(12, 640),
        after: None,
        text: text(bytes),
        player: None,
        require_online: false,
        not_before: None,
        expires_at: None,
        on_doubt: OnDoubt::Hold,
        labels: None,
    };
    Change::Order(Box::new(OrderAccepted { row: plain_order_row(), commands: Few::One(command) }))
}

pub(crate) fn keys() -> Vec<KeyRow> {
    let key = |n| KeyRow {
        digest: KeyDigest { key: n << 40, body: n },
        order: OrderId { store: StoreId(1), seq: Seq(64 * n) },
        at: UnixMs(AT.0 + n),
    };
    vec![key(1), key(3), key(2)]
}

/// One of each kind, every field used at least once.
pub(crate) fn changes() -> Vec<Change> {
    let command = |seq, after: Option<u64>| AcceptedRow {
        id: id(12, seq),
        after: after.map(Seq),
        text: text(29),
        player: Some(player()),
        require_online: true,
        not_before: Some(UnixMs(AT.0 + 5)),
        expires_at: Some(UnixMs(AT.0 + 500_000)),
        on_doubt: OnDoubt::Rerun,
        labels: Some(labels()),
    };
    let commands = vec![command(640, None), command(704, Some(640))].into();
    vec![
        Change::Order(Box::new(OrderAccepted { row: full_order(), commands })),
        plain_order(16),
        Change::Delivered(DeliveredChange {
            server: ServerId(12),
            at: AT,
            commands: vec![(Seq(640), 2), (Seq(704), 2)].into(),
        }),
        Change::Completed(CompletedChange {
            server: ServerId(12),
            at: UnixMs(AT.0 + 1),
            commands: vec![(Seq(640), 3)].into(),
        }),
        Change::Status(Box::new(StatusChange {
            id: id(12, 704),
            rev: 3,
            status: Status::InDoubt,
            at: UnixMs(AT.0 + 2),
            attempt: 1,
            retries: 2,
            unanswered: 3,
            next_at: Some(UnixMs(AT.0 + 30_000)),
            note: Note::PluginInDoubt,
            error: Some("crashed".into()),
            output: Some("out".into()),
        })),
        Change::Edited(Box::new(EditedChange { id: id(12, 704), rev: 4, at: AT, text: "say hi".into() })),
        Change::Resent(Box::new(ResentChange { at: AT, commands: vec![(id(12, 704), 4), (id(7, 5), 9)] })),
    ]
}

/// Compares with `golden/<name>.hex`; `UPDATE_GOLDEN=1` writes it (a new format needs a new version).
pub(crate) fn assert_golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/storage/record/golden/{name}.hex"));
    let mut hex = String::new();
    for line in bytes.chunks(32) {
        hex.extend(line.iter().map(|byte| format!("{byte:02x}")));
        hex.push('\n');
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &hex).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, hex, "the bytes of {name} changed: that is another format");
}

#[test]
fn the_examples_of_the_document_are_the_golden_bytes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/storage.md")).unwrap();
    let of_the_log = ["log_head", "log_mark", "log_segment", "log_record"];
    for name in ["frame", "block", "command_new", "order_plain", "server"].into_iter().chain(of_the_log) {
        let golden = root.join(format!("src/storage/record/golden/{name}.hex"));
        let golden = std::fs::read_to_string(golden).unwrap();
        assert!(document.contains(&format!("```\n{golden}```")), "{name} is not in docs/storage.md as it is");
    }
}
