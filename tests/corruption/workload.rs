//! A small data directory with something of everything, made by a broker as it is used. Must never be read by anything but
//! a broker's own doors.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fluxrelay::broker::{
    self, Actor, DEFAULT_STORE, Handle, Network, OrderRequest, Origin, Published, RequestedCommand, Running,
    Scope, Settings, Target,
};
use fluxrelay::credentials::HashCost;
use fluxrelay::engine::{self, CommandResult, Labels, NewCommand, OnDoubt, Operation, Outcome, Player};
use fluxrelay::ids::{CommandId, OrderId, ServerId, StoreId};
use fluxrelay::storage::StorageError;
use fluxrelay::storage::mirror::Mirror;
use fluxrelay::time::{Millis, UnixMs};

/// Servers; more than there are shards.
const SERVERS: usize = 3;
/// Commands of a server that stay to be delivered.
const WAITING: usize = 12;

/// A data directory and what is in it.
pub(crate) struct Made {
    pub(crate) name: &'static str,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Of its mirror, if it has one.
    pub(crate) mirror: BTreeMap<String, Vec<u8>>,
    pub(crate) known: Arc<Known>,
}

/// Names of everything, and what proves who somebody is.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) servers: Vec<(ServerId, String)>,
    pub(crate) keys: Vec<String>,
    pub(crate) commands: Vec<CommandId>,
    pub(crate) orders: Vec<OrderId>,
    /// Orders with keys, to be repeated.
    pub(crate) requests: Vec<(StoreId, OrderRequest)>,
}

impl Known {
    pub(crate) fn server_ids(&self) -> Vec<ServerId> {
        self.servers.iter().map(|(server, _)| *server).collect()
    }
}

/// Nothing happens by itself: no checkpoint, no expiry, no retry.
pub(crate) fn settings(dir: &Path) -> Settings {
    Settings {
        shards: 2,
        engine: engine::Settings { retry_delays: Vec::new(), ..engine::Settings::default() },
        checkpoint_every: Millis::seconds(3600),
        hash_cost: HashCost::TINY,
        ..Settings::new(dir.to_owned())
    }
}

pub(crate) fn origin() -> Origin {
    Origin { network: Network::of(IpAddr::V4(Ipv4Addr::LOCALHOST)), within: Duration::MAX }
}

/// A file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("it is written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    entries
        .filter(|path| path.is_file())
        .map(|path| (name(&path), fs::read(&path).expect("a file")))
        .collect()
}

/// One directory closed in order, and one as a kill leaves it; with a mirror or without.
pub(crate) async fn make(mirrored: bool) -> Vec<Made> {
    let (dir, mirror) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let second = mirrored.then(|| mirror.path());
    let both = || (files(dir.path()), files(mirror.path()));
    let mut known = Known::default();
    let running = start(dir.path(), second);
    register(running.handle(), &mut known).await;
    let admin = running.first_start().admin_key.as_ref().expect("it is the first start");
    known.keys.push(admin.reveal().to_owned());
    live(running.handle(), &mut known, "first").await;
    running.stop().await.expect("it stops");

    let running = start(dir.path(), second);
    live(running.handle(), &mut known, "second").await;
    let killed = both();
    running.stop().await.expect("it stops");
    let closed = both();
    assert!(closed.0.contains_key("clean") && !killed.0.contains_key("clean"));
    assert_eq!(mirrored, !killed.1.is_empty());
    let known = Arc::new(known);
    let made = |name, (files, mirror)| Made { name, files, mirror, known: Arc::clone(&known) };
    vec![made("closed", closed), made("killed", killed)]
}

/// As [`settings`], with a mirror.
pub(crate) fn mirrored(dir: &Path, mirror: &Path) -> Result<Settings, StorageError> {
    Ok(Settings { mirror: Some(Mirror::look(dir, mirror)?), ..settings(dir) })
}

fn start(dir: &Path, mirror: Option<&Path>) -> Running {
    let settings = mirror.map_or_else(|| Ok(settings(dir)), |mirror| mirrored(dir, mirror));
    settings.and_then(broker::start).expect("the broker starts")
}

