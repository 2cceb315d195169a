//! `kill -9` of the real binary at random instants under load: nothing acknowledged is missing, nothing runs twice.
//!
//! Publishers and ledgered plugins run over real sockets and are cut off with every kill; plugins crash by themselves
//! too. `FLUXRELAY_KILL9_CYCLES` sets the number of kills, `FLUXRELAY_SEED` repeats the instants of a run.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fluxrelay::client::{
    BackoffOptions, DeliveredCommand, Order, OrderCommand, PluginClient, PluginOptions, PublisherClient,
    PublisherOptions, Servers,
};
use fluxrelay::ids::{CommandId, ServerId};
use parking_lot::Mutex;
use serde_json::{Value, json};

const SERVERS: usize = 4;
/// Publisher connections, and loops that publish on each.
const PUBLISHERS: usize = 2;
const LOOPS: usize = 4;
/// Looks for an end, this far apart, before the test says that it does not come.
const LOOKS_MAX: u32 = 600;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// SplitMix64: small, and the same in every run of a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

// ---------------------------------------------------------------- the broker

struct Broker {
    process: Child,
    data: PathBuf,
    port: u16,
}

impl Broker {
    fn start(data: &Path, port: u16) -> Broker {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fluxrelay"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let listening = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on "));
        assert!(listening, "the broker ended before it listened: {:?}", process.wait());
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Broker { process, data: data.to_owned(), port }
    }

    fn kill_and_restart(&mut self, pause: Duration) {
        self.process.kill().expect("the broker was running");
        let status = self.process.wait().expect("a child can be waited for");
        assert_eq!(status.code(), None, "the broker ended by itself before it was killed: {status}");
        thread::sleep(pause);
        let (data, port) = (self.data.clone(), self.port);
        *self = Broker::start(&data, port);
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn call(&self, key: &str, path: &str, body: Option<Value>) -> Value {
        let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().new_agent();
        let bearer = format!("Bearer {key}");
        let answer = match body {
            Some(body) => agent.post(self.url(path)).header("Authorization", bearer).send_json(body),
            None => agent.get(self.url(path)).header("Authorization", bearer).call(),
        };
        let mut answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = answer.body_mut().read_to_string().expect("a body");
        assert!(answer.status().is_success(), "{path}: {} {text}", answer.status());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// The status of every command of a server.
    fn statuses(&self, key: &str, server: ServerId) -> HashMap<CommandId, String> {
        let mut found = HashMap::new();
        let mut cursor = String::new();
        loop {
            let page = self.call(key, &format!("/v1/servers/{server}/commands?limit=1000{cursor}"), None);
            for command in page["commands"].as_array().expect("a list") {
                let id = command["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
                found.insert(id, command["status"].as_str().expect("a status").to_owned());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A free port below those that outgoing connections get: a client that calls a broker which is down must not be
/// given the broker's own port.
fn free_port(random: &mut Random) -> u16 {
    (0..100)
        .map(|_| random.between(20_000, 30_000) as u16)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of a hundred ports is free")
}

// ---------------------------------------------------------------- the load

/// What the outside world knows to have happened.
#[derive(Default)]
struct World {
    /// Acknowledged orders: key and ids.
    acknowledged: Mutex<Vec<(String, Vec<CommandId>)>>,
    /// How often each command ran.
    runs: Mutex<HashMap<CommandId, u32>>,
    /// No more orders.
    stop_publishing: AtomicBool,
    /// Plugins crash no more.
    calm: AtomicBool,
    /// Plugins end.
    end: AtomicBool,
    crashes: AtomicU64,
}

fn backoff() -> BackoffOptions {
    BackoffOptions { first: Duration::from_millis(5), longest: Duration::from_millis(100) }
}

async fn publish_loop(
    world: Arc<World>,
    client: PublisherClient,
    servers: Arc<Vec<ServerId>>,
    name: usize,
    mut random: Random,
) {
    let mut number = 0;
    while !world.stop_publishing.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("order-{name}-{number}");
        let command = |at: usize, random: &mut Random| {
            let server = servers[random.between(0, SERVERS as u64) as usize];
            OrderCommand::new(Servers::One(server), format!("run {key} {at}"))
        };
        let commands: Vec<_> =
            (0..random.between(1, 4) as usize).map(|at| command(at, &mut random)).collect();
        let count = commands.len();
        let order = Order { key: Some(key.clone()), commands, ..Order::default() };
        let accepted = client.publish(order).await.expect("the client publishes until there is an answer");
        assert_eq!(accepted.commands.len(), count, "an order is all or nothing");
        world.acknowledged.lock().push((key, accepted.commands));
        // Pace, so that many cycles stay cheap to check; nothing waits for it.
        tokio::time::sleep(random.millis(1, 20)).await;
    }
}

/// A game server whose plugin process crashes again and again; its ledger stays.
fn plugin_thread(world: &Arc<World>, options: &PluginOptions, mut random: Random) {
    while !world.end.load(Ordering::Relaxed) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let life = random.millis(50, 800);
        runtime.block_on(async {
            let crash = async {
                tokio::time::sleep(life).await;
                // Calm: lives until the test is over.
                while world.calm.load(Ordering::Relaxed) && !world.end.load(Ordering::Relaxed) {
                    tokio::time::sleep(LOOK_EVERY / 10).await;
                }
            };
            tokio::select! {
                () = crash => {}
                () = live(world, options, &mut random) => {}
            }
        });
        world.crashes.fetch_add(1, Ordering::Relaxed);
        // Every task dies where it stands, as in a crash: nothing is said to the broker, nothing is written down.
        drop(runtime);
    }
}

async fn live(world: &World, options: &PluginOptions, random: &mut Random) {
    let (client, mut commands) =
        PluginClient::start_channel(options.clone()).await.expect("the ledger opens");
    while let Some(command) = commands.recv().await {
        run(world, &command);
        // A crash between run and report is what the ledger is for, so there is time for one.
        if random.between(0, 8) == 0 {
            tokio::time::sleep(random.millis(1, 4)).await;
        }
        client.report(command.completed(None)).expect("the report is taken");
    }
    panic!("the client ended: {}", client.ended().await);
}

fn run(world: &World, command: &DeliveredCommand) {
    *world.runs.lock().entry(command.id).or_default() += 1;
}

// ---------------------------------------------------------------- the test

#[test]
fn nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    let cycles = setting("FLUXRELAY_KILL9_CYCLES", 5);
    let seed = setting("FLUXRELAY_SEED", u64::from(std::process::id()));
    println!("FLUXRELAY_SEED={seed} FLUXRELAY_KILL9_CYCLES={cycles}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut broker = Broker::start(&folder.path().join("data"), free_port(&mut random));
    let key = std::fs::read_to_string(folder.path().join("data/admin.key")).expect("the admin key");
    let key = key.trim().to_owned();
    let world = Arc::new(World::default());

    let (servers, plugins) = start_plugins(&broker, &key, folder.path(), &world, &mut random);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let publishing = runtime.block_on(start_publishers(&broker, &key, &servers, &world, &mut random));

    for cycle in 1..=cycles {
        thread::sleep(random.millis(100, 900));
        broker.kill_and_restart(random.millis(0, 50));
        all_live(&plugins);
        let (orders, runs) = (world.acknowledged.lock().len(), world.runs.lock().len());
        println!("kill {cycle}: {orders} orders acknowledged, {runs} commands run");
    }

    world.stop_publishing.store(true, Ordering::Relaxed);
    for publisher in publishing {
        runtime.block_on(publisher).expect("no publisher panicked");
    }
    world.calm.store(true, Ordering::Relaxed);
    settle(&broker, &key, &servers, &world, &plugins);
    let statuses = read_all(&broker, &key, &servers);
    check(&world, &statuses);
    replays_give_the_same_ids(&runtime, &broker, &key, &world);
    world.end.store(true, Ordering::Relaxed);
    plugins.into_iter().for_each(|plugin| plugin.join().expect("no plugin panicked"));
    let (orders, crashes) = (world.acknowledged.lock().len(), world.crashes.load(Ordering::Relaxed));
    println!("{cycles} kills, {crashes} plugin crashes, {orders} orders: 0 missing, 0 run twice");
}

fn start_plugins(
    broker: &Broker,
    key: &str,
    folder: &Path,
    world: &Arc<World>,
    random: &mut Random,
) -> (Arc<Vec<ServerId>>, Vec<thread::JoinHandle<()>>) {
    let mut servers = Vec::new();
    let mut plugins = Vec::new();
    for number in 0..SERVERS {
        let made = broker.call(key, "/v1/servers", Some(json!({"name": format!("server-{number}")})));
        servers.push(made["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"));
        let url = format!("ws://127.0.0.1:{}", broker.port);
        let mut options = PluginOptions::new(url, made["token"].as_str().expect("a token"));
        options.ledger = Some(folder.join(format!("ledger-{number}")));
        options.backoff = backoff();
        let (world, random) = (Arc::clone(world), Random(random.next()));
        plugins.push(thread::spawn(move || plugin_thread(&world, &options, random)));
    }
    (Arc::new(servers), plugins)
}

async fn start_publishers(
    broker: &Broker,
    key: &str,
    servers: &Arc<Vec<ServerId>>,
    world: &Arc<World>,
    random: &mut Random,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut loops = Vec::new();
    for publisher in 0..PUBLISHERS {
        let client = publisher_client(broker, key);
        for each in 0..LOOPS {
            let random = Random(random.next());
            let (world, servers, name) = (Arc::clone(world), Arc::clone(servers), publisher * LOOPS + each);
            loops.push(tokio::spawn(publish_loop(world, client.clone(), servers, name, random)));
        }
    }
    loops
}

fn publisher_client(broker: &Broker, key: &str) -> PublisherClient {
    let mut options = PublisherOptions::new(format!("ws://127.0.0.1:{}", broker.port), key);
    options.backoff = backoff();
    PublisherClient::start(options).expect("good options")
}

/// Waits until every command has ended or is in doubt, and decides about doubts as an operator who saw the console:
/// what did not run is sent again.
fn settle(
    broker: &Broker,
    key: &str,
    servers: &[ServerId],
    world: &World,
    plugins: &[thread::JoinHandle<()>],
) {
    for look in 0.. {
        all_live(plugins);
        let statuses = read_all(broker, key, servers);
        let mut waiting = 0;
        for (id, status) in &statuses {
            match status.as_str() {
                "completed" => {}
                "in_doubt" if world.runs.lock().contains_key(id) => {}
                "in_doubt" => {
                    waiting += 1;
                    broker.call(key, &format!("/v1/commands/{id}/resend"), Some(json!({})));
                }
                "pending" | "delivered" => waiting += 1,
                other => panic!("{id} is {other}"),
            }
        }
        if waiting == 0 {
            return;
        }
        assert!(look < LOOKS_MAX, "{waiting} commands do not end");
        thread::sleep(LOOK_EVERY);
    }
}

fn all_live(plugins: &[thread::JoinHandle<()>]) {
    assert!(plugins.iter().all(|plugin| !plugin.is_finished()), "a plugin panicked: see above");
}

fn read_all(broker: &Broker, key: &str, servers: &[ServerId]) -> HashMap<CommandId, String> {
    servers.iter().flat_map(|server| broker.statuses(key, *server)).collect()
}

fn check(world: &World, statuses: &HashMap<CommandId, String>) {
    let acknowledged = world.acknowledged.lock();
    let runs = world.runs.lock();
    let ids: HashSet<CommandId> = acknowledged.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
    assert!(ids.len() > 10, "the load was no load: {} commands", ids.len());
    let missing: Vec<_> = ids.iter().filter(|id| !statuses.contains_key(id)).collect();
    assert!(missing.is_empty(), "acknowledged and missing: {missing:?}");
    let not_once: Vec<_> =
        ids.iter().filter(|id| runs.get(id) != Some(&1)).map(|id| (id, runs.get(id))).collect();
    assert!(not_once.is_empty(), "not run exactly once: {not_once:?}");
    let strangers: Vec<_> = runs.keys().filter(|id| !ids.contains(id)).collect();
    assert!(strangers.is_empty(), "run, but of no acknowledged order: {strangers:?}");
}

/// The keys of the first and last orders still give the ids that were acknowledged.
fn replays_give_the_same_ids(runtime: &tokio::runtime::Runtime, broker: &Broker, key: &str, world: &World) {
    let acknowledged = world.acknowledged.lock().clone();
    let client = runtime.block_on(async { publisher_client(broker, key) });
    for (order_key, ids) in acknowledged.iter().take(5).chain(acknowledged.iter().rev().take(5)) {
        let command = |(at, id): (usize, &CommandId)| {
            OrderCommand::new(Servers::One(id.server), format!("run {order_key} {at}"))
        };
        let commands = ids.iter().enumerate().map(command).collect();
        let order = Order { key: Some(order_key.clone()), commands, ..Order::default() };
        let again = runtime.block_on(client.publish(order)).expect("a replay is accepted");
        assert!(again.replayed, "{order_key} was forgotten");
        assert_eq!(&again.commands, ids, "{order_key}");
    }
}
