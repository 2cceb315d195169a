//! Rows of commands, as any table of them gives them.

use redb::ReadableTable;

use crate::engine::CommandRow;
use crate::ids::Seq;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{Flaw, decode_command};

/// A command in a table of this name.
pub(super) fn command_in(
    file: &DbFile,
    table: &impl ReadableTable<u64, &'static [u8]>,
    name: &str,
    seq: Seq,
) -> Result<Option<CommandRow>, StorageError> {
    let row = table.get(seq.0).map_err(file.redb("read"))?;
    row.map(|row| decode_command(seq, row.value()).map_err(|flaw| file.damaged(name, seq.0, flaw)))
        .transpose()
}

/// A command that a checkpoint wrote as a live one, and that nothing but its end has moved since.
pub(super) fn command_at_rest(
    file: &DbFile,
    live: &impl ReadableTable<u64, &'static [u8]>,
    ended: &impl ReadableTable<u64, &'static [u8]>,
    seq: Seq,
) -> Result<CommandRow, StorageError> {
    if let Some(row) = command_in(file, live, "live", seq)? {
        return Ok(row);
    }
    let missing = || file.damaged("live", seq.0, Flaw::new("the row is missing"));
    command_in(file, ended, "ended", seq)?.ok_or_else(missing)
}