async fn register(handle: &Handle, known: &mut Known) {
    let by = handle.registry().by(Actor::LOCAL);
    for number in 0..SERVERS {
        let name = format!("survival-{number}");
        let (server, _) =
            by.create_server(DEFAULT_STORE, &name, "a.example:25565").await.expect("it is made");
        handle.server_added(server.id, DEFAULT_STORE).await.expect("its shard learns of it");
        let token = by.regenerate_token(server.id).await.expect("it is renewed");
        handle.token_regenerated(server.id).await.expect("its session ends");
        known.servers.push((server.id, token.reveal().to_owned()));
    }
    let store = by.create_store("another shop").await.expect("it is made");
    for (store, scope) in
        [(DEFAULT_STORE, Scope::Publish), (DEFAULT_STORE, Scope::Read), (store.id, Scope::Read)]
    {
        let (_, key) = by.create_key(store, scope, "a key").await.expect("it is made");
        known.keys.push(key.reveal().to_owned());
    }
    let (gone, key) = by.create_key(DEFAULT_STORE, Scope::Publish, "leaked").await.expect("it is made");
    by.remove_key(gone).await.expect("it is removed");
    known.keys.push(key.reveal().to_owned());
}

fn command(server: ServerId, text: &str) -> RequestedCommand {
    let command = NewCommand {
        server: ServerId(0),
        text: text.into(),
        player: Some(Player { name: "Steve".into(), uuid: Some(7) }),
        require_online: false,
        not_before: None,
        expires_at: None,
        on_doubt: OnDoubt::Hold,
        labels: Some(Box::new(Labels { stage: Some("initial".into()), metadata: Some("{\"n\":1}".into()) })),
    };
    RequestedCommand { target: Target::One(server), delay: None, command }
}

async fn publish(
    handle: &Handle,
    known: &mut Known,
    key: String,
    commands: Vec<RequestedCommand>,
) -> Published {
    let reference = Some(format!("basket of {key}").into());
    let request = OrderRequest { key: Some(key.into()), reference, player: None, ordered: false, commands };
    let published = handle.publish(DEFAULT_STORE, request.clone()).await.expect("it is accepted");
    known.requests.push((DEFAULT_STORE, request));
    known.orders.push(published.order);
    known.commands.extend(&published.commands);
    published
}

/// Commands of every status, and some that wait.
async fn live(handle: &Handle, known: &mut Known, run: &str) {
    for server in known.server_ids() {
        for number in 0..5 {
            let text = |n: usize| format!("give Steve diamond {n} {}", "x".repeat(40 * number));
            let commands = (0..3).map(|n| command(server, &text(n))).collect();
            publish(handle, known, format!("{run}-{server}-{number}"), commands).await;
        }
        let (due, _) = handle.poll(server).await.expect("a poll");
        let outcomes = [Outcome::Completed, Outcome::Failed, Outcome::Completed, Outcome::InDoubt];
        let results = due.iter().zip(outcomes.into_iter().cycle()).map(|(delivery, outcome)| CommandResult {
            seq: delivery.seq,
            attempt: Some(delivery.attempt),
            outcome,
            error: (outcome == Outcome::Failed).then(|| "no such item".into()),
            output: Some("Given 1 to Steve".into()),
        });
        handle.poll_results(server, results.collect()).await.expect("they are taken");
        let failed = due.iter().skip(1).step_by(8).map(|delivery| CommandId { server, seq: delivery.seq });
        for id in failed.take(2) {
            handle
                .operate_by(Actor::LOCAL, id, DEFAULT_STORE, Operation::Cancel)
                .await
                .expect("it is cancelled");
        }
        let waiting =
            (0..WAITING).map(|n| command(server, &format!("lp user Steve parent add vip{n}"))).collect();
        publish(handle, known, format!("{run}-{server}-waiting"), waiting).await;
        let mut later = command(server, "say later");
        later.command.not_before = Some(UnixMs(4_000_000_000_000));
        publish(handle, known, format!("{run}-{server}-later"), vec![later]).await;
    }
}
