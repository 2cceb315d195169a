//! What is kept of a server beside its commands, as it lies in `servers` under its id.

use rkyv::{Archive, Serialize};

use super::{Flaw, Kind, access, seal, unseal};
use crate::engine::ServerRow;
use crate::ids::ServerId;

/// Totals, and where the list of what ended on this server starts.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ServerEntry {
    /// Ever `completed`, `cancelled`, `expired`.
    pub(crate) ended: [u64; 3],
    /// The checkpoint with the newest row of this server in `ended_by_server`; 0 = none.
    pub(crate) newest: u64,
}

impl ServerEntry {
    /// The sealed row.
    pub(crate) fn encode(&self, server: ServerId) -> Vec<u8> {
        seal(Kind::Server, u64::from(server.0), self)
    }

    /// Reads what [`ServerEntry::encode`] wrote for this server.
    pub(crate) fn decode(server: ServerId, row: &[u8]) -> Result<ServerEntry, Flaw> {
        let record = access::<ArchivedServerEntry>(unseal(Kind::Server, u64::from(server.0), row)?)?;
        Ok(ServerEntry {
            ended: [record.ended[0].to_native(), record.ended[1].to_native(), record.ended[2].to_native()],
            newest: record.newest.to_native(),
        })
    }

    /// The totals as recovery hands them out.
    pub(crate) fn row(&self, server: ServerId) -> ServerRow {
        ServerRow { server, ended: self.ended }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::assert_golden;
    use super::*;

    #[test]
    fn it_reads_back_and_its_bytes_are_golden() {
        let entry = ServerEntry { ended: [1, 2, 1 << 40], newest: 77 };
        let row = entry.encode(ServerId(12));
        assert_eq!(ServerEntry::decode(ServerId(12), &row), Ok(entry));
        assert!(ServerEntry::decode(ServerId(13), &row).is_err());
        assert_golden("server", &row);
    }
}
