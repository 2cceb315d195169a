//! `fluxrelay bench`: end to end over real sockets, with the client library, against a broker in a process of its own.
//!
//! Every mode checks what it measures: a command that is lost or comes twice is an error, not a figure. What throughput,
//! latency, backlog and crash put on the broker is `load`, which puts it on other systems too (benches/peers).

mod args;
mod backlog;
mod broker;
mod crash;
mod fleet;
mod forged;
mod idle;
mod latency;
mod metrics;
mod probe;
mod report;
mod setup;
mod soak;
mod sockets;
mod stopped;
mod storm;
mod system;
mod throughput;
mod trickle;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::exit::CliError;
use super::output;
use super::tls::TlsArgs;
use crate::credentials::HashCost;
use crate::load::{BacklogLoad, CrashLoad, LatencyLoad, ThroughputLoad, Unexpected};
use crate::priority;
pub(super) use args::BenchArgs;
use args::{
    BacklogArgs, BenchMode, BenchTarget, CrashArgs, IdleArgs, LatencyArgs, OwnBroker, SoakArgs, StormArgs,
    ThroughputArgs,
};
use broker::Broker;
use report::Report;
use setup::Setup;
pub use sockets::make_room;
pub use stopped::stopped;
pub use system::{Fluxrelay, FluxrelayPublisher};

impl From<Unexpected> for CliError {
    fn from(error: Unexpected) -> CliError {
        CliError::unexpected(error.0)
    }
}

/// Measures what was asked for and prints it.
pub(super) fn run(args: &BenchArgs) -> Result<(), CliError> {
    let modes = if args.tiny { tiny() } else { Vec::new() };
    let single = args.mode.iter();
    let as_json = args.json
        || match &args.mode {
            Some(BenchMode::Throughput(mode)) => mode.target.json,
            Some(BenchMode::Latency(mode)) => mode.target.json,
            Some(BenchMode::Backlog(mode)) => mode.own.json,
            Some(BenchMode::Crash(mode)) => mode.own.json,
            Some(BenchMode::Idle(mode)) => mode.own.json,
            Some(BenchMode::Storm(mode)) => mode.own.json,
            Some(BenchMode::Soak(mode)) => mode.own.json,
            None => false,
        };
    let (mut reports, mut failure) = (Vec::new(), None);
    for mode in modes.iter().chain(single) {
        let runtime = runtime(mode)?;
        let measured = runtime.block_on(async {
            tokio::select! {
                // First, so that it listens before anything is started. That and its directory go on the way out.
                biased;
                stopped = stopped() => Err(stopped),
                measured = measure(mode, as_json) => measured,
            }
        });
        // A thread that sends orders at their times may not be at its end.
        runtime.shutdown_background();
        let mut report = measured?;
        if !as_json {
            report.print()?;
        }
        reports.push(report.json());
        failure = report.take_failure();
        if failure.is_some() {
            break;
        }
    }
    match &reports[..] {
        _ if !as_json => {}
        [only] if !args.tiny => output::json(only)?,
        _ => output::json(&Value::Array(reports))?,
    }
    failure.map_or(Ok(()), Err)
}

/// Where the clients run. Those of a storm give way to the probe, whose own delay would be taken for the broker's.
fn runtime(mode: &BenchMode) -> Result<Runtime, CliError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if matches!(mode, BenchMode::Storm(_)) {
        builder.on_thread_start(priority::stand_aside).on_thread_unpark(priority::has_rested);
    }
    builder.enable_all().build().map_err(|error| CliError::local("cannot start threads", error))
}

