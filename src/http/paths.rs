//! Every path of the REST interface, once. No handler and no test spells a path of its own.

pub(super) const STORES: &str = "/v1/stores";
pub(super) const STORE_KEYS: &str = "/v1/stores/{id}/keys";
pub(super) const KEY: &str = "/v1/keys/{id}";
pub(super) const AUDIT: &str = "/v1/audit";
pub(super) const BACKUPS: &str = "/v1/backups";
pub(super) const SERVERS: &str = "/v1/servers";
pub(super) const SERVER: &str = "/v1/servers/{id}";
pub(super) const SERVER_TOKEN: &str = "/v1/servers/{id}/token";
pub(super) const SERVER_COMMANDS: &str = "/v1/servers/{id}/commands";
pub(super) const ORDERS: &str = "/v1/orders";
pub(super) const ORDER: &str = "/v1/orders/{id}";
pub(super) const COMMAND: &str = "/v1/commands/{id}";
pub(super) const COMMAND_CANCEL: &str = "/v1/commands/{id}/cancel";
pub(super) const COMMAND_RESEND: &str = "/v1/commands/{id}/resend";
pub(super) const COMMANDS_RESEND: &str = "/v1/commands/resend";
pub(super) const EVENTS: &str = "/v1/events";
pub(super) const PLUGIN_COMMANDS: &str = "/v1/plugin/commands";
pub(super) const PLUGIN_RESULTS: &str = "/v1/plugin/results";
pub(super) const PLUGIN_PLAYERS: &str = "/v1/plugin/players";
pub(super) const HEALTHZ: &str = "/healthz";
pub(super) const READYZ: &str = "/readyz";
pub(super) const METRICS: &str = "/metrics";
pub(super) const OPENAPI: &str = "/openapi.json";
pub(super) const INDEX: &str = "/";
