//! The thread that makes room in the journal for commits to come, so that none of them has to.

use crossbeam_channel::Receiver;

use super::Inner;

/// A message to it.
#[derive(Debug)]
pub(super) enum ToRoom {
    /// There is less than there should be.
    Make,
    /// End.
    Stop,
}

/// Runs until it is told to stop.
pub(super) fn run(channel: &Receiver<ToRoom>, inner: &Inner) {
    while let Ok(ToRoom::Make) = channel.recv() {
        inner.journal.make_room();
    }
}
