//! A desk that is restored apart from the queues of its shard, by another thread if need be: each has its own structures. Must
//! never be asked for anything before it is back and all is known.
//!
//! Nobody asks for a key meanwhile, so keys are gathered first, and go in by many at once.

use super::desk::Desk;
use super::io::{KeyRow, OrderRow};
use super::keys::Gathered;

/// The desk of a shard that is being restored; see [`super::Shard::lend_desk`].
#[derive(Debug)]
pub struct LentDesk {
    desk: Desk,
    gathered: Gathered,
}

impl LentDesk {
    /// One of so many that are lent at a time.
    pub(super) fn new(desk: Desk, desks: u16) -> LentDesk {
        LentDesk { desk, gathered: Gathered::new(desks) }
    }

    pub(super) fn into_desk(mut self) -> Desk {
        self.settle();
        self.desk
    }

    /// All is restored: puts what is gathered where it belongs, which otherwise whoever takes the desk back has to wait for.
    pub fn settle(&mut self) {
        self.gathered.end(&mut self.desk.keys);
    }

    /// A remembered idempotency key of one of its stores.
    pub fn restore_key(&mut self, row: KeyRow) {
        self.desk.on_seq(row.order.seq);
        self.gathered.push(row, &mut self.desk.keys);
    }

    /// An accepted order of one of its stores, in the order of commits; its commands are for the queues.
    pub fn restore_order(&mut self, row: &OrderRow) {
        if let Some(key) = self.desk.apply_order(row) {
            self.gathered.push(key, &mut self.desk.keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::harness::STORE;
    use super::super::io::KeyDigest;
    use super::super::shard::Shard;
    use crate::ids::{OrderId, Seq, ShardNo};
    use crate::limits::SHARDS_MAX;
    use crate::time::UnixMs;

    use super::*;

    #[test]
    fn seqs_that_either_half_has_seen_are_not_given_out_again() {
        let stride = u64::from(SHARDS_MAX);
        for (at_the_desk, in_the_queues) in [(7, 0), (0, 7), (7, 5)] {
            let mut shard = Shard::new(Settings::default(), ShardNo(0), 1, 2, UnixMs(1));
            let mut desk = shard.lend_desk();
            let order = OrderId { store: STORE, seq: Seq(at_the_desk * stride) };
            desk.restore_key(KeyRow { digest: KeyDigest { key: 3, body: 4 }, order, at: UnixMs(1) });
            shard.restore_next_seq((in_the_queues + 1) * stride);
            assert_eq!(shard.counters().keys, 0, "the desk is away");
            shard.take_back(desk);
            assert_eq!(shard.desk.next_seq(), Seq(8 * stride));
            assert_eq!(shard.counters().keys, 1);
        }
    }
}
