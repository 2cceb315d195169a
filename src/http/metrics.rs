//! Counters and gauges as OpenMetrics text, made from a snapshot at each scrape. Names are stable.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::words::CommandStatus;
use super::{HttpState, paths};
use crate::broker::{Limit, LoginCounts, Snapshot};
use crate::time::{Millis, UnixMs};

/// The content type of the OpenMetrics text format.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the operating system says of this process; absent where it does not say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Process {
    resident_bytes: Option<u64>,
    open_fds: Option<u64>,
}

impl Process {
    /// Reads `/proc`, which is memory, not disk.
    fn read() -> Process {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let open_fds = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
        Process { resident_bytes: resident_bytes(&status), open_fds }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Everything that one scrape shows.
#[derive(Debug)]
struct Scrape {
    broker: Snapshot,
    logins: LoginCounts,
    limited: [(Limit, u64); Limit::ALL.len()],
    followers: u64,
    process: Process,
    started_at: UnixMs,
    uptime: Millis,
    ready: bool,
}

/// Writes families one by one; `_total` is added to the names of counters by the encoder.
struct Families<'e>(DescriptorEncoder<'e>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> std::fmt::Result {
        self.write(name, help, ConstCounter::new(value))
    }

    fn seconds_counter(&mut self, name: &str, help: &str, value: f64) -> std::fmt::Result {
        self.write(name, help, ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> std::fmt::Result {
        self.write(name, help, ConstGauge::new(value))
    }

    fn seconds_gauge(&mut self, name: &str, help: &str, value: Millis) -> std::fmt::Result {
        self.write(name, help, ConstGauge::new(value.0 as f64 / 1000.0))
    }

    fn by_status(
        &mut self,
        name: &str,
        help: &str,
        rows: &[(CommandStatus, u64)],
        counts: bool,
    ) -> std::fmt::Result {
        let kind = if counts {
            ConstCounter::new(0_u64).metric_type()
        } else {
            ConstGauge::new(0_u64).metric_type()
        };
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (status, value) in rows {
            let labels = [("status", status.text())];
            let encoder = family.encode_family(&labels)?;
            if counts {
                ConstCounter::new(*value).encode(encoder)?;
            } else {
                ConstGauge::new(*value).encode(encoder)?;
            }
        }
        Ok(())
    }

    /// One counter for each limit: labels that no caller chooses.
    fn by_limit(&mut self, name: &str, help: &str, rows: &[(Limit, u64)]) -> std::fmt::Result {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (limit, value) in rows {
            let labels = [("limit", limit.name())];
            ConstCounter::new(*value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn write(&mut self, name: &str, help: &str, metric: impl EncodeMetric) -> std::fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }
}

impl Scrape {
    fn commands(&self, families: &mut Families<'_>) -> std::fmt::Result {
        let stats = &self.broker;
        families.counter("fluxrelay_orders_accepted", "Orders accepted", stats.orders)?;
        families.counter("fluxrelay_orders_refused", "Orders refused", stats.refused)?;
        families.counter("fluxrelay_commands_accepted", "Commands accepted", stats.accepted)?;
        families.counter("fluxrelay_deliveries", "Deliveries, repeated ones included", stats.delivered)?;
        families.counter("fluxrelay_redeliveries", "Deliveries that were repeats", stats.redelivered)?;
        let help = "Results for an unknown, ended or foreign command";
        families.counter("fluxrelay_stale_results", help, stats.stale_results)?;
        let help = "Commands that the sweep found and that should have gone out before; stays at 0";
        families.counter("fluxrelay_sweep_finds", help, stats.swept)?;
        let rows = CommandStatus::ALL.into_iter().zip(stats.by_status);
        let (ended, waiting): (Vec<_>, Vec<_>) = rows.partition(|(status, _)| {
            matches!(status, CommandStatus::Completed | CommandStatus::Cancelled | CommandStatus::Expired)
        });
        families.by_status("fluxrelay_commands_waiting", "Commands that have not ended", &waiting, false)?;
        families.by_status("fluxrelay_commands_ended", "Commands that ended since the start", &ended, true)
    }

    fn broker(&self, families: &mut Families<'_>) -> std::fmt::Result {
        let stats = &self.broker;
        families.gauge("fluxrelay_plugin_sessions", "Connected plugins", stats.sessions)?;
        let help = "Idempotency keys that are remembered, for idempotency_days";
        families.gauge("fluxrelay_idempotency_keys", help, stats.keys)?;
        let help = "Bytes of memory that the remembered keys take";
        families.gauge("fluxrelay_idempotency_keys_bytes", help, stats.keys_bytes)?;
        let help = "Inputs that wait for the threads of the shards";
        families.gauge("fluxrelay_shard_inputs_queued", help, stats.queued_inputs)?;
        families.counter("fluxrelay_journal_commits", "Group commits", stats.commits)?;
        let seconds = stats.commit_ns as f64 / 1e9;
        families.seconds_counter(
            "fluxrelay_journal_commit_seconds",
            "Time spent in group commits",
            seconds,
        )?;
        families.counter("fluxrelay_journal_bytes", "Bytes written to the journal", stats.journal_bytes)?;
        families.counter("fluxrelay_checkpoints", "Checkpoints written", stats.checkpoints)?;
        let help = "Bytes free under the data directory; below disk_reserve_mib publishes are refused";
        families.gauge("fluxrelay_disk_free_bytes", help, stats.disk_free)?;
        let help = "1 while publishes are refused because too little of the disk is free, else 0";
        families.gauge("fluxrelay_disk_low", help, u64::from(stats.disk_low))?;
        if let Some(in_step) = stats.mirror_in_step {
            let help = "1 while everything is written to the mirror too, else 0: there is one copy; absent without a mirror";
            families.gauge("fluxrelay_mirror_in_step", help, u64::from(in_step))?;
        }
        let help = "1 while it is ready, else 0: it is stopping, or its storage failed";
        families.gauge("fluxrelay_ready", help, u64::from(self.ready))
    }

    fn callers(&self, families: &mut Families<'_>) -> std::fmt::Result {
        let logins = &self.logins;
        let help = "Plugins let in by a resume ticket";
        families.counter("fluxrelay_logins_by_ticket", help, logins.by_ticket)?;
        let help = "Logins and calls let in by a token or key";
        families.counter("fluxrelay_logins_by_token", help, logins.by_token)?;
        let help = "Resume tickets that were expired, of an old generation, or none of ours";
        families.counter("fluxrelay_tickets_refused", help, logins.tickets_refused)?;
        let help = "Tokens and keys checked against their password hash";
        families.counter("fluxrelay_logins_hashed", help, logins.hashed)?;
        families.counter(
            "fluxrelay_logins_recalled",
            "Tokens and keys known from memory",
            logins.recalled,
        )?;
        let help = "Tokens and keys refused for their form or tag, without a hash";
        families.counter("fluxrelay_logins_forged", help, logins.forged)?;
        families.counter("fluxrelay_logins_wrong", "Tokens and keys refused after a hash", logins.wrong)?;
        let help = "Logins sent away because too many waited";
        families.counter("fluxrelay_logins_turned_away", help, logins.busy)?;
        let help = "Failed logins from a network over its limit, told to come back later";
        families.counter("fluxrelay_logins_limited", help, logins.limited)?;
        let help = "TLS handshakes over TCP";
        families.counter("fluxrelay_tls_handshakes", help, self.broker.handshakes)?;
        let help = "TLS handshakes over TCP that resumed an earlier session, which spares a signature";
        families.counter("fluxrelay_tls_handshakes_resumed", help, self.broker.handshakes_resumed)?;
        let help = "Calls, connections and publishes turned away for being over a limit";
        families.by_limit("fluxrelay_limited", help, &self.limited)?;
        families.gauge("fluxrelay_logins_waiting", "Logins that wait for a hash", logins.waiting)?;
        families.gauge("fluxrelay_event_followers", "Open event streams", self.followers)
    }

    fn process(&self, families: &mut Families<'_>) -> std::fmt::Result {
        if let Some(bytes) = self.process.resident_bytes {
            families.gauge("fluxrelay_process_resident_memory_bytes", "Memory that is resident", bytes)?;
        }
        if let Some(fds) = self.process.open_fds {
            families.gauge("fluxrelay_process_open_fds", "Open file descriptors", fds)?;
        }
        let started = Millis(self.started_at.0);
        let help = "When the process started, in seconds since 1970";
        families.seconds_gauge("fluxrelay_process_start_time_seconds", help, started)?;
        families.seconds_gauge("fluxrelay_uptime_seconds", "Time since the start", self.uptime)
    }
}

impl prometheus_client::collector::Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut families = Families(encoder);
        self.commands(&mut families)?;
        self.broker(&mut families)?;
        self.callers(&mut families)?;
        self.process(&mut families)
    }
}

fn text(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string does not fail");
    text
}

/// Metrics, in the OpenMetrics text format
#[utoipa::path(get, path = paths::METRICS, tag = "operation", operation_id = "metrics",
    responses((status = 200, description = "One family per line of HELP.", body = String,
               content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(state): State<HttpState>) -> Response {
    let broker = state.broker();
    let scrape = Scrape {
        broker: broker.stats(),
        logins: broker.registry().login_counts(),
        limited: broker.limited(),
        followers: u64::from(state.followers().taken()),
        process: Process::read(),
        started_at: state.started_at(),
        uptime: broker.now() - state.started_at(),
        ready: broker.is_ready(),
    };
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text(scrape)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_family_with_help_and_type() {
        let broker = Snapshot {
            orders: 3,
            by_status: [1, 2, 3, 4, 5, 6, 7, 8],
            commit_ns: 1_500_000_000,
            handshakes: 4,
            handshakes_resumed: 2,
            disk_free: 4_000_000_000,
            disk_low: true,
            mirror_in_step: Some(false),
            ..Snapshot::default()
        };
        let process = Process { resident_bytes: Some(4096), open_fds: Some(9) };
        let logins = LoginCounts { wrong: 7, ..LoginCounts::default() };
        let scrape = Scrape {
            broker,
            logins,
            limited: Limit::ALL.map(|limit| (limit, u64::from(limit == Limit::StoreLive) * 5)),
            followers: 2,
            process,
            started_at: UnixMs(1000),
            uptime: Millis(2500),
            ready: true,
        };
        let text = text(scrape);
        for line in [
            "# TYPE fluxrelay_orders_accepted counter",
            "fluxrelay_orders_accepted_total 3",
            "fluxrelay_commands_waiting{status=\"in_doubt\"} 6",
            "fluxrelay_commands_ended_total{status=\"expired\"} 8",
            "fluxrelay_journal_commit_seconds_total 1.5",
            "fluxrelay_disk_free_bytes 4000000000",
            "fluxrelay_disk_low 1",
            "fluxrelay_mirror_in_step 0",
            "fluxrelay_process_resident_memory_bytes 4096",
            "fluxrelay_uptime_seconds 2.5",
            "fluxrelay_logins_wrong_total 7",
            "fluxrelay_tls_handshakes_total 4",
            "fluxrelay_tls_handshakes_resumed_total 2",
            "fluxrelay_limited_total{limit=\"store_live_max\"} 5",
            "fluxrelay_limited_total{limit=\"connections_max\"} 0",
            "fluxrelay_event_followers 2",
            "fluxrelay_idempotency_keys 0",
            "fluxrelay_ready 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        let helps = text.lines().filter(|line| line.starts_with("# HELP")).count();
        assert_eq!((families, helps), (39, 39));
        assert!(!text.contains("commands_waiting{status=\"completed\"}"));
    }

    #[test]
    fn resident_memory_is_read_from_the_status_page() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   1234 kB\nVmData:\t1 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_bytes(""), None);
    }
}
