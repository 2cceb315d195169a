//! What is to be measured, as flags with their ranges and defaults: the same for every program that measures.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::values;

/// Closed loop over connected servers.
#[derive(Debug, Clone, Args)]
pub struct ThroughputLoad {
    /// Connected servers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub servers: u32,
    /// Publisher connections
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Orders in flight on each: published and not yet both acknowledged and received by their server
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// Bytes of each command
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(17..=4096))]
    pub bytes: u32,
    /// How long to measure, after a warm-up of a quarter of it
    #[arg(long, default_value = "20s", value_name = "SPAN", value_parser = values::span)]
    pub duration: Duration,
}

/// Open loop over connected servers.
#[derive(Debug, Clone, Args)]
pub struct LatencyLoad {
    /// Connected servers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub servers: u32,
    /// Publisher connections
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Orders per second over all connections
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Bytes of each command
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(17..=4096))]
    pub bytes: u32,
    /// How long to measure, after a warm-up of a quarter of it
    #[arg(long, default_value = "20s", value_name = "SPAN", value_parser = values::span)]
    pub duration: Duration,
}

/// Commands for servers that are offline, a kill, and then all of them out.
#[derive(Debug, Clone, Args)]
pub struct BacklogLoad {
    /// Commands to queue
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub commands: u64,
    /// Offline servers that they are for
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub servers: u32,
    /// Publisher connections
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Orders in flight on each
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// Bytes of each command
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(17..=4096))]
    pub bytes: u32,
    /// Commands in each order, for as many different servers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub per_order: u32,
}

/// `kill -9` under a closed loop, again and again.
#[derive(Debug, Clone, Args)]
pub struct CrashLoad {
    /// How often to kill it
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub kills: u32,
    /// How long the load runs before each kill, on average: from half to one and a half times this
    #[arg(long, default_value = "2s", value_name = "SPAN", value_parser = values::span)]
    pub span: Duration,
    /// Connected servers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub servers: u32,
    /// Publisher connections
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub connections: u32,
    /// Orders in flight on each: published and not yet acknowledged
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// Bytes of each command
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(17..=4096))]
    pub bytes: u32,
}

impl ThroughputLoad {
    /// Small enough for a run in seconds.
    pub fn tiny() -> ThroughputLoad {
        let duration = Duration::from_secs(1);
        ThroughputLoad { servers: 8, connections: 2, in_flight: 32, bytes: 128, duration }
    }

    /// As they stand in a report.
    pub fn json(&self) -> Value {
        json!({"servers": self.servers, "connections": self.connections, "in_flight": self.in_flight,
               "bytes": self.bytes, "seconds": self.duration.as_secs_f64()})
    }
}

impl LatencyLoad {
    /// Small enough for a run in seconds.
    pub fn tiny() -> LatencyLoad {
        LatencyLoad { servers: 8, connections: 2, rate: 500, bytes: 128, duration: Duration::from_secs(1) }
    }

    /// As they stand in a report.
    pub fn json(&self) -> Value {
        json!({"servers": self.servers, "connections": self.connections, "rate": self.rate,
               "bytes": self.bytes, "seconds": self.duration.as_secs_f64()})
    }
}

impl BacklogLoad {
    /// Small enough for a run in seconds.
    pub fn tiny() -> BacklogLoad {
        BacklogLoad { commands: 2000, servers: 16, connections: 2, in_flight: 64, bytes: 128, per_order: 1 }
    }

    /// As they stand in a report.
    pub fn json(&self) -> Value {
        json!({"servers": self.servers, "connections": self.connections, "in_flight": self.in_flight,
               "commands": self.commands, "per_order": self.per_order, "bytes": self.bytes})
    }
}

impl CrashLoad {
    /// Small enough for a run in seconds.
    pub fn tiny() -> CrashLoad {
        let span = Duration::from_millis(300);
        CrashLoad { kills: 2, span, servers: 8, connections: 2, in_flight: 32, bytes: 128 }
    }

    /// As they stand in a report.
    pub fn json(&self) -> Value {
        json!({"servers": self.servers, "connections": self.connections, "in_flight": self.in_flight,
               "bytes": self.bytes, "kills": self.kills, "span_seconds": self.span.as_secs_f64()})
    }
}
