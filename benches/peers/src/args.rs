//! The command line. No behaviour.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use fluxrelay::load::{BacklogLoad, LatencyLoad, ThroughputLoad};

use crate::kind::Kind;

const EXAMPLES: &str = "\
Examples:
  Everything against everything, five rounds (first: apt-get install redis-server postgresql nats-server)
    cargo build --release && cargo run --release -p fluxrelay-peers -- throughput
  One peer alone, for a first look
    cargo run --release -p fluxrelay-peers -- throughput --systems fluxrelay,redis --rounds 1 --duration 5s
  At another rate, on another disk
    cargo run --release -p fluxrelay-peers -- latency --rate 1000 --data-in /mnt/disk
  A small backlog, for scripts
    cargo run --release -p fluxrelay-peers -- backlog --commands 100000 --servers 1000 --json
  Does it all work here?
    cargo run --release -p fluxrelay-peers -- --tiny";

/// Other durable queues under the load generator of `fluxrelay bench`, in turns with fluxrelay.
///
/// Each system runs as a child process on a loopback port of its own and a temporary data directory, as durable as it can
/// be asked to be; what that is worth is printed with the figures.
#[derive(Debug, Parser)]
#[command(name = "fluxrelay-peers", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(subcommand_negates_reqs = true, arg_required_else_help = true)]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    pub(crate) mode: Option<Mode>,
    /// All modes at a tiny size, one round, in seconds: shows that they work, measures nothing
    #[arg(long, required = true)]
    pub(crate) tiny: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What is measured, and how often.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Systems to compare, in the order of their turns
    #[arg(
        long,
        global = true,
        value_enum,
        value_delimiter = ',',
        value_name = "NAMES",
        default_value = "fluxrelay,redis,postgres,nats"
    )]
    pub(crate) systems: Vec<Kind>,
    /// How often each is measured; all take turns in each round
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Directory for the temporary data directories, to choose the disk
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_in: Option<PathBuf>,
    /// The fluxrelay to measure; without it the one beside this program
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) fluxrelay: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Mode {
    /// Closed loop: completed commands per second
    Throughput(ThroughputLoad),
    /// Open loop: publish-ack and publish-to-receipt times, from the intended send time
    Latency(LatencyLoad),
    /// Commands for offline servers: accepted per second, memory each, kill -9, time until ready, drained
    Backlog(BacklogLoad),
}

impl Mode {
    /// All of them, small enough for a run in seconds.
    pub(crate) fn tiny() -> [Mode; 3] {
        [
            Mode::Throughput(ThroughputLoad::tiny()),
            Mode::Latency(LatencyLoad::tiny()),
            Mode::Backlog(BacklogLoad::tiny()),
        ]
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Mode::Throughput(_) => "throughput",
            Mode::Latency(_) => "latency",
            Mode::Backlog(_) => "backlog",
        }
    }

    /// Servers that each system is to have.
    pub(crate) fn servers(&self) -> u32 {
        match self {
            Mode::Throughput(load) => load.servers,
            Mode::Latency(load) => load.servers,
            Mode::Backlog(load) => load.servers,
        }
    }

    pub(crate) fn settings(&self) -> serde_json::Value {
        match self {
            Mode::Throughput(load) => load.json(),
            Mode::Latency(load) => load.json(),
            Mode::Backlog(load) => load.json(),
        }
    }
}
