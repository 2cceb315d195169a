//! The disk: durable group commits by batch size, encoding alone, checkpoints; on a real temporary directory.
//!
//! A backlog is measured in two processes, since a directory is opened once in each:
//! `FLUXRELAY_BENCH_DIR=/tmp/d FLUXRELAY_BENCH_BACKLOG=1000000 cargo bench --bench journal -- backlog` fills it by
//! checkpoints and dies without closing; without `FLUXRELAY_BENCH_BACKLOG` it is opened and replayed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fluxrelay::engine::{
    AcceptedRow, Change, CommandRow, CompletedChange, DeliveredChange, Few, HistoryEntry, ImagePart, Note,
    OnDoubt, OrderAccepted, OrderRow, Status,
};
use fluxrelay::ids::{CommandId, FrameNo, OrderId, Seq, ServerId, ShardNo, StoreId};
use fluxrelay::storage::mirror::Mirror;
use fluxrelay::storage::registry::RegistryDb;
use fluxrelay::storage::{
    Checkpoint, CommitNo, FrameEncoder, FrameHash, Journal, OpenOptions, Rest, open, open_mirrored,
};
use fluxrelay::time::UnixMs;

const SERVERS: u64 = 1000;
const TEXT_BYTES: usize = 128;

fn text() -> Arc<str> {
    "lp user Steve parent add vip ".chars().cycle().take(TEXT_BYTES).collect::<String>().into()
}

fn id(seq: u64) -> CommandId {
    CommandId { server: ServerId((seq % SERVERS) as u32 + 1), seq: Seq(seq) }
}

/// What one frame holds when `batch` commands are accepted, and as many earlier ones delivered and completed.
fn changes(from: u64, batch: u64, text: &Arc<str>) -> Vec<Change> {
    let order = |seq| {
        let command = AcceptedRow {
            id: id(seq),
            after: None,
            text: Arc::clone(text),
            player: None,
            require_online: false,
            not_before: None,
            expires_at: None,
            on_doubt: OnDoubt::Hold,
            labels: None,
        };
        Change::Order(Box::new(OrderAccepted { row: order_row(seq), commands: Few::One(command) }))
    };
    (from..from + batch).map(order).collect()
}

/// The changes that deliver and complete a batch, in groups of 16 as connections answer.
fn endings(from: u64, batch: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    for start in (from..from + batch).step_by(16) {
        let seqs = start..(start + 16).min(from + batch);
        let (server, at) = (id(start).server, UnixMs(start));
        let commands = seqs.clone().map(|seq| (Seq(seq), 2)).collect();
        changes.push(Change::Delivered(DeliveredChange { server, at, commands }));
        let commands = seqs.map(|seq| (Seq(seq), 3)).collect();
        changes.push(Change::Completed(CompletedChange { server, at, commands }));
    }
    changes
}

fn order_row(seq: u64) -> OrderRow {
    OrderRow {
        id: OrderId { store: StoreId(1), seq: Seq(seq) },
        accepted_at: UnixMs(seq),
        key: None,
        reference: None,
        player: None,
        ordered: false,
        commands: Few::One(id(seq)),
    }
}

fn command_row(seq: u64, status: Status, text: &Arc<str>) -> CommandRow {
    let entry = |status| HistoryEntry { status, at: UnixMs(seq), attempt: 1, note: Note::None, error: None };
    let history = match status {
        Status::Pending => vec![entry(status)],
        _ => vec![entry(Status::Pending), entry(Status::Delivered), entry(status)],
    };
    CommandRow {
        id: id(seq),
        order: OrderId { store: StoreId(1), seq: Seq(seq) },
        rev: history.len() as u32,
        status,
        status_at: UnixMs(seq),
        accepted_at: UnixMs(seq),
        attempt: 1,
        retries: 0,
        unanswered: 0,
        next_at: None,
        after: None,
        text: Some(Arc::clone(text)),
        player: None,
        require_online: false,
        not_before: None,
        expires_at: None,
        on_doubt: OnDoubt::Hold,
        labels: None,
        error: None,
        output: None,
        history,
    }
}

fn encoder() -> FrameEncoder {
    FrameEncoder::new(ShardNo(0), 1, FrameNo(0), FrameHash::default())
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let text = text();
    for batch in [1, 16, 128, 1024] {
        let changes = [changes(1, batch, &text), endings(1, batch)].concat();
        group.throughput(Throughput::Elements(batch));
        let mut encoder = encoder();
        let mut no = 0;
        group.bench_function(BenchmarkId::from_parameter(batch), |b| {
            b.iter(|| {
                no += 1;
                black_box(encoder.encode(FrameNo(no), black_box(&changes)))
            });
        });
    }
    group.finish();
}

fn append(c: &mut Criterion) {
    for batch in [1, 16, 128, 1024] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (rest, recovery) = open(dir.path(), OpenOptions::default()).expect("an empty directory opens");
        let (journal, _) = recovery.replay(&rest, &mut |_| {}).expect("there is nothing in it");
        append_to(c, "append_durable", batch, journal);
    }
}

