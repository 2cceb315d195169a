//! Subcommands of the binary: reads arguments, runs one of them, turns its error into a sentence and an exit code.
//!
//! `serve` and `demo` compose the library; `plugin` and `bench` stand on `client`; `admin-key`, `store check` and `store restore` work on files; the rest
//! talk REST.

mod admin_key;
mod args;
mod audit;
mod bench;
mod care;
mod certificate;
mod clock;
mod command;
mod demo;
mod events;
mod exit;
mod https;
mod huge_pages;
mod node;
mod open_files;
mod output;
mod plugin;
mod publish;
mod rest;
mod serve;
mod server;
mod settings;
mod signals;
mod sse;
mod store;
mod tls;

use std::process::ExitCode;

use clap::Parser;

use args::{Action, Cli};
pub use bench::{Fluxrelay, FluxrelayPublisher, make_room, stopped};
pub use exit::{CliError, Exit};
use output::{DIM, ERROR, styled};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use plugin::check_console;

/// Runs the subcommand that the process's arguments name.
pub fn run() -> ExitCode {
    let result = match Cli::parse().action {
        Action::Serve(args) => serve::run(args).map(|()| ExitCode::SUCCESS),
        Action::Demo(args) => demo::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Server(command) => server::run(command).map(|()| ExitCode::SUCCESS),
        Action::Store(command) => store::run(command).map(|()| ExitCode::SUCCESS),
        Action::Key(command) => store::run_key(command).map(|()| ExitCode::SUCCESS),
        Action::Audit(command) => audit::run(command).map(|()| ExitCode::SUCCESS),
        Action::AdminKey(command) => admin_key::run(command).map(|()| ExitCode::SUCCESS),
        Action::Publish(args) => publish::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Command(command) => command::run(command).map(|()| ExitCode::SUCCESS),
        Action::Events(args) => events::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Action::Plugin(args) => plugin::run(&args),
    };
    result.unwrap_or_else(|error| report(&error))
}

/// Says what went wrong, once, on stderr.
fn report(error: &CliError) -> ExitCode {
    if error.broken_pipe {
        return ExitCode::SUCCESS;
    }
    anstream::eprintln!("{} {}", styled(ERROR, "error:"), output::printable(&error.message));
    if let Some(hint) = &error.hint {
        anstream::eprintln!("{} {}", styled(DIM, " hint:"), output::printable(hint));
    }
    ExitCode::from(error.exit as u8)
}
