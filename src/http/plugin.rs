//! The three calls of a plugin that polls because it cannot hold a connection.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Plugin;
use super::body::{JsonBody, NoParams};
use super::error::Problem;
use super::words::{PlayerBody, PlayerOrName};
use super::{HttpState, fields, paths};
use crate::engine::{CommandResult, Delivery, Outcome, Player, PlayerNews};
use crate::ids::{CommandId, ServerId};
use crate::limits::{ERROR_BYTES_MAX, OUTPUT_BYTES_MAX, PLAYERS_MAX, RESULTS_MAX};

/// What to run, and when to ask again.
#[derive(Serialize, ToSchema)]
pub(super) struct Polled {
    /// Run them in this order, and report each.
    commands: Vec<PolledCommand>,
    /// Seconds until the next poll: 15 while commands are waiting, growing to 300 as the queue stays empty.
    #[schema(minimum = 15, maximum = 300, example = 15)]
    next_check_seconds: u32,
}

/// One command to run.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": "cmd_1_640", "command": "lp user Steve parent add vip", "player": {"name": "Steve"},
    "require_online": true, "attempt": 1}))]
pub(super) struct PolledCommand {
    /// Together with `attempt` it names one execution: one that you ran already must not run again.
    id: String,
    command: String,
    player: Option<PlayerBody>,
    /// If the player is not online, do not run it: report `awaiting_player`.
    require_online: bool,
    /// From 1; only a reported failure raises it.
    attempt: u16,
}

impl PolledCommand {
    fn new(server: ServerId, delivery: &Delivery) -> PolledCommand {
        PolledCommand {
            id: CommandId { server, seq: delivery.seq }.to_string(),
            command: delivery.text.to_string(),
            player: delivery.player.as_ref().map(PlayerBody::from),
            require_online: delivery.require_online,
            attempt: delivery.attempt,
        }
    }
}

/// What came of commands.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"results": [{"id": "cmd_1_640", "attempt": 1, "status": "completed", "output": "Added Steve to vip"},
    {"id": "cmd_1_641", "status": "failed", "error": "Unknown command"}]}))]
pub(super) struct Results {
    /// 1 to 1024.
    #[schema(min_items = 1, max_items = 1024)]
    results: Vec<ResultBody>,
}

/// What came of one command.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CommandResult)]
pub(super) struct ResultBody {
    id: String,
    status: OutcomeBody,
    /// As the poll gave it; not given: the attempt that is out.
    #[schema(minimum = 1)]
    attempt: Option<u16>,
    /// Why it failed; kept up to 1024 bytes.
    error: Option<String>,
    /// What the console said; kept up to 4096 bytes.
    output: Option<String>,
}

/// What a plugin says of a command.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Outcome)]
pub(super) enum OutcomeBody {
    /// It ran.
    Completed,
    /// It did not run, or ran with an error: it is retried.
    Failed,
    /// The player is not online; it was not run.
    AwaitingPlayer,
    /// It was started, and the plugin cannot say whether it ran.
    InDoubt,
}

/// The results are durable: the plugin may forget these commands.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"accepted": 2}))]
pub(super) struct Accepted {
    /// How many were for a command of this server that had not ended. The others change nothing.
    accepted: u32,
}

/// Who is online; at least one list. They are applied in the order online, joined, left.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"joined": [{"name": "Steve", "uuid": "8667ba71-b85a-4004-af54-457a9734eed7"}], "left": ["Alex"]}))]
pub(super) struct PlayersBody {
    /// Exactly these are online; 0 to 10,000.
    #[schema(max_items = 10000)]
    online: Option<Vec<PlayerOrName>>,
    /// These came; 0 to 10,000.
    #[schema(max_items = 10000)]
    joined: Option<Vec<PlayerOrName>>,
    /// These went; 0 to 10,000.
    #[schema(max_items = 10000)]
    left: Option<Vec<PlayerOrName>>,
}

/// What the news of players released.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"released": 1}))]
pub(super) struct Released {
    /// Commands that no longer wait for a player: poll for them now.
    released: u32,
}

/// Polls for commands
#[utoipa::path(get, path = paths::PLUGIN_COMMANDS, tag = "plugin", operation_id = "poll_commands",
    security(("server_token" = [])),
    responses((status = 200, description = "What to run now.", body = Polled)))]
pub(super) async fn poll(
    State(state): State<HttpState>,
    plugin: Plugin,
    _: NoParams,
) -> Result<Json<Polled>, Problem> {
    let (deliveries, next_check_seconds) = state.broker().poll(plugin.server.id).await?;
    let commands = deliveries.iter().map(|delivery| PolledCommand::new(plugin.server.id, delivery)).collect();
    Ok(Json(Polled { commands, next_check_seconds }))
}

/// Reports results
///
/// Answered once they are durable. Reporting the same again changes nothing.
#[utoipa::path(post, path = paths::PLUGIN_RESULTS, tag = "plugin", operation_id = "report_results",
    security(("server_token" = [])), request_body = Results,
    responses((status = 200, description = "They are durable.", body = Accepted)))]
pub(super) async fn report_results(
    State(state): State<HttpState>,
    plugin: Plugin,
    _: NoParams,
    JsonBody(body): JsonBody<Results>,
) -> Result<Json<Accepted>, Problem> {
    let results = read_results(plugin.server.id, &body.results)?;
    let accepted =
        if results.is_empty() { 0 } else { state.broker().poll_results(plugin.server.id, results).await? };
    Ok(Json(Accepted { accepted }))
}

