//! What one store may take of the broker: commands a second, and commands that have not ended. Checked before an order
//! goes to its desk, beside everything that delivers commands.
//!
//! The commands of a store are not counted one by one. `at_most` is what a look at the shards found, plus all that was
//! let in since: the true number is never higher, but for what was on its way during the look. Only a store that seems
//! full is looked at again, at most once in `LOOK_EVERY`.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Inner;
use super::handle::Handle;
use super::inner::Unresolved;
use super::limited::Limit;
use super::rate::{Bucket, Rate};
use super::request::{BrokerError, OrderRequest};
use super::space::RETRY_LOW_MS;
use crate::engine::{NewOrder, ServerState, Status};
use crate::ids::StoreId;
use crate::limits::ORDER_COMMANDS_MAX;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::{Millis, UnixMs};

/// Parts of the table of stores with a lock of their own.
const PARTS: usize = 64;
/// The shortest time between two looks at the commands of one store.
const LOOK_EVERY: Millis = Millis::seconds(1);

/// How much callers may take. 0 = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaSettings {
    /// REST calls a second with one API key of a store.
    pub key_requests: u64,
    /// REST calls a second of one server's plugin.
    pub server_calls: u64,
    /// Commands published a second by one store, over REST and connections together.
    pub store_commands: u64,
    /// Commands of one store that have not ended.
    pub store_live_max: u64,
}

impl Default for QuotaSettings {
    fn default() -> Self {
        QuotaSettings {
            key_requests: 1_000,
            server_calls: 50,
            store_commands: 200_000,
            store_live_max: 10_000_000,
        }
    }
}

/// The stores that published since the start.
#[derive(Debug)]
pub(super) struct Quotas {
    rate: Rate,
    live_max: u64,
    parts: Box<[Mutex<Gates>]>,
}

type Gates = HashMap<StoreId, Arc<Gate>>;

/// One store.
#[derive(Debug)]
pub(super) struct Gate {
    bucket: Mutex<Bucket>,
    at_most: AtomicU64,
    /// When its commands were last looked at; held while somebody looks.
    looked_at: tokio::sync::Mutex<Option<UnixMs>>,
}

impl Gate {
    /// Lets so many commands in, if they surely fit.
    fn enter(&self, count: u64, max: u64) -> bool {
        let raised = |now: u64| now.checked_add(count).filter(|sum| *sum <= max);
        self.at_most.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).is_ok()
    }

    /// Takes a look's result in place of what was known when it began.
    fn correct(&self, known: u64, found: u64) {
        let corrected = |now: u64| Some(now.saturating_sub(known).saturating_add(found));
        let _ = self.at_most.fetch_update(Ordering::Relaxed, Ordering::Relaxed, corrected);
    }
}

