//! Commands as operators and publishers see them: shown, listed, edited, cancelled, resent.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::auth::{Caller, Publisher, Reader};
use super::body::{JsonBody, NoParams, Params, PathId, page_limit};
use super::error::{Code, Problem};
use super::words::{CommandStatus, NoteCode, PlayerBody, Time, note_code};
use super::{HttpState, fields, paths, servers};
use crate::broker::BrokerError;
use crate::engine::{CommandRow, HistoryEntry, OnDoubt, Operation, Refusal, Status};
use crate::ids::{CommandId, ServerId};
use crate::protocol::check;

/// What happens when nobody can say whether a started command ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum DoubtRule {
    /// It becomes `in_doubt`; an operator or a late result decides.
    #[default]
    Hold,
    /// It is delivered again: safe to repeat.
    Rerun,
}

impl From<DoubtRule> for OnDoubt {
    fn from(rule: DoubtRule) -> OnDoubt {
        match rule {
            DoubtRule::Hold => OnDoubt::Hold,
            DoubtRule::Rerun => OnDoubt::Rerun,
        }
    }
}

/// One line of a command's history.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryEntry)]
pub(super) struct HistoryView {
    /// The status entered, or kept with a note.
    status: CommandStatus,
    at: Time,
    attempt: u16,
    /// Why; null = nothing to add.
    note: Option<NoteCode>,
    /// The plugin's error text, when one came with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<&HistoryEntry> for HistoryView {
    fn from(entry: &HistoryEntry) -> HistoryView {
        HistoryView {
            status: entry.status.into(),
            at: Time(entry.at),
            attempt: entry.attempt,
            note: note_code(entry.note),
            error: entry.error.as_deref().map(str::to_owned),
        }
    }
}

/// One command and all that happened to it.
#[derive(Serialize, ToSchema)]
#[schema(as = Command, example = json!({"id": "cmd_1_640", "order": "ord_1_640", "server": "srv_1",
    "command": "lp user Steve parent add vip", "player": {"name": "Steve"}, "require_online": false,
    "status": "completed", "status_at": "2026-01-31T12:00:00.020Z", "accepted_at": "2026-01-31T12:00:00.000Z",
    "attempts": 1, "next_attempt_at": null, "not_before": null, "expires_at": null, "on_doubt": "hold",
    "after": null, "stage": "initial", "metadata": {"payment": "pay_9"}, "error": null, "output": "Added Steve",
    "history": [{"status": "pending", "at": "2026-01-31T12:00:00.000Z", "attempt": 1, "note": null},
                {"status": "delivered", "at": "2026-01-31T12:00:00.004Z", "attempt": 1, "note": null},
                {"status": "completed", "at": "2026-01-31T12:00:00.020Z", "attempt": 1, "note": null}]}))]
pub(super) struct CommandView {
    id: String,
    order: String,
    server: String,
    command: String,
    player: Option<PlayerBody>,
    require_online: bool,
    status: CommandStatus,
    /// When it entered its status.
    status_at: Time,
    accepted_at: Time,
    /// Tries begun: the attempt that is out, was last out, or that the next delivery has. From 1; only a reported
    /// failure raises it.
    attempts: u16,
    /// When it is due, while pending; null = as soon as its server takes it.
    next_attempt_at: Option<Time>,
    not_before: Option<Time>,
    expires_at: Option<Time>,
    on_doubt: DoubtRule,
    /// The command that has to end before this one, when its order is ordered.
    after: Option<String>,
    stage: Option<String>,
    /// The JSON object that the publisher gave.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
    /// The latest error text of the plugin.
    error: Option<String>,
    /// The latest output of the command.
    output: Option<String>,
    /// Oldest first; of a long one the first entry and the latest 63.
    history: Vec<HistoryView>,
}

