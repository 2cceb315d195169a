//! Registered game servers: made, listed, changed, removed, and given new tokens.

use std::future::Future;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::{Caller, Publisher, Reader};
use super::body::{JsonBody, NoParams, Params, PathId, page_limit};
use super::error::Problem;
use super::words::Time;
use super::{HttpState, fields, paths};
use crate::broker::{BrokerError, Registry, Server};
use crate::engine::ServerState;
use crate::ids::ServerId;

/// A server to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "survival", "address": "mc.example.org:25565"}))]
pub(super) struct NewServer {
    /// For people, unique in the store; 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// For people, never dialled; 0 to 255 bytes.
    #[serde(default)]
    #[schema(max_length = 255)]
    address: String,
    /// Admin key only: the store that gets it. Not given: the key's own store (admin: the default store).
    store: Option<String>,
}

/// What to change of a server; at least one field.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "survival-2"}))]
pub(super) struct ServerChange {
    /// See `NewServer`.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// See `NewServer`.
    #[schema(max_length = 255)]
    address: Option<String>,
}

/// Connected (or polling within its pace), or not.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Presence {
    /// Its plugin is connected, or polled in time.
    Online,
    /// It is not.
    Offline,
}

/// How many commands of a server are in each status: waiting ones now, ended ones ever.
#[derive(Serialize, ToSchema)]
pub(super) struct StatusCounts {
    pending: u64,
    delivered: u64,
    awaiting_player: u64,
    completed: u64,
    failed: u64,
    in_doubt: u64,
    cancelled: u64,
    expired: u64,
}

impl From<[u64; 8]> for StatusCounts {
    fn from(counts: [u64; 8]) -> StatusCounts {
        let [pending, delivered, awaiting_player, completed, failed, in_doubt, cancelled, expired] = counts;
        StatusCounts { pending, delivered, awaiting_player, completed, failed, in_doubt, cancelled, expired }
    }
}

/// A registered game server and its state.
#[derive(Serialize, ToSchema)]
#[schema(as = Server, example = json!({"id": "srv_1", "store": "sto_1", "name": "survival", "address": "mc.example.org:25565",
    "status": "online", "last_seen_at": "2026-01-31T12:00:00.000Z", "players_online": 12,
    "created_at": "2026-01-30T09:00:00.000Z", "commands": {"pending": 0, "delivered": 1, "awaiting_player": 2,
    "completed": 640, "failed": 0, "in_doubt": 0, "cancelled": 3, "expired": 0}}))]
pub(super) struct ServerView {
    id: String,
    store: String,
    name: String,
    address: String,
    status: Presence,
    /// Last heard of since the broker started; null = not yet.
    last_seen_at: Option<Time>,
    /// Players known to be online; null = the plugin does not report players.
    players_online: Option<u32>,
    created_at: Time,
    commands: StatusCounts,
}

impl ServerView {
    fn new(server: &Server, state: &ServerState) -> ServerView {
        ServerView {
            id: server.id.to_string(),
            store: server.store.to_string(),
            name: server.name.to_string(),
            address: server.address.to_string(),
            status: if state.online { Presence::Online } else { Presence::Offline },
            last_seen_at: state.last_seen_at.map(Time),
            players_online: state.players,
            created_at: Time(server.created_at),
            commands: state.counts.into(),
        }
    }
}

/// A new server. `token` is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedServer {
    #[serde(flatten)]
    server: ServerView,
    /// The whole credential of the plugin: put it into its config file, it cannot be shown again.
    #[schema(example = "srv_1.uNk2E7w1bYQ0hYt8c5Zr4mPf6sXa9LdV")]
    token: String,
}

/// A page of servers.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerPage {
    /// By id.
    servers: Vec<ServerView>,
    /// Give it as `cursor` for the next page; null = this was the last.
    next_cursor: Option<String>,
}

/// A new token. It is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"token": "srv_1.uNk2E7w1bYQ0hYt8c5Zr4mPf6sXa9LdV"}))]
pub(super) struct NewToken {
    token: String,
}

/// Which servers.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ServersQuery {
    /// Admin key only: the store. Not given: the key's own store (admin: the default store).
    store: Option<String>,
    /// Rows per page, 1 to 1000; 100 when it is not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The server of a path, if this caller may see it.
pub(super) fn visible(registry: &Registry, caller: &Caller, id: &str) -> Result<Arc<Server>, Problem> {
    let server = id.parse().ok().and_then(|id: ServerId| registry.server(id));
    server.filter(|server| caller.sees(server.store)).ok_or_else(|| Problem::not_found("server"))
}

/// Does a change to its end even if the caller hangs up: the registry and the shards must not part, least of all
/// between a new token and the end of the old one's session.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    // It is cut off only when the whole process ends.
    tokio::spawn(change).await.unwrap_or_else(|_| Err(BrokerError::Stopping.into()))
}

async fn view(state: &HttpState, server: &Server) -> Result<ServerView, Problem> {
    let states = state.broker().server_states(&[server.id]).await?;
    Ok(ServerView::new(server, states.first().unwrap_or(&ServerState::default())))
}

/// Registers a server
#[utoipa::path(post, path = paths::SERVERS, tag = "servers", operation_id = "create_server",
    security(("publish_key" = [])), request_body = NewServer,
    responses((status = 201, description = "The server with its token, which is shown this once.", body = CreatedServer),
              (status = 409, description = "`name_taken`, `limit_reached`")))]
