//! The command line. No behaviour.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fluxrelay::load::{BacklogLoad, CrashLoad, LatencyLoad, ThroughputLoad};

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
  Curves of all of it, one round at each point, as SVG files in a folder
    cargo run --release -p fluxrelay-peers -- plot curves --rounds 1
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
    pub(crate) work: Option<Work>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    #[command(flatten)]
    Compare(Mode),
    /// Curves as SVG files: latency against load, cost against servers and against the backlog
    Plot(PlotArgs),
    /// Be the bare relay that is measured as `bare`
    #[command(hide = true)]
    Relay {
        /// Where to listen, on the loopback address
        #[arg(long)]
        port: u16,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// Where the files go; made if it is not there
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Which curves
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "NAMES",
        default_value = "latency,servers,backlog"
    )]
    pub(crate) curves: Vec<Curve>,
    /// No point beyond this: orders a second, servers, or commands that wait
    #[arg(long, default_value_t = 10_000_000, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(100..))]
    pub(crate) most: u64,
    /// Seconds that are measured at each point, after a warm-up of a quarter of it; a backlog takes as long as it takes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
}

/// A curve that can be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Curve {
    /// Publish to receipt, from 500 to 40,000 orders a second
    Latency,
    /// Throughput and CPU, from 100 to 20,000 servers
    Servers,
    /// Memory, disk and time until ready, from 10,000 to 10,000,000 commands
    Backlog,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Mode {
    /// Closed loop: completed commands per second
    Throughput(ThroughputLoad),
    /// Open loop: publish-ack and publish-to-receipt times, from the intended send time
    Latency(LatencyLoad),
    /// Commands for offline servers: accepted per second, memory each, kill -9, time until ready, drained
    Backlog(BacklogLoad),
    /// kill -9 under load, again and again: acknowledged and missing, confirmed and delivered again
    Crash(CrashLoad),
}

impl Mode {
    /// All of them, small enough for a run in seconds.
    pub(crate) fn tiny() -> [Mode; 4] {
        [
            Mode::Throughput(ThroughputLoad::tiny()),
            Mode::Latency(LatencyLoad::tiny()),
            Mode::Backlog(BacklogLoad::tiny()),
            Mode::Crash(CrashLoad::tiny()),
        ]
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Mode::Throughput(_) => "throughput",
            Mode::Latency(_) => "latency",
            Mode::Backlog(_) => "backlog",
            Mode::Crash(_) => "crash",
        }
    }

    /// Servers that each system is to have.
    pub(crate) fn servers(&self) -> u32 {
        match self {
            Mode::Throughput(load) => load.servers,
            Mode::Latency(load) => load.servers,
            Mode::Backlog(load) => load.servers,
            Mode::Crash(load) => load.servers,
        }
    }

    pub(crate) fn settings(&self) -> serde_json::Value {
        match self {
            Mode::Throughput(load) => load.json(),
            Mode::Latency(load) => load.json(),
            Mode::Backlog(load) => load.json(),
            Mode::Crash(load) => load.json(),
        }
    }
}
