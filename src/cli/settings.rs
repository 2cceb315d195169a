//! From the checked settings to what each layer needs to know. Decides nothing.

use std::time::Duration;

use crate::config::Config;
use crate::time::Millis;
use crate::transport::TransportSettings;
use crate::{broker, engine};

const DAY_SECONDS: u64 = 24 * 3600;
const MEBIBYTE: u64 = 1024 * 1024;

/// What the broker needs to know.
pub(super) fn of_broker(config: &Config) -> broker::Settings {
    let engine = engine::Settings {
        retry_delays: config.retry_delays_seconds.iter().map(|delay| Millis::seconds(*delay)).collect(),
        ack_deadline: Millis::seconds(config.ack_deadline_seconds),
        unanswered_max: config.unanswered_max,
        queue_max: config.queue_max,
        live_max: config.live_max,
        texts_kept: config.texts_in_memory_mib * MEBIBYTE,
        keys_kept: Millis::seconds(config.idempotency_days * DAY_SECONDS),
        ..engine::Settings::default()
    };
    let beside = broker::Settings::new(config.data_dir.clone()).backup_dir;
    broker::Settings {
        backup_dir: config.backup_dir.clone().unwrap_or(beside),
        shards: config.shards,
        engine,
        checkpoint_every: Millis::seconds(config.checkpoint_seconds),
        ended_kept: Millis::seconds(config.retention_days * DAY_SECONDS),
        quotas: broker::QuotaSettings {
            key_requests: config.key_requests_per_second,
            server_calls: config.server_calls_per_second,
            store_commands: config.store_commands_per_second,
            store_live_max: config.store_live_max,
        },
        disk_reserve: config.disk_reserve_mib * MEBIBYTE,
        audit_kept: Millis::seconds(config.audit_days * DAY_SECONDS),
        login_threads: config.login_threads,
        login_timeout: Duration::from_secs(config.login_timeout_seconds),
        ticket_lifetime: Millis::seconds(config.ticket_hours * 3600),
        failed_logins: broker::FailedLoginLimit {
            per_second: config.failed_logins_per_second,
            burst: config.failed_logins_burst,
        },
        ..broker::Settings::new(config.data_dir.clone())
    }
}

/// What the listener and its connections need to know; a certificate has to be read and is added later.
pub(super) fn of_transport(config: &Config) -> TransportSettings {
    TransportSettings {
        connections_max: config.connections_max,
        connections_per_network_max: config.connections_per_network_max,
        door_threads: config.door_threads,
        login_timeout: Duration::from_secs(config.login_timeout_seconds),
        heartbeat: Duration::from_secs(config.heartbeat_seconds),
        write_timeout: Duration::from_secs(config.write_timeout_seconds),
        publish_window: config.publish_window,
        ack_deadline: Duration::from_secs(config.ack_deadline_seconds),
        shutdown_grace: Duration::from_secs(config.shutdown_grace_seconds),
        tls: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_layers() {
        let config = Config { shards: 1, door_threads: 1, login_threads: 1, ..Config::defaults() };
        let layers = broker::Settings::new(config.data_dir.clone());
        assert_eq!(format!("{:?}", of_broker(&config)), format!("{layers:?}"));
        assert_eq!(of_transport(&config), TransportSettings::default());
    }
}
