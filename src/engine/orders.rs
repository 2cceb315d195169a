//! The orders of a desk that are not at rest yet, by rising seq. Must never change one: they leave as they came.

use std::collections::VecDeque;
use std::sync::Arc;

use super::io::{KeyDigest, OrderRow, Player};
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::limits::SHARDS_MAX;
use crate::time::UnixMs;

/// Orders in one chunk: growing copies no more than this.
const CHUNK: usize = 1024;

/// An order, small while it has one command and nothing else.
#[derive(Debug)]
struct Order {
    seq: Seq,
    accepted_at: UnixMs,
    key: KeyDigest,
    rare: Option<Box<Rare>>,
    store: StoreId,
    /// The only server, unless `rare` lists them.
    server: ServerId,
    has_key: bool,
    ordered: bool,
}

/// What the small form lacks.
#[derive(Debug)]
struct Rare {
    reference: Option<Arc<str>>,
    player: Option<Player>,
    /// Empty = the only one.
    servers: Box<[ServerId]>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Orders {
    chunks: VecDeque<VecDeque<Order>>,
    len: usize,
}

impl Order {
    fn of(row: &OrderRow) -> Order {
        let several = row.commands.len() != 1;
        let rare = (several || row.reference.is_some() || row.player.is_some()).then(|| {
            let servers =
                if several { row.commands.iter().map(|id| id.server).collect() } else { Box::from([]) };
            Box::new(Rare { reference: row.reference.clone(), player: row.player.clone(), servers })
        });
        Order {
            seq: row.id.seq,
            accepted_at: row.accepted_at,
            key: row.key.unwrap_or(KeyDigest { key: 0, body: 0 }),
            rare,
            store: row.id.store,
            server: row.commands.first().map_or(ServerId(0), |id| id.server),
            has_key: row.key.is_some(),
            ordered: row.ordered,
        }
    }

    fn row(&self) -> OrderRow {
        let only = [self.server];
        let listed = self.rare.as_ref().map_or(&[][..], |rare| &rare.servers);
        let servers = if listed.is_empty() { &only[..] } else { listed };
        let seqs = (0..).map(|nth| Seq(self.seq.0 + nth * u64::from(SHARDS_MAX)));
        OrderRow {
            id: OrderId { store: self.store, seq: self.seq },
            accepted_at: self.accepted_at,
            key: self.has_key.then_some(self.key),
            reference: self.rare.as_ref().and_then(|rare| rare.reference.clone()),
            player: self.rare.as_ref().and_then(|rare| rare.player.clone()),
            ordered: self.ordered,
            commands: servers
                .iter()
                .zip(seqs)
                .map(|(server, seq)| CommandId { server: *server, seq })
                .collect(),
        }
    }
}

impl Orders {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an order, once: at the end, but for an operator who changed the number of shards, so that recovery
    /// finds the orders of several desks in the order of commits.
    pub(super) fn push(&mut self, row: &OrderRow) {
        let last = self.chunks.back().and_then(|chunk| chunk.back());
        if last.is_some_and(|last| last.seq >= row.id.seq) {
            return self.insert_before_last(row);
        }
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push_back(VecDeque::with_capacity(if self.len == 0 { 16 } else { CHUNK }));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push_back(Order::of(row));
            self.len += 1;
        }
    }

    fn insert_before_last(&mut self, row: &OrderRow) {
        let seq = row.id.seq;
        let at = self.chunks.partition_point(|chunk| chunk.back().is_some_and(|last| last.seq < seq));
        let chunk = self.chunks.get_mut(at).expect("the last order has a seq at or above this one's");
        if let Err(place) = chunk.binary_search_by_key(&seq, |order| order.seq) {
            chunk.insert(place, Order::of(row));
            self.len += 1;
        }
    }

    /// An order by its seq.
    pub(super) fn find(&self, seq: Seq) -> Option<OrderRow> {
        let chunk = self.chunks.partition_point(|chunk| chunk.front().is_some_and(|first| first.seq <= seq));
        let chunk = self.chunks.get(chunk.checked_sub(1)?)?;
        let order = chunk.get(chunk.partition_point(|order| order.seq <= seq).checked_sub(1)?)?;
        (order.seq == seq).then(|| order.row())
    }

    /// The first `count` orders with a seq above `after`.
    pub(super) fn rows_after(&self, after: Seq, count: usize) -> impl Iterator<Item = OrderRow> + '_ {
        let start = self.chunks.partition_point(|chunk| chunk.back().is_some_and(|last| last.seq <= after));
        self.chunks
            .range(start..)
            .flatten()
            .skip_while(move |order| order.seq <= after)
            .take(count)
            .map(Order::row)
    }

    /// Forgets orders up to this seq, a chunk or part of one; true when none is left.
    pub(super) fn forget(&mut self, upto: Seq) -> bool {
        let Some(chunk) = self.chunks.front_mut() else { return true };
        let gone = chunk.partition_point(|order| order.seq <= upto);
        self.len -= gone;
        if gone == chunk.len() {
            self.chunks.pop_front();
            return self.chunks.is_empty();
        }
        chunk.drain(..gone);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64, servers: &[u32]) -> OrderRow {
        let seq = |nth: usize| Seq((n + nth as u64) * u64::from(SHARDS_MAX));
        OrderRow {
            id: OrderId { store: StoreId(1), seq: seq(0) },
            accepted_at: UnixMs(n),
            key: n.is_multiple_of(2).then_some(KeyDigest { key: n, body: 7 }),
            reference: n.is_multiple_of(3).then(|| "ref".into()),
            player: None,
            ordered: n.is_multiple_of(5),
            commands: servers
                .iter()
                .enumerate()
                .map(|(nth, server)| CommandId { server: ServerId(*server), seq: seq(nth) })
                .collect(),
        }
    }

    #[test]
    fn orders_come_back_as_they_went_in_and_leave_from_the_front() {
        let rows: Vec<OrderRow> =
            (1..3000).map(|n| row(n * 3, if n % 7 == 0 { &[4, 4, 9] } else { &[4] })).collect();
        let mut orders = Orders::default();
        rows.iter().for_each(|row| orders.push(row));
        orders.push(&rows[0]);
        assert_eq!(orders.len, rows.len());
        for row in &rows {
            assert_eq!(orders.find(row.id.seq).as_ref(), Some(row));
        }
        assert_eq!(orders.find(Seq(rows[5].id.seq.0 + 64)), None);
        let page: Vec<OrderRow> = orders.rows_after(rows[1500].id.seq, 1000).collect();
        assert_eq!(page, rows[1501..2501]);
        while !orders.forget(rows[2000].id.seq) {}
        assert_eq!(orders.find(rows[2000].id.seq), None);
        assert_eq!(orders.find(rows[2001].id.seq).as_ref(), Some(&rows[2001]));
        assert_eq!(orders.len, rows.len() - 2001);
        while !orders.forget(rows[2998].id.seq) {}
        assert_eq!(orders.len, 0);
    }
}
