//! Settings: flags over environment over file over defaults; checked once, before anything starts.
//!
//! The table below is the only place where a setting is named: flags, environment variables, keys of the file,
//! defaults, ranges and README's table all come from it. No secret is a setting, so all of them may be printed.

mod error;
mod kind;
mod sources;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use error::{ConfigError, Source};
pub use kind::{Kind, LogFormat};
pub use sources::ServeArgs;

use kind::{FromValue, Kind as K, Value};

/// What is known of one setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As in the file; the flag has dashes, the environment variable `FLUXRELAY_` and capitals.
    pub name: &'static str,
    /// Its type, range and unit.
    pub kind: Kind,
    /// Its default, as one would write it.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:literal, $kind:expr;)+) => {
        /// All settings, checked.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        /// All settings, in the order of README's table.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { name: stringify!($name), kind: $kind, default: $default, help: concat!($($doc),+) },)+
        ];

        impl Config {
            /// From one value for each row of `SETTINGS`, in that order.
            fn from_values(values: Vec<Value>) -> Config {
                let mut values = values.into_iter();
                Config { $($name: FromValue::from_value(values.next().expect("one value for each setting")),)+ }
            }

            fn each(&self, mut show: impl FnMut(&'static str, &dyn fmt::Debug)) {
                $(show(stringify!($name), &self.$name);)+
            }
        }
    };
}

settings! {
    /// Where everything is kept; made when it is missing.
    data_dir: PathBuf = "fluxrelay-data", K::Path;
    /// Directory in which backups are made; none: `backups` in `data_dir`. Another disk is better.
    backup_dir: Option<PathBuf> = "", K::Folder;
    /// Directory with a second copy of everything, best on another disk; none: there is one copy.
    mirror_dir: Option<PathBuf> = "", K::Folder;
    /// Address and port for WebSocket and REST.
    listen: SocketAddr = "127.0.0.1:7440", K::Address;
    /// Address and port (UDP) for QUIC; needs TLS. Off by default.
    quic_listen: Option<SocketAddr> = "", K::AddressOrNone;
    /// PEM file with the TLS certificate, its chain after it; read again on SIGHUP and when it changes.
    tls_cert: Option<PathBuf> = "", K::File;
    /// PEM file with the certificate's private key, not encrypted.
    tls_key: Option<PathBuf> = "", K::File;
    /// TLS with a certificate of the broker's own, kept in `data_dir`; clients trust its fingerprint.
    tls_self_signed: bool = "false", K::Switch;
    /// Listen beyond this machine without TLS: tokens and commands cross the network readable.
    insecure_plaintext: bool = "false", K::Switch;
    /// Threads that own queues; 0: half of the cores, at least 1.
    shards: u16 = "0", K::number(0, crate::limits::SHARDS_MAX as u64, "threads");
    /// Threads for sockets and REST; 0: one per core.
    runtime_threads: usize = "0", K::number(0, 1024, "threads");
    /// Threads for TLS handshakes and logins, which stand aside for those that serve; 0: one per core.
    door_threads: usize = "0", K::number(0, 1024, "threads");
    /// Threads for password hashes, which give way to all others; 0: one per core.
    login_threads: usize = "0", K::number(0, 1024, "threads");
    /// Wait after each reported failure of a command; as many retries as there are waits.
    retry_delays_seconds: Vec<u64> = "30,60,120", K::list(16, 1, 86_400, "seconds");
    /// A delivery without an answer is offered again after this time.
    ack_deadline_seconds: u64 = "60", K::number(1, 86_400, "seconds");
    /// Deliveries in a row without any answer before a command is parked as failed.
    unanswered_max: u16 = "10", K::number(1, 1000, "deliveries");
    /// Commands of one server that have not ended; a publish beyond is refused.
    queue_max: u32 = "1000000", K::number(1, 10_000_000, "commands");
    /// Commands of one shard that have not ended; a publish beyond is refused.
    live_max: u64 = "20000000", K::number(1, 1_000_000_000, "commands");
    /// Texts in memory; beyond it those of waiting commands leave it, all of them, once they are at rest, and are read when their turn comes.
    texts_in_memory_mib: u64 = "4", K::number(0, 1_048_576, "MiB");
    /// Commands of one store that have not ended; a publish beyond is refused. 0: no limit.
    store_live_max: u64 = "10000000", K::number(0, 1_000_000_000, "commands");
    /// Commands that one store publishes, over REST and its connections together; 0: no limit.
    store_commands_per_second: u64 = "200000", K::number(0, 10_000_000, "commands a second");
    /// REST calls with one API key of a store; 0: no limit. The admin key has none.
    key_requests_per_second: u64 = "1000", K::number(0, 1_000_000, "calls a second");
    /// REST calls of one server's plugin; 0: no limit.
    server_calls_per_second: u64 = "50", K::number(0, 1_000_000, "calls a second");
    /// How long ended commands and their orders stay readable.
    retention_days: u64 = "30", K::number(crate::limits::RETENTION_DAYS_MIN, 3650, "days");
    /// How long an idempotency key is remembered; at most `retention_days`. Each takes about 19 bytes of memory.
    idempotency_days: u64 = "8", K::number(7, 365, "days");
    /// How long a record of the audit trail is kept; also bounded by rows, the oldest go first.
    audit_days: u64 = "365", K::number(1, 3650, "days");
    /// The longest time between two checkpoints while something changes.
    checkpoint_seconds: u64 = "5", K::number(1, 3600, "seconds");
    /// Free space of the disk of `data_dir` below which publishes are refused, so that results can still be stored; 0: none.
    disk_reserve_mib: u64 = "256", K::number(0, crate::limits::DISK_RESERVE_MIB_MAX, "MiB");
    /// Open connections, REST's included; one more is answered 503.
    connections_max: usize = "65536", K::number(1, 1_000_000, "connections");
    /// Of them, those of one network (IPv4 /24, IPv6 /56), so that none takes all places; 0: no limit.
    connections_per_network_max: usize = "32768", K::number(0, 1_000_000, "connections");
    /// A connection that is silent for this long is pinged, and closed after at most two and a half times as long.
    heartbeat_seconds: u64 = "10", K::number(1, 12, "seconds");
    /// A connection that has not logged in after this time is closed; the wait for its turn among many is not counted.
    login_timeout_seconds: u64 = "5", K::number(1, 60, "seconds");
    /// How long a plugin may come back with its resume ticket instead of a password hash; 0: there are no tickets.
    ticket_hours: u64 = "24", K::number(0, crate::limits::TICKET_HOURS_MAX, "hours");
    /// Failed logins of one network (IPv4 /24, IPv6 /56) in the long run; over it they are told to come back later.
    failed_logins_per_second: u32 = "10", K::number(1, 1_000_000, "logins");
    /// Failed logins of one network at once, after a time without any.
    failed_logins_burst: u32 = "100", K::number(1, 1_000_000, "logins");
    /// A connection that takes no byte for this long, while bytes wait for it, is closed.
    write_timeout_seconds: u64 = "10", K::number(1, 300, "seconds");
    /// Orders of one publisher connection that wait for their answer; at that many no more is read from it.
    publish_window: u32 = "1024", K::number(1, 65_536, "orders");
    /// How long open requests and connections have to end once the broker stops.
    shutdown_grace_seconds: u64 = "5", K::number(0, 300, "seconds");
    /// Which log lines are written to standard error: a level, or `target=level` with commas; no library's beyond info.
    log: String = "info", K::Filter;
    /// How log lines are written.
    log_format: LogFormat = "text", K::Format;
}