impl From<&CommandRow> for CommandView {
    fn from(row: &CommandRow) -> CommandView {
        let labels = row.labels.as_deref();
        let text = |value: &Option<std::sync::Arc<str>>| value.as_deref().map(str::to_owned);
        CommandView {
            id: row.id.to_string(),
            order: row.order.to_string(),
            server: row.id.server.to_string(),
            command: text(&row.text).unwrap_or_default(),
            player: row.player.as_ref().map(PlayerBody::from),
            require_online: row.require_online,
            status: row.status.into(),
            status_at: Time(row.status_at),
            accepted_at: Time(row.accepted_at),
            attempts: row.attempt,
            next_attempt_at: row.next_at.map(Time),
            not_before: row.not_before.map(Time),
            expires_at: row.expires_at.map(Time),
            on_doubt: if row.on_doubt == OnDoubt::Rerun { DoubtRule::Rerun } else { DoubtRule::Hold },
            after: row.after.map(|seq| CommandId { server: row.id.server, seq }.to_string()),
            stage: labels.and_then(|labels| text(&labels.stage)),
            metadata: labels.and_then(|labels| labels.metadata.as_deref()).map(raw_metadata),
            error: text(&row.error),
            output: text(&row.output),
            history: row.history.iter().map(HistoryView::from).collect(),
        }
    }
}

/// Metadata as JSON. What an earlier version took and not every parser reads is given as text, so that the answer can be read.
fn raw_metadata(text: &str) -> Box<RawValue> {
    let json = check::metadata(text).ok().and_then(|()| RawValue::from_string(text.to_owned()).ok());
    json.unwrap_or_else(|| serde_json::value::to_raw_value(text).expect("a text is JSON as a string"))
}

/// A page of commands.
#[derive(Serialize, ToSchema)]
#[schema(as = CommandPage)]
pub(super) struct CommandPageView {
    /// First those that have not ended, oldest first; then the ended ones, newest first.
    commands: Vec<CommandView>,
    /// Give it as `cursor` for the next page; null = this was the last.
    next_cursor: Option<String>,
}

/// Which commands.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CommandsQuery {
    /// Only this status.
    #[param(value_type = Option<CommandStatus>)]
    status: Option<String>,
    /// Rows per page, 1 to 1000; 100 when it is not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A new text for a command.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"command": "lp user Steve parent add mvp"}))]
pub(super) struct CommandChange {
    /// 1 to 4096 bytes without CR, LF or NUL.
    #[schema(min_length = 1, max_length = 4096)]
    command: String,
}

/// The command of a path, if this caller may see it.
async fn visible(state: &HttpState, caller: &Caller, id: &str) -> Result<CommandRow, Problem> {
    let missing = || Problem::not_found("command");
    let id: CommandId = id.parse().map_err(|_| missing())?;
    match state.broker().command(id).await {
        Ok(row) if caller.sees(row.order.store) => Ok(row),
        Ok(_) | Err(BrokerError::NotFound | BrokerError::Refused(Refusal::UnknownCommand)) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

async fn operate(
    state: &HttpState,
    caller: &Caller,
    id: &str,
    operation: Operation,
) -> Result<Json<CommandView>, Problem> {
    let before = visible(state, caller, id).await?;
    let (verb, from) = match operation {
        Operation::Cancel => ("cancelled", "pending, awaiting_player, failed or in_doubt"),
        Operation::Resend => ("resent", "failed or in_doubt"),
        Operation::Edit { .. } => ("edited", "pending or awaiting_player"),
    };
    let wrong = |status: Status| {
        let status = CommandStatus::from(status).text();
        Problem::new(Code::WrongStatus, format!("it is {status}; it can be {verb} while it is {from}"))
    };
    match state.broker().operate_by(caller.actor(), before.id, before.order.store, operation).await {
        Ok(row) => Ok(Json(CommandView::from(&row))),
        Err(BrokerError::Refused(Refusal::WrongStatus(status))) => Err(wrong(status)),
        // It was there a moment ago and is not in memory: it has ended.
        Err(BrokerError::NotFound | BrokerError::Refused(Refusal::UnknownCommand)) => {
            Err(wrong(before.status))
        }
        Err(error) => Err(error.into()),
    }
}

/// One command with its history
#[utoipa::path(get, path = paths::COMMAND, tag = "commands", operation_id = "show_command",
    security(("read_key" = [])), params(("id" = String, Path, description = "The command.", example = "cmd_1_640")),
    responses((status = 200, description = "The command.", body = CommandView)))]
