//! The timer wheel beside other ways to keep timers: tokio's, a binary heap, and the crate hierarchical_hash_wheel_timer.
//!
//! Three times for each, by the number of timers: a timer inserted; one cancelled, with what is left of it when its time
//! comes (some only forget it and meet it again); one fired. Timers stand where a fixed sequence throws them, and are
//! cancelled in another order than they were inserted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fluxrelay::engine::{TimerId, Wheel};
use fluxrelay::load::now;
use fluxrelay::time::UnixMs;
use hierarchical_hash_wheel_timer::IdOnlyTimerEntry;
use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::cancellable::QuadWheelWithOverflow;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, Sleep};

/// Where the wheels begin.
const START: u64 = 1_795_440_792_123;
/// Milliseconds within which all timers stand: a power of two, so that they can be thrown by a mask. It is short because
/// tokio's time is real; the bench of the wheel alone has an hour.
const SPREAD: u64 = 1 << 12;
/// 2^64 divided by the golden ratio: neighbours are thrown far apart.
const THROW: u64 = 0x9E37_79B9_7F4A_7C15;

/// A way to keep timers. Milliseconds count from when it was made.
trait Timers {
    /// By which a timer is cancelled.
    type Id;

    fn new(timers: u64) -> Self;
    fn insert(&mut self, after: u64, value: u64) -> Self::Id;
    fn cancel(&mut self, id: Self::Id);
    /// Does this where timers are inserted by many.
    fn within<R>(&mut self, insert: impl FnOnce(&mut Self) -> R) -> R {
        insert(self)
    }

    /// Waits, outside of what is measured, until all could fire.
    fn all_due(&mut self, _margin: u64) {}
    /// Fires all that are due before `until`; gives how many.
    fn advance(&mut self, until: u64) -> u64;
}

struct Ours {
    wheel: Wheel<u64>,
    due: Vec<u64>,
}

impl Timers for Ours {
    type Id = TimerId;

    fn new(_timers: u64) -> Ours {
        Ours { wheel: Wheel::new(UnixMs(START)), due: Vec::with_capacity(4096) }
    }

    fn insert(&mut self, after: u64, value: u64) -> TimerId {
        self.wheel.insert(UnixMs(START + after), value)
    }

    fn cancel(&mut self, id: TimerId) {
        self.wheel.cancel(id);
    }

    fn advance(&mut self, until: u64) -> u64 {
        let mut fired = 0;
        loop {
            let more = self.wheel.advance(UnixMs(START + until), 4096, &mut self.due);
            fired += self.due.drain(..).map(black_box).count() as u64;
            if !more {
                return fired;
            }
        }
    }
}

/// Cancelled ones are marked, and fall out when their time comes.
struct Heap {
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    cancelled: Vec<bool>,
}

impl Timers for Heap {
    type Id = u64;

    fn new(timers: u64) -> Heap {
        Heap { queue: BinaryHeap::new(), cancelled: vec![false; timers as usize] }
    }

    fn insert(&mut self, after: u64, value: u64) -> u64 {
        self.queue.push(Reverse((after, value)));
        value
    }

    fn cancel(&mut self, id: u64) {
        self.cancelled[id as usize] = true;
    }

    fn advance(&mut self, until: u64) -> u64 {
        let mut fired = 0;
        while let Some(&Reverse((at, value))) = self.queue.peek()
            && at <= until
        {
            self.queue.pop();
            fired += u64::from(!self.cancelled[black_box(value) as usize]);
        }
        fired
    }
}

struct HashWheel {
    wheel: QuadWheelWithOverflow<IdOnlyTimerEntry<u64>>,
    stands_at: u64,
}

impl Timers for HashWheel {
    type Id = u64;

    fn new(_timers: u64) -> HashWheel {
        HashWheel { wheel: QuadWheelWithOverflow::new(), stands_at: 0 }
    }

    fn insert(&mut self, after: u64, value: u64) -> u64 {
        let delay = Duration::from_millis(after - self.stands_at);
        let inserted = self.wheel.insert(IdOnlyTimerEntry::new(value, delay));
        assert!(inserted.is_ok(), "it is not due yet");
        value
    }

    fn cancel(&mut self, id: u64) {
        assert!(self.wheel.cancel(&id).is_ok(), "it stands in the wheel");
    }

    fn advance(&mut self, until: u64) -> u64 {
        let mut fired = 0;
        while self.stands_at < until {
            match self.wheel.can_skip() {
                Skip::Empty => self.stands_at = until,
                Skip::Millis(empty) => {
                    let empty = u64::from(empty).min(until - self.stands_at);
                    self.wheel.skip(empty as u32);
                    self.stands_at += empty;
                }
                Skip::None => {
                    fired += self.wheel.tick().into_iter().map(black_box).count() as u64;
                    self.stands_at += 1;
                }
            }
        }
        fired
    }
}

