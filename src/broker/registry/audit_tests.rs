//! The audit trail as the registry writes it: one record for each change, in the same transaction, and nothing else.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::registry_tests::{HERE, new, open, options};
use super::writer::log;
use super::*;
use crate::ids::{AuditId, CommandId, Seq};
use crate::storage::registry::RowChange;

const SHOP: Actor =
    Actor { who: Who::Key { id: KeyId(1), scope: Scope::Publish, store: DEFAULT_STORE }, address: None };

fn trail(registry: &Registry) -> Vec<AuditRecord> {
    let page = registry.audit(&AuditQuery { limit: 1000, ..AuditQuery::default() }).unwrap();
    page.records.into_iter().rev().collect()
}

fn actions(registry: &Registry) -> Vec<&'static str> {
    trail(registry).iter().map(|record| record.action.name()).collect()
}

#[tokio::test]
async fn each_change_is_one_record_with_what_it_was_done_to() {
    let (_dir, registry, _) = new();
    let by = registry.by(SHOP);
    let store = by.create_store("shop").await.unwrap().id;
    let (key, _) = by.create_key(store, Scope::Read, "eyes").await.unwrap();
    let (server, _) = by.create_server(store, "lobby", "a").await.unwrap();
    by.update_server(server.id, Some("hub"), None).await.unwrap();
    by.regenerate_token(server.id).await.unwrap();
    by.remove_server(server.id).await.unwrap();
    by.remove_key(key).await.unwrap();
    let command = CommandId { server: server.id, seq: Seq(64) };
    let on = AuditTarget { server: Some(server.id), command: Some(command), ..AuditTarget::default() };
    by.note(AuditAction::CommandEdited, AuditOutcome::Unknown, on.clone()).await.unwrap();

    let trail = trail(&registry);
    let name = |name: &str| Some(Arc::<str>::from(name));
    let of_server =
        |name| AuditTarget { store: Some(store), server: Some(server.id), name, ..AuditTarget::default() };
    let of_key =
        AuditTarget { store: Some(store), key: Some(key), name: name("eyes"), ..AuditTarget::default() };
    let expected = [
        (AuditAction::AdminKeyCreated, AuditTarget::default()),
        (
            AuditAction::StoreCreated,
            AuditTarget { store: Some(store), name: name("shop"), ..AuditTarget::default() },
        ),
        (AuditAction::KeyCreated, of_key.clone()),
        (AuditAction::ServerCreated, of_server(name("lobby"))),
        (AuditAction::ServerUpdated, of_server(name("hub"))),
        (AuditAction::TokenRegenerated, of_server(name("hub"))),
        (AuditAction::ServerRemoved, of_server(name("hub"))),
        (AuditAction::KeyRemoved, of_key),
        (AuditAction::CommandEdited, on),
    ];
    let found: Vec<_> = trail.iter().map(|record| (record.action, record.on.clone())).collect();
    assert_eq!(found, expected);
    assert!(trail.iter().zip(1..).all(|(record, id)| record.id == AuditId(id)));
    assert!(trail.iter().all(|record| record.at == UnixMs(1_700_000_000_000)));
    assert_eq!(trail[0].by, Actor::LOCAL);
    assert!(trail[1..].iter().all(|record| record.by == SHOP));
    assert_eq!(trail[8].outcome, AuditOutcome::Unknown);
}

#[tokio::test]
async fn what_is_refused_is_no_record() {
    let (_dir, registry, _) = new();
    let by = registry.by(SHOP);
    by.create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    assert!(by.create_server(DEFAULT_STORE, "lobby", "").await.is_err());
    assert!(by.create_store("default").await.is_err());
    assert!(by.remove_server(ServerId(99)).await.is_err());
    assert!(by.remove_key(KeyId(99)).await.is_err());
    assert!(by.regenerate_token(ServerId(99)).await.is_err());
    assert_eq!(actions(&registry), ["admin_key.create", "server.create"]);
}

#[tokio::test]
async fn many_servers_are_a_record_each() {
    let (_dir, registry, _) = new();
    let names = ["a", "b", "c"].map(|name| (name.to_owned(), String::new())).to_vec();
    registry.by(SHOP).create_servers(DEFAULT_STORE, names).await.unwrap();
    let servers: Vec<_> = trail(&registry).iter().filter_map(|record| record.on.server).collect();
    assert_eq!(servers, [ServerId(1), ServerId(2), ServerId(3)]);
}

