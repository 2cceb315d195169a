//! The command line as clap sees it: every subcommand, flag, range and example. No behaviour.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::tls::TlsArgs;
use crate::values;

/// A durable message broker that gets paid-for commands run on the right game server: never lost, never
/// silently doubled.
#[derive(Debug, Parser)]
#[command(name = "fluxrelay", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) action: Action,
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the broker's storage failed: it stopped rather than acknowledge what it could not store
  2  arguments, settings or input are wrong
  3  the broker refused the request
  4  the broker did not answer, or its certificate is not trusted
  5  demo or bench saw something other than what must be, or store check found damage
  6  a file, a port or a process of this machine could not be used

First steps:
  fluxrelay demo                          see the whole thing once, nothing is kept
  fluxrelay serve                         run a broker in ./fluxrelay-data
  fluxrelay server add survival           register a game server and get its token";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Run a broker
    #[command(after_help = "Examples:
  fluxrelay serve
  fluxrelay serve --data-dir /var/lib/fluxrelay --listen 0.0.0.0:7440 \\
      --tls-cert /etc/fluxrelay/tls.crt --tls-key /etc/fluxrelay/tls.key
  fluxrelay serve --listen 0.0.0.0:7440 --quic-listen 0.0.0.0:7440 --tls-self-signed
  fluxrelay serve --data-dir /var/lib/fluxrelay --mirror-dir /mnt/second-disk/fluxrelay
  fluxrelay serve --config fluxrelay.toml
  FLUXRELAY_LISTEN=127.0.0.1:7500 fluxrelay serve

The first start prints the admin key once and keeps it in DATA_DIR/admin.key.
With TLS it prints the certificate's fingerprint, which clients can trust (--tls-fingerprint). The
certificate is read again when its files change and on SIGHUP; open connections go on.
SIGTERM or Ctrl-C: plugins are told to reconnect, everything is committed, exit code 0.
With --mirror-dir every commit is on both before it is acknowledged, and the next start puts the mirror's
copy in the place of a file that is damaged or gone; a mirror that fails is left behind, see /readyz.
A storage that fails ends the process with exit code 1; the next start checks the files first.")]
    Serve(crate::config::ServeArgs),

    /// Show the whole thing once in one process, on a temporary data directory
    #[command(after_help = "Examples:
  fluxrelay demo
  fluxrelay demo --json      one JSON document with what was checked")]
    Demo(DemoArgs),

    /// Register and manage game servers
    #[command(subcommand)]
    Server(ServerCommand),

    /// Make and list stores (tenants that see only what is their own); check, back up and restore what is stored
    #[command(subcommand)]
    Store(super::store::StoreCommand),

    /// Make, list and remove API keys of stores
    #[command(subcommand)]
    Key(super::store::KeyCommand),

    /// Read who did what, from where, to what
    #[command(subcommand)]
    Audit(super::audit::AuditCommand),

    /// Get back in when the admin key is lost
    #[command(subcommand)]
    AdminKey(super::admin_key::AdminKeyCommand),

    /// Publish an order of one or more commands
    #[command(after_help = "Examples:
  fluxrelay publish --server srv_1 'lp user Steve parent add vip'
  fluxrelay publish --server survival --player Steve --require-online 'give Steve diamond 64'
  fluxrelay publish --server '*' --delay 10m 'say the shop restarts' 'save-all'
  fluxrelay publish --server srv_1 --idempotency-key invoice-8812 'eco give Steve 500'
  generate-commands | fluxrelay publish --server srv_1 --ordered --file -

Each COMMAND is one command: quote it. The order is accepted whole or refused whole.
With --idempotency-key the same call can be repeated safely for 7 days.")]
    Publish(PublishArgs),

    /// Look at commands and decide about them
    #[command(subcommand)]
    Command(CommandCommand),

    /// Follow what happens, line by line, until Ctrl-C; a lost connection is resumed where it was lost
    #[command(after_help = "Examples:
  fluxrelay events
  fluxrelay events --type command.failed --type command.in_doubt
  fluxrelay events --json | jq .data
  fluxrelay events --since 3-1207 --count 10")]
    Events(EventsArgs),

    /// Measure a broker end to end over real sockets
    #[command(after_help = "Examples:
  fluxrelay bench throughput
  fluxrelay bench throughput --servers 1000 --connections 4 --in-flight 256 --bytes 128
  fluxrelay bench latency --rate 5000
  fluxrelay bench backlog --commands 1000000 --servers 10000
  fluxrelay bench --tiny        all three modes in seconds, to see that they work

