//! Start and stop: opens the disk, recovers the shards, runs the threads, and ends them in order.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::backups::Backups;
use super::clock::Clock;
use super::events::EventHub;
use super::group_commit::{GroupCommit, SharedJournal};
use super::handle::Handle;
use super::inbox::{Envelope, inbox};
use super::inner::Inner;
use super::keeper::{KeeperSettings, ToKeeper};
use super::limited::Limited;
use super::login::FailedLoginLimit;
use super::quotas::{QuotaSettings, Quotas};
use super::registry::{FirstStart, Registry, RegistryOptions};
use super::replay::{recover, shard_threads};
use super::room_thread::ToRoom;
use super::space::Space;
use super::stats::{DoorStats, JournalStats};
use super::{keeper, room_thread, space, texts_thread};
use crate::credentials::HashCost;
use crate::engine::{self, Counters, Shard};
use crate::limits::TICKET_HOURS_MAX;
use crate::storage::mirror::Mirror;
use crate::storage::{self, BackupSource, LogJournal, OpenOptions, RecoveryReport, RedbRest, StorageError};
use crate::time::{Millis, UnixMs};

/// What the broker needs to know; checked before.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where backups are made.
    pub backup_dir: PathBuf,
    /// Where everything is kept a second time, if it is; it looked at the data directory before.
    pub mirror: Option<Mirror>,
    /// 1 to `SHARDS_MAX`.
    pub shards: u16,
    /// Of each shard, but for `texts_kept`, which is for all of them.
    pub engine: engine::Settings,
    /// The longest time between two checkpoints while something changes.
    pub checkpoint_every: Millis,
    /// How long ended commands and orders stay readable.
    pub ended_kept: Millis,
    /// How long a record of the audit trail is kept.
    pub audit_kept: Millis,
    /// Bytes of free space under the data directory below which publishes are refused; 0 = none.
    pub disk_reserve: u64,
    /// What stores, keys and servers may take.
    pub quotas: QuotaSettings,
    /// Threads that check tokens and keys, at least 1.
    pub login_threads: usize,
    /// The longest that a check may take.
    pub login_timeout: Duration,
    /// What a password hash costs; `HashCost::STANDARD` but in tests.
    pub hash_cost: HashCost,
    /// How long a resume ticket lasts, at most `TICKET_HOURS_MAX` hours; zero = none are given or taken.
    pub ticket_lifetime: Millis,
    /// How many logins of one network may fail.
    pub failed_logins: FailedLoginLimit,
}

impl Settings {
    /// The defaults for a data directory.
    pub fn new(data_dir: PathBuf) -> Settings {
        Settings {
            backup_dir: data_dir.join("backups"),
            data_dir,
            mirror: None,
            shards: 1,
            engine: engine::Settings::default(),
            checkpoint_every: Millis::seconds(5),
            ended_kept: Millis::seconds(30 * 24 * 3600),
            audit_kept: Millis::seconds(365 * 24 * 3600),
            disk_reserve: 256 * 1024 * 1024,
            quotas: QuotaSettings::default(),
            login_threads: 1,
            login_timeout: Duration::from_secs(5),
            hash_cost: HashCost::STANDARD,
            ticket_lifetime: Millis::seconds(TICKET_HOURS_MAX * 3600),
            failed_logins: FailedLoginLimit::default(),
        }
    }
}

/// A running broker; end it with [`Running::stop`].
pub struct Running {
    handle: Handle,
    first_start: FirstStart,
    recovery: RecoveryReport,
    failure: watch::Receiver<Option<StorageError>>,
    keeper: (Sender<ToKeeper>, JoinHandle<()>),
    shards: Vec<JoinHandle<()>>,
    texts: JoinHandle<()>,
    room: JoinHandle<()>,
    space: (Sender<()>, JoinHandle<()>),
}

