//! A plugin that dies: what it had started runs once, or is held for a person to decide.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrelay::client::{
    ClientError, DeliveredCommand, LedgerError, Order, OrderCommand, PluginClient, PluginOptions, Report,
    Servers,
};
use fluxrelay::engine::Status;
use fluxrelay::ids::CommandId;
use tokio::runtime::Runtime;

use crate::relay::{Relay, Server, eventually, soon};

/// A plugin process: its runtime is cut off to kill it.
struct Process {
    runtime: Runtime,
    client: PluginClient,
    ran: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts one that runs commands and, if `reporting`, reports them.
    async fn start(options: PluginOptions, reporting: bool) -> Process {
        let ran: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = ran.clone();
        let handler = move |commands: Vec<DeliveredCommand>, reports: &mut Vec<Report>| {
            for command in commands {
                if reporting {
                    reports.push(command.completed(None));
                }
                noted.lock().unwrap().push(command.text);
            }
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.spawn(PluginClient::start(options, handler)).await.unwrap().unwrap();
        Process { runtime, client, ran }
    }

    async fn has_run(&self, count: usize) {
        eventually("commands to run", async || self.ran.lock().unwrap().len() >= count).await;
    }

    /// Kill -9, as far as one process can do it to itself: no task runs on, no file is written any more.
    async fn kill(self) -> Vec<String> {
        let runtime = self.runtime;
        let shutdown = move || runtime.shutdown_timeout(Duration::from_secs(10));
        tokio::task::spawn_blocking(shutdown).await.unwrap();
        let ran = self.ran.lock().unwrap().clone();
        drop(self.client);
        ran
    }
}

async fn publish(relay: &Relay, server: &Server, text: &str, rerun: bool) -> CommandId {
    let publisher = relay.publisher().await;
    let command = OrderCommand { rerun, ..OrderCommand::new(Servers::One(server.id), text) };
    let order = Order { commands: vec![command], ..Order::default() };
    soon("an answer", publisher.publish(order)).await.unwrap().commands[0]
}

fn with_ledger(relay: &Relay, server: &Server, folder: &tempfile::TempDir) -> (PluginOptions, PathBuf) {
    let mut options = relay.plugin(server);
    let path = folder.path().join("ledger");
    options.ledger = Some(path.clone());
    (options, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn started_and_unreported_is_in_doubt_after_a_crash() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = with_ledger(&relay, &server, &folder);
    let hold = publish(&relay, &server, "give Steve diamond 64", false).await;
    let rerun = publish(&relay, &server, "whitelist add Steve", true).await;
    let process = Process::start(options.clone(), false).await;
    process.has_run(2).await;
    assert_eq!(process.kill().await.len(), 2);
    relay.sessions(0).await;

    let process = Process::start(options, true).await;
    relay.reaches(hold, Status::InDoubt).await;
    relay.reaches(rerun, Status::Completed).await;
    assert_eq!(process.kill().await, ["whitelist add Steve"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_and_unconfirmed_is_reported_again_and_not_run_again() {
    let mut relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let folder = tempfile::tempdir().unwrap();
    let (options, path) = with_ledger(&relay, &server, &folder);
    let process = Process::start(options.clone(), false).await;
    let id = publish(&relay, &server, "give Steve diamond 64", false).await;
    process.has_run(1).await;
    // The broker is gone before the report can be confirmed; the plugin dies after writing it down.
    relay.stop().await;
    let before = std::fs::metadata(&path).unwrap().len();
    process.client.report(Report::new(id.seq, 1, fluxrelay::client::Outcome::Completed)).unwrap();
    eventually("the outcome in the ledger", async || std::fs::metadata(&path).unwrap().len() > before).await;
    assert_eq!(process.kill().await.len(), 1);
    relay.restart_stopped().await;
    assert_ne!(relay.command(id).await.status, Status::Completed);

    let process = Process::start(options, true).await;
    relay.reaches(id, Status::Completed).await;
    assert!(process.kill().await.is_empty(), "it ran before the crash");
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_at_any_moment_run_nothing_twice() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = with_ledger(&relay, &server, &folder);
    let publisher = relay.publisher().await;
    let target = Servers::One(server.id);
    // As long as there are crashes: a fixed number would all have run before the last of them.
    let enough = Arc::new(AtomicBool::new(false));
    let is_enough = Arc::clone(&enough);
    let publishing = tokio::spawn(async move {
        let mut ids = Vec::new();
        while !is_enough.load(Ordering::Relaxed) {
            let order = Order::one(target, format!("say {}", ids.len()));
            ids.extend(publisher.publish(order).await.unwrap().commands);
        }
        ids
    });
    let mut ran = Vec::new();
    for round in 1..=6 {
        let process = Process::start(options.clone(), true).await;
        process.has_run(round * 7).await;
        ran.extend(process.kill().await);
    }
    enough.store(true, Ordering::Relaxed);
    let ids = soon("the answers", publishing).await.unwrap();
    let count = ids.len();
    let process = Process::start(options, true).await;
    let mut in_doubt = 0;
    for id in ids {
        eventually("an end", async || {
            matches!(relay.command(id).await.status, Status::Completed | Status::InDoubt)
        })
        .await;
        in_doubt += usize::from(relay.command(id).await.status == Status::InDoubt);
    }
    ran.extend(process.kill().await);
    let all = ran.len();
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(all, ran.len(), "nothing ran twice");
    // What ran and could not say so is in doubt; what was only written down as started may not have run.
    assert!(ran.len() + in_doubt >= count, "of {count} {} ran, {in_doubt} in doubt", ran.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_used_keeps_the_plugin_from_starting() {
    let relay = Relay::start().await;
    let (lobby, arena) = (relay.server("lobby").await, relay.server("arena").await);
    let folder = tempfile::tempdir().unwrap();
    let (options, path) = with_ledger(&relay, &lobby, &folder);
    let process = Process::start(options.clone(), true).await;
    let start = async |options| {
        PluginClient::start(options, |_: Vec<DeliveredCommand>, _: &mut Vec<Report>| {}).await.err()
    };
    let second = start(options).await;
    assert!(matches!(second, Some(ClientError::Ledger(LedgerError::InUse { .. }))), "{second:?}");
    process.kill().await;
    let (other, _) = with_ledger(&relay, &arena, &folder);
    let foreign = start(other.clone()).await;
    assert!(matches!(foreign, Some(ClientError::Ledger(LedgerError::OtherServer { .. }))), "{foreign:?}");
    std::fs::write(path, [7; 100]).unwrap();
    let damaged = start(other).await;
    assert!(matches!(damaged, Some(ClientError::Ledger(LedgerError::Foreign { .. }))), "{damaged:?}");
}