It starts a broker of its own on a temporary data directory, unless --url names a running one.
Run a release build: cargo run --release -- bench throughput")]
    Bench(super::bench::BenchArgs),

    /// Be the plugin of any program that takes commands on its standard input
    #[command(after_help = "Examples:
  fluxrelay plugin --token-file token --ledger plugin.ledger -- java -jar server.jar nogui
  fluxrelay plugin --token-file token --ledger plugin.ledger \\
      --ready-regex 'Done \\(' -- ./start.sh
  fluxrelay plugin --token-file token --ledger plugin.ledger \\
      --join-regex '(\\S+) \\(\\S+\\) connected$' --leave-regex '(\\S+) disconnected$' \\
      -- npx flying-squid

Each command becomes one line on the program's standard input. Its output is passed on, and joins and
leaves are read from it. What is typed here goes to the program too. The ledger keeps a command from
running twice across crashes: keep it with the server, one ledger per server.
The exit code is the program's own (128 + signal if a signal ended it).")]
    Plugin(super::plugin::PluginArgs),
}

/// Where the broker is and who is asking.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// The broker's address, http:// or https://
    #[arg(long, env = "FLUXRELAY_URL", default_value = "http://127.0.0.1:7440", value_name = "URL")]
    #[arg(help_heading = "Broker")]
    pub(super) url: String,
    /// API key; prefer the environment or --key-file, which other users of this machine cannot see
    #[arg(long, env = "FLUXRELAY_KEY", hide_env_values = true, value_name = "KEY")]
    #[arg(help_heading = "Broker")]
    pub(super) key: Option<String>,
    /// File that holds the API key [default: ./fluxrelay-data/admin.key when it exists]
    #[arg(long, value_name = "FILE", conflicts_with = "key", help_heading = "Broker")]
    pub(super) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Print one JSON document instead of the story
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ServerCommand {
    /// Register a game server; its token is shown once
    #[command(after_help = "Examples:
  fluxrelay server add survival
  fluxrelay server add lobby --address play.example.org:25565
  fluxrelay server add lobby --json | jq -r .token > token")]
    Add {
        /// Its name, unique in the store, up to 100 bytes
        name: String,
        /// Where players find it, up to 255 bytes; only shown
        #[arg(long, default_value = "")]
        address: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the servers with their status and waiting commands
    #[command(
        after_help = "Examples:\n  fluxrelay server list\n  fluxrelay server list --json | jq '.[].id'"
    )]
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a new token; the old one is dead at once and its connections end
    #[command(
        after_help = "Examples:\n  fluxrelay server token srv_1\n  fluxrelay server token survival --json"
    )]
    Token {
        /// Id or name
        server: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Remove a server; its commands that have not run are cancelled
    #[command(
        after_help = "Examples:\n  fluxrelay server remove srv_1\n  fluxrelay server remove survival --yes"
    )]
    Remove {
        /// Id or name
        server: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnDoubt {
    /// Wait for an operator
    Hold,
    /// Run it again
    Rerun,
}

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// Id or name of the server, or '*' for every server of the store; can be given several times
    #[arg(long, required = true, value_name = "SERVER")]
    pub(super) server: Vec<String>,
    /// The player that it is for
    #[arg(long, value_name = "NAME")]
    pub(super) player: Option<String>,
    /// The player's UUID
    #[arg(long, value_name = "UUID", requires = "player")]
    pub(super) player_uuid: Option<String>,
    /// Only while the player is online; waits for the player otherwise
    #[arg(long, requires = "player")]
    pub(super) require_online: bool,
    /// Wait this long first: seconds, or for example 10m, 2h, 7d (up to 366d)
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub(super) delay: Option<Duration>,
    /// Not before this instant, for example 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = values::instant)]
    pub(super) not_before: Option<String>,
    /// Give up at this instant if it has not run by then
    #[arg(long, value_name = "TIME", value_parser = values::instant)]
    pub(super) expires_at: Option<String>,
    /// What to do when the plugin crashed while it ran and nobody can say whether it did
    #[arg(long, value_enum, default_value = "hold")]
    pub(super) on_doubt: OnDoubt,
    /// Each command waits until the one before it on the same server has ended
    #[arg(long)]
    pub(super) ordered: bool,
    /// A label that is kept with each command, up to 64 bytes
    #[arg(long)]
    pub(super) stage: Option<String>,
    /// A JSON object that is kept with each command, up to 2048 bytes
    #[arg(long, value_name = "JSON", value_parser = values::object)]
    pub(super) metadata: Option<serde_json::Value>,
    /// Your own name for the order, up to 255 bytes
    #[arg(long)]
    pub(super) reference: Option<String>,
    /// The same key gives the same order again instead of a second one, for 7 days; up to 255 bytes
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// Read commands from this file, one per line; '-' is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "commands")]
    pub(super) file: Option<PathBuf>,
    /// The commands, each up to 4096 bytes
    #[arg(value_name = "COMMAND", required_unless_present = "file")]
    pub(super) commands: Vec<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// A status, as REST spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Status {
    Pending,
    Delivered,
    AwaitingPlayer,
    Completed,
    Failed,
    InDoubt,
    Cancelled,
    Expired,
}

