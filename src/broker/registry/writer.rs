//! The one thread that changes the registry: decides, makes durable, shows to readers, answers; in this order.
//!
//! Wishes that come together share a transaction. After a failed one nothing is changed any more.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use super::directory::Directory;
use super::ledger::{Done, Ledger, Op};
use super::{Clock, OnFailure, RegistryError};
use crate::limits::{REGISTRY_CHANGES_PER_COMMIT_MAX, REGISTRY_CHANGES_WAITING_MAX};
use crate::storage::StorageError;
use crate::storage::registry::RegistryDb;

type Answer = oneshot::Sender<Result<Done, RegistryError>>;

/// A wish and where its answer goes.
type Wish = (Op, Answer);

/// What the writer works on.
pub(super) struct Writer {
    pub(super) db: RegistryDb,
    pub(super) ledger: Ledger,
    pub(super) directory: Arc<Directory>,
    pub(super) clock: Clock,
    pub(super) on_failure: OnFailure,
}

/// The writer's door. Dropping it waits until what was asked for is done and the file is closed.
#[derive(Debug)]
pub(super) struct WriterLink {
    wishes: Option<mpsc::Sender<Wish>>,
    thread: Option<JoinHandle<()>>,
}

impl WriterLink {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(writer: Writer) -> std::io::Result<WriterLink> {
        let (wishes, waiting) = mpsc::channel(REGISTRY_CHANGES_WAITING_MAX);
        let builder = thread::Builder::new().name("registry".into());
        let thread = builder.spawn(move || run(writer, waiting))?;
        Ok(WriterLink { wishes: Some(wishes), thread: Some(thread) })
    }

    /// Has a wish done. Once it was handed over it is done even if the caller goes away.
    pub(super) async fn ask(&self, op: Op) -> Result<Done, RegistryError> {
        let (answer, answered) = oneshot::channel();
        let wishes = self.wishes.as_ref().expect("present until it is dropped");
        wishes.send((op, answer)).await.expect("the writer lives as long as its door");
        answered.await.expect("the writer answers every wish")
    }
}

impl Drop for WriterLink {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            // It only fails when the writer panicked, which was reported there.
            let _ = thread.join();
        }
    }
}

fn run(mut writer: Writer, mut waiting: mpsc::Receiver<Wish>) {
    let mut wishes = Vec::new();
    while waiting.blocking_recv_many(&mut wishes, REGISTRY_CHANGES_PER_COMMIT_MAX) > 0 {
        if let Err(error) = writer.grant(wishes.drain(..)) {
            tracing::error!(error = %error, "the registry cannot be changed any more");
            (writer.on_failure)(error.clone());
            return refuse(waiting, error);
        }
    }
}

/// Answers everything with the failure, until nobody can ask any more.
fn refuse(mut waiting: mpsc::Receiver<Wish>, error: StorageError) {
    while let Some((_, answer)) = waiting.blocking_recv() {
        let _ = answer.send(Err(RegistryError::Storage(error.clone())));
    }
}

impl Writer {
    /// Does all wishes in one transaction and answers each.
    fn grant(&mut self, wishes: impl Iterator<Item = Wish>) -> Result<(), StorageError> {
        let now = (self.clock)();
        let mut changes = Vec::new();
        let decided: Vec<(Result<Done, RegistryError>, Answer)> =
            wishes.map(|(op, answer)| (self.ledger.decide(op, now, &mut changes), answer)).collect();
        let stored = if changes.is_empty() { Ok(()) } else { self.db.commit(self.ledger.meta(), &changes) };
        if stored.is_ok() {
            self.directory.publish(&changes);
        }
        for (result, answer) in decided {
            let result = match &stored {
                Ok(()) => result,
                Err(error) => Err(RegistryError::Storage(error.clone())),
            };
            // A caller that went away does not need its answer.
            let _ = answer.send(result);
        }
        stored
    }
}
