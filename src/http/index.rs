//! The page at `/`: says in plain text what this is and where things are.

use super::paths;

/// Shown to whoever opens the broker's address.
const PAGE: &str = concat!(
    "fluxrelay ",
    env!("CARGO_PKG_VERSION"),
    "\n\n\
A durable message broker: it gets paid-for commands run on the right game server, never lost, never silently doubled.\n\
\n\
  /openapi.json         every call, with its fields, ranges and refusals\n\
  /v1/...               REST, with the header `Authorization: Bearer <key>`\n\
  /v1/events            Server-Sent Events\n\
  /v1/plugin/ws         WebSocket of game servers' plugins (protocol.md)\n\
  /v1/publisher/ws      WebSocket of stores' backends (protocol.md)\n\
  /healthz, /readyz     alive, ready\n\
  /metrics              OpenMetrics text\n\
\n\
The first steps, with the admin key that the broker printed at its first start (and keeps in admin.key):\n\
\n\
  curl -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n\
       -d '{\"name\": \"survival\"}' http://ADDRESS/v1/servers\n\
  curl -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n\
       -d '{\"commands\": [{\"server\": \"srv_1\", \"command\": \"say hello\"}]}' http://ADDRESS/v1/orders\n"
);

/// What this is and where things are
#[utoipa::path(get, path = paths::INDEX, tag = "operation", operation_id = "index",
    responses((status = 200, description = "A short text.", body = String, content_type = "text/plain")))]
pub(super) async fn index() -> &'static str {
    PAGE
}
