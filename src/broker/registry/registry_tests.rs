//! Tests of the registry over real files.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableTable, StorageBackend, TableDefinition};

use super::*;
use crate::broker::login::{Network, Origin};
use crate::limits::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX};
use crate::storage::registry::REGISTRY_FILE;

/// Where the tests' logins come from.
pub(super) const HERE: Origin =
    Origin { network: Network::of(IpAddr::V4(Ipv4Addr::LOCALHOST)), within: Duration::from_secs(30) };

pub(super) fn options() -> RegistryOptions {
    RegistryOptions {
        login_threads: 2,
        login_timeout: Duration::from_secs(30),
        hash_cost: HashCost::TINY,
        ticket_lifetime: Millis::seconds(24 * 3600),
        failed_logins: FailedLoginLimit::default(),
        audit_kept: Millis::seconds(3600),
        mirror: None,
        clock: Arc::new(|| UnixMs(1_700_000_000_000)),
    }
}

pub(super) fn open(dir: &Path) -> Result<(Registry, FirstStart), StorageError> {
    Registry::open(dir, options(), |error| panic!("the disk failed: {error}"))
}

pub(super) fn new() -> (tempfile::TempDir, Registry, Secret) {
    let dir = tempfile::tempdir().unwrap();
    let (registry, first) = open(dir.path()).unwrap();
    (dir, registry, first.admin_key.unwrap())
}

/// The same secret under another tag.
fn forged(token: &Secret) -> String {
    let mut text = token.reveal().to_owned();
    let last = if text.pop() == Some('A') { 'B' } else { 'A' };
    text.push(last);
    text
}

#[tokio::test]
async fn the_first_start_makes_store_and_admin_key() {
    let (dir, registry, admin) = new();
    assert_eq!(
        registry.stores().iter().map(|s| (s.id, &*s.name)).collect::<Vec<_>>(),
        [(DEFAULT_STORE, "default")]
    );
    let principal = registry.check_key(admin.reveal(), HERE).await.unwrap();
    assert_eq!(principal, Principal { key: None, scope: Scope::Admin, store: DEFAULT_STORE });
    assert!(registry.keys(DEFAULT_STORE).is_empty() && registry.key(ADMIN_KEY).is_none(), "it is not listed");
    assert_eq!(
        std::fs::read_to_string(dir.path().join("admin.key")).unwrap(),
        format!("{}\n", admin.reveal())
    );
    for file in ["admin.key", "secret.key", REGISTRY_FILE] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn no_secret_reaches_the_database() {
    let (dir, registry, admin) = new();
    let (server, token) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let (_, key) = registry.by(Actor::LOCAL).create_key(DEFAULT_STORE, Scope::Read, "shop").await.unwrap();
    let renewed = registry.by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    drop(registry);
    let reset = reset_admin_key(dir.path(), HashCost::TINY, UnixMs(1)).unwrap();
    let bytes = std::fs::read(dir.path().join(REGISTRY_FILE)).unwrap();
    for secret in [&admin, &token, &key, &renewed, &reset] {
        let (_, random) = secret.reveal().split_once('.').unwrap();
        assert!(!bytes.windows(16).any(|window| window == &random.as_bytes()[..16]));
    }
}

#[tokio::test]
async fn a_token_is_hashed_once_and_then_recalled() {
    let (_dir, registry, _) = new();
    let (server, token) =
        registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "play.example.org").await.unwrap();
    for _ in 0..10 {
        assert_eq!(registry.check_token(token.reveal(), HERE).await.unwrap(), server);
    }
    let counts = registry.login_counts();
    assert_eq!((counts.hashed, counts.recalled), (1, 9));
}

#[tokio::test]
async fn a_forged_token_costs_no_hash() {
    let (_dir, registry, admin) = new();
    let (_, token) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let (_, key) = registry.by(Actor::LOCAL).create_key(DEFAULT_STORE, Scope::Publish, "shop").await.unwrap();
    for text in [forged(&token), String::new(), "srv_1.".into(), key.reveal().into(), admin.reveal().into()] {
        assert_eq!(registry.check_token(&text, HERE).await, Err(AuthError::Invalid), "{text}");
    }
    for text in [forged(&key), forged(&admin), token.reveal().into()] {
        assert_eq!(registry.check_key(&text, HERE).await, Err(AuthError::Invalid), "{text}");
    }
    let counts = registry.login_counts();
    assert_eq!((counts.hashed, counts.forged, counts.wrong), (0, 8, 0));
}

