//! One password hash at its full cost, on a core of its own and beside another: what a login without a ticket costs.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fluxrelay::credentials::{HashCost, Hasher, RandomPart, SecretHash};

fn password_hash(c: &mut Criterion) {
    let mut group = c.benchmark_group("login_hash");
    let (random, stored) = (RandomPart::generate(), SecretHash::dummy(HashCost::STANDARD));
    for others in [0, 1] {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..others {
                scope.spawn(|| {
                    let mut hasher = Hasher::default();
                    while !done.load(Ordering::Relaxed) {
                        black_box(hasher.is_right(&random, &stored));
                    }
                });
            }
            let mut hasher = Hasher::default();
            group.bench_function(BenchmarkId::new("others", others), |b| {
                b.iter(|| black_box(hasher.is_right(&random, &stored)));
            });
            done.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = password_hash
}
criterion_main!(benches);
