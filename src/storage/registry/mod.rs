//! The registry at rest: stores, servers, API keys and the audit trail in `registry.redb`. Checks records, knows no rule about them.

mod audit;
mod audit_table;
mod db;
mod rows;

pub use audit::{Actor, AuditAction, AuditOutcome, AuditPage, AuditQuery, AuditRecord, AuditTarget, Who};
pub use audit_table::AuditReader;
pub use db::{REGISTRY_FILE, RegistryDb};
pub use rows::{Key, KeyRecord, RegistryMeta, RegistryRows, RowChange, Server, ServerRecord, Store};

pub(super) use audit_table::{AUDIT, AUDIT_BY_STORE};
pub(super) use db::{
    COUNTERS_KEY, KEYS as REGISTRY_KEYS, SERVERS as REGISTRY_SERVERS, STORES as REGISTRY_STORES,
};