#[tokio::test]
async fn regenerating_kills_the_old_token_at_once() {
    let (_dir, registry, _) = new();
    let (server, old) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    registry.check_token(old.reveal(), HERE).await.unwrap();
    let new = registry.by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    assert_eq!(registry.check_token(old.reveal(), HERE).await, Err(AuthError::Invalid));
    assert_eq!(registry.check_token(new.reveal(), HERE).await.unwrap().generation, 2);
    let hashed = registry.login_counts().hashed;
    assert_eq!(registry.check_token(old.reveal(), HERE).await, Err(AuthError::Invalid));
    assert_eq!(registry.login_counts().hashed, hashed, "a dead token costs one hash, not one each time");
}

#[tokio::test]
async fn unknown_and_wrong_cost_the_same() {
    let (_dir, registry, _) = new();
    let (server, token) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    let (_, other) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "other", "").await.unwrap();
    registry.by(Actor::LOCAL).remove_server(server.id).await.unwrap();
    assert_eq!(registry.check_token(token.reveal(), HERE).await, Err(AuthError::Invalid));
    assert_eq!(registry.login_counts().hashed, 1, "an unknown one costs a hash too");
    registry.check_token(other.reveal(), HERE).await.unwrap();
    assert_eq!(registry.login_counts().hashed, 2);
}

#[tokio::test]
async fn the_removal_of_a_key_is_seen_by_its_watch_alone() {
    let (_dir, registry, _) = new();
    let mut ids = Vec::new();
    for name in ["shop", "forum"] {
        let made = registry.by(Actor::LOCAL).create_key(DEFAULT_STORE, Scope::Publish, name).await;
        ids.push(made.unwrap().0);
    }
    let mut watches = [Some(ids[0]), Some(ids[1]), None].map(|key| registry.watch_key(key));
    assert_eq!(watches.each_mut().map(KeyWatch::is_removed), [false; 3]);
    registry.by(Actor::LOCAL).remove_key(ids[0]).await.unwrap();
    assert_eq!(watches.each_mut().map(KeyWatch::is_removed), [true, false, false]);
    watches[0].removed().await;
    // A watch that begins too late sees it too.
    assert!(registry.watch_key(Some(ids[0])).is_removed());
}

#[tokio::test]
async fn a_removed_key_is_refused_at_once() {
    let (_dir, registry, _) = new();
    let store = registry.by(Actor::LOCAL).create_store("shop").await.unwrap();
    let (id, key) = registry.by(Actor::LOCAL).create_key(store.id, Scope::Publish, "backend").await.unwrap();
    let principal = registry.check_key(key.reveal(), HERE).await.unwrap();
    assert_eq!(principal, Principal { key: Some(id), scope: Scope::Publish, store: store.id });
    assert_eq!(registry.keys(store.id).iter().map(|key| key.id).collect::<Vec<_>>(), [id]);
    registry.by(Actor::LOCAL).remove_key(id).await.unwrap();
    assert_eq!(registry.check_key(key.reveal(), HERE).await, Err(AuthError::Invalid));
    assert!(registry.keys(store.id).is_empty());
    assert!(matches!(registry.by(Actor::LOCAL).remove_key(id).await, Err(RegistryError::NotFound)));
    assert!(matches!(registry.by(Actor::LOCAL).remove_key(ADMIN_KEY).await, Err(RegistryError::NotFound)));
}

