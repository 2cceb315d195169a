//! Rows of commands, as the tables of them give them.

use redb::ReadableTable;

use crate::engine::CommandRow;
use crate::ids::CommandId;
use crate::storage::blocks::{Shown, place};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{Flaw, decode_command};
use crate::storage::tables::{ENDED, LIVE};

/// Tables of commands have these keys.
type Commands = (u32, u64);

/// A command that has ended.
pub(super) fn ended_command(
    file: &DbFile,
    ended: &impl ReadableTable<Commands, &'static [u8]>,
    id: CommandId,
) -> Result<Option<CommandRow>, StorageError> {
    ENDED.get(file, ended, place(id), |row| decode_command(id, row))
}

/// A command, live or ended.
pub(super) fn command(
    file: &DbFile,
    live: &impl ReadableTable<Commands, &'static [u8]>,
    ended: &impl ReadableTable<Commands, &'static [u8]>,
    id: CommandId,
) -> Result<Option<CommandRow>, StorageError> {
    match LIVE.get(file, live, place(id), |row| decode_command(id, row))? {
        Some(row) => Ok(Some(row)),
        None => ended_command(file, ended, id),
    }
}

/// A command that a checkpoint wrote as a live one, and that nothing but its end has moved since.
pub(super) fn command_at_rest(
    file: &DbFile,
    live: &impl ReadableTable<Commands, &'static [u8]>,
    ended: &impl ReadableTable<Commands, &'static [u8]>,
    id: CommandId,
) -> Result<CommandRow, StorageError> {
    let missing = || file.damaged(LIVE.name, Shown(place(id)), Flaw::new("the row is missing"));
    command(file, live, ended, id)?.ok_or_else(missing)
}
