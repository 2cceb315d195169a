//! `fluxrelay plugin`: the plugin of any program that takes commands on its standard input.
//!
//! The program matters more than the plugin: a refused token or a broker that is away never ends it.

mod args;
mod child;
mod console;
mod runner;

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::exit::CliError;
use super::rest::read_secret;
use super::signals::Signals;
use crate::client::{Ledger, PluginOptions};
use crate::ids::ServerId;
pub(super) use args::PluginArgs;
use child::{Child, Console};
#[cfg(any(test, fuzzing))]
pub use console::check_console::check_console;
use console::{Notice, Patterns};
use runner::Runner;

/// Runs the program until it ends; its exit code is ours.
pub(super) fn run(args: &PluginArgs) -> Result<ExitCode, CliError> {
    let patterns = Patterns::new(&args.join_regex, &args.leave_regex, args.ready_regex.as_deref());
    let patterns = patterns.map_err(CliError::usage)?;
    let options = options(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::local("cannot start threads", error))?;
    let result = runtime.block_on(drive(args, patterns, options));
    runtime.shutdown_background();
    result
}

/// Checks token and ledger before the program is started: a mistake must not cost a start of a game server.
fn options(args: &PluginArgs) -> Result<PluginOptions, CliError> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => token.trim().to_owned(),
        (None, Some(file)) => read_secret(file)?,
        (None, None) => return Err(CliError::usage("--token or --token-file is needed")),
    };
    let server = token.split_once('.').and_then(|(id, _)| id.parse::<ServerId>().ok());
    let form = "--token: expected <server id>.<secret>, for example srv_1.AbC...";
    let server = server.ok_or_else(|| CliError::usage(form))?;
    Ledger::open(&args.ledger, server).map_err(|error| CliError::usage(format!("--ledger: {error}")))?;
    let mut options = PluginOptions::new(&args.url, token);
    options.tls = args.tls.client(&args.url)?;
    options.fallback.clone_from(&args.fallback_url);
    options.ledger = Some(args.ledger.clone());
    options.players = (!args.no_players).then(Vec::new);
    Ok(options)
}

async fn drive(args: &PluginArgs, patterns: Patterns, options: PluginOptions) -> Result<ExitCode, CliError> {
    let cannot = |what: &'static str| move |error| CliError::local(what, error);
    let mut signals = Signals::new().map_err(cannot("cannot listen for signals"))?;
    let waits_for_ready = patterns.wait_for_ready();
    let (mut child, console, notices) = child::start(&args.program, patterns)
        .map_err(|error| CliError::local(format!("cannot start {}", args.program[0]), error))?;
    console.pass_on_stdin().map_err(cannot("cannot read standard input"))?;
    let mut session = Session { options: Some(options), console, notices, runner: None };
    if !waits_for_ready {
        session.on_ready().await?;
    }
    let ended = tokio::select! {
        status = child.ended() => Some(status),
        () = signals.next() => None,
        error = session.follow() => return Err(error),
    };
    if let Some(runner) = &mut session.runner {
        runner.stop().await;
    }
    let status = match ended {
        Some(status) => status,
        None => stop(&mut child, &mut signals, args).await,
    };
    status.map(exit_code).map_err(cannot("cannot wait for the program"))
}

/// The plugin's side while the program runs.
struct Session {
    options: Option<PluginOptions>,
    console: Console,
    notices: mpsc::Receiver<Notice>,
    runner: Option<Runner>,
}

impl Session {
    /// Starts to take commands, once.
    async fn on_ready(&mut self) -> Result<(), CliError> {
        if let Some(options) = self.options.take() {
            let runner = Runner::start(options, self.console.clone()).await;
            self.runner = Some(runner.map_err(|error| CliError::usage(error.to_string()))?);
        }
        Ok(())
    }

    /// Acts on what the program says, for ever; returns only if it cannot begin to take commands. Cancel-safe
    /// between notices.
    async fn follow(&mut self) -> CliError {
        // Joins before readiness are rare (a reload) and must not be lost.
        let mut early = Vec::new();
        while let Some(notice) = self.notices.recv().await {
            if notice == Notice::Ready {
                if let Err(error) = self.on_ready().await {
                    return error;
                }
            } else {
                early.push(notice);
            }
            if let Some(runner) = &self.runner {
                early.drain(..).for_each(|notice| runner.on_notice(notice));
            } else {
                early.truncate(crate::limits::PLAYERS_MAX);
            }
        }
        // Its output is closed: nothing more is to be learned, but its end is still to be waited for.
        std::future::pending().await
    }
}

/// Ends the program: asks, waits, and in the end, or at a second signal, insists.
async fn stop(child: &mut Child, signals: &mut Signals, args: &PluginArgs) -> std::io::Result<ExitStatus> {
    child.terminate();
    let asked = tokio::select! {
        status = timeout(args.stop_timeout, child.ended()) => status.ok(),
        () = signals.next() => None,
    };
    match asked {
        Some(status) => status,
        None => {
            anstream::eprintln!("[fluxrelay] the program does not end; killing it");
            child.kill().await;
            child.ended().await
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let signal = status.signal().map_or(1, |signal| 128 + signal);
    ExitCode::from(u8::try_from(status.code().unwrap_or(signal)).unwrap_or(u8::MAX))
}