/// Opens the data directory, recovers what is in it, and starts the threads. Call it within a tokio runtime;
/// it blocks for as long as recovery takes.
///
/// # Errors
/// Whatever keeps the storage from being opened or read whole.
pub fn start(settings: Settings) -> Result<Running, StorageError> {
    let clock = Arc::new(Clock::start(UnixMs(0)));
    let Opened { journal, rest, registry, first_start, owner, shards, report } = open(&settings, &clock)?;
    let source = BackupSource::new(&journal, &rest, registry.trail());
    let backups = Backups::new(settings.data_dir.clone(), settings.backup_dir.clone(), source);
    let (to_keeper, messages): (_, Receiver<ToKeeper>) = unbounded();
    let (senders, outlets): (Vec<_>, Vec<_>) = shards.iter().map(|_| inbox()).unzip();
    let (to_texts, wanted) = unbounded();
    let (to_room, room_wanted) = bounded(1);
    let failure = watch::Sender::new(None);
    let failed = failure.subscribe();
    let inner = Arc::new(Inner {
        fingerprints: registry.fingerprints().clone(),
        registry,
        quotas: Quotas::new(settings.quotas),
        quota_settings: settings.quotas,
        shards: senders,
        journal: SharedJournal::new(GroupCommit::new(journal, report.last_commit)),
        keeper: to_keeper.clone(),
        texts: to_texts,
        room: to_room,
        rest: Arc::new(rest),
        hub: EventHub::new(report.boot),
        runtime: tokio::runtime::Handle::current(),
        counters: shards.iter().map(|_| Mutex::new(Counters::default())).collect(),
        journal_stats: JournalStats::default(),
        doors: DoorStats::default(),
        limited: Limited::default(),
        space: Space::new(settings.data_dir.clone(), settings.disk_reserve),
        mirror: settings.mirror.clone(),
        stopping: AtomicBool::new(false),
        failure,
        next_number: AtomicU64::new(1),
        clock,
    });
    owner.set(Arc::downgrade(&inner)).expect("the registry belongs to one broker");
    tokio::spawn(Arc::clone(&inner.hub).run());
    inner.look_at_space();
    let threads = shard_threads(shards, outlets, &report, inner.clock.now(), &inner);
    let threads = (0..).zip(threads);
    let shards = threads.map(|(no, thread)| spawn(&format!("shard-{no}"), move || thread.run())).collect();
    let keeper_settings = keeper_settings(&settings, &report);
    let keeper = {
        let inner = Arc::clone(&inner);
        spawn("keeper", move || keeper::run(keeper_settings, backups, messages, inner))
    };
    let texts = {
        let inner = Arc::clone(&inner);
        spawn("texts", move || texts_thread::run(&wanted, &inner))
    };
    let room = {
        let inner = Arc::clone(&inner);
        spawn("room", move || room_thread::run(&room_wanted, &inner))
    };
    let space = watch_space(&inner);
    Ok(Running {
        handle: Handle { inner },
        first_start,
        recovery: report,
        failure: failed,
        keeper: (to_keeper, keeper),
        shards,
        texts,
        room,
        space,
    })
}

/// What lay on disk, in the hands of those who go on with it.
struct Opened {
    journal: LogJournal,
    rest: RedbRest,
    registry: Registry,
    first_start: FirstStart,
    owner: Owner,
    shards: Vec<Shard>,
    report: RecoveryReport,
}

/// Opens and reads everything; with a mirror, as often as that has something to put in the place of what is damaged.
fn open(settings: &Settings, clock: &Arc<Clock>) -> Result<Opened, StorageError> {
    let Some(mirror) = &settings.mirror else {
        Mirror::left_alone(&settings.data_dir)?;
        return open_once(settings, clock);
    };
    loop {
        match open_once(settings, clock) {
            Ok(opened) => {
                mirror.attach()?;
                return Ok(opened);
            }
            Err(error) => mirror.heal(error)?,
        }
    }
}

fn open_once(settings: &Settings, clock: &Arc<Clock>) -> Result<Opened, StorageError> {
    let (dir, options) = (&settings.data_dir, OpenOptions::default());
    let (rest, recovery) = match &settings.mirror {
        Some(mirror) => storage::open_mirrored(dir, options, mirror)?,
        None => storage::open(dir, options)?,
    };
    let (registry, first_start, owner) = open_registry(settings, clock)?;
    let servers = registry.servers(None);
    let servers = servers.iter().map(|server| (server.id, server.store));
    let (journal, shards, report) = recover(settings, recovery, &rest, servers, clock.now())?;
    Ok(Opened { journal, rest, registry, first_start, owner, shards, report })
}

