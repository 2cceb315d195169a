//! Orders: what a store's backend publishes, all or nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::auth::{Publisher, Reader};
use super::body::{JsonBody, NoParams, PathId};
use super::commands::DoubtRule;
use super::error::{Code, Problem};
use super::words::{CommandStatus, PlayerBody, Time};
use super::{HttpState, fields, paths};
use crate::broker::{BrokerError, OrderRequest, Published, RequestedCommand, Target};
use crate::engine::{Labels, NewCommand, OrderRow, Player};
use crate::ids::{CommandId, OrderId, ServerId};
use crate::time::{Millis, UnixMs};

/// Look-ups that one call for an order has under way at once.
const LOOKUPS_MAX: usize = 64;

/// An order: one or more commands that are accepted together or not at all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOrder, example = json!({"reference": "invoice 1042", "player": {"name": "Steve"}, "commands": [
    {"server": "srv_1", "command": "lp user Steve parent add vip", "stage": "initial"},
    {"server": "srv_2", "command": "give Steve diamond 64", "require_online": true},
    {"server": "*", "command": "say Steve is a VIP now", "delay_seconds": 10}]}))]
pub(super) struct OrderBody {
    /// The publisher's own name for the order, given back; 0 to 255 bytes.
    #[schema(max_length = 255)]
    reference: Option<String>,
    /// The player of every command that names none of its own.
    player: Option<PlayerBody>,
    /// Each command waits until the one before it on the same server has ended.
    #[serde(default)]
    ordered: bool,
    /// 1 to 10,000, also once `"*"` is expanded.
    #[schema(min_items = 1, max_items = 10000)]
    commands: Vec<CommandBody>,
    /// Admin key only: the store. Not given: the key's own store (admin: the default store).
    store: Option<String>,
}

/// One command of an order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCommand)]
pub(super) struct CommandBody {
    /// The server's id, or `"*"`: one command for every server of the store.
    server: String,
    /// One line for the server's console, 1 to 4096 bytes without CR, LF or NUL.
    #[schema(min_length = 1, max_length = 4096)]
    command: String,
    /// Whom it is for; not given: the order's player.
    player: Option<PlayerBody>,
    /// Run it only while the player is online; needs a player.
    #[serde(default)]
    require_online: bool,
    /// Not before this many seconds after acceptance, 0 to 31,622,400 (366 days). With `not_before`, the later counts.
    #[schema(maximum = 31_622_400)]
    delay_seconds: Option<u64>,
    /// Not before this instant, at most 366 days ahead.
    not_before: Option<Time>,
    /// Not after this instant, at most 366 days ahead.
    expires_at: Option<Time>,
    /// What happens when nobody can say whether it ran.
    #[serde(default)]
    on_doubt: DoubtRule,
    /// A label that is kept and given back, for example `initial`, `renewal`, `refund`; 0 to 64 bytes.
    #[schema(max_length = 64)]
    stage: Option<String>,
    /// A JSON object, kept and given back as it was written: 2048 bytes and 32 levels at most, no number beyond a double, no
    /// half of a surrogate pair.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
}

/// An accepted order. A replay is answered with the same body.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": "ord_1_640", "commands": [{"id": "cmd_1_640", "server": "srv_1", "status": "pending"}]}))]
pub(super) struct AcceptedOrder {
    id: String,
    /// In the order of the request, `"*"` expanded.
    commands: Vec<AcceptedCommandView>,
}

/// A command of an accepted order.
#[derive(Serialize, ToSchema)]
#[schema(as = AcceptedCommand)]
pub(super) struct AcceptedCommandView {
    id: String,
    server: String,
    /// As accepted: always `pending`.
    status: CommandStatus,
}

impl From<&Published> for AcceptedOrder {
    fn from(published: &Published) -> AcceptedOrder {
        let command = |id: &CommandId| AcceptedCommandView {
            id: id.to_string(),
            server: id.server.to_string(),
            status: CommandStatus::Pending,
        };
        AcceptedOrder {
            id: published.order.to_string(),
            commands: published.commands.iter().map(command).collect(),
        }
    }
}

/// An order and where its commands are.
#[derive(Serialize, ToSchema)]
#[schema(as = Order, example = json!({"id": "ord_1_640", "store": "sto_1", "accepted_at": "2026-01-31T12:00:00.000Z",
    "reference": "invoice 1042", "player": {"name": "Steve"}, "ordered": false,
    "commands": [{"id": "cmd_1_640", "server": "srv_1", "status": "completed"}]}))]
pub(super) struct OrderView {
    id: String,
    store: String,
    accepted_at: Time,
    reference: Option<String>,
    player: Option<PlayerBody>,
    ordered: bool,
    commands: Vec<OrderCommandView>,
}

/// A command of an order.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderCommand)]
pub(super) struct OrderCommandView {
    id: String,
    server: String,
    /// Where it is now; null = it ended so long ago that it is no longer kept.
    status: Option<CommandStatus>,
}

/// Publishes an order
///
/// Answered once every command is durable. With `Idempotency-Key`, the same order sent again (for at least 7 days)
/// gives the same answer with status 200, and enqueues nothing.
#[utoipa::path(post, path = paths::ORDERS, tag = "orders", operation_id = "create_order",
    security(("publish_key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters.",
            example = "invoice-1042")),
    request_body = OrderBody,
    responses((status = 201, description = "Accepted and durable.", body = AcceptedOrder),
              (status = 200, description = "A replay: accepted before under this key.", body = AcceptedOrder),
              (status = 409, description = "`key_conflict`: the key was used with another order.")))]
