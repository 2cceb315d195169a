//! What one checkpoint added: the commands that ended on a server, and the orders that came.
//!
//! Rows of `ended_by_server` form one list per server, newest first: each names the checkpoint before it.

use rkyv::{Archive, Serialize};

use super::{Flaw, Kind, access, pair_key, seal, unseal};
use crate::ids::{Seq, ServerId};
use crate::time::UnixMs;

/// The commands of one server that ended in one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndedIndex {
    /// The checkpoint of the row before this one in the server's list; 0 = none.
    pub(crate) before: u64,
    /// When the last of them ended.
    pub(crate) latest: UnixMs,
    /// Rising.
    pub(crate) seqs: Vec<Seq>,
}

/// Some of the orders that came with one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderIndex {
    /// When the last of them was accepted.
    pub(crate) latest: UnixMs,
    /// First seqs, rising.
    pub(crate) seqs: Vec<Seq>,
}

#[derive(Archive, Serialize)]
struct EndedRecord {
    before: u64,
    latest: u64,
    seqs: Vec<u64>,
}

#[derive(Archive, Serialize)]
struct OrdersRecord {
    latest: u64,
    seqs: Vec<u64>,
}

impl EndedIndex {
    /// The sealed row.
    pub(crate) fn encode(&self, checkpoint: u64, server: ServerId) -> Vec<u8> {
        let record = EndedRecord {
            before: self.before,
            latest: self.latest.0,
            seqs: self.seqs.iter().map(|seq| seq.0).collect(),
        };
        seal(Kind::EndedIndex, pair_key(checkpoint, server.0), &record)
    }

    /// Reads what [`EndedIndex::encode`] wrote there.
    pub(crate) fn decode(checkpoint: u64, server: ServerId, row: &[u8]) -> Result<EndedIndex, Flaw> {
        let body = unseal(Kind::EndedIndex, pair_key(checkpoint, server.0), row)?;
        let record = access::<ArchivedEndedRecord>(body)?;
        Ok(EndedIndex {
            before: record.before.to_native(),
            latest: UnixMs(record.latest.to_native()),
            seqs: record.seqs.iter().map(|seq| Seq(seq.to_native())).collect(),
        })
    }
}

impl OrderIndex {
    /// The sealed row.
    pub(crate) fn encode(&self, checkpoint: u64, chunk: u32) -> Vec<u8> {
        let record =
            OrdersRecord { latest: self.latest.0, seqs: self.seqs.iter().map(|seq| seq.0).collect() };
        seal(Kind::OrderIndex, pair_key(checkpoint, chunk), &record)
    }

    /// Reads what [`OrderIndex::encode`] wrote there.
    pub(crate) fn decode(checkpoint: u64, chunk: u32, row: &[u8]) -> Result<OrderIndex, Flaw> {
        let body = unseal(Kind::OrderIndex, pair_key(checkpoint, chunk), row)?;
        let record = access::<ArchivedOrdersRecord>(body)?;
        Ok(OrderIndex {
            latest: UnixMs(record.latest.to_native()),
            seqs: record.seqs.iter().map(|seq| Seq(seq.to_native())).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::assert_golden;
    use super::*;

    #[test]
    fn rows_read_back_and_their_bytes_are_golden() {
        let ended = EndedIndex { before: 4, latest: UnixMs(1_000), seqs: vec![Seq(65), Seq(129)] };
        let row = ended.encode(5, ServerId(9));
        assert_eq!(EndedIndex::decode(5, ServerId(9), &row), Ok(ended));
        assert_golden("ended_index", &row);

        let orders = OrderIndex { latest: UnixMs(2_000), seqs: vec![Seq(65)] };
        let row = orders.encode(5, 0);
        assert_eq!(OrderIndex::decode(5, 0, &row), Ok(orders));
        assert_golden("order_index", &row);
    }
}
