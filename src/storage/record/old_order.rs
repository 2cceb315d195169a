//! An order, as formats 1 and 2 have it: in `orders`, each sealed by itself under the seq of its first command. Read once, by the
//! upgrade.

use rkyv::with::{AsBox, InlineAsBox, MapNiche, Niche};
use rkyv::{Archive, Serialize};

use super::accepted::DigestRecord;
#[cfg(any(test, fuzzing))]
use super::seal;
use super::vocabulary::{PlayerRecord, player, text};
use super::{Flaw, Kind, access, unseal};
use crate::engine::OrderRow;
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::time::UnixMs;

/// The row; its seq is its key.
#[derive(Archive, Serialize)]
#[cfg_attr(not(any(test, fuzzing)), expect(dead_code, reason = "only what it is archived as is read"))]
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

/// The id of a command.
#[derive(Archive, Serialize)]
struct CommandIdRecord {
    server: u32,
    seq: u64,
}

#[cfg(any(test, fuzzing))]
impl CommandIdRecord {
    fn new(id: &CommandId) -> CommandIdRecord {
        CommandIdRecord { server: id.server.0, seq: id.seq.0 }
    }
}

impl ArchivedCommandIdRecord {
    fn read(&self) -> CommandId {
        CommandId { server: ServerId(self.server.to_native()), seq: Seq(self.seq.to_native()) }
    }
}

#[cfg(any(test, fuzzing))]
impl<'a> OrderRecord<'a> {
    fn new(row: &'a OrderRow) -> OrderRecord<'a> {
        OrderRecord {
            store: row.id.store.0,
            accepted_at: row.accepted_at.0,
            key: row.key.map(|digest| DigestRecord { key: digest.key, body: digest.body }),
            reference: row.reference.as_deref(),
            player: PlayerRecord::new(row.player.as_ref()),
            ordered: row.ordered,
            commands: row.commands.iter().map(CommandIdRecord::new).collect(),
        }
    }
}

impl ArchivedOrderRecord<'_> {
    fn read(&self, seq: Seq) -> OrderRow {
        OrderRow {
            id: OrderId { store: StoreId(self.store.to_native()), seq },
            accepted_at: UnixMs(self.accepted_at.to_native()),
            key: self.key.as_ref().map(|digest| digest.read()),
            reference: text(&self.reference),
            player: player(&self.player),
            ordered: self.ordered,
            commands: self.commands.iter().map(|id| id.read()).collect(),
        }
    }
}

/// The sealed row.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode_old_order(row: &OrderRow) -> Vec<u8> {
    seal(Kind::OldOrder, row.id.seq.0, &OrderRecord::new(row))
}

/// Reads what [`encode_old_order`] wrote under this seq.
pub(crate) fn decode_old_order(seq: Seq, row: &[u8]) -> Result<OrderRow, Flaw> {
    Ok(access::<ArchivedOrderRecord<'_>>(unseal(Kind::OldOrder, seq.0, row)?)?.read(seq))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, assert_golden};
    use super::*;

    #[test]
    fn orders_read_back() {
        for row in [samples::full_order(), samples::plain_order_row()] {
            assert_eq!(decode_old_order(row.id.seq, &encode_old_order(&row)), Ok(row));
        }
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("old_order_full", &encode_old_order(&samples::full_order()));
        assert_golden("old_order_plain", &encode_old_order(&samples::plain_order_row()));
    }
}