pub(super) async fn create(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    JsonBody(body): JsonBody<NewServer>,
) -> Result<(StatusCode, Json<CreatedServer>), Problem> {
    let broker = state.broker();
    let store = caller.store(body.store.as_deref(), broker.registry())?;
    fields::name("name", &body.name)?;
    fields::address("address", &body.address)?;
    let by = caller.actor();
    let (server, token) = to_the_end(async move {
        let broker = state.broker();
        let made = broker.registry().by(by).create_server(store, &body.name, &body.address).await?;
        broker.server_added(made.0.id, store).await?;
        Ok(made)
    })
    .await?;
    let server = ServerView::new(&server, &ServerState::default());
    Ok((StatusCode::CREATED, Json(CreatedServer { server, token: token.reveal().to_owned() })))
}

/// Lists servers
#[utoipa::path(get, path = paths::SERVERS, tag = "servers", operation_id = "list_servers",
    security(("read_key" = [])), params(ServersQuery),
    responses((status = 200, description = "A page of servers.", body = ServerPage)))]
pub(super) async fn list(
    State(state): State<HttpState>,
    Reader(caller): Reader,
    Params(query): Params<ServersQuery>,
) -> Result<Json<ServerPage>, Problem> {
    let registry = state.broker().registry();
    let store = caller.store(query.store.as_deref(), registry)?;
    let limit = page_limit(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let mut servers = registry.servers(Some(store));
    servers.sort_unstable_by_key(|server| server.id);
    servers.retain(|server| after.is_none_or(|after| server.id > after));
    let more = servers.len() > limit;
    servers.truncate(limit);
    let ids: Vec<ServerId> = servers.iter().map(|server| server.id).collect();
    let states = state.broker().server_states(&ids).await?;
    let next_cursor = ids.last().filter(|_| more).map(ServerId::to_string);
    let servers = servers.iter().zip(&states).map(|(server, state)| ServerView::new(server, state)).collect();
    Ok(Json(ServerPage { servers, next_cursor }))
}

fn read_cursor(text: &str) -> Result<ServerId, Problem> {
    text.parse().map_err(|_| Problem::field("cursor", "give `next_cursor` of the page before"))
}

/// One server
#[utoipa::path(get, path = paths::SERVER, tag = "servers", operation_id = "show_server",
    security(("read_key" = [])), params(("id" = String, Path, description = "The server.", example = "srv_1")),
    responses((status = 200, description = "The server.", body = ServerView)))]
pub(super) async fn show(
    State(state): State<HttpState>,
    Reader(caller): Reader,
    _: NoParams,
    PathId(id): PathId,
) -> Result<Json<ServerView>, Problem> {
    let server = visible(state.broker().registry(), &caller, &id)?;
    Ok(Json(view(&state, &server).await?))
}

/// Changes a server's name or address
#[utoipa::path(patch, path = paths::SERVER, tag = "servers", operation_id = "update_server",
    security(("publish_key" = [])), params(("id" = String, Path, description = "The server.", example = "srv_1")),
    request_body = ServerChange,
    responses((status = 200, description = "The server as it is now.", body = ServerView),
              (status = 409, description = "`name_taken`")))]
pub(super) async fn update(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    PathId(id): PathId,
    JsonBody(body): JsonBody<ServerChange>,
) -> Result<Json<ServerView>, Problem> {
    let registry = state.broker().registry();
    let server = visible(registry, &caller, &id)?;
    if body.name.is_none() && body.address.is_none() {
        return Err(Problem::field("name", "give `name`, `address` or both"));
    }
    body.name.as_deref().map_or(Ok(()), |name| fields::name("name", name))?;
    body.address.as_deref().map_or(Ok(()), |address| fields::address("address", address))?;
    let changes = registry.by(caller.actor());
    let server = changes.update_server(server.id, body.name.as_deref(), body.address.as_deref()).await?;
    Ok(Json(view(&state, &server).await?))
}

/// Removes a server
///
/// Its plugin's session ends, its token is dead, and its commands that have not ended are cancelled.
#[utoipa::path(delete, path = paths::SERVER, tag = "servers", operation_id = "remove_server",
    security(("publish_key" = [])), params(("id" = String, Path, description = "The server.", example = "srv_1")),
    responses((status = 204, description = "It is gone.")))]
pub(super) async fn remove(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let server = visible(state.broker().registry(), &caller, &id)?;
    let by = caller.actor();
    to_the_end(async move {
        state.broker().registry().by(by).remove_server(server.id).await?;
        state.broker().server_removed(server.id).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Makes a new token
///
/// The old token is refused from now on, and a session that was opened with it has ended.
#[utoipa::path(post, path = paths::SERVER_TOKEN, tag = "servers", operation_id = "regenerate_token",
    security(("publish_key" = [])), params(("id" = String, Path, description = "The server.", example = "srv_1")),
    responses((status = 200, description = "The new token, which is shown this once.", body = NewToken)))]
pub(super) async fn regenerate_token(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    PathId(id): PathId,
) -> Result<Json<NewToken>, Problem> {
    let server = visible(state.broker().registry(), &caller, &id)?;
    let by = caller.actor();
    to_the_end(async move {
        let token = state.broker().registry().by(by).regenerate_token(server.id).await?;
        state.broker().token_regenerated(server.id).await?;
        Ok(Json(NewToken { token: token.reveal().to_owned() }))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_goes_on_when_its_caller_is_gone() {
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (proceed, proceeds) = tokio::sync::oneshot::channel();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let call = tokio::spawn(to_the_end(async move {
            begun.send(()).unwrap();
            proceeds.await.unwrap();
            done.send(()).unwrap();
            Ok(())
        }));
        begins.await.unwrap();
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        proceed.send(()).unwrap();
        is_done.await.unwrap();
    }
}
