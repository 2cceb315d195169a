//! The thread that reads texts of waiting commands for the shards: a shard never waits for a read.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::Inner;
use super::inbox::Envelope;
use crate::engine::Input;
use crate::ids::{Seq, ServerId, ShardNo};
use crate::limits::DELIVER_BYTES_MAX;
use crate::storage::{Rest, StorageError};

/// Texts that a shard asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) shard: ShardNo,
    pub(super) server: ServerId,
    /// By rising seq.
    pub(super) seqs: Vec<Seq>,
}

/// Runs until it is told to stop by `None`, or until the first error.
pub(super) fn run(channel: &Receiver<Option<Wanted>>, inner: &Arc<Inner>) {
    while let Ok(Some(wanted)) = channel.recv() {
        match read(&*inner.rest, &wanted) {
            Ok(answer) => inner.shard(wanted.shard).send_now(answer),
            Err(error) => return inner.fail(error),
        }
    }
}

/// What the shard is told: as many texts as one message may have; what is left over is asked for again.
pub(super) fn read(rest: &dyn Rest, wanted: &Wanted) -> Result<Envelope, StorageError> {
    let texts = rest.texts(wanted.server, &wanted.seqs, DELIVER_BYTES_MAX)?;
    Ok(Envelope::Plain(Input::Texts { server: wanted.server, texts }))
}
