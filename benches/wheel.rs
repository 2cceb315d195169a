//! The timer wheel alone: time per timer, with 1 k and 1 M of them standing in it.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fluxrelay::engine::Wheel;
use fluxrelay::time::UnixMs;

const NOW: u64 = 1_795_440_792_123;
/// When all timers of a first filling have fired.
const LATER: u64 = NOW + 2 * SPREAD_MS.next_power_of_two();
/// Timers stand within an hour, spread by a fixed multiplicative sequence.
const SPREAD_MS: u64 = 3_600_000;

fn delay(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20 & (SPREAD_MS.next_power_of_two() - 1)
}

fn filled(timers: u64) -> Wheel<u64> {
    let mut wheel = Wheel::new(UnixMs(NOW));
    for n in 0..timers {
        wheel.insert(UnixMs(NOW + 1 + delay(n)), n);
    }
    wheel
}

/// The common life of an ack deadline: set, and cancelled by the answer.
fn insert_cancel(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel_insert_cancel");
    group.throughput(Throughput::Elements(1));
    for timers in [1_000, 1_000_000] {
        let mut wheel = filled(timers);
        let mut n = 0;
        group.bench_function(BenchmarkId::from_parameter(timers), |b| {
            b.iter(|| {
                n += 1;
                let id = wheel.insert(UnixMs(NOW + 30_000 + delay(n)), n);
                black_box(wheel.cancel(id))
            });
        });
    }
    group.finish();
}

/// Works off all timers, a minute at a time.
fn drain(wheel: &mut Wheel<u64>, from: u64, out: &mut Vec<u64>) {
    for minute in 0..=SPREAD_MS.next_power_of_two() / 60_000 + 1 {
        while wheel.advance(UnixMs(from + minute * 60_000), 4096, out) {
            out.clear();
        }
    }
    out.clear();
    assert!(wheel.is_empty());
}

/// All inserted into a warm wheel, all fired, with every cascade in between.
fn insert_fire(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel_insert_fire");
    group.sample_size(10);
    for timers in [1_000_u64, 1_000_000] {
        group.throughput(Throughput::Elements(timers));
        let mut out = Vec::with_capacity(timers as usize);
        group.bench_function(BenchmarkId::from_parameter(timers), |b| {
            b.iter_batched_ref(
                || {
                    let mut wheel = filled(timers);
                    drain(&mut wheel, NOW, &mut Vec::new());
                    wheel
                },
                |wheel| {
                    for n in 0..timers {
                        wheel.insert(UnixMs(LATER + 1 + delay(n)), n);
                    }
                    drain(wheel, LATER, &mut out);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, insert_cancel, insert_fire);
criterion_main!(benches);
