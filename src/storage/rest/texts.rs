//! The texts of a server's live commands, which lie together.

use std::sync::Arc;

use redb::Database;

use super::read::Reader;
use crate::ids::{CommandId, Seq, ServerId};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::decode_text;
use crate::storage::tables::LIVE;

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
    let (mut found, mut bytes) = (Vec::with_capacity(seqs.len()), 0);
    let mut wanted = seqs.iter().copied().peekable();
    LIVE.walk(file, &reader.table(LIVE.table)?, (server.0, first.0), |seq, row| {
        // Those before it that are not there have ended.
        while wanted.next_if(|wanted| *wanted < seq).is_some() {}
        if wanted.next_if_eq(&seq).is_some() {
            let text = decode_text(CommandId { server, seq }, row)?;
            bytes += text.len();
            found.push((seq, text));
        }
        Ok(wanted.peek().is_some() && bytes < bytes_max)
    })?;
    Ok(found)
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