/// The thread that looks at the disk's free space, and what ends it when it is dropped.
fn watch_space(inner: &Arc<Inner>) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = bounded(0);
    let inner = Arc::clone(inner);
    (stop, spawn("space", move || space::run(stopped, inner)))
}

/// What the keeper goes by after this recovery.
pub(super) fn keeper_settings(settings: &Settings, report: &RecoveryReport) -> KeeperSettings {
    KeeperSettings {
        checkpoint_every: settings.checkpoint_every,
        ended_kept: settings.ended_kept,
        keys_kept: settings.engine.keys_kept,
        journal_recovered: report.frames > 0,
    }
}

/// Where the registry finds the broker whose storage failed, once there is one.
type Owner = Arc<OnceLock<Weak<Inner>>>;

/// Opens the registry; its failures are those of the broker that is put into the returned cell.
fn open_registry(
    settings: &Settings,
    clock: &Arc<Clock>,
) -> Result<(Registry, FirstStart, Owner), StorageError> {
    let owner = Owner::default();
    let (failing, clock) = (Arc::clone(&owner), Arc::clone(clock));
    let options = RegistryOptions {
        login_threads: settings.login_threads,
        login_timeout: settings.login_timeout,
        hash_cost: settings.hash_cost,
        ticket_lifetime: settings.ticket_lifetime,
        failed_logins: settings.failed_logins,
        audit_kept: settings.audit_kept,
        mirror: settings.mirror.clone(),
        clock: Arc::new(move || clock.now()),
    };
    let on_failure = move |error| {
        if let Some(inner) = failing.get().and_then(Weak::upgrade) {
            inner.fail(error);
        }
    };
    let (registry, first_start) = Registry::open(&settings.data_dir, options, on_failure)?;
    Ok((registry, first_start, owner))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread can be started at start-up")
}

impl Running {
    /// The broker as everybody else sees it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What was made because the data directory was new.
    pub fn first_start(&self) -> &FirstStart {
        &self.first_start
    }

    /// What was found on disk.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Returns when the storage has failed; from then on nothing is acknowledged. Cancel-safe.
    pub async fn failed(&mut self) -> StorageError {
        match self.failure.wait_for(Option::is_some).await {
            Ok(error) => error.clone().expect("the wait was for an error"),
            Err(_) => std::future::pending().await,
        }
    }

    /// Refuses new publishes and tells every connection to come back later, spread over `spread`.
    pub fn go_away(&self, spread: Millis) {
        self.handle.inner.stopping.store(true, Ordering::Release);
        let spread_ms = u32::try_from(spread.0).unwrap_or(u32::MAX);
        for shard in &self.handle.inner.shards {
            shard.send_now(Envelope::GoAway { spread_ms });
        }
        self.handle.inner.hub.close();
    }

    /// Stores what is open, makes a last checkpoint, ends all threads.
    ///
    /// # Errors
    /// The storage's error, when it failed before or while stopping.
    pub async fn stop(self) -> Result<(), StorageError> {
        self.handle.inner.stopping.store(true, Ordering::Release);
        let failure = self.failure.clone();
        let runtime = tokio::runtime::Handle::current();
        let ended = runtime.spawn_blocking(move || self.join()).await;
        ended.expect("panics in the broker's threads abort the process");
        match &*failure.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Ends the threads in the order of the data's way: shards after the last checkpoint, then who makes room in the journal, and
    /// the journal, then who only reads.
    fn join(self) {
        let (keeper, thread) = self.keeper;
        let _ = keeper.send(ToKeeper::Stop);
        let _ = thread.join();
        for shard in &self.handle.inner.shards {
            shard.send_now(Envelope::Stop);
        }
        for shard in self.shards {
            let _ = shard.join();
        }
        let _ = self.handle.inner.room.send(ToRoom::Stop);
        let _ = self.room.join();
        if let Some(error) = self.handle.inner.journal.end(&self.handle.inner) {
            self.handle.inner.fail(error);
        }
        let _ = self.handle.inner.texts.send(None);
        let _ = self.texts.join();
        let (stop, thread) = self.space;
        drop(stop);
        let _ = thread.join();
    }
}
