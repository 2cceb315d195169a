//! Liveness and readiness, for supervisors and load balancers; open to everybody, tell nothing else.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Code, Problem};
use super::{HttpState, paths};

/// How it is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "ok", "version": "0.1.0"}))]
pub(super) struct Health {
    /// Always `ok`: otherwise there is a problem, or no answer at all.
    status: &'static str,
    version: &'static str,
    /// When it is asked whether it is ready: `refused` while too little of the disk is free for what orders would need, else
    /// `accepted` (a store's quotas aside).
    #[serde(skip_serializing_if = "Option::is_none")]
    orders: Option<&'static str>,
    /// Of a broker with a mirror, when it is asked whether it is ready: `in_step`, or `stale` when there is only one
    /// copy since the mirror failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<&'static str>,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION"), orders: None, mirror: None };

/// Whether the process is alive
#[utoipa::path(get, path = paths::HEALTHZ, tag = "operation", operation_id = "healthz",
    responses((status = 200, description = "It is.", body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(OK)
}

/// Whether it is ready
///
/// It stays ready when too little of the disk is free: only orders are refused then; results, deliveries and all else go on.
#[utoipa::path(get, path = paths::READYZ, tag = "operation", operation_id = "readyz",
    responses((status = 200, description = "It is.", body = Health),
              (status = 503, description = "It is not: it is stopping, or its storage failed.")))]
pub(super) async fn readyz(State(state): State<HttpState>) -> Result<Json<Health>, Problem> {
    let broker = state.broker();
    if !broker.is_ready() {
        return Err(
            Problem::new(Code::ShuttingDown, "it is stopping, or its storage failed").retry_after(5_000)
        );
    }
    let orders = Some(if broker.is_disk_low() { "refused" } else { "accepted" });
    let mirror = broker.mirror_in_step().map(|in_step| if in_step { "in_step" } else { "stale" });
    Ok(Json(Health { orders, mirror, ..OK }))
}
