//! The bulk resend: everything that failed in a span of time, offered again in one atomic step.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Publisher;
use super::body::{JsonBody, NoParams};
use super::error::{Code, Problem};
use super::words::{CommandStatus, Time};
use super::{HttpState, paths};
use crate::broker::{Registry, ResendFilter, ids_digest};
use crate::engine::Status;
use crate::ids::{CommandId, ServerId, StoreId};

/// Which commands to resend.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"from": "2026-01-31T00:00:00Z", "to": "2026-02-01T00:00:00Z", "statuses": ["failed"]}))]
pub(super) struct ResendBody {
    /// Those that entered their status at or after this instant.
    from: Time,
    /// And before this one.
    to: Time,
    /// Of this server only.
    server: Option<String>,
    /// `failed`, `in_doubt` or both; not given: both.
    #[schema(min_items = 1)]
    statuses: Option<Vec<CommandStatus>>,
    /// Admin key only: the store. Not given: the key's own store (admin: the default store).
    store: Option<String>,
}

/// What a bulk resend did.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"resent": 2, "ids_digest": "ef1d2f5b0b8e4a3c9d6f7a1b2c3d4e5f"}))]
pub(super) struct Resent {
    /// How many commands are offered again.
    resent: usize,
    /// The first 16 bytes, in lower-case hexadecimal, of the BLAKE3 hash over the ids (`cmd_1_640`) in rising order
    /// of their last number, joined by a line feed. Equal digests = the same commands.
    #[schema(min_length = 32, max_length = 32)]
    ids_digest: String,
}

impl Resent {
    fn new(ids: &[CommandId]) -> Resent {
        Resent { resent: ids.len(), ids_digest: hex(&ids_digest(ids)) }
    }
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Resends everything that failed in a span of time
///
/// One atomic step: after a crash either all of them are offered again or none.
#[utoipa::path(post, path = paths::COMMANDS_RESEND, tag = "commands", operation_id = "resend_commands",
    security(("publish_key" = [])), request_body = ResendBody,
    responses((status = 200, description = "How many, and a digest of which.", body = Resent)))]
pub(super) async fn resend_many(
    State(state): State<HttpState>,
    Publisher(caller): Publisher,
    _: NoParams,
    JsonBody(body): JsonBody<ResendBody>,
) -> Result<Json<Resent>, Problem> {
    let broker = state.broker();
    let store = caller.store(body.store.as_deref(), broker.registry())?;
    let server = body.server.as_deref().map(|id| server_of(broker.registry(), store, id)).transpose()?;
    let ids = broker.resend_many_by(caller.actor(), filter(&body, store, server)?).await?;
    Ok(Json(Resent::new(&ids)))
}

fn server_of(registry: &Registry, store: StoreId, id: &str) -> Result<ServerId, Problem> {
    let server = id.parse().ok().and_then(|id: ServerId| registry.server(id));
    server.filter(|server| server.store == store).map(|server| server.id).ok_or_else(|| {
        Problem::new(Code::UnknownServer, format!("{store} has no server {id:?}")).at("server")
    })
}

fn filter(body: &ResendBody, store: StoreId, server: Option<ServerId>) -> Result<ResendFilter, Problem> {
    if body.from.0 >= body.to.0 {
        return Err(Problem::field("to", "the span is empty").range("later than from"));
    }
    let mut statuses = vec![Status::Failed, Status::InDoubt];
    if let Some(wanted) = &body.statuses {
        for (index, status) in wanted.iter().enumerate() {
            if !matches!(status, CommandStatus::Failed | CommandStatus::InDoubt) {
                let detail = format!("a command that is {} cannot be resent", status.text());
                return Err(Problem::field(format!("statuses[{index}]"), detail).range("failed, in_doubt"));
            }
        }
        if wanted.is_empty() {
            return Err(Problem::field("statuses", "name one, or omit the field for both"));
        }
        statuses.retain(|status| wanted.contains(&CommandStatus::from(*status)));
    }
    Ok(ResendFilter { store, server, from: body.from.0, to: body.to.0, statuses })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;

    fn read(json: serde_json::Value) -> Result<ResendFilter, Problem> {
        filter(&serde_json::from_value(json).unwrap(), StoreId(1), None)
    }

    #[test]
    fn the_digest_is_over_rising_ids() {
        let id = |server, seq| CommandId { server: ServerId(server), seq: Seq(seq) };
        let expected = blake3::hash(b"cmd_2_5\ncmd_1_10").to_hex()[..32].to_owned();
        let resent = Resent::new(&[id(1, 10), id(2, 5)]);
        assert_eq!(resent, Resent { resent: 2, ids_digest: expected });
        assert_eq!(Resent::new(&[]).ids_digest, "af1349b9f5f9a1a6a0404dea36dcc949");
    }

    #[test]
    fn both_statuses_are_meant_unless_one_is_named() {
        let span = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let all = read(serde_json::json!({"from": span.0, "to": span.1})).unwrap();
        assert_eq!(all.statuses, [Status::Failed, Status::InDoubt]);
        let one = read(serde_json::json!({"from": span.0, "to": span.1, "statuses": ["in_doubt"]})).unwrap();
        assert_eq!(one.statuses, [Status::InDoubt]);
        let wrong =
            read(serde_json::json!({"from": span.0, "to": span.1, "statuses": ["failed", "completed"]}));
        assert_eq!(wrong.unwrap_err().parts().2, Some("statuses[1]"));
        assert!(read(serde_json::json!({"from": span.0, "to": span.1, "statuses": []})).is_err());
        assert_eq!(
            read(serde_json::json!({"from": span.1, "to": span.1})).unwrap_err().parts().2,
            Some("to")
        );
    }
}
