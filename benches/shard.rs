//! The shard alone, with a disk that is durable at once: time per command for its whole life, and with a backlog.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fluxrelay::engine::*;
use fluxrelay::ids::{ConnId, ServerId, ShardNo, StoreId};
use fluxrelay::time::UnixMs;

const NOW: UnixMs = UnixMs(1_795_440_792_123);
/// Orders that reach the shard between two commits under load.
const BATCH: u64 = 256;
/// Commits between two checkpoints.
const CHECKPOINT_EVERY: u64 = 256;
const BACKLOG: u64 = 1_000_000;
const BACKLOG_SERVERS: u32 = 10_000;

struct Bench {
    shard: Shard,
    servers: u32,
    text: Arc<str>,
    published: u64,
    commits: u64,
    out: Vec<Output>,
}

impl Bench {
    fn new(servers: u32) -> Bench {
        let mut shard = Shard::new(Settings::default(), ShardNo(0), 1, 1, NOW);
        let mut out = Vec::new();
        for server in 1..=servers {
            shard.handle(NOW, Input::ServerAdded { server: ServerId(server), store: StoreId(1) }, &mut out);
        }
        Bench { shard, servers, text: "x".repeat(128).into(), published: 0, commits: 0, out }
    }

    fn connect_all(&mut self) {
        for server in 1..=self.servers {
            let hello = Box::new(Hello { window: 4096, ..Hello::default() });
            let (conn, server) = (ConnId(u64::from(server)), ServerId(server));
            self.shard.handle(NOW, Input::Connect { conn, server, hello }, &mut self.out);
        }
        self.out.clear();
    }

    /// One order of one command, for each server in turn.
    fn publish(&mut self) {
        let server = ServerId(1 + (self.published % u64::from(self.servers)) as u32);
        self.published += 1;
        let command = NewCommand {
            server,
            text: self.text.clone(),
            player: None,
            require_online: false,
            not_before: None,
            expires_at: None,
            on_doubt: OnDoubt::Hold,
            labels: None,
        };
        let order = Box::new(NewOrder {
            store: StoreId(1),
            key: Some(KeyDigest { key: self.published.wrapping_mul(0x9E37_79B9_7F4A_7C15), body: 1 }),
            reference: None,
            player: None,
            ordered: false,
            commands: Few::One(command),
        });
        let from = ReplyTo { port: ConnId(u64::MAX), request: self.published };
        self.shard.handle(NOW, Input::Publish { from, order }, &mut self.out);
    }

    /// Everything that has changed is durable.
    fn commit(&mut self) {
        if let Some((frame, changes)) = self.shard.seal() {
            black_box(changes);
            self.shard.handle(NOW, Input::Durable(frame), &mut self.out);
        }
        while self.shard.has_work() {
            self.shard.handle(NOW, Input::Tick, &mut self.out);
        }
        self.commits += 1;
        if self.commits.is_multiple_of(CHECKPOINT_EVERY) {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        self.shard.handle(NOW, Input::CheckpointBegin, &mut self.out);
        while let Some(part) = self.shard.export(1024) {
            black_box(&part);
            if part.last {
                break;
            }
        }
        self.shard.handle(NOW, Input::CheckpointDone, &mut self.out);
    }

    /// Answers all deliveries with success, one batch of results for each message.
    fn complete(&mut self) -> usize {
        let mut completed = 0;
        for output in std::mem::take(&mut self.out) {
            let Output::Plugin { conn, message: PluginOut::Deliver(deliveries) } = output else { continue };
            completed += deliveries.len();
            let result = |delivery: &Delivery| CommandResult {
                seq: delivery.seq,
                attempt: Some(delivery.attempt),
                outcome: Outcome::Completed,
                error: None,
                output: None,
            };
            let results = deliveries.iter().map(result).collect();
            self.shard.handle(NOW, Input::Results { conn, batch: 1, results }, &mut self.out);
        }
        completed
    }
}

/// Publish, deliver, complete: what the shard's thread does for a command's whole life.
fn cycle(c: &mut Criterion) {
    let mut group = c.benchmark_group("shard_cycle");
    group.throughput(Throughput::Elements(BATCH));
    for servers in [1, 1_000] {
        let mut bench = Bench::new(servers);
        bench.connect_all();
        group.bench_function(BenchmarkId::new("servers", servers), |b| {
            b.iter(|| {
                for _ in 0..BATCH {
                    bench.publish();
                }
                bench.commit();
                let completed = bench.complete();
                bench.commit();
                bench.out.clear();
                assert_eq!(completed as u64, BATCH);
            });
        });
    }
    group.finish();
}

fn backlog(servers: u32) -> Bench {
    let mut bench = Bench::new(servers);
    while bench.published < BACKLOG {
        for _ in 0..BATCH {
            bench.publish();
        }
        bench.commit();
        bench.out.clear();
    }
    bench
}

/// A million commands for servers that are offline: accepting them, and starting again from their rows.
fn offline(c: &mut Criterion) {
    let mut group = c.benchmark_group("shard_backlog_1m");
    group.throughput(Throughput::Elements(BACKLOG));
    group.sample_size(10);
    group.bench_function("accept", |b| {
        b.iter_batched(|| (), |()| backlog(BACKLOG_SERVERS), BatchSize::PerIteration);
    });
    let mut full = backlog(BACKLOG_SERVERS);
    let mut rows: Vec<CommandRow> = Vec::new();
    for server in 1..=BACKLOG_SERVERS {
        let from = ReplyTo { port: ConnId(0), request: 0 };
        let query = Query::Commands { server: ServerId(server), status: None, after: None, limit: 1000 };
        full.shard.handle(NOW, Input::Read { from, query }, &mut full.out);
        for output in full.out.drain(..) {
            if let Output::Reply { reply: Reply::Commands(mut page), .. } = output {
                rows.append(&mut page);
            }
        }
    }
    drop(full);
    group.bench_function("restore", |b| {
        b.iter_batched(
            || (Bench::new(BACKLOG_SERVERS).shard, rows.clone()),
            |(mut shard, rows)| {
                rows.into_iter().for_each(|row| shard.restore_live(row));
                let mut out = Vec::new();
                shard.restore_done(NOW, &mut out);
                shard
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, cycle, offline);
criterion_main!(benches);