#[tokio::test]
async fn names_are_unique_within_their_store() {
    let (_dir, registry, _) = new();
    let shop = registry.by(Actor::LOCAL).create_store("shop").await.unwrap().id;
    assert!(matches!(
        registry.by(Actor::LOCAL).create_store("default").await,
        Err(RegistryError::NameTaken(_))
    ));
    let (first, _) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    registry.by(Actor::LOCAL).create_server(shop, "lobby", "").await.unwrap();
    let (second, _) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "arena", "").await.unwrap();
    assert!(matches!(
        registry.by(Actor::LOCAL).create_server(shop, "lobby", "").await,
        Err(RegistryError::NameTaken(_))
    ));
    let taken = registry.by(Actor::LOCAL).update_server(second.id, Some("lobby"), None).await;
    assert!(matches!(taken, Err(RegistryError::NameTaken(_))));
    // Its own name is not taken, and a name left behind is free again.
    registry.by(Actor::LOCAL).update_server(first.id, Some("lobby"), Some("a")).await.unwrap();
    let renamed = registry.by(Actor::LOCAL).update_server(first.id, Some("hub"), None).await.unwrap();
    assert_eq!((&*renamed.name, &*renamed.address, renamed.generation), ("hub", "a", 1));
    registry.by(Actor::LOCAL).update_server(second.id, Some("lobby"), None).await.unwrap();
    registry.by(Actor::LOCAL).remove_server(second.id).await.unwrap();
    registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
}

#[tokio::test]
async fn fields_out_of_range_are_named() {
    let (_dir, registry, _) = new();
    for name in ["", "a\nb", &"x".repeat(NAME_BYTES_MAX + 1)] {
        let error = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, name, "").await.unwrap_err();
        assert!(matches!(error, RegistryError::Invalid { field: "name", .. }), "{error}");
        assert!(registry.by(Actor::LOCAL).create_store(name).await.is_err());
        assert!(registry.by(Actor::LOCAL).create_key(DEFAULT_STORE, Scope::Read, name).await.is_err());
    }
    let error = registry
        .by(Actor::LOCAL)
        .create_server(DEFAULT_STORE, "a", &"x".repeat(ADDRESS_BYTES_MAX + 1))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "address must have 0 to 255 bytes and no control characters");
    assert!(
        registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, &"x".repeat(NAME_BYTES_MAX), "").await.is_ok()
    );
    let error = registry.by(Actor::LOCAL).create_key(DEFAULT_STORE, Scope::Admin, "root").await.unwrap_err();
    assert!(matches!(error, RegistryError::Invalid { field: "scope", .. }));
    let missing = StoreId(9);
    assert!(matches!(
        registry.by(Actor::LOCAL).create_server(missing, "a", "").await,
        Err(RegistryError::NotFound)
    ));
    assert!(matches!(
        registry.by(Actor::LOCAL).create_key(missing, Scope::Read, "a").await,
        Err(RegistryError::NotFound)
    ));
    assert!(matches!(
        registry.by(Actor::LOCAL).regenerate_token(ServerId(99)).await,
        Err(RegistryError::NotFound)
    ));
}

#[tokio::test]
async fn many_servers_are_made_all_or_none() {
    let (_dir, registry, _) = new();
    let named =
        |names: &[&str]| names.iter().map(|name| (name.to_string(), String::new())).collect::<Vec<_>>();
    registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "taken", "").await.unwrap();
    for names in [["a", "taken"], ["a", "a"], ["a", ""]] {
        assert!(
            registry.by(Actor::LOCAL).create_servers(DEFAULT_STORE, named(&names)).await.is_err(),
            "{names:?}"
        );
        assert_eq!(registry.servers(None).len(), 1);
    }
    let made =
        registry.by(Actor::LOCAL).create_servers(DEFAULT_STORE, named(&["a", "b", "c"])).await.unwrap();
    assert_eq!(made.iter().map(|(server, _)| &*server.name).collect::<Vec<_>>(), ["a", "b", "c"]);
    for (server, token) in &made {
        assert_eq!(registry.check_token(token.reveal(), HERE).await.as_ref(), Ok(server));
    }
    assert_eq!(registry.server_ids(DEFAULT_STORE).len(), 4);
}