impl Quotas {
    pub(super) fn new(settings: QuotaSettings) -> Quotas {
        Quotas {
            // The largest order always fits into a full bucket.
            rate: Rate::with_burst(settings.store_commands, ORDER_COMMANDS_MAX as u64),
            live_max: settings.store_live_max,
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The gate of a store; it stays the same one.
    pub(super) fn gate(&self, store: StoreId, now: UnixMs) -> Arc<Gate> {
        let mut part = self.parts[store.0 as usize % PARTS].lock();
        let new = || {
            // Nothing is known of it yet, so its first order looks.
            Arc::new(Gate {
                bucket: Mutex::new(Bucket::full(self.rate, now)),
                at_most: AtomicU64::new(self.live_max),
                looked_at: tokio::sync::Mutex::default(),
            })
        };
        Arc::clone(part.entry(store).or_insert_with(new))
    }
}

impl Inner {
    /// Checks an order's servers, its store's quotas and the disk's space. A repeated order is not refused for want of
    /// room: it is looked for under its key.
    pub(super) async fn admit(
        self: &Arc<Inner>,
        store: StoreId,
        gate: &Gate,
        request: OrderRequest,
    ) -> Result<Box<NewOrder>, Unresolved> {
        let order = self.resolve(store, request)?;
        let Quotas { rate, live_max, .. } = self.quotas;
        let count = order.commands.len() as u64;
        if !rate.is_off() {
            let taken = gate.bucket.lock().take(rate, self.clock.now(), count);
            taken.map_err(|retry_after_ms| {
                self.limited.on(Limit::StoreCommands);
                Unresolved { error: BrokerError::RateLimited { retry_after_ms }, key: None }
            })?;
        }
        if self.space.is_low() {
            let error = BrokerError::DiskLow { retry_after_ms: RETRY_LOW_MS };
            return Err(Unresolved { error, key: order.key });
        }
        if live_max > 0 && !gate.enter(count, live_max) {
            let entered = self.look_again(gate, store, count).await;
            entered.map_err(|error| Unresolved { error, key: order.key })?;
        }
        Ok(order)
    }

    /// Counts who is turned away for want of room, which no repeated order is.
    pub(super) fn turned_away(&self, error: BrokerError) -> BrokerError {
        match error {
            BrokerError::StoreFull { .. } => self.limited.on(Limit::StoreLive),
            BrokerError::DiskLow { .. } => self.limited.on(Limit::DiskReserve),
            _ => {}
        }
        error
    }

    /// Looks at the commands of a store that seems full.
    async fn look_again(
        self: &Arc<Inner>,
        gate: &Gate,
        store: StoreId,
        count: u64,
    ) -> Result<(), BrokerError> {
        let max = self.quotas.live_max;
        let mut looked_at = gate.looked_at.lock().await;
        let now = self.clock.now();
        if !gate.enter(count, max) {
            if looked_at.is_none_or(|at| now - at >= LOOK_EVERY) {
                let known = gate.at_most.load(Ordering::Relaxed);
                let handle = Handle { inner: Arc::clone(self) };
                let states = handle.server_states(&self.registry.server_ids(store)).await?;
                gate.correct(known, states.iter().map(live).sum());
                *looked_at = Some(now);
            }
            if !gate.enter(count, max) {
                let retry_after_ms = u32::try_from(LOOK_EVERY.0).unwrap_or(u32::MAX);
                return Err(BrokerError::StoreFull { max, retry_after_ms });
            }
        }
        Ok(())
    }
}

/// Commands of a server that have not ended.
fn live(state: &ServerState) -> u64 {
    [Status::Pending, Status::Delivered, Status::AwaitingPlayer, Status::Failed, Status::InDoubt]
        .into_iter()
        .map(|status| state.counts[status as usize - 1])
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_during_a_look_counts_on_top_of_it() {
        let quotas = Quotas::new(QuotaSettings { store_live_max: 10, ..QuotaSettings::default() });
        let gate = quotas.gate(StoreId(1), UnixMs(0));
        assert!(!gate.enter(1, 10), "nothing is known yet");
        gate.correct(10, 4);
        let known = gate.at_most.load(Ordering::Relaxed);
        assert!(gate.enter(5, 10) && !gate.enter(2, 10) && gate.enter(1, 10));
        gate.correct(known, 3);
        assert_eq!(gate.at_most.load(Ordering::Relaxed), 9);
        assert!(!gate.enter(u64::MAX, u64::MAX));
        assert!(Arc::ptr_eq(&gate, &quotas.gate(StoreId(1), UnixMs(0))));
        assert!(!Arc::ptr_eq(&gate, &quotas.gate(StoreId(65), UnixMs(0))));
    }
}

#[cfg(all(test, fluxrelay_loom))]
mod interleavings {
    use super::*;

    #[test]
    fn a_look_beside_orders_lets_in_no_more_than_fit_and_forgets_none() {
        loom::model(|| {
            const MAX: u64 = 3;
            let settings = QuotaSettings { store_live_max: MAX, ..QuotaSettings::default() };
            let gate = Quotas::new(settings).gate(StoreId(1), UnixMs(0));
            // It seems to have room for one more; a look finds that one has ended.
            gate.at_most.store(MAX - 1, Ordering::Relaxed);
            let orders = [1, 2].map(|_| {
                let gate = Arc::clone(&gate);
                loom::thread::spawn(move || u64::from(gate.enter(1, MAX)))
            });
            let known = gate.at_most.load(Ordering::Relaxed);
            // What was let in before the look is found by it.
            gate.correct(known, known - 1);
            let entered: u64 = orders.into_iter().map(|order| order.join().unwrap()).sum();
            assert!(entered >= 1);
            assert_eq!(gate.at_most.load(Ordering::Relaxed), MAX - 2 + entered);
        });
    }
}
