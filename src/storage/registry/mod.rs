//! The registry at rest: stores, servers, API keys in `registry.redb`. Checks records, knows no rule about them.

mod db;
mod rows;

pub use db::{REGISTRY_FILE, RegistryDb};
pub use rows::{Key, KeyRecord, RegistryMeta, RegistryRows, RowChange, Server, ServerRecord, Store};
