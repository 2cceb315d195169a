//! Flags of `fluxrelay bench`, with their ranges and defaults. No behaviour.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::tls::TlsArgs;
use crate::load::{BacklogLoad, CrashLoad, LatencyLoad, ThroughputLoad};
use crate::values;

/// What to measure.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(in crate::cli) struct BenchArgs {
    #[command(subcommand)]
    pub(in crate::cli) mode: Option<BenchMode>,
    /// All modes at a tiny size, in seconds: shows that they work, measures nothing
    #[arg(long)]
    pub(in crate::cli) tiny: bool,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BenchMode {
    /// Closed loop: completed commands per second
    Throughput(ThroughputArgs),
    /// Open loop: publish-ack and publish-to-receipt times, from the intended send time
    Latency(LatencyArgs),
    /// Commands for offline servers: accepted per second, memory each, kill -9, time until ready, drained
    Backlog(BacklogArgs),
    /// kill -9 under load, again and again: acknowledged and missing, confirmed and delivered again
    Crash(CrashArgs),
    /// Logged-in plugins with nothing to do: the broker's memory for each, and its CPU
    Idle(IdleArgs),
    /// Plugins on TLS lose their broker to kill -9: how soon each is back, and what others notice of it
    Storm(StormArgs),
    /// A steady load for a long time, with cut connections, failures and absent players: do time and memory stay as they were?
    Soak(SoakArgs),
}

/// Which broker is measured.
#[derive(Debug, Args)]
pub(in crate::cli) struct BenchTarget {
    /// A running broker, instead of one that the bench starts
    #[arg(long, value_name = "URL", requires = "key")]
    pub(in crate::cli) url: Option<String>,
    /// Its admin key
    #[arg(long, env = "FLUXRELAY_KEY", hide_env_values = true, requires = "url", value_name = "KEY")]
    pub(in crate::cli) key: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) tls: TlsArgs,
    /// Directory for the temporary data directory, to choose the disk
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub(in crate::cli) data_in: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// The bench's own broker, which is the only one that it measures.
#[derive(Debug, Args)]
pub(in crate::cli) struct OwnBroker {
    /// Directory for the temporary data directory, to choose the disk
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) data_in: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ThroughputArgs {
    #[command(flatten)]
    pub(in crate::cli) load: ThroughputLoad,
    #[command(flatten)]
    pub(in crate::cli) target: BenchTarget,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LatencyArgs {
    #[command(flatten)]
    pub(in crate::cli) load: LatencyLoad,
    #[command(flatten)]
    pub(in crate::cli) target: BenchTarget,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BacklogArgs {
    #[command(flatten)]
    pub(in crate::cli) load: BacklogLoad,
    #[command(flatten)]
    pub(in crate::cli) own: OwnBroker,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CrashArgs {
    #[command(flatten)]
    pub(in crate::cli) load: CrashLoad,
    #[command(flatten)]
    pub(in crate::cli) own: OwnBroker,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct IdleArgs {
    /// Connected servers
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(in crate::cli) servers: u32,
    /// TLS, with a self-signed certificate whose fingerprint the plugins trust
    #[arg(long)]
    pub(in crate::cli) tls: bool,
    /// How long to measure, once without connections and once with all of them
    #[arg(long, default_value = "15s", value_name = "SPAN", value_parser = values::span)]
    pub(in crate::cli) duration: Duration,
    #[command(flatten)]
    pub(in crate::cli) own: OwnBroker,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct StormArgs {
    /// Connected servers
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(in crate::cli) servers: u32,
    /// Logins a second with forged tokens, from the kill to the end
    #[arg(long, default_value_t = 0, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(in crate::cli) forged: u32,
    /// The tickets are worth nothing after the restart: every server needs a password hash, at its full cost
    #[arg(long)]
    pub(in crate::cli) expired: bool,
    /// Orders a second to connected servers, before the kill and during the storm
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(in crate::cli) rate: u32,
    /// How long to measure deliveries before the kill
    #[arg(long, default_value = "10s", value_name = "SPAN", value_parser = values::span)]
    pub(in crate::cli) duration: Duration,
    #[command(flatten)]
    pub(in crate::cli) own: OwnBroker,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SoakArgs {
    /// How long
    #[arg(long, default_value = "30m", value_name = "SPAN", value_parser = values::span)]
    pub(in crate::cli) duration: Duration,
    /// Orders a second; without it, 60 % of what a closed loop of ten seconds does here and now
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(in crate::cli) rate: Option<u32>,
    /// Connected servers: one in ten loses its connection now and then
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    pub(in crate::cli) servers: u32,
    /// Bytes of each command: one in 64 fails at its first attempt, one in 64 waits for a player
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(17..=4096))]
    pub(in crate::cli) bytes: u32,
    /// Connections that are cut, a second
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(in crate::cli) cuts: u32,
    /// Seconds after which a command that failed is tried again
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(in crate::cli) retry_after: u64,
    #[command(flatten)]
    pub(in crate::cli) own: OwnBroker,
}