/// The statuses that can be resent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Resendable {
    Failed,
    InDoubt,
}

#[derive(Debug, Subcommand)]
pub(super) enum CommandCommand {
    /// Show one command with its history
    #[command(after_help = "Examples:\n  fluxrelay command show cmd_1_640")]
    Show {
        /// The command's id
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the commands of a server
    #[command(after_help = "Examples:
  fluxrelay command list --server survival
  fluxrelay command list --server srv_1 --status failed --limit 1000
  fluxrelay command list --server srv_1 --all --json | jq -r '.[].id'")]
    List {
        /// Id or name of the server
        #[arg(long)]
        server: String,
        /// Only those in this status
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// Commands at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
        /// Every page, however many
        #[arg(long, conflicts_with = "limit")]
        all: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Offer failed or in-doubt commands again
    #[command(after_help = "Examples:
  fluxrelay command resend cmd_1_640
  fluxrelay command resend --from 2030-01-31T00:00:00Z --to 2030-02-01T00:00:00Z
  fluxrelay command resend --from 2030-01-31T00:00:00Z --to 2030-02-01T00:00:00Z \\
      --server survival --status failed")]
    Resend {
        /// The commands' ids
        #[arg(required_unless_present = "from", conflicts_with_all = ["from", "to", "server", "status"])]
        ids: Vec<String>,
        /// All that entered their status at or after this instant, in one step
        #[arg(long, value_name = "TIME", requires = "to", value_parser = values::instant)]
        from: Option<String>,
        /// ... and before this one
        #[arg(long, value_name = "TIME", requires = "from", value_parser = values::instant)]
        to: Option<String>,
        /// Only of this server, by id or name
        #[arg(long, requires = "from")]
        server: Option<String>,
        /// Only in this status; can be given twice [default: both]
        #[arg(long, value_enum, requires = "from")]
        status: Vec<Resendable>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Withdraw commands that have not run
    #[command(after_help = "Examples:\n  fluxrelay command cancel cmd_1_640 cmd_2_641")]
    Cancel {
        /// The commands' ids
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Only events whose type starts with this, for example command.failed or server; can be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) kinds: Vec<String>,
    /// Start after the event with this id
    #[arg(long, value_name = "ID")]
    pub(super) since: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_leaf_subcommand_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            for sub in command.get_subcommands() {
                check(sub, &path);
            }
            if !command.has_subcommands() && !path.contains("bench") {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with("Examples:"), "{path} has no examples in its help");
            }
        }
        check(&Cli::command(), "");
    }
}
