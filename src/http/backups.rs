//! Backups: the admin's call that has one made on the broker's own machine. Nothing of it leaves over the network.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Admin;
use super::body::{JsonBody, NoParams};
use super::error::{Code, Problem};
use super::{HttpState, paths};
use crate::broker::{BackupError, BackupMade, is_backup_name};

/// When another backup may have ended.
const RETRY_AFTER_MS: u32 = 10_000;

/// A backup to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "2026-01-31"}))]
pub(super) struct NewBackup {
    /// The name of its directory within the broker's `backup_dir`: 1 to 100 of `A-Z a-z 0-9 - _ .`, no dot first.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")]
    name: String,
}

/// A backup that is durable and was checked.
#[derive(Serialize, ToSchema)]
#[schema(as = Backup, example = json!({"name": "2026-01-31", "directory": "/var/lib/fluxrelay/backups/2026-01-31", "bytes": 5_259_264}))]
pub(super) struct BackupView {
    name: String,
    /// Where it lies on the broker's machine.
    directory: String,
    /// Of all its files.
    bytes: u64,
}

/// Makes a backup
///
/// The broker goes on meanwhile. Every order that was acknowledged before this call is in it. It is answered once the copy is
/// durable and every row of it was checked, which takes as long as reading and writing the databases does.
#[utoipa::path(post, path = paths::BACKUPS, tag = "operation", operation_id = "create_backup",
    security(("admin_key" = [])),
    request_body = NewBackup,
    responses((status = 201, description = "The backup.", body = BackupView),
              (status = 409, description = "`name_taken`"),
              (status = 503, description = "`busy`: another one is under way. `storage_unavailable`: it could not be \
                                            written or does not check; the broker goes on.")))]
pub(super) async fn create(
    State(state): State<HttpState>,
    Admin(by): Admin,
    _: NoParams,
    JsonBody(body): JsonBody<NewBackup>,
) -> Result<(StatusCode, Json<BackupView>), Problem> {
    if !is_backup_name(&body.name) {
        let problem = Problem::field("name", "a directory of this name cannot be made");
        return Err(problem.range("1 to 100 of A-Z a-z 0-9 - _ . and no dot first"));
    }
    let BackupMade { directory, bytes } = state.broker().backup_by(by, &body.name).await?;
    let directory = directory.display().to_string();
    Ok((StatusCode::CREATED, Json(BackupView { name: body.name, directory, bytes })))
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Problem {
        let words = error.to_string();
        match error {
            BackupError::Exists(_) => Problem::new(Code::NameTaken, words).at("name"),
            BackupError::Running => Problem::new(Code::Busy, words).retry_after(RETRY_AFTER_MS),
            BackupError::Stopping => Problem::new(Code::ShuttingDown, words).retry_after(RETRY_AFTER_MS),
            BackupError::Failed(_) => {
                Problem::new(Code::StorageUnavailable, words).retry_after(RETRY_AFTER_MS)
            }
        }
    }
}
