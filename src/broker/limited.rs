//! How often callers were turned away for wanting too much: one counter for each limit. Knows no caller.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit at which somebody was turned away. There are these and no others, so that no caller makes one up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Open connections of all.
    Connections,
    /// Open connections of one network.
    NetworkConnections,
    /// Failed logins of one network: its strangers' TLS handshakes beyond a few at once.
    FailedLogins,
    /// REST calls a second with one key.
    KeyRequests,
    /// REST calls a second of one server's plugin.
    ServerCalls,
    /// REST calls that the keys of one store have under way.
    StoreCallsAtOnce,
    /// REST calls that one server's plugin has under way.
    ServerCallsAtOnce,
    /// Commands that one store publishes in a second.
    StoreCommands,
    /// Commands of one store that have not ended.
    StoreLive,
    /// Free space of the data directory.
    DiskReserve,
    /// Followers of events.
    Followers,
}

impl Limit {
    /// All of them, in the order of their counters.
    pub const ALL: [Limit; 11] = [
        Limit::Connections,
        Limit::NetworkConnections,
        Limit::FailedLogins,
        Limit::KeyRequests,
        Limit::ServerCalls,
        Limit::StoreCallsAtOnce,
        Limit::ServerCallsAtOnce,
        Limit::StoreCommands,
        Limit::StoreLive,
        Limit::DiskReserve,
        Limit::Followers,
    ];

    /// The name in metrics and logs: that of its setting, where it has one.
    pub const fn name(self) -> &'static str {
        match self {
            Limit::Connections => "connections_max",
            Limit::NetworkConnections => "connections_per_network_max",
            Limit::FailedLogins => "failed_logins_per_second",
            Limit::KeyRequests => "key_requests_per_second",
            Limit::ServerCalls => "server_calls_per_second",
            Limit::StoreCallsAtOnce => "store_calls_at_once",
            Limit::ServerCallsAtOnce => "server_calls_at_once",
            Limit::StoreCommands => "store_commands_per_second",
            Limit::StoreLive => "store_live_max",
            Limit::DiskReserve => "disk_reserve_mib",
            Limit::Followers => "event_followers",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Limited([AtomicU64; Limit::ALL.len()]);

impl Limited {
    pub(super) fn on(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> [(Limit, u64); Limit::ALL.len()] {
        Limit::ALL.map(|limit| (limit, self.0[limit as usize].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_own_counter() {
        let limited = Limited::default();
        for (times, limit) in Limit::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| limited.on(limit));
        }
        let counts = limited.counts();
        assert!(counts.iter().enumerate().all(|(times, (_, count))| *count == times as u64), "{counts:?}");
        let names: std::collections::BTreeSet<_> = Limit::ALL.iter().map(|limit| limit.name()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
    }
}