pub(super) async fn create(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    headers: HeaderMap,
    JsonBody(body): JsonBody<OrderBody>,
) -> Result<(StatusCode, Json<AcceptedOrder>), Problem> {
    let broker = state.broker();
    let store = caller.store(body.store.as_deref(), broker.registry())?;
    let request = order_request(&body, key(&headers)?, broker.now())?;
    let published = broker.publish(store, request).await.map_err(|error| refused(error, &body))?;
    let status = if published.replayed { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(AcceptedOrder::from(&published))))
}

/// One order with where its commands are
#[utoipa::path(get, path = paths::ORDER, tag = "orders", operation_id = "show_order",
    security(("read_key" = [])), params(("id" = String, Path, description = "The order.", example = "ord_1_640")),
    responses((status = 200, description = "The order.", body = OrderView)))]
pub(super) async fn show(
    State(state): State<HttpState>,
    Reader(caller): Reader,
    _: NoParams,
    PathId(id): PathId,
) -> Result<Json<OrderView>, Problem> {
    let missing = || Problem::not_found("order");
    let id: OrderId = id.parse().map_err(|_| missing())?;
    if !caller.sees(id.store) {
        return Err(missing());
    }
    let row = state.broker().order(id).await.map_err(|error| match error {
        BrokerError::NotFound => missing(),
        error => error.into(),
    })?;
    Ok(Json(order_view(&state, &row).await?))
}

async fn order_view(state: &HttpState, row: &OrderRow) -> Result<OrderView, Problem> {
    let look_up = |id: CommandId| async move {
        let status = match state.broker().command(id).await {
            Ok(command) => Some(command.status.into()),
            Err(BrokerError::NotFound) => None,
            Err(error) => return Err(Problem::from(error)),
        };
        Ok(OrderCommandView { id: id.to_string(), server: id.server.to_string(), status })
    };
    let commands =
        stream::iter(row.commands.iter().copied()).map(look_up).buffered(LOOKUPS_MAX).try_collect().await?;
    Ok(OrderView {
        id: row.id.to_string(),
        store: row.id.store.to_string(),
        accepted_at: Time(row.accepted_at),
        reference: row.reference.as_deref().map(str::to_owned),
        player: row.player.as_ref().map(PlayerBody::from),
        ordered: row.ordered,
        commands,
    })
}

fn key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Problem> {
    let mut values = headers.get_all("Idempotency-Key").iter();
    let first = values.next().map(|value| fields::idempotency_key(value.as_bytes())).transpose()?;
    match values.next() {
        Some(_) => Err(Problem::field("Idempotency-Key", "send it once")),
        None => Ok(first),
    }
}

/// Names the command whose server is not known.
fn refused(error: BrokerError, body: &OrderBody) -> Problem {
    let named = match &error {
        BrokerError::UnknownServer(server) => server.clone(),
        BrokerError::Refused(crate::engine::Refusal::UnknownServer(server)) => server.to_string(),
        _ => return error.into(),
    };
    let problem = Problem::from(error);
    match body.commands.iter().position(|command| command.server == named) {
        Some(index) => problem.at(format!("commands[{index}].server")),
        None => problem,
    }
}

fn order_request(body: &OrderBody, key: Option<Arc<str>>, now: UnixMs) -> Result<OrderRequest, Problem> {
    fields::command_count("commands", body.commands.len())?;
    let player = body.player.as_ref().map(|player| fields::player("player", player)).transpose()?;
    let commands = body
        .commands
        .iter()
        .enumerate()
        .map(|(index, command)| new_command(&format!("commands[{index}]"), command, player.as_ref(), now))
        .collect::<Result<_, _>>()?;
    Ok(OrderRequest {
        key,
        reference: body.reference.as_deref().map(|text| fields::reference("reference", text)).transpose()?,
        player,
        ordered: body.ordered,
        commands,
    })
}

fn new_command(
    path: &str,
    body: &CommandBody,
    of_order: Option<&Player>,
    now: UnixMs,
) -> Result<RequestedCommand, Problem> {
    let at = |field: &str| format!("{path}.{field}");
    let target = match body.server.as_str() {
        "*" => Target::All,
        id => Target::One(
            id.parse()
                .map_err(|_| Problem::new(Code::UnknownServer, "it is not a server's id").at(at("server")))?,
        ),
    };
    let player = match &body.player {
        Some(player) => Some(fields::player(&at("player"), player)?),
        None => of_order.cloned(),
    };
    if body.require_online && player.is_none() {
        return Err(Problem::field(at("require_online"), "name the player that has to be online"));
    }
    let delay = body.delay_seconds.map(Millis::seconds);
    let not_before = body.not_before.map(|time| time.0);
    let expires_at = body.expires_at.map(|time| time.0);
    fields::times(at, now, delay, not_before, expires_at)?;
    let stage = body.stage.as_deref().map(|text| fields::stage(&at("stage"), text)).transpose()?;
    let metadata =
        body.metadata.as_deref().map(|json| fields::metadata(&at("metadata"), json)).transpose()?;
    let labels = Labels { stage, metadata };
    let command = NewCommand {
        server: ServerId(0),
        text: fields::command_text(&at("command"), &body.command)?,
        player,
        require_online: body.require_online,
        not_before,
        expires_at,
        on_doubt: body.on_doubt.into(),
        labels: (labels != Labels::default()).then(|| Box::new(labels)),
    };
    Ok(RequestedCommand { target, delay, command })
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
