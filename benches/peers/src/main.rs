//! Other durable queues under the load generator of `fluxrelay bench`, in turns with fluxrelay, so that one run shows the
//! ratios.

mod args;
mod bare;
mod beanstalkd;
mod child;
mod compare;
mod figures;
mod kind;
mod nats;
mod pipe;
mod plot;
mod postgres;
mod programs;
mod redis;
mod table;

use std::process::ExitCode;

use clap::Parser;
use fluxrelay::cli::{CliError, stopped};

use args::PeersArgs;

/// As in fluxrelay itself, so that the generator's own work costs the same here.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = PeersArgs::parse();
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::local("cannot start threads", error))?;
        let done = runtime.block_on(async {
            tokio::select! {
                // First, so that it listens before anything is started. That is stopped and removed on the way out.
                biased;
                stopped = stopped() => Err(stopped),
                done = compare::run(&args) => done,
            }
        });
        // A thread that sends orders at their times may not be at its end.
        runtime.shutdown_background();
        done
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {}", error.message);
            if let Some(hint) = &error.hint {
                anstream::eprintln!(" hint: {hint}");
            }
            ExitCode::from(error.exit as u8)
        }
    }
}
