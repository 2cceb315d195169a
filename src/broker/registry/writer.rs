//! The one thread that changes the registry: decides, makes durable, shows to readers, answers; in this order.
//!
//! Each record of the audit trail is also one line of the log, once it is durable. Wishes that come together share a
//! transaction. After a failed one nothing is changed any more.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use super::directory::Directory;
use super::ledger::{Done, Ledger, Op};
use super::{Actor, AuditRecord, Clock, OnFailure, RegistryError, Who};
use crate::limits::{REGISTRY_CHANGES_PER_COMMIT_MAX, REGISTRY_CHANGES_WAITING_MAX};
use crate::storage::StorageError;
use crate::storage::registry::{RegistryDb, RowChange};
use crate::time::UnixMs;

type Answer = oneshot::Sender<Result<Done, RegistryError>>;

/// A wish, in whose name, and where its answer goes.
type Wish = (Op, Actor, Answer);

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
    pub(super) async fn ask(&self, op: Op, by: Actor) -> Result<Done, RegistryError> {
        let (answer, answered) = oneshot::channel();
        self.wishes().send((op, by, answer)).await.expect("the writer lives as long as its door");
        answered.await.expect("the writer answers every wish")
    }

    /// Has old records of the audit trail removed. Blocks until it is durable.
    pub(super) fn expire_audit(&self, before: UnixMs) -> Result<(), StorageError> {
        let (answer, answered) = oneshot::channel();
        let wish = (Op::ExpireAudit { before }, Actor::LOCAL, answer);
        self.wishes().blocking_send(wish).expect("the writer lives as long as its door");
        match answered.blocking_recv().expect("the writer answers every wish") {
            Err(RegistryError::Storage(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn wishes(&self) -> &mpsc::Sender<Wish> {
        self.wishes.as_ref().expect("present until it is dropped")
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
    while let Some((_, _, answer)) = waiting.blocking_recv() {
        let _ = answer.send(Err(RegistryError::Storage(error.clone())));
    }
}

impl Writer {
    /// Does all wishes in one transaction and answers each.
    fn grant(&mut self, wishes: impl Iterator<Item = Wish>) -> Result<(), StorageError> {
        let now = (self.clock)();
        let mut changes = Vec::new();
        let decided: Vec<(Result<Done, RegistryError>, Answer)> =
            wishes.map(|(op, by, answer)| (self.ledger.decide(op, by, now, &mut changes), answer)).collect();
        let stored = if changes.is_empty() { Ok(()) } else { self.db.commit(self.ledger.meta(), &changes) };
        if stored.is_ok() {
            self.directory.publish(&changes);
            changes.iter().for_each(log);
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

/// The log's line for a record of the audit trail. Names are given as strings, not displayed: the log's formats escape
/// what could drive a terminal or begin a line of its own.
pub(super) fn log(change: &RowChange) {
    let RowChange::Audit(record) = change else { return };
    let AuditRecord { id, action, outcome, by, on, .. } = &**record;
    let (who, key) = match by.who {
        Who::Local => ("local", None),
        Who::Admin => ("admin", None),
        Who::Key { id, scope, .. } => (scope.name(), Some(id)),
    };
    tracing::info!(
        audit = %id,
        action = action.name(),
        outcome = outcome.name(),
        by = who,
        by_key = key.map(tracing::field::display),
        address = by.address.map(tracing::field::display),
        store = on.store.map(tracing::field::display),
        server = on.server.map(tracing::field::display),
        key = on.key.map(tracing::field::display),
        command = on.command.map(tracing::field::display),
        commands = on.commands.map(|(count, _)| count),
        name = on.name.as_deref(),
        "audit"
    );
}
