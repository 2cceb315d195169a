//! Stores (tenants): the admin's calls.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Admin;
use super::body::{JsonBody, NoParams, Params, page_limit};
use super::error::Problem;
use super::words::Time;
use super::{HttpState, fields, paths};
use crate::broker::Store;
use crate::ids::StoreId;

/// A store to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Skyblock shop"}))]
pub(super) struct NewStore {
    /// For people; 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// A store: a tenant that sees only what is its own.
#[derive(Serialize, ToSchema)]
#[schema(as = Store, example = json!({"id": "sto_2", "name": "Skyblock shop", "created_at": "2026-01-31T12:00:00.000Z"}))]
pub(super) struct StoreView {
    id: String,
    name: String,
    created_at: Time,
}

impl From<&Store> for StoreView {
    fn from(store: &Store) -> StoreView {
        StoreView {
            id: store.id.to_string(),
            name: store.name.to_string(),
            created_at: Time(store.created_at),
        }
    }
}

/// A page of stores.
#[derive(Serialize, ToSchema)]
pub(super) struct StorePage {
    /// By id.
    stores: Vec<StoreView>,
    /// Give it as `cursor` for the next page; null = this was the last.
    next_cursor: Option<String>,
}

/// Which page of a listing.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StoresQuery {
    /// Rows per page, 1 to 1000; 100 when it is not given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Makes a store
#[utoipa::path(post, path = paths::STORES, tag = "stores", operation_id = "create_store", security(("admin_key" = [])),
    request_body = NewStore,
    responses((status = 201, description = "The store.", body = StoreView),
              (status = 409, description = "`name_taken`, `limit_reached`")))]
pub(super) async fn create(
    State(state): State<HttpState>,
    Admin(by): Admin,
    _: NoParams,
    JsonBody(body): JsonBody<NewStore>,
) -> Result<(StatusCode, Json<StoreView>), Problem> {
    fields::name("name", &body.name)?;
    let store = state.broker().registry().by(by).create_store(&body.name).await?;
    Ok((StatusCode::CREATED, Json(StoreView::from(&store))))
}

/// Lists stores
#[utoipa::path(get, path = paths::STORES, tag = "stores", operation_id = "list_stores", security(("admin_key" = [])),
    params(StoresQuery),
    responses((status = 200, description = "A page of stores.", body = StorePage)))]
pub(super) async fn list(
    State(state): State<HttpState>,
    _: Admin,
    Params(query): Params<StoresQuery>,
) -> Result<Json<StorePage>, Problem> {
    let limit = page_limit(query.limit.as_deref())?;
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let mut stores = state.broker().registry().stores();
    stores.sort_unstable_by_key(|store| store.id);
    let mut rest = stores.iter().filter(|store| after.is_none_or(|after| store.id > after)).peekable();
    let page: Vec<StoreView> = rest.by_ref().take(limit).map(StoreView::from).collect();
    let next_cursor = rest.peek().and(page.last()).map(|last| last.id.clone());
    Ok(Json(StorePage { stores: page, next_cursor }))
}

fn read_cursor(text: &str) -> Result<StoreId, Problem> {
    text.parse().map_err(|_| Problem::field("cursor", "give `next_cursor` of the page before"))
}
