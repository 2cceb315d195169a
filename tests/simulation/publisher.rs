//! Publishers: each order has a key, and is published again, under the same key with the same body, until it is answered;
//! sometimes also afterwards. Must never change an order that it has published.

use std::sync::Arc;

use fluxrelay::broker::{BrokerError, Published};
use fluxrelay::engine::{Few, KeyDigest, NewCommand, NewOrder, OnDoubt, Refusal};
use fluxrelay::ids::{CommandId, OrderId, ServerId, StoreId};
use fluxrelay::time::UnixMs;

use crate::network::{Peer, Up};
use crate::plugin::{PLAYERS, player};
use crate::world::{Event, World};

/// Orders in one story, at most.
const PLANS_MAX: usize = 40;

/// An order, from the wish to the answer.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) order: NewOrder,
    /// What it was answered with.
    pub(crate) acked: Option<(OrderId, Vec<CommandId>)>,
    /// When it was answered first.
    pub(crate) acked_at: u64,
    /// The publisher knows the answer.
    pub(crate) settled: bool,
    /// It was refused for good.
    pub(crate) refused: bool,
    retry_at: u64,
}

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    plan: usize,
    /// The same key with another body.
    conflict: bool,
    /// Without the commands, because a server is gone: only whether the key is known.
    bare: bool,
}

/// The publisher of one store.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: StoreId,
    link: Option<u64>,
    reconnect_at: u64,
}

impl Publisher {
    pub(crate) fn new(store: StoreId) -> Publisher {
        Publisher { store, link: None, reconnect_at: 0 }
    }
}

impl World {
    /// A turn of a publisher.
    pub(crate) fn publisher_turn(&mut self, who: usize) {
        let span = 30 + self.random.below(if self.healing { 300 } else { 1_500 });
        self.schedule(self.now + span, Event::Publisher(who));
        if self.publishers[who].link.is_none() && self.publishers[who].reconnect_at <= self.now {
            let store = self.publishers[who].store;
            self.publishers[who].link = self.dial(Peer::Publisher(store));
            if let Some(link) = self.publishers[who].link {
                self.say(link, Up::Attach);
            }
        }
        let store = self.publishers[who].store;
        if !self.healing && self.checker.plans.len() < PLANS_MAX && self.random.chance(2, 3) {
            self.plan_order(store);
        }
        let Some(link) = self.publishers[who].link else { return };
        for plan in 0..self.checker.plans.len() {
            let known = &self.checker.plans[plan];
            if known.order.store != store || known.refused || known.retry_at > self.now {
                continue;
            }
            if !known.settled {
                self.publish(link, plan, false);
            } else if !self.healing && self.random.chance(1, 60) {
                let conflict = self.random.chance(1, 3);
                self.publish(link, plan, conflict);
            }
        }
    }

    fn publish(&mut self, link: u64, plan: usize, conflict: bool) {
        let patience = 1_000 + self.random.below(6_000);
        let mut order = self.checker.plans[plan].order.clone();
        self.checker.plans[plan].retry_at = self.now + patience;
        // As the broker's door does: an order whose servers are gone is only looked for.
        let bare = order.commands.iter().any(|command| !self.registry.contains_key(&command.server));
        if bare {
            order.commands = Few::default();
        }
        if conflict && let Some(key) = &mut order.key {
            key.body ^= 1;
        }
        self.next_request += 1;
        let request = self.next_request;
        let kind = if conflict { "publish, other body" } else { "publish" };
        self.trace.note(
            self.now,
            kind,
            format_args!("p{plan} request {request} of {} commands", order.commands.len()),
        );
        self.asked.insert(request, Asked { plan, conflict, bare });
        self.say(link, Up::Publish { request, order: Box::new(order) });
    }

