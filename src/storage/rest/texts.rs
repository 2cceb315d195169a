//! The texts of a server's live commands, which lie together.

use std::sync::Arc;

use redb::Database;

use super::read::Reader;
use super::row::command_at_rest;
use crate::ids::{CommandId, Seq, ServerId};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::decode_text;
use crate::storage::tables::{ENDED, LIVE};

/// See [`crate::storage::Rest::texts`].
pub(super) fn texts(
    db: &Database,
    file: &DbFile,
    server: ServerId,
    seqs: &[Seq],
    bytes_max: usize,
) -> Result<Vec<(Seq, Arc<str>)>, StorageError> {
    let Some(first) = seqs.first() else { return Ok(Vec::new()) };
    let reader = Reader::new(db, file)?;
    let (live, ended) = (reader.table(LIVE.table)?, reader.table(ENDED.table)?);
    let (mut found, mut bytes) = (Vec::with_capacity(seqs.len()), 0);
    let mut missing = Vec::new();
    let mut wanted = seqs.iter().copied().peekable();
    LIVE.walk(file, &live, (server.0, first.0), |seq, row| {
        missing.extend(std::iter::from_fn(|| wanted.next_if(|wanted| *wanted < seq)));
        if wanted.next_if_eq(&seq).is_some() {
            let text = decode_text(CommandId { server, seq }, row)?;
            bytes += text.len();
            found.push((seq, text));
        }
        Ok(wanted.peek().is_some() && bytes < bytes_max)
    })?;
    if bytes < bytes_max {
        missing.extend(wanted);
    }
    // They have ended, or it is an error that they are not there.
    for seq in missing {
        command_at_rest(file, &live, &ended, CommandId { server, seq })?;
    }
    Ok(found)
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