#[tokio::test]
async fn a_restart_keeps_everything_and_numbers_are_not_used_again() {
    let (dir, registry, admin) = new();
    let shop = registry.by(Actor::LOCAL).create_store("shop").await.unwrap();
    let (first, token) = registry.by(Actor::LOCAL).create_server(shop.id, "lobby", "a").await.unwrap();
    let token = {
        drop(token);
        registry.by(Actor::LOCAL).regenerate_token(first.id).await.unwrap()
    };
    let (last, _) = registry.by(Actor::LOCAL).create_server(shop.id, "arena", "").await.unwrap();
    registry.by(Actor::LOCAL).remove_server(last.id).await.unwrap();
    let (key_id, key) = registry.by(Actor::LOCAL).create_key(shop.id, Scope::Read, "shop").await.unwrap();
    registry.by(Actor::LOCAL).remove_key(key_id).await.unwrap();
    let (kept_id, kept) =
        registry.by(Actor::LOCAL).create_key(shop.id, Scope::Publish, "shop").await.unwrap();
    let (stores, servers, keys) = (registry.stores(), registry.servers(None), registry.keys(shop.id));
    let digest = registry.fingerprints().key(shop.id, "k");
    drop(registry);
    std::fs::remove_file(dir.path().join("admin.key")).unwrap();

    let (registry, first_start) = open(dir.path()).unwrap();
    assert!(first_start.admin_key.is_none());
    assert!(!dir.path().join("admin.key").exists(), "a removed admin.key stays removed");
    assert_eq!((registry.stores(), registry.servers(None), registry.keys(shop.id)), (stores, servers, keys));
    assert_eq!(registry.fingerprints().key(shop.id, "k"), digest);
    assert_eq!(registry.check_key(admin.reveal(), HERE).await.unwrap().scope, Scope::Admin);
    assert_eq!(registry.check_key(kept.reveal(), HERE).await.unwrap().key, Some(kept_id));
    assert_eq!(registry.check_key(key.reveal(), HERE).await, Err(AuthError::Invalid));
    assert_eq!(registry.check_token(token.reveal(), HERE).await.unwrap().generation, 2);
    let (next, _) = registry.by(Actor::LOCAL).create_server(shop.id, "arena", "").await.unwrap();
    assert_eq!(next.id.0, last.id.0 + 1);
    assert!(matches!(registry.by(Actor::LOCAL).create_store("shop").await, Err(RegistryError::NameTaken(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_registrations_get_numbers_of_their_own() {
    let (dir, registry, _) = new();
    let registry = Arc::new(registry);
    let calls = (0..100).map(|n| {
        let registry = Arc::clone(&registry);
        // Every name twice: exactly one of each pair succeeds.
        tokio::spawn(async move {
            registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, &format!("s{}", n / 2), "").await
        })
    });
    let mut made = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(server) => made.push(server),
            Err(error) => assert!(matches!(error, RegistryError::NameTaken(_)), "{error}"),
        }
    }
    let mut ids: Vec<u32> = made.iter().map(|(server, _)| server.id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<u32>>());
    drop(Arc::into_inner(registry).unwrap());
    let (registry, _) = open(dir.path()).unwrap();
    for (server, token) in made {
        assert_eq!(registry.check_token(token.reveal(), HERE).await.unwrap(), server);
    }
}

#[test]
fn a_second_process_is_told_so() {
    let (dir, _registry, _) = new();
    assert!(matches!(open(dir.path()), Err(StorageError::InUse { .. })));
}

#[test]
fn a_missing_or_foreign_data_key_is_named() {
    let (dir, registry, _) = new();
    drop(registry);
    let path = dir.path().join("secret.key");
    let kept = std::fs::read(&path).unwrap();
    for bytes in [None, Some(vec![7; 32]), Some(vec![7; 5])] {
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let Err(StorageError::Damaged { file, .. }) = open(dir.path()) else { panic!("it opened") };
        assert_eq!(file, path);
    }
    std::fs::write(&path, kept).unwrap();
    open(dir.path()).unwrap();
}

/// Changes one stored row as a failing disk under an intact page checksum would.
fn damage(dir: &Path, table: &str, key: u32) {
    let db = Database::open(dir.join(REGISTRY_FILE)).unwrap();
    let transaction = db.begin_write().unwrap();
    {
        let mut table = transaction.open_table(TableDefinition::<u32, &[u8]>::new(table)).unwrap();
        let mut row = table.get(key).unwrap().unwrap().value().to_vec();
        let middle = row.len() / 2;
        row[middle] ^= 4;
        table.insert(key, row.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_named() {
    for (table, key) in [("stores", 1), ("servers", 1), ("keys", 0), ("keys", 1)] {
        let (dir, registry, _) = new();
        registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
        registry.by(Actor::LOCAL).create_key(DEFAULT_STORE, Scope::Read, "shop").await.unwrap();
        drop(registry);
        damage(dir.path(), table, key);
        let Err(StorageError::Damaged { file, record, .. }) = open(dir.path()) else { panic!("it opened") };
        assert_eq!((file, record), (dir.path().join(REGISTRY_FILE), format!("{table}/{key}")));
    }
}

#[test]
fn a_damaged_or_foreign_file_is_refused() {
    let (dir, registry, _) = new();
    drop(registry);
    let path = dir.path().join(REGISTRY_FILE);
    std::fs::write(&path, b"this is not a database, it is a text of some length").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { file, .. } if *file == path), "{error}");
}

#[test]
fn a_first_start_that_was_cut_short_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let left = crate::credentials::DataKey::generate();
    crate::credentials::DataKeyFile::write(&dir.path().join("secret.key"), &left).unwrap();
    std::fs::write(dir.path().join("admin.key"), "admin.left\n").unwrap();
    let (registry, first) = open(dir.path()).unwrap();
    let admin = first.admin_key.unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path().join("admin.key")).unwrap(),
        format!("{}\n", admin.reveal())
    );
    assert!(registry.sealer.open(admin.reveal()).is_some());
    assert!(Sealer::new(&left).open(admin.reveal()).is_some(), "the data key that was there is used");
}

