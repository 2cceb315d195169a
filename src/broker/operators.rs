//! What operators do to commands, each with its record in the audit trail before it is answered.
//!
//! The record comes after the engine's durable answer: a crash between the two leaves a command whose history says
//! that an operator changed it, and no record of who. A record that cannot be stored stops the broker, like any other
//! failed write.

use std::future::Future;

use tokio::sync::oneshot;

use super::care::{BackupError, BackupMade};
use super::handle::Handle;
use super::keeper::ToKeeper;
use super::registry::{Actor, AuditAction, AuditOutcome, AuditPage, AuditQuery, AuditTarget};
use super::request::{BrokerError, ResendFilter};
use crate::engine::{CommandRow, Operation};
use crate::ids::{CommandId, StoreId};

impl Handle {
    /// [`Handle::operate`] in somebody's name, on a command of this store.
    ///
    /// # Errors
    /// As [`Handle::operate`].
    pub async fn operate_by(
        &self,
        by: Actor,
        id: CommandId,
        store: StoreId,
        operation: Operation,
    ) -> Result<CommandRow, BrokerError> {
        let action = match operation {
            Operation::Cancel => AuditAction::CommandCancelled,
            Operation::Resend => AuditAction::CommandResent,
            Operation::Edit { .. } => AuditAction::CommandEdited,
        };
        let on = AuditTarget {
            store: Some(store),
            server: Some(id.server),
            command: Some(id),
            ..AuditTarget::default()
        };
        let handle = self.clone();
        to_the_end(async move {
            let result = handle.operate(id, operation).await;
            handle.note(by, action, on, result).await
        })
        .await
    }

    /// [`Handle::resend_many`] in somebody's name.
    ///
    /// # Errors
    /// As [`Handle::resend_many`].
    pub async fn resend_many_by(
        &self,
        by: Actor,
        filter: ResendFilter,
    ) -> Result<Vec<CommandId>, BrokerError> {
        let mut on =
            AuditTarget { store: Some(filter.store), server: filter.server, ..AuditTarget::default() };
        let handle = self.clone();
        to_the_end(async move {
            let result = handle.resend_many(filter).await;
            if let Ok(ids) = &result {
                on.commands = Some((u32::try_from(ids.len()).unwrap_or(u32::MAX), ids_digest(ids)));
            }
            handle.note(by, AuditAction::CommandsResent, on, result).await
        })
        .await
    }

    /// Makes a backup of this name in the backup directory, in somebody's name: every order that was acknowledged before
    /// the call is in it. Takes as long as copying and checking does; the broker goes on meanwhile.
    ///
    /// # Errors
    /// Any: there is no backup.
    pub async fn backup_by(&self, by: Actor, name: &str) -> Result<BackupMade, BackupError> {
        let (handle, name) = (self.clone(), name.to_owned());
        let made = tokio::spawn(async move {
            let (answer, answered) = oneshot::channel();
            let message = ToKeeper::Backup { name: name.clone(), answer };
            handle.inner.keeper.send(message).map_err(|_| BackupError::Stopping)?;
            let made = answered.await.map_err(|_| BackupError::Stopping)??;
            let on = AuditTarget { name: Some(name.into()), ..AuditTarget::default() };
            let changes = handle.registry().by(by);
            let noted = changes.note(AuditAction::BackupCreated, AuditOutcome::Done, on).await;
            noted.map(|()| made).map_err(|_| BackupError::Stopping)
        });
        // It is cut off only when the whole process ends.
        made.await.unwrap_or(Err(BackupError::Stopping))
    }

    /// A page of the audit trail, newest first.
    ///
    /// # Errors
    /// `Stopping`: the disk failed.
    pub async fn audit(&self, query: AuditQuery) -> Result<AuditPage, BrokerError> {
        let look_up = move |inner: &super::Inner| {
            inner.registry.audit(&query).map_err(|error| {
                inner.fail(error);
                BrokerError::Stopping
            })
        };
        self.inner.at_rest(look_up).await
    }

    /// Writes down what came of an action, unless it was refused, and gives it back.
    async fn note<T>(
        &self,
        by: Actor,
        action: AuditAction,
        on: AuditTarget,
        result: Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        let outcome = match &result {
            Ok(_) => AuditOutcome::Done,
            Err(BrokerError::Stopping) => AuditOutcome::Unknown,
            Err(_) => return result,
        };
        let noted = self.registry().by(by).note(action, outcome, on).await;
        noted.map_err(|_| BrokerError::Stopping)?;
        result
    }
}

/// The digest under which a caller recognises a set of commands: the first 16 bytes of the BLAKE3 hash over the ids in
/// rising order of their last number, joined by a line feed.
pub fn ids_digest(ids: &[CommandId]) -> [u8; 16] {
    let mut ids = ids.to_vec();
    ids.sort_unstable_by_key(|id| id.seq);
    let mut hasher = blake3::Hasher::new();
    for (index, id) in ids.iter().enumerate() {
        hasher.update(if index == 0 { b"" } else { b"\n" });
        hasher.update(id.to_string().as_bytes());
    }
    hasher.finalize().as_bytes()[..16].try_into().expect("32 bytes have 16")
}

/// Does a thing to its end even if the caller hangs up: what is done and its record must not part.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
) -> Result<T, BrokerError> {
    // It is cut off only when the whole process ends.
    tokio::spawn(change).await.unwrap_or(Err(BrokerError::Stopping))
}