#[tokio::test]
async fn the_trail_is_there_again_and_its_numbers_go_on() {
    let (dir, registry, _) = new();
    registry.by(SHOP).create_store("shop").await.unwrap();
    let before = trail(&registry);
    drop(registry);
    let (registry, _) = open(dir.path()).unwrap();
    assert_eq!(trail(&registry), before);
    registry.by(SHOP).create_store("other").await.unwrap();
    assert_eq!(trail(&registry).last().unwrap().id, AuditId(3));
}

#[tokio::test]
async fn old_records_go_when_their_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_000_000));
    let (clock, kept) = (Arc::clone(&now), Millis::seconds(10));
    let options = RegistryOptions {
        clock: Arc::new(move || UnixMs(clock.load(Ordering::Relaxed))),
        audit_kept: kept,
        ..options()
    };
    let (registry, _) = Registry::open(dir.path(), options, |error| panic!("{error}")).unwrap();
    for name in ["a", "b"] {
        now.fetch_add(1_000, Ordering::Relaxed);
        registry.by(SHOP).create_store(name).await.unwrap();
    }
    let registry = Arc::new(registry);
    let expire = |at: u64| {
        let registry = Arc::clone(&registry);
        tokio::task::spawn_blocking(move || registry.expire_audit(UnixMs(at)))
    };
    expire(1_010_000).await.unwrap().unwrap();
    assert_eq!(trail(&registry).len(), 3, "exactly as old as allowed is not too old");
    expire(1_011_001).await.unwrap().unwrap();
    assert_eq!(trail(&registry).len(), 1);
}

#[tokio::test]
async fn a_lost_admin_key_is_replaced_while_nobody_has_the_directory_open() {
    let (dir, registry, lost) = new();
    let refused = reset_admin_key(dir.path(), HashCost::TINY, UnixMs(5));
    assert!(matches!(refused, Err(StorageError::InUse { .. })), "{refused:?}");
    assert!(registry.check_key(lost.reveal(), HERE).await.is_ok(), "a refused reset changes nothing");
    drop(registry);
    std::fs::remove_file(dir.path().join("admin.key")).unwrap();
    let new = reset_admin_key(dir.path(), HashCost::TINY, UnixMs(5)).unwrap();
    let file = dir.path().join("admin.key");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", new.reveal()));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (registry, first) = open(dir.path()).unwrap();
    assert!(first.admin_key.is_none());
    assert_eq!(registry.check_key(lost.reveal(), HERE).await, Err(AuthError::Invalid));
    assert_eq!(registry.check_key(new.reveal(), HERE).await.unwrap().scope, Scope::Admin);
    assert_eq!(actions(&registry), ["admin_key.create", "admin_key.reset"]);
    assert_eq!(trail(&registry)[1].at, UnixMs(5));
}

#[test]
fn an_admin_key_is_not_made_where_there_is_no_registry() {
    let dir = tempfile::tempdir().unwrap();
    let refused = reset_admin_key(dir.path(), HashCost::TINY, UnixMs(5)).unwrap_err();
    assert!(refused.to_string().contains("name the data directory of a broker"), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// What is logged, gathered.
#[derive(Clone, Default)]
struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_record_is_one_line_of_the_log_whatever_its_name_holds() {
    let name = "hub\r\n\u{1b}[2Jforged\u{202e}line";
    let on = AuditTarget { server: Some(ServerId(7)), name: Some(name.into()), ..AuditTarget::default() };
    let record = AuditRecord {
        id: AuditId(3),
        at: UnixMs(0),
        action: AuditAction::ServerCreated,
        outcome: AuditOutcome::Done,
        by: Actor { address: Some("192.0.2.7:50514".parse().unwrap()), ..SHOP },
        on,
    };
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || log(&RowChange::Audit(Arc::new(record))));
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line = text.trim_end();
    assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
    for part in ["audit=aud_3", "action=\"server.create\"", "by=\"publish\"", "by_key=key_1", "server=srv_7"]
    {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    assert!(line.contains("address=192.0.2.7:50514") && !line.contains("store="), "{line}");
}
