//! API keys of stores: made, listed, removed by the admin. A secret leaves once, when it is made.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Admin;
use super::body::{JsonBody, NoParams, Params, PathId, page_limit};
use super::error::Problem;
use super::words::Time;
use super::{HttpState, fields, paths};
use crate::broker::{Key, Registry, RegistryError, Scope};
use crate::ids::{KeyId, StoreId};

/// A key to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"scope": "publish", "name": "web shop backend"}))]
pub(super) struct NewKey {
    scope: KeyScope,
    /// For people; 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// What a key may do in its store.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyScope {
    /// Publish, operate, manage servers and read.
    Publish,
    /// Read.
    Read,
}

/// A new key. `key` is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": "key_3", "store": "sto_2", "scope": "publish", "name": "web shop backend",
    "key": "key_3.uNk2E7w1bYQ0hYt8c5Zr4mPf6sXa9LdV"}))]
pub(super) struct CreatedKey {
    id: String,
    store: String,
    scope: KeyScope,
    name: String,
    /// The secret itself: keep it, it cannot be shown again.
    key: String,
}

/// A key, without its secret: that was shown once, when it was made.
#[derive(Serialize, ToSchema)]
#[schema(as = Key, example = json!({"id": "key_3", "store": "sto_2", "scope": "publish", "name": "web shop backend",
    "created_at": "2026-01-31T12:00:00.000Z"}))]
pub(super) struct KeyView {
    id: String,
    store: String,
    scope: KeyScope,
    name: String,
    created_at: Time,
}

impl KeyView {
    /// `None` for the admin key, which is of no store.
    fn new(key: &Key) -> Option<KeyView> {
        let scope = match key.scope {
            Scope::Admin => return None,
            Scope::Publish => KeyScope::Publish,
            Scope::Read => KeyScope::Read,
        };
        let (id, store) = (key.id.to_string(), key.store.to_string());
        Some(KeyView { id, store, scope, name: key.name.to_string(), created_at: Time(key.created_at) })
    }
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyPage {
    /// By id.
    keys: Vec<KeyView>,
    /// Give it as `cursor` for the next page; null = this was the last.
    next_cursor: Option<String>,
}

/// Which page of a listing.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KeysQuery {
    /// Rows per page, 1 to 1000; 100 when it is not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn known_store(registry: &Registry, id: &str) -> Result<StoreId, Problem> {
    let store = id.parse().ok().filter(|id| registry.store(*id).is_some());
    store.ok_or_else(|| Problem::not_found("store"))
}

/// Makes a key of a store
#[utoipa::path(post, path = paths::STORE_KEYS, tag = "keys", operation_id = "create_key",
    security(("admin_key" = [])),
    params(("id" = String, Path, description = "The store.", example = "sto_2")),
    request_body = NewKey,
    responses((status = 201, description = "The key; its secret is shown this once.", body = CreatedKey),
              (status = 409, description = "`limit_reached`")))]
pub(super) async fn create(
    State(state): State<HttpState>,
    Admin(by): Admin,
    _: NoParams,
    PathId(id): PathId,
    JsonBody(body): JsonBody<NewKey>,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    let registry = state.broker().registry();
    let store = known_store(registry, &id)?;
    fields::name("name", &body.name)?;
    let scope = match body.scope {
        KeyScope::Publish => Scope::Publish,
        KeyScope::Read => Scope::Read,
    };
    let (key, secret) = registry.by(by).create_key(store, scope, &body.name).await?;
    let created = CreatedKey {
        id: key.to_string(),
        store: store.to_string(),
        scope: body.scope,
        name: body.name,
        key: secret.reveal().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Keys of a store
///
/// The admin key is not one of them.
#[utoipa::path(get, path = paths::STORE_KEYS, tag = "keys", operation_id = "list_keys", security(("admin_key" = [])),
    params(("id" = String, Path, description = "The store.", example = "sto_2"), KeysQuery),
    responses((status = 200, description = "A page of keys.", body = KeyPage)))]
pub(super) async fn list(
    State(state): State<HttpState>,
    _: Admin,
    PathId(id): PathId,
    Params(query): Params<KeysQuery>,
) -> Result<Json<KeyPage>, Problem> {
    let registry = state.broker().registry();
    let store = known_store(registry, &id)?;
    let limit = page_limit(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let mut keys = registry.keys(store);
    keys.retain(|key| after.is_none_or(|after| key.id > after));
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next_cursor = keys.last().filter(|_| more).map(|key| key.id.to_string());
    Ok(Json(KeyPage { keys: keys.iter().filter_map(KeyView::new).collect(), next_cursor }))
}

fn read_cursor(text: &str) -> Result<KeyId, Problem> {
    text.parse().map_err(|_| Problem::field("cursor", "give `next_cursor` of the page before"))
}

/// Removes a key
///
/// It is refused from now on, and connections and event streams that were opened with it end within a second.
#[utoipa::path(delete, path = paths::KEY, tag = "keys", operation_id = "remove_key", security(("admin_key" = [])),
    params(("id" = String, Path, description = "The key.", example = "key_3")),
    responses((status = 204, description = "It is gone.")))]
pub(super) async fn remove(
    State(state): State<HttpState>,
    Admin(by): Admin,
    _: NoParams,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let id: KeyId = id.parse().map_err(|_| Problem::not_found("key"))?;
    match state.broker().registry().by(by).remove_key(id).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(RegistryError::NotFound) => Err(Problem::not_found("key")),
        Err(error) => Err(error.into()),
    }
}