/// One boxed `Sleep` for each, behind the lock of the runtime's driver, which fires them in real time.
struct Tokio {
    runtime: Runtime,
    start: Instant,
    sleeps: Vec<Option<Pin<Box<Sleep>>>>,
}

impl Timers for Tokio {
    type Id = u64;

    fn new(timers: u64) -> Tokio {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        Tokio { runtime, start: now().into(), sleeps: Vec::with_capacity(timers as usize) }
    }

    fn insert(&mut self, after: u64, _value: u64) -> u64 {
        let mut sleep = Box::pin(tokio::time::sleep_until(self.start + Duration::from_millis(after)));
        // It enters the driver when it is polled first.
        assert!(
            sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
            "it is not due yet"
        );
        self.sleeps.push(Some(sleep));
        self.sleeps.len() as u64 - 1
    }

    fn cancel(&mut self, id: u64) {
        self.sleeps[id as usize] = None;
    }

    fn within<R>(&mut self, insert: impl FnOnce(&mut Self) -> R) -> R {
        let runtime = self.runtime.handle().clone();
        let _inside = runtime.enter();
        insert(self)
    }

    fn all_due(&mut self, margin: u64) {
        let last = self.start + Duration::from_millis(margin + SPREAD + 2);
        std::thread::sleep(last.saturating_duration_since(now().into()));
    }

    fn advance(&mut self, _until: u64) -> u64 {
        // The driver has its turn when the runtime has nothing else to do.
        self.runtime.block_on(tokio::task::yield_now());
        self.sleeps.iter().flatten().filter(|sleep| sleep.is_elapsed()).count() as u64
    }
}

/// All inserted, no earlier than `margin`; their names.
fn insert_all<T: Timers>(timers: &mut T, count: u64, margin: u64) -> Vec<T::Id> {
    let insert = |timers: &mut T| {
        (0..count)
            .map(|n| timers.insert(margin + 1 + (n.wrapping_mul(THROW) >> 20 & (SPREAD - 1)), n))
            .collect()
    };
    timers.within(insert)
}

/// So that none is due before all are inserted: generous, since tokio's time is real.
fn margin(count: u64) -> u64 {
    500 + count / 1000
}

fn compare<T: Timers>(c: &mut Criterion, name: &str) {
    // One round of the least is enough to see that it works.
    let told = |word: &str| std::env::args().any(|argument| argument == word);
    let measured = told("--bench") && !told("--test");
    let counts: &[u64] = if measured { &[1_000, 1_000_000, 10_000_000] } else { &[1_000] };
    for &count in counts {
        let margin = margin(count);
        let filled = || {
            let mut timers = T::new(count);
            let started = now();
            let ids = insert_all(&mut timers, count, margin);
            (timers, ids, started.elapsed())
        };
        let mut group = c.benchmark_group(format!("timers_{count}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(1)).throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("insert", name), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| filled().2).sum());
        });
        group.bench_function(BenchmarkId::new("cancel", name), |b| {
            b.iter_custom(|rounds| {
                let round = || {
                    let (mut timers, ids, _) = filled();
                    let mut ids: Vec<Option<T::Id>> = ids.into_iter().map(Some).collect();
                    // A factor that has no divisor in common with a power of ten: each is met once. Laid out beforehand:
                    // whoever cancels a timer has its name at hand.
                    let mut taken =
                        |n| ids[(n * 7_368_787 % count) as usize].take().expect("each is met once");
                    let ids: Vec<T::Id> = (0..count).map(&mut taken).collect();
                    let started = now();
                    for id in ids {
                        timers.cancel(id);
                    }
                    let cancelled = started.elapsed();
                    timers.all_due(margin);
                    let started = now();
                    assert_eq!(timers.advance(margin + SPREAD), 0, "cancelled ones do not fire");
                    cancelled + started.elapsed()
                };
                (0..rounds).map(|_| round()).sum()
            });
        });
        group.bench_function(BenchmarkId::new("fire", name), |b| {
            b.iter_custom(|rounds| {
                let round = || {
                    let (mut timers, _ids, _) = filled();
                    timers.all_due(margin);
                    let started = now();
                    assert_eq!(timers.advance(margin + SPREAD), count, "all fire");
                    started.elapsed()
                };
                (0..rounds).map(|_| round()).sum()
            });
        });
        group.finish();
    }
}

fn timers(c: &mut Criterion) {
    compare::<Ours>(c, "fluxrelay");
    compare::<HashWheel>(c, "hierarchical_hash_wheel_timer");
    compare::<Heap>(c, "BinaryHeap");
    compare::<Tokio>(c, "tokio");
}

criterion_group!(benches, timers);
criterion_main!(benches);
