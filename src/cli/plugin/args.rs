//! Flags of `fluxrelay plugin`. No behaviour.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::tls::TlsArgs;
use crate::values;

/// How to be the plugin of a console program.
#[derive(Debug, Args)]
pub(in crate::cli) struct PluginArgs {
    /// The server's token; prefer the environment or --token-file
    #[arg(long, env = "FLUXRELAY_TOKEN", hide_env_values = true, required_unless_present = "token_file")]
    pub(in crate::cli) token: Option<String>,
    /// File that holds the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(in crate::cli) token_file: Option<PathBuf>,
    /// The broker's address, wss:// or https://, ws:// or http:// without TLS; or quic://
    #[arg(long, env = "FLUXRELAY_URL", default_value = "ws://127.0.0.1:7440", value_name = "URL")]
    pub(in crate::cli) url: String,
    /// Where to connect when --url is quic:// and QUIC does not get through [default: wss:// at the same host and port]
    #[arg(long, env = "FLUXRELAY_FALLBACK_URL", value_name = "URL")]
    pub(in crate::cli) fallback_url: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) tls: TlsArgs,
    /// File in which intents and outcomes are written down; made if it does not exist
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ledger: PathBuf,
    /// A line of output that says that a player joined: group `player`, or the first group, is the name;
    /// can be given several times [default: Minecraft's]
    #[arg(long, value_name = "REGEX")]
    pub(in crate::cli) join_regex: Vec<String>,
    /// A line of output that says that a player left [default: Minecraft's]
    #[arg(long, value_name = "REGEX")]
    pub(in crate::cli) leave_regex: Vec<String>,
    /// Take commands only after a line of output that matches, for example 'Done \('
    #[arg(long, value_name = "REGEX")]
    pub(in crate::cli) ready_regex: Option<String>,
    /// Do not report players: commands that need one are then written at once
    #[arg(long, conflicts_with_all = ["join_regex", "leave_regex"])]
    pub(in crate::cli) no_players: bool,
    /// How long the program may take to end after SIGTERM before it is killed
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = values::span)]
    pub(in crate::cli) stop_timeout: Duration,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(in crate::cli) program: Vec<String>,
}