impl Config {
    /// True when every socket speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.tls_self_signed || self.tls_cert.is_some()
    }

    /// Everything at its default.
    pub fn defaults() -> Config {
        let value =
            |setting: &Setting| setting.kind.read(setting.default).expect("a default is within its range");
        let mut config = Config::from_values(SETTINGS.iter().map(value).collect());
        config.settle(std::thread::available_parallelism().map_or(1, usize::from));
        config
    }

    /// Puts a number where a setting leaves it to the machine.
    fn settle(&mut self, cores: usize) {
        if self.shards == 0 {
            let half = u16::try_from(cores / 2).unwrap_or(u16::MAX);
            self.shards = half.clamp(1, crate::limits::SHARDS_MAX);
        }
        if self.runtime_threads == 0 {
            self.runtime_threads = cores;
        }
        if self.door_threads == 0 {
            self.door_threads = cores;
        }
        if self.login_threads == 0 {
            self.login_threads = cores;
        }
    }
}

/// One line: every setting as `name=value`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Vec::with_capacity(SETTINGS.len());
        self.each(|name, value| line.push(format!("{name}={value:?}")));
        f.write_str(&line.join(" "))
    }
}

/// The settings as README shows them.
pub fn markdown_table() -> String {
    let mut table = String::from("| setting | default | range | what it does |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let Setting { name, default, help, kind } = setting;
        let range = kind.range().replace('|', "\\|");
        let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
        table.push_str(&format!("| `{name}` | {default} | {range} | {} |\n", help.trim()));
    }
    table
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
