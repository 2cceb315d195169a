//! An order, as a row of a block: docs/storage.md has the layout. Its idempotency key is not there: it is among the keys, for as
//! long as they are kept.

use super::Flaw;
use super::pack::{self, Unpack, if_set};
use crate::engine::{Few, OrderRow, Player};
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::time::UnixMs;

/// The row.
pub(crate) fn encode_order(row: &OrderRow) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    let uuid = row.player.as_ref().and_then(|player| player.uuid);
    let there = [row.ordered, row.reference.is_some(), row.player.is_some(), uuid.is_some()];
    pack::number(&mut bytes, pack::flags(there));
    pack::number(&mut bytes, row.id.store.0.into());
    pack::number(&mut bytes, row.accepted_at.0);
    row.reference.iter().for_each(|reference| pack::text(&mut bytes, reference));
    row.player.iter().for_each(|player| pack::text(&mut bytes, &player.name));
    uuid.iter().for_each(|uuid| bytes.extend_from_slice(&uuid.to_le_bytes()));
    pack::number(&mut bytes, row.commands.len() as u64);
    let mut before = row.id.seq;
    for id in &row.commands {
        pack::number(&mut bytes, id.server.0.into());
        pack::difference(&mut bytes, id.seq.0, before.0);
        before = id.seq;
    }
    bytes
}

/// Reads what [`encode_order`] wrote for this seq.
pub(crate) fn decode_order(seq: Seq, row: &[u8]) -> Result<OrderRow, Flaw> {
    let mut unpack = Unpack(row);
    let [ordered, reference, named, uuid] = unpack.flags()?;
    if uuid && !named {
        return Err(Flaw::new("a uuid of nobody"));
    }
    let id = OrderId { store: StoreId(unpack.small()?), seq };
    let accepted_at = UnixMs(unpack.number()?);
    let reference = if_set(reference, || unpack.text())?;
    let name = if_set(named, || unpack.text())?;
    let uuid = if_set(uuid, || unpack.array().map(u128::from_le_bytes))?;
    let count = unpack.number()?;
    let mut commands = Few::default();
    let mut before = seq;
    for _ in 0..count {
        let server = ServerId(unpack.small()?);
        before = Seq(unpack.difference(before.0)?);
        commands.push(CommandId { server, seq: before });
    }
    unpack.end()?;
    let player = name.map(|name| Player { name, uuid });
    Ok(OrderRow { id, accepted_at, key: None, reference, player, ordered, commands })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, assert_golden};
    use super::*;

    #[test]
    fn orders_read_back() {
        let (full, plain) = (samples::full_order(), samples::plain_order_row());
        let reference = OrderRow { reference: full.reference.clone(), ..plain.clone() };
        let player = OrderRow { player: samples::full_command().player, ..plain.clone() };
        let empty = OrderRow { commands: Few::default(), ..plain.clone() };
        for row in [full, plain, reference, player, empty] {
            let bytes = encode_order(&row);
            for length in 0..bytes.len() {
                assert!(decode_order(row.id.seq, &bytes[..length]).is_err(), "{row:?} cut to {length}");
            }
            assert!(decode_order(row.id.seq, &[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
            assert_eq!(decode_order(row.id.seq, &bytes), Ok(OrderRow { key: None, ..row }));
        }
        assert_eq!(decode_order(Seq(1), &[8, 1, 1, 0]), Err(Flaw::new("a uuid of nobody")));
    }

    #[test]
    fn bytes_are_golden() {
        assert_golden("order_full", &encode_order(&samples::full_order()));
        assert_golden("order_plain", &encode_order(&samples::plain_order_row()));
    }
}
