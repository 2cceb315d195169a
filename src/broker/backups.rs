//! The keeper's part in a backup: it looks at the files, since nothing is trimmed while it does, and has them copied and
//! checked by a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::Inner;
use super::care::{BackupError, BackupMade, make_backup};
use crate::storage::BackupSource;

/// What became of a backup.
pub(super) type BackupAnswer = Result<BackupMade, BackupError>;

/// The backups of one broker, one at a time.
pub(super) struct Backups {
    data_dir: PathBuf,
    backup_dir: PathBuf,
    source: BackupSource,
    running: Option<JoinHandle<()>>,
}

impl Backups {
    pub(super) fn new(data_dir: PathBuf, backup_dir: PathBuf, source: BackupSource) -> Backups {
        Backups { data_dir, backup_dir, source, running: None }
    }

    /// Another one is under way.
    pub(super) fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Begins one of this name. Whoever asked may have gone away; then nobody needs the answer.
    pub(super) fn begin(&mut self, name: &str, answer: oneshot::Sender<BackupAnswer>, inner: &Arc<Inner>) {
        let snapshot = match self.source.snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => return drop(answer.send(Err(error.into()))),
        };
        let (data_dir, target) = (self.data_dir.clone(), self.backup_dir.join(name));
        let inner = Arc::clone(inner);
        let copy = move || {
            let made = make_backup(snapshot, &data_dir, &target, &|| inner.is_stopping());
            let cut_short = made.is_err() && inner.is_stopping();
            let _ = answer.send(if cut_short { Err(BackupError::Stopping) } else { made });
        };
        let begun = thread::Builder::new().name("backup".into()).spawn(copy);
        self.running =
            begun.inspect_err(|error| tracing::warn!(%error, "cannot start a backup's thread")).ok();
    }

    /// Waits for the one under way, which sees that the broker stops.
    pub(super) fn end(self) {
        if let Some(thread) = self.running {
            // It only fails when it panicked, which was reported there.
            let _ = thread.join();
        }
    }
}
