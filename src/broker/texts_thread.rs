//! The thread that reads texts of waiting commands for the shards: a shard never waits for a disk.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::Inner;
use super::inbox::Envelope;
use crate::engine::Input;
use crate::ids::{Seq, ServerId, ShardNo};
use crate::storage::{Rest, StorageError};

/// Bytes of texts in one answer, so that a few servers with long ones do not fill the memory.
const BYTES_MAX: usize = 1024 * 1024;

/// Texts that a shard asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) shard: ShardNo,
    pub(super) server: ServerId,
    pub(super) seqs: Vec<Seq>,
}

impl Wanted {
    /// The answer.
    pub(super) fn read(self, rest: &dyn Rest) -> Result<Envelope, StorageError> {
        let texts = rest.texts(&self.seqs, BYTES_MAX)?;
        Ok(Envelope::Plain(Input::Texts { server: self.server, texts }))
    }
}

/// Runs until it is told to stop by `None`, or until the first error.
pub(super) fn run(wanted: &Receiver<Option<Wanted>>, inner: &Arc<Inner>) {
    while let Ok(Some(wanted)) = wanted.recv() {
        let shard = wanted.shard;
        match wanted.read(&*inner.rest) {
            Ok(answer) => inner.shard(shard).send_now(answer),
            Err(error) => return inner.fail(error),
        }
    }
}
