//! The audit trail: who did what, from where, to what. The admin's to read; nobody can change it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Admin;
use super::body::{Params, page_limit};
use super::error::Problem;
use super::resend::hex;
use super::words::Time;
use super::{HttpState, paths};
use crate::broker::{AuditAction, AuditQuery, AuditRecord, Who};
use crate::ids::AuditId;

/// One record. Fields that do not apply are null.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditRecord, example = json!({"id": "aud_12", "at": "2026-01-31T12:00:00.000Z", "action": "command.cancel",
    "outcome": "done", "by": "publish", "by_key": "key_3", "address": "192.0.2.7:50514", "store": "sto_2", "server": "srv_1",
    "key": null, "command": "cmd_1_640", "commands": null, "ids_digest": null, "name": null}))]
pub(super) struct AuditView {
    id: String,
    /// When it was written down: right after it was done.
    at: Time,
    /// `store.create`, `key.create`, `key.remove`, `server.create`, `server.update`, `server.remove`,
    /// `token.regenerate`, `command.cancel`, `command.resend`, `command.edit`, `commands.resend`, `admin_key.create`,
    /// `admin_key.reset`, `backup.create`, `backup.restore`.
    action: &'static str,
    /// `done`; or `unknown`: the broker stopped before it could say. What was refused changed nothing and is no record.
    outcome: &'static str,
    /// `admin`, `publish` or `read`: the scope of the key that was used; `local`: the program itself, or its command line.
    by: &'static str,
    /// The key that was used; null for the admin key.
    by_key: Option<String>,
    /// The other end of the connection (a proxy's, when one stands between).
    address: Option<String>,
    store: Option<String>,
    server: Option<String>,
    /// The key that was made or removed.
    key: Option<String>,
    command: Option<String>,
    /// Of `commands.resend`: how many.
    commands: Option<u32>,
    /// Of `commands.resend`: as the caller was answered.
    ids_digest: Option<String>,
    /// The name that was given, or that the removed thing had.
    name: Option<String>,
}

impl From<&AuditRecord> for AuditView {
    fn from(record: &AuditRecord) -> AuditView {
        let AuditRecord { id, at, action, outcome, by, on } = record;
        let (scope, by_key) = match by.who {
            Who::Local => ("local", None),
            Who::Admin => ("admin", None),
            Who::Key { id, scope, .. } => (scope.name(), Some(id)),
        };
        AuditView {
            id: id.to_string(),
            at: Time(*at),
            action: action.name(),
            outcome: outcome.name(),
            by: scope,
            by_key: by_key.map(|id| id.to_string()),
            address: by.address.map(|address| address.to_string()),
            store: on.store.map(|id| id.to_string()),
            server: on.server.map(|id| id.to_string()),
            key: on.key.map(|id| id.to_string()),
            command: on.command.map(|id| id.to_string()),
            commands: on.commands.map(|(count, _)| count),
            ids_digest: on.commands.map(|(_, digest)| hex(&digest)),
            name: on.name.as_deref().map(str::to_owned),
        }
    }
}

/// A page of the audit trail.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub(super) struct AuditPageView {
    /// Newest first. May be fewer than `limit`, or none, although there are more: go by `next_cursor`.
    records: Vec<AuditView>,
    /// Give it as `cursor` for the next page; null = this was the last.
    next_cursor: Option<String>,
}

/// Which records.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParams {
    /// Rows per page, 1 to 1000; 100 when it is not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Written at or after this instant.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<String>,
    /// Written before this instant.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<String>,
    /// Only this action, for example `token.regenerate`.
    action: Option<String>,
}

/// Reads the audit trail, newest first
///
/// Records are kept for `audit_days`, and up to a million of them (100,000 of one store's keys); the oldest go first.
#[utoipa::path(get, path = paths::AUDIT, tag = "audit", operation_id = "list_audit", security(("admin_key" = [])),
    params(AuditParams),
    responses((status = 200, description = "A page of records.", body = AuditPageView)))]
pub(super) async fn list(
    State(state): State<HttpState>,
    _: Admin,
    Params(params): Params<AuditParams>,
) -> Result<Json<AuditPageView>, Problem> {
    let page = state.broker().audit(query(&params)?).await?;
    Ok(Json(AuditPageView {
        records: page.records.iter().map(AuditView::from).collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    }))
}

fn query(params: &AuditParams) -> Result<AuditQuery, Problem> {
    let instant = |field: &'static str, text: &Option<String>| {
        let text = text.as_deref().map(|text| Time::read(text).ok_or(text)).transpose();
        text.map(|time| time.map(|time| time.0))
            .map_err(|text| Problem::field(field, format!("{text:?} is no instant")).range(Time::RANGE))
    };
    let action = |text: &String| {
        AuditAction::read(text).ok_or_else(|| {
            let names: Vec<&str> = AuditAction::ALL.iter().map(|action| action.name()).collect();
            Problem::field("action", format!("{text:?} is no action")).range(names.join(", "))
        })
    };
    let cursor = |text: &String| {
        let id: Result<AuditId, _> = text.parse();
        id.map_err(|_| Problem::field("cursor", "give `next_cursor` of the page before"))
    };
    let query = AuditQuery {
        before: params.cursor.as_ref().map(cursor).transpose()?,
        from: instant("from", &params.from)?,
        to: instant("to", &params.to)?,
        action: params.action.as_ref().map(action).transpose()?,
        limit: page_limit(params.limit.as_deref())?,
    };
    match (query.from, query.to) {
        (Some(from), Some(to)) if from >= to => {
            Err(Problem::field("to", "the span is empty").range("later than from"))
        }
        _ => Ok(query),
    }
}