    fn plan_order(&mut self, store: StoreId) {
        let servers: Vec<ServerId> =
            self.registry.iter().filter(|(_, known)| known.store == store).map(|(id, _)| *id).collect();
        let plan = self.checker.plans.len();
        let first = *self.random.pick(&servers).expect("every store keeps a server");
        let ordered = self.random.chance(1, 4);
        let count = if self.random.chance(1, 20) { 20 } else { 1 + self.random.below(4) };
        let commands = (0..count)
            .map(|nth| {
                let server =
                    if self.random.chance(1, 3) { *self.random.pick(&servers).expect("some") } else { first };
                self.plan_command(server, plan, nth)
            })
            .collect();
        let key = Some(KeyDigest { key: 0x1000 + plan as u64, body: 0xb0d1 + 2 * plan as u64 });
        let order = NewOrder { store, key, reference: None, player: None, ordered, commands };
        self.checker.on_plan(Plan {
            order,
            acked: None,
            acked_at: 0,
            settled: false,
            refused: false,
            retry_at: 0,
        });
    }

    fn plan_command(&mut self, server: ServerId, plan: usize, nth: u64) -> NewCommand {
        let now = UnixMs(self.now);
        let name = match self.random.below(12) {
            0..7 => Some(*self.random.pick(&PLAYERS).expect("some")),
            7 if self.random.chance(1, 2) => Some("Ghost"),
            _ => None,
        };
        let require_online = name == Some("Ghost") || (name.is_some() && self.random.chance(1, 3));
        let not_before = self.random.chance(1, 8).then(|| UnixMs(now.0 + self.random.below(15_000)));
        let expires_at = self
            .random
            .chance(1, 12)
            .then(|| UnixMs(not_before.map_or(now.0, |at| at.0) + 1 + self.random.below(40_000)));
        NewCommand {
            server,
            text: Arc::from(format!("p{plan}.{nth}")),
            player: name.map(player),
            require_online,
            not_before,
            expires_at,
            on_doubt: if self.random.chance(1, 3) { OnDoubt::Rerun } else { OnDoubt::Hold },
            labels: None,
        }
    }

    /// An answer leaves the broker: from now on it is a promise.
    pub(crate) fn on_answered(&mut self, request: u64, result: &Result<Published, BrokerError>) {
        let asked = self.asked.get(&request).unwrap_or_else(|| panic!("nobody asked {request}"));
        let (plan, conflict) = (asked.plan, asked.conflict);
        match result {
            Ok(published) => {
                assert!(!conflict, "p{plan}: accepted with another body under the same key");
                let kind = if published.replayed { "published again" } else { "published" };
                self.trace.note(self.now, kind, format_args!("p{plan} {}", published.order));
                self.checker.on_published(self.now, plan, published);
            }
            Err(error) => {
                self.trace.note(self.now, "refused", format_args!("p{plan} {error}"));
                let known = self.checker.plans[plan].acked.is_some();
                let conflicts = *error == BrokerError::Refused(Refusal::KeyConflict);
                assert!(conflicts || !conflict || !known, "p{plan}: {error} for another body");
                assert!(conflict || !conflicts, "p{plan}: another body was seen");
                let stopping = *error == BrokerError::Stopping;
                assert!(!known || conflict || stopping, "p{plan}: {error} for an order that was accepted");
            }
        }
    }

    /// The answer reaches the publisher.
    pub(crate) fn publisher_hears(
        &mut self,
        link: u64,
        request: u64,
        result: Result<Published, BrokerError>,
    ) {
        let _ = link;
        let Some(Asked { plan, conflict, bare }) = self.asked.remove(&request) else { return };
        if conflict {
            return;
        }
        let known = &mut self.checker.plans[plan];
        match result {
            Ok(_) => known.settled = true,
            Err(BrokerError::Refused(Refusal::UnknownServer(_))) => known.refused = true,
            Err(BrokerError::Refused(Refusal::Overloaded)) if bare => known.refused = true,
            Err(_) => {}
        }
    }

    pub(crate) fn publisher_lost(&mut self, store: StoreId, link: u64) {
        let pause = self.random.below(2_000);
        for publisher in &mut self.publishers {
            if publisher.store == store && publisher.link == Some(link) {
                publisher.link = None;
                publisher.reconnect_at = self.now + pause;
            }
        }
    }
}