/// Both sides on the same disk: two files are written and synced where one was.
fn append_mirrored(c: &mut Criterion) {
    for batch in [1, 1024] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (data, second) = (folder.path().join("data"), folder.path().join("mirror"));
        let mirror = Mirror::look(&data, &second).expect("a new pair");
        let (rest, recovery) =
            open_mirrored(&data, OpenOptions::default(), &mirror).expect("an empty directory opens");
        let (journal, _) = recovery.replay(&rest, &mut |_| {}).expect("there is nothing in it");
        let _registry = RegistryDb::open_mirrored(&data, &mirror).expect("an empty directory opens");
        mirror.attach().expect("they are brought into step");
        append_to(c, "append_mirrored", batch, journal);
        assert!(mirror.is_in_step(), "the mirror failed");
    }
}

fn append_to(c: &mut Criterion, name: &str, batch: u64, mut journal: impl Journal) {
    let mut group = c.benchmark_group(name);
    let changes = changes(1, batch, &text());
    let mut encoder = encoder();
    let mut no = 0;
    group.throughput(Throughput::Elements(batch));
    group.bench_function(BenchmarkId::from_parameter(batch), |b| {
        b.iter(|| {
            no += 1;
            let frame = encoder.encode(FrameNo(no), &changes);
            let commit = journal.append(&[frame]).expect("the disk works");
            journal.trim(CommitNo(commit.0.saturating_sub(64))).expect("the disk works");
        });
    });
    group.finish();
}

fn checkpoint(c: &mut Criterion) {
    const ROWS: u64 = 10_000;
    let mut group = c.benchmark_group("checkpoint_10k");
    group.throughput(Throughput::Elements(ROWS));
    group.sample_size(10);
    let text = text();
    for (name, status) in [("ended", Status::Completed), ("live", Status::Pending)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (rest, _recovery) = open(dir.path(), OpenOptions::default()).expect("an empty directory opens");
        let mut from = 1;
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    from += ROWS;
                    part(from - ROWS..from, status, &text)
                },
                |part| rest.write(Checkpoint { parts: vec![part], totals: vec![] }).expect("the disk works"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn part(seqs: impl Iterator<Item = u64>, status: Status, text: &Arc<str>) -> ImagePart {
    let rows = seqs.map(|seq| command_row(seq, status, text)).collect::<Vec<_>>();
    if status == Status::Pending {
        let orders = rows.iter().map(|row| order_row(row.id.seq.0)).collect();
        ImagePart { live: rows, orders, ..ImagePart::default() }
    } else {
        ImagePart { ended: rows, ..ImagePart::default() }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn timed<R>(what: &str, elements: u64, work: impl FnOnce() -> R) -> R {
    let start = std::time::Instant::now();
    let result = work();
    let took: Duration = start.elapsed();
    println!("{what}: {took:.2?}, {:.0}/s", elements as f64 / took.as_secs_f64());
    result
}

/// Not a criterion measurement: one pass over a directory that the environment names.
fn backlog(_: &mut Criterion) {
    let Some(dir) = std::env::var_os("FLUXRELAY_BENCH_DIR") else { return };
    let opened = timed("open", 1, || open(dir.as_ref(), OpenOptions::default()));
    let (rest, recovery) = opened.expect("the directory opens");
    let Ok(rows) = std::env::var("FLUXRELAY_BENCH_BACKLOG") else {
        let mut kept = Vec::new();
        let report = timed("replay", 1, || recovery.replay(&rest, &mut |piece| kept.push(piece)));
        println!("{:?}", report.expect("what was written reads back").1);
        return;
    };
    let rows: u64 = rows.parse().expect("FLUXRELAY_BENCH_BACKLOG is a number");
    fill(&rest, rows);
    std::mem::forget((rest, recovery));
}

fn fill(rest: &dyn Rest, rows: u64) {
    const STEP: u64 = 100_000;
    let text = text();
    let write = |what: &str, part: ImagePart| {
        let count = (part.live.len() + part.ended.len()) as u64;
        let checkpoint = Checkpoint { parts: vec![part], totals: vec![] };
        timed(&format!("{what}: {count}"), count, || rest.write(checkpoint).expect("the disk works"));
    };
    for from in (1..rows).step_by(STEP as usize) {
        write("new live commands with orders", part(from..rows.min(from + STEP), Status::Pending, &text));
    }
    let changed = part((7..rows).step_by(100), Status::Failed, &text);
    write("changed live commands, scattered", ImagePart { live: changed.ended, ..ImagePart::default() });
    write("ended out of a backlog, scattered", part((50..rows).step_by(100), Status::Completed, &text));
    write("ended out of a backlog, scattered", part((5..rows).step_by(10), Status::Completed, &text));
    write("ended out of a backlog, in a row", part(rows / 2..rows * 6 / 10, Status::Completed, &text));
    write("ended between two checkpoints", part(rows + 1..rows + 1 + rows / 10, Status::Completed, &text));
}

criterion_group!(benches, encode, append, append_mirrored, checkpoint, backlog);
criterion_main!(benches);
