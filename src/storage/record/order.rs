//! An order, as it lies in `orders` under the seq of its first command.

use rkyv::with::{AsBox, InlineAsBox, MapNiche, Niche};
use rkyv::{Archive, Serialize};

use super::accepted::DigestRecord;
use super::vocabulary::{PlayerRecord, player, text};
use super::{Flaw, Kind, access, seal, unseal};
use crate::engine::OrderRow;
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::time::UnixMs;

/// The row; its seq is its key.
#[derive(Archive, Serialize)]
struct OrderRecord<'a> {
    store: u32,
    accepted_at: u64,
    #[rkyv(with = MapNiche<AsBox>)]
    key: Option<DigestRecord>,
    #[rkyv(with = MapNiche<InlineAsBox>)]
    reference: Option<&'a str>,
    #[rkyv(with = Niche)]
    player: Option<Box<PlayerRecord<'a>>>,
    ordered: bool,
    commands: Vec<CommandIdRecord>,
}

#[derive(Archive, Serialize)]
struct CommandIdRecord {
    server: u32,
    seq: u64,
}

impl<'a> OrderRecord<'a> {
    fn new(row: &'a OrderRow) -> OrderRecord<'a> {
        let command = |id: &CommandId| CommandIdRecord { server: id.server.0, seq: id.seq.0 };
        OrderRecord {
            store: row.id.store.0,
            accepted_at: row.accepted_at.0,
            key: row.key.map(|digest| DigestRecord { key: digest.key, body: digest.body }),
            reference: row.reference.as_deref(),
            player: PlayerRecord::new(row.player.as_ref()),
            ordered: row.ordered,
            commands: row.commands.iter().map(command).collect(),
        }
    }
}

impl ArchivedOrderRecord<'_> {
    fn read(&self, seq: Seq) -> OrderRow {
        let command = |id: &ArchivedCommandIdRecord| CommandId {
            server: ServerId(id.server.to_native()),
            seq: Seq(id.seq.to_native()),
        };
        OrderRow {
            id: OrderId { store: StoreId(self.store.to_native()), seq },
            accepted_at: UnixMs(self.accepted_at.to_native()),
            key: self.key.as_ref().map(|digest| digest.read()),
            reference: text(&self.reference),
            player: player(&self.player),
            ordered: self.ordered,
            commands: self.commands.iter().map(command).collect(),
        }
    }
}

/// The sealed row.
pub(crate) fn encode_order(row: &OrderRow) -> Vec<u8> {
    seal(Kind::Order, row.id.seq.0, &OrderRecord::new(row))
}

/// Reads what [`encode_order`] wrote under this seq.
pub(crate) fn decode_order(seq: Seq, row: &[u8]) -> Result<OrderRow, Flaw> {
    Ok(access::<ArchivedOrderRecord<'_>>(unseal(Kind::Order, seq.0, row)?)?.read(seq))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, assert_golden};
    use super::*;

    #[test]
    fn orders_read_back() {
        for row in [samples::full_order(), samples::plain_order_row()] {
            assert_eq!(decode_order(row.id.seq, &encode_order(&row)), Ok(row));
        }
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("order_full", &encode_order(&samples::full_order()));
        assert_golden("order_plain", &encode_order(&samples::plain_order_row()));
    }
}
