//! The rounds: each system once in each, in turns, so that whatever the machine does besides hits all of them.

use fluxrelay::cli::{CliError, Fluxrelay, make_room};
use fluxrelay::load::{System, Unexpected};

use crate::args::{Common, Mode, PeersArgs, Work};
use crate::bare::{self, Bare};
use crate::beanstalkd::Beanstalkd;
use crate::figures::Figures;
use crate::kind::Kind;
use crate::nats::Nats;
use crate::plot;
use crate::postgres::Postgres;
use crate::programs::Programs;
use crate::redis::Redis;
use crate::table::Comparison;

/// Measures what was asked for and prints it.
pub(crate) async fn run(args: &PeersArgs) -> Result<(), CliError> {
    let common = &args.common;
    if args.tiny && args.work.is_some() {
        return Err(CliError::usage("--tiny is all modes: give it or one of them"));
    }
    let programs = || Programs::find(&common.systems, common.fluxrelay.as_deref());
    match &args.work {
        Some(Work::Relay { port }) => bare::relay(*port).await,
        Some(Work::Plot(args)) => plot::run(args, common, &programs()?).await,
        Some(Work::Compare(mode)) => {
            compare(std::slice::from_ref(mode), common.rounds, common, &programs()?).await
        }
        None => compare(&Mode::tiny(), 1, common, &programs()?).await,
    }
}

/// Compares in these modes.
async fn compare(modes: &[Mode], rounds: u32, common: &Common, programs: &Programs) -> Result<(), CliError> {
    let mut documents = Vec::new();
    for mode in modes {
        common.systems.iter().try_for_each(|kind| check(*kind, mode))?;
        let mut comparison = Comparison::new(mode, &common.systems);
        for round in 1..=rounds {
            for kind in &common.systems {
                if !common.json {
                    anstream::eprintln!("{} {round} of {rounds}: {}", mode.name(), kind.name());
                }
                let figures = measure(*kind, mode, programs, common).await?;
                comparison.add(*kind, figures);
            }
        }
        if common.json {
            documents.push(comparison.json());
        } else {
            comparison.print(programs)?;
        }
    }
    match documents.len() {
        0 => Ok(()),
        1 => print_json(&documents[0]),
        _ => print_json(&documents.into()),
    }
}

pub(crate) fn print_json(document: &serde_json::Value) -> Result<(), CliError> {
    use std::io::Write;
    Ok(writeln!(anstream::stdout().lock(), "{document:#}")?)
}

/// Whether this can be measured of it.
fn check(kind: Kind, mode: &Mode) -> Result<(), CliError> {
    if kind == Kind::Bare && !matches!(mode, Mode::Throughput(_) | Mode::Latency(_)) {
        return Err(CliError::usage(format!("bare keeps nothing, so there is no {} of it", mode.name())));
    }
    Ok(())
}

/// One run of one system, which is started for it and gone after it.
pub(crate) async fn measure(
    kind: Kind,
    mode: &Mode,
    programs: &Programs,
    common: &Common,
) -> Result<Figures, CliError> {
    let (data_in, quiet) = (common.data_in.as_deref(), common.json);
    let (program, servers) = (programs.of(kind), mode.servers());
    check(kind, mode)?;
    make_room(servers)?;
    match kind {
        Kind::Fluxrelay => {
            // A command that is lost here or comes twice is an error and not a figure.
            let system = Fluxrelay::start(program, data_in, servers, quiet)?;
            load(system, mode, quiet, true).await
        }
        Kind::Redis => load(Redis::start(program, data_in, servers).await?, mode, quiet, false).await,
        Kind::Bare => load(Bare::start(program, data_in, servers)?, mode, quiet, false).await,
        Kind::Beanstalkd => load(Beanstalkd::start(program, data_in, servers)?, mode, quiet, false).await,
        Kind::Nats => load(Nats::start(program, data_in, servers).await?, mode, quiet, false).await,
        Kind::Postgres => load(Postgres::start(program, data_in, servers).await?, mode, quiet, false).await,
    }
}

async fn load<S: System<Error = CliError>>(
    mut system: S,
    mode: &Mode,
    quiet: bool,
    must_be_whole: bool,
) -> Result<Figures, CliError> {
    let (figures, whole): (Figures, Result<(), Unexpected>) = match mode {
        Mode::Throughput(load) => {
            let found = load.run(&system, quiet).await?;
            ((&found).into(), found.check())
        }
        Mode::Latency(load) => {
            let found = load.run(&system, quiet).await?;
            ((&found).into(), found.check())
        }
        Mode::Backlog(load) => {
            let found = load.run(&mut system, quiet).await?;
            ((&found).into(), found.check())
        }
        Mode::Crash(load) => {
            let found = load.run(&mut system, quiet).await?;
            ((&found).into(), found.check())
        }
    };
    if must_be_whole {
        whole?;
    }
    Ok(figures)
}