/// Memory that fails every write from the moment it is told to.
#[derive(Debug, Clone)]
struct FailingDisk {
    memory: Arc<InMemoryBackend>,
    fails: Arc<AtomicBool>,
}

impl FailingDisk {
    fn answer<T>(&self, answer: io::Result<T>) -> io::Result<T> {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        if self.fails.load(Ordering::Relaxed) { Err(full()) } else { answer }
    }
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.answer(self.memory.set_len(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.answer(self.memory.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.answer(self.memory.write(offset, data))
    }
}

#[tokio::test]
async fn a_failing_disk_is_reported_once_and_nothing_is_shown_that_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FailingDisk { memory: Arc::default(), fails: Arc::default() };
    let fails = Arc::clone(&disk.fails);
    let (report, reports) = std::sync::mpsc::channel();
    let db = RegistryDb::open_with_backend(disk).unwrap();
    let (registry, _) =
        Registry::open_on(db, dir.path(), options(), move |error| report.send(error).unwrap()).unwrap();
    let (server, token) = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "lobby", "").await.unwrap();
    fails.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let error = registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, "arena", "").await.unwrap_err();
        assert!(matches!(error, RegistryError::Storage(StorageError::Full { .. })), "{error}");
        let error = registry.by(Actor::LOCAL).regenerate_token(server.id).await.unwrap_err();
        assert!(matches!(error, RegistryError::Storage(StorageError::Full { .. })), "{error}");
    }
    assert_eq!(registry.servers(None), [Arc::clone(&server)]);
    assert_eq!(registry.check_token(token.reveal(), HERE).await.unwrap(), server, "reads go on");
    assert!(matches!(reports.try_recv(), Ok(StorageError::Full { .. })));
    assert!(reports.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_a_server_half_made() {
    let (_dir, registry, _) = new();
    let registry = Arc::new(registry);
    let seen = Arc::new(AtomicU64::new(0));
    let reader = {
        let (registry, seen) = (Arc::clone(&registry), Arc::clone(&seen));
        tokio::task::spawn_blocking(move || {
            while seen.load(Ordering::Relaxed) < 50 {
                for id in registry.server_ids(DEFAULT_STORE) {
                    assert!(registry.server(id).is_some(), "{id} is listed and not there");
                }
                seen.store(registry.servers(Some(DEFAULT_STORE)).len() as u64, Ordering::Relaxed);
            }
        })
    };
    for n in 0..50 {
        registry.by(Actor::LOCAL).create_server(DEFAULT_STORE, &n.to_string(), "").await.unwrap();
    }
    reader.await.unwrap();
}