async fn measure(mode: &BenchMode, quiet: bool) -> Result<Report, CliError> {
    match mode {
        BenchMode::Throughput(args) => {
            let broker = target(&args.target, args.load.servers, quiet)?;
            throughput::run(&broker, args, quiet).await
        }
        BenchMode::Latency(args) => {
            let broker = target(&args.target, args.load.servers, quiet)?;
            latency::run(&broker, args, quiet).await
        }
        BenchMode::Backlog(args) => {
            let (data_in, servers) = (args.own.data_in.as_deref(), args.load.servers);
            let mut broker = Fluxrelay::start(&this_binary()?, data_in, servers, quiet)?;
            backlog::run(&mut broker, args, quiet).await
        }
        BenchMode::Crash(args) => {
            let (data_in, servers) = (args.own.data_in.as_deref(), args.load.servers);
            let mut broker = Fluxrelay::start(&this_binary()?, data_in, servers, quiet)?;
            crash::run(&mut broker, args, quiet).await
        }
        BenchMode::Idle(args) => {
            let setup = Setup { tls: args.tls, ..Setup::cheap(args.own.data_in.as_deref(), args.servers) };
            let (broker, servers) = setup.start(&this_binary()?, quiet)?;
            idle::run(&broker, servers, args, quiet).await
        }
        BenchMode::Storm(args) => {
            let others = if args.forged > 0 { forged::AT_ONCE } else { 0 };
            let cost = if args.expired { HashCost::STANDARD } else { HashCost::TINY };
            let cheap = Setup::cheap(args.own.data_in.as_deref(), args.servers);
            let setup = Setup { tls: true, others, cost, ..cheap };
            let (mut broker, servers) = setup.start(&this_binary()?, quiet)?;
            storm::run(&mut broker, servers, args, quiet).await
        }
        BenchMode::Soak(args) => {
            let retry = ("FLUXRELAY_RETRY_DELAYS_SECONDS", args.retry_after.to_string());
            let cheap = Setup::cheap(args.own.data_in.as_deref(), args.servers);
            // Those behind the door have two connections more.
            let others = 2 * args.servers.div_ceil(soak::CUT_OF);
            let setup = Setup { others, environment: vec![retry], ..cheap };
            let (broker, servers) = setup.start(&this_binary()?, quiet)?;
            soak::run(&Fluxrelay::new(broker, servers), args, quiet).await
        }
    }
}

/// The broker to measure, with its servers registered.
fn target(target: &BenchTarget, servers: u32, quiet: bool) -> Result<Fluxrelay, CliError> {
    match (&target.url, &target.key) {
        (Some(url), Some(key)) => {
            sockets::make_room(servers)?;
            let broker = Broker::running(url, key, &target.tls)?;
            let servers = tokio::task::block_in_place(|| fleet::register(&broker, servers, quiet))?;
            Ok(Fluxrelay::new(broker, servers))
        }
        _ => Fluxrelay::start(&this_binary()?, target.data_in.as_deref(), servers, quiet),
    }
}

fn this_binary() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| CliError::local("cannot find this program's file", error))
}

/// All modes, small enough for a run in seconds.
fn tiny() -> Vec<BenchMode> {
    let target = || BenchTarget {
        url: None,
        key: None,
        tls: TlsArgs::default(),
        data_in: None::<PathBuf>,
        json: false,
    };
    let duration = Duration::from_secs(1);
    let own = || OwnBroker { data_in: None, json: false };
    let idle = |tls| BenchMode::Idle(IdleArgs { servers: 16, tls, duration, own: own() });
    let storm = |forged, expired| {
        BenchMode::Storm(StormArgs { servers: 16, forged, expired, rate: 100, duration, own: own() })
    };
    vec![
        BenchMode::Throughput(ThroughputArgs { load: ThroughputLoad::tiny(), target: target() }),
        BenchMode::Latency(LatencyArgs { load: LatencyLoad::tiny(), target: target() }),
        BenchMode::Backlog(BacklogArgs { load: BacklogLoad::tiny(), own: own() }),
        BenchMode::Crash(CrashArgs { load: CrashLoad::tiny(), own: own() }),
        idle(false),
        idle(true),
        storm(50, false),
        storm(0, true),
        BenchMode::Soak(SoakArgs {
            servers: 16,
            rate: Some(1000),
            bytes: 128,
            cuts: 10,
            retry_after: 1,
            duration,
            own: own(),
        }),
    ]
}