pub(super) async fn show(
    State(state): State<HttpState>,
    Reader(caller): Reader,
    _: NoParams,
    PathId(id): PathId,
) -> Result<Json<CommandView>, Problem> {
    let row = visible(&state, &caller, &id).await?;
    Ok(Json(CommandView::from(&row)))
}

/// Commands of a server
#[utoipa::path(get, path = paths::SERVER_COMMANDS, tag = "commands", operation_id = "list_commands",
    security(("read_key" = [])),
    params(("id" = String, Path, description = "The server.", example = "srv_1"), CommandsQuery),
    responses((status = 200, description = "A page of commands.", body = CommandPageView)))]
pub(super) async fn list(
    State(state): State<HttpState>,
    Reader(caller): Reader,
    PathId(id): PathId,
    Params(query): Params<CommandsQuery>,
) -> Result<Json<CommandPageView>, Problem> {
    let server: ServerId = servers::visible(state.broker().registry(), &caller, &id)?.id;
    let limit = page_limit(query.limit.as_deref())?;
    let status = query.status.as_deref().map(read_status).transpose()?;
    let cursor = query.cursor.as_deref();
    let page = state.broker().commands(server, status, limit, cursor).await.map_err(|error| match error {
        BrokerError::NotFound if cursor.is_some() => {
            Problem::field("cursor", "give `next_cursor` of the page before")
        }
        error => error.into(),
    })?;
    let commands = page.commands.iter().map(CommandView::from).collect();
    Ok(Json(CommandPageView { commands, next_cursor: page.next }))
}

fn read_status(text: &str) -> Result<Status, Problem> {
    CommandStatus::read(text).map(Status::from).ok_or_else(|| {
        Problem::field("status", format!("{text:?} is no status"))
            .range(CommandStatus::ALL.map(CommandStatus::text).join(", "))
    })
}

/// Changes a command's text, while it is pending or awaiting_player
#[utoipa::path(patch, path = paths::COMMAND, tag = "commands", operation_id = "edit_command",
    security(("publish_key" = [])), params(("id" = String, Path, description = "The command.", example = "cmd_1_640")),
    request_body = CommandChange,
    responses((status = 200, description = "The command as it is now.", body = CommandView),
              (status = 409, description = "`wrong_status`")))]
pub(super) async fn edit(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    PathId(id): PathId,
    JsonBody(body): JsonBody<CommandChange>,
) -> Result<Json<CommandView>, Problem> {
    let text = fields::command_text("command", &body.command)?;
    operate(&state, &caller, &id, Operation::Edit { text }).await
}

/// Withdraws a command, while it is pending, awaiting_player, failed or in_doubt
#[utoipa::path(post, path = paths::COMMAND_CANCEL, tag = "commands", operation_id = "cancel_command",
    security(("publish_key" = [])), params(("id" = String, Path, description = "The command.", example = "cmd_1_640")),
    responses((status = 200, description = "The command as it is now.", body = CommandView),
              (status = 409, description = "`wrong_status`")))]
pub(super) async fn cancel(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    PathId(id): PathId,
) -> Result<Json<CommandView>, Problem> {
    operate(&state, &caller, &id, Operation::Cancel).await
}

/// Offers a failed or in_doubt command again, with the same id
#[utoipa::path(post, path = paths::COMMAND_RESEND, tag = "commands", operation_id = "resend_command",
    security(("publish_key" = [])), params(("id" = String, Path, description = "The command.", example = "cmd_1_640")),
    responses((status = 200, description = "The command as it is now.", body = CommandView),
              (status = 409, description = "`wrong_status`")))]
pub(super) async fn resend(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    PathId(id): PathId,
) -> Result<Json<CommandView>, Problem> {
    operate(&state, &caller, &id, Operation::Resend).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_not_every_parser_reads_is_given_as_text() {
        let kept = r#"{"price": 12345678901234567890.123}"#;
        assert_eq!(raw_metadata(kept).get(), kept);
        for stored in [r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#, "no JSON"] {
            let given: serde_json::Value = serde_json::from_str(raw_metadata(stored).get()).unwrap();
            assert_eq!(given, stored);
        }
    }
}