/// The results for commands of this server; those for another's are left out, and so not accepted.
fn read_results(server: ServerId, results: &[ResultBody]) -> Result<Vec<CommandResult>, Problem> {
    if !(1..=RESULTS_MAX).contains(&results.len()) {
        return Err(Problem::field("results", format!("there are {}", results.len()))
            .range(format!("1 to {RESULTS_MAX} results")));
    }
    let mut read = Vec::with_capacity(results.len());
    for (index, result) in results.iter().enumerate() {
        let id: CommandId = result.id.parse().map_err(|_| {
            Problem::field(
                format!("results[{index}].id"),
                "it is not a command's id; give it as the poll did",
            )
        })?;
        if result.attempt == Some(0) {
            return Err(Problem::field(format!("results[{index}].attempt"), "it is 0").range("1 to 65535"));
        }
        if id.server != server {
            continue;
        }
        read.push(CommandResult {
            seq: id.seq,
            attempt: result.attempt,
            outcome: match result.status {
                OutcomeBody::Completed => Outcome::Completed,
                OutcomeBody::Failed => Outcome::Failed,
                OutcomeBody::AwaitingPlayer => Outcome::AwaitingPlayer,
                OutcomeBody::InDoubt => Outcome::InDoubt,
            },
            error: result.error.as_deref().map(|text| fields::cut(text, ERROR_BYTES_MAX)),
            output: result.output.as_deref().map(|text| fields::cut(text, OUTPUT_BYTES_MAX)),
        });
    }
    Ok(read)
}

/// Reports who is online
///
/// Changes nothing while the server's connection tells that itself: this request may be older.
#[utoipa::path(post, path = paths::PLUGIN_PLAYERS, tag = "plugin", operation_id = "report_players",
    security(("server_token" = [])), request_body = PlayersBody,
    responses((status = 200, description = "Noted.", body = Released)))]
pub(super) async fn report_players(
    State(state): State<HttpState>,
    plugin: Plugin,
    _: NoParams,
    JsonBody(body): JsonBody<PlayersBody>,
) -> Result<Json<Released>, Problem> {
    let news = read_news(&body)?;
    let released = state.broker().poll_players(plugin.server.id, news).await?;
    Ok(Json(Released { released }))
}

fn read_news(body: &PlayersBody) -> Result<Vec<PlayerNews>, Problem> {
    let mut news = Vec::new();
    if let Some(list) = &body.online {
        news.push(PlayerNews::Online(read_players("online", list)?));
    }
    if let Some(list) = &body.joined {
        news.push(PlayerNews::Joined(read_players("joined", list)?));
    }
    if let Some(list) = &body.left {
        news.push(PlayerNews::Left(read_players("left", list)?));
    }
    if news.is_empty() {
        return Err(Problem::field("online", "give `online`, `joined`, `left` or several of them"));
    }
    Ok(news)
}

fn read_players(field: &str, list: &[PlayerOrName]) -> Result<Vec<Player>, Problem> {
    if list.len() > PLAYERS_MAX {
        return Err(Problem::field(field, format!("there are {}", list.len()))
            .range(format!("0 to {PLAYERS_MAX} players")));
    }
    list.iter()
        .enumerate()
        .map(|(index, player)| fields::player(&format!("{field}[{index}]"), &player.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;

    fn results(json: serde_json::Value) -> Result<Vec<CommandResult>, Problem> {
        read_results(ServerId(1), &serde_json::from_value::<Results>(json).unwrap().results)
    }

    #[test]
    fn results_of_another_server_are_left_out() {
        let read = results(serde_json::json!({"results": [
            {"id": "cmd_1_5", "status": "completed", "output": "x".repeat(OUTPUT_BYTES_MAX + 1)},
            {"id": "cmd_2_5", "status": "failed"},
            {"id": "cmd_1_6", "status": "in_doubt", "attempt": 2, "error": "crashed"}]}))
        .unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].seq, read[0].attempt, read[0].outcome), (Seq(5), None, Outcome::Completed));
        assert_eq!(read[0].output.as_ref().unwrap().len(), OUTPUT_BYTES_MAX);
        assert_eq!((read[1].seq, read[1].attempt, read[1].outcome), (Seq(6), Some(2), Outcome::InDoubt));
    }

    #[test]
    fn bad_results_are_named() {
        let field = |json| results(json).unwrap_err().parts().2.map(str::to_owned);
        let bad_id = serde_json::json!({"results": [{"id": "640", "status": "completed"}]});
        assert_eq!(field(bad_id).as_deref(), Some("results[0].id"));
        let no_attempt =
            serde_json::json!({"results": [{"id": "cmd_1_5", "status": "completed", "attempt": 0}]});
        assert_eq!(field(no_attempt).as_deref(), Some("results[0].attempt"));
        assert_eq!(field(serde_json::json!({"results": []})).as_deref(), Some("results"));
        let one = serde_json::json!({"id": "cmd_1_5", "status": "completed"});
        let many = serde_json::json!({"results": vec![one; RESULTS_MAX + 1]});
        assert_eq!(field(many).as_deref(), Some("results"));
    }

    #[test]
    fn news_of_players_keep_their_order() {
        let read = |json| read_news(&serde_json::from_value::<PlayersBody>(json).unwrap());
        let news = read(serde_json::json!({"left": [{"name": "Alex"}], "online": []})).unwrap();
        assert!(matches!(&news[..], [PlayerNews::Online(online), PlayerNews::Left(left)]
            if online.is_empty() && left[0].name.as_ref() == "Alex"));
        assert!(read(serde_json::json!({})).is_err());
        let nameless = read(serde_json::json!({"joined": ["Steve", {"name": ""}]}));
        assert_eq!(nameless.unwrap_err().parts().2, Some("joined[1].name"));
    }
}
