//! Arguments, start, stop, exit code; no logic.

use std::process::ExitCode;

/// What one thread allocates another frees, as a rule, on its way through the broker: this allocator takes that without
/// a lock (benches/README.md has the figures).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    fluxrelay::cli::run()
}
