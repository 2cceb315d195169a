//! Cost of the wire: deliveries, results and publishes, 1, 16 and 256 in a frame, written and read back.
//! Fixed data; a command is 128 bytes, as in the end-to-end figures.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fluxrelay::limits::FRAME_BYTES_MAX;
use fluxrelay::protocol::{
    DeliveryRef, OrderHead, Outcome, PlayerRef, PublishCommand, Request, Response, ResultRef, encode_deliver,
    encode_publish, encode_results,
};

const COUNTS: [usize; 3] = [1, 16, 256];
const PLAYER: PlayerRef<'static> = PlayerRef { name: "Steve", uuid: Some(0x069a79f4) };

fn delivery(id: usize, text: &str) -> DeliveryRef<'_> {
    DeliveryRef { id: id as u64, attempt: 1, require_online: true, rerun: false, text, player: Some(PLAYER) }
}

fn completed(id: usize) -> ResultRef<'static> {
    ResultRef { id: id as u64, attempt: 1, outcome: Outcome::Completed, error: None, output: None }
}

fn bench_deliver(c: &mut Criterion) {
    let mut group = c.benchmark_group("deliver");
    let text = "x".repeat(128);
    for count in COUNTS {
        let encode = |buf: &mut BytesMut| {
            buf.clear();
            encode_deliver(buf, (0..count).map(|id| delivery(id, &text))).expect("fits in a frame")
        };
        let mut buf = BytesMut::with_capacity(FRAME_BYTES_MAX);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("encode", count), |b| b.iter(|| encode(black_box(&mut buf))));
        encode(&mut buf);
        group.bench_function(BenchmarkId::new("decode", count), |b| {
            b.iter(|| {
                let Ok(Some((Response::Deliver { commands }, _))) =
                    Response::decode(black_box(&buf), FRAME_BYTES_MAX)
                else {
                    unreachable!("it was encoded above")
                };
                commands.iter().map(|command| command.id + command.text.len() as u64).sum::<u64>()
            });
        });
    }
    group.finish();
}

fn bench_results(c: &mut Criterion) {
    let mut group = c.benchmark_group("results");
    for count in COUNTS {
        let encode = |buf: &mut BytesMut| {
            buf.clear();
            encode_results(buf, 1, (0..count).map(completed)).expect("fits in a frame")
        };
        let mut buf = BytesMut::with_capacity(FRAME_BYTES_MAX);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("encode", count), |b| b.iter(|| encode(black_box(&mut buf))));
        encode(&mut buf);
        group.bench_function(BenchmarkId::new("decode", count), |b| {
            b.iter(|| {
                let Ok(Some((Request::Results { results, .. }, _))) =
                    Request::decode(black_box(&buf), FRAME_BYTES_MAX)
                else {
                    unreachable!("it was encoded above")
                };
                results.iter().map(|result| result.id).sum::<u64>()
            });
        });
    }
    group.finish();
}

fn bench_publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    let text = "x".repeat(128);
    let order = OrderHead { key: Some("order-1001"), reference: None, player: Some(PLAYER), ordered: false };
    for count in COUNTS {
        let command =
            |server: usize| PublishCommand { server: server as u32 + 1, text: &text, ..Default::default() };
        let encode = |buf: &mut BytesMut| {
            buf.clear();
            encode_publish(buf, 1, &order, (0..count).map(command)).expect("fits in a frame");
        };
        let mut buf = BytesMut::with_capacity(FRAME_BYTES_MAX);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("encode", count), |b| b.iter(|| encode(black_box(&mut buf))));
        encode(&mut buf);
        group.bench_function(BenchmarkId::new("decode", count), |b| {
            b.iter(|| {
                let Ok(Some((Request::Publish(publish), _))) =
                    Request::decode(black_box(&buf), FRAME_BYTES_MAX)
                else {
                    unreachable!("it was encoded above")
                };
                publish.commands.iter().map(|command| command.text.len()).sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench_deliver, bench_results, bench_publish);
criterion_main!(benches);
