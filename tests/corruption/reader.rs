//! Starts a broker on a directory and reads everything through its doors: commands, orders, pages, the registry, the trail,
//! logins, repeated orders, and what is delivered. Must never leave out a part because it is hard to read.

use std::path::Path;
use std::time::Duration;

use fluxrelay::broker::{self, AuditQuery, BrokerError, Handle, Running, Settings};
use fluxrelay::engine::OrderRow;
use fluxrelay::storage::StorageError;
use tokio::time::timeout;

use crate::workload::{self, Known};

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T, Ended> {
    timeout(SOON, future).await.map_err(|_| Ended::Silently(format!("waited too long for {what}")))
}

/// Why not everything was read.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The broker did not start.
    AtStart(StorageError),
    /// It stopped, saying why.
    Later(StorageError),
    /// Something failed and nobody was told why.
    Silently(String),
}

/// Everything, one text for each thing.
pub(crate) async fn read(dir: &Path, known: &Known) -> Result<Vec<String>, Ended> {
    let settings = workload::settings(dir);
    read_with(|| Ok(settings), known).await
}

/// As [`read`], of a directory with a mirror.
pub(crate) async fn read_mirrored(dir: &Path, mirror: &Path, known: &Known) -> Result<Vec<String>, Ended> {
    let (dir, mirror) = (dir.to_owned(), mirror.to_owned());
    read_with(move || workload::mirrored(&dir, &mirror), known).await
}

async fn read_with(
    settings: impl FnOnce() -> Result<Settings, StorageError> + Send + 'static,
    known: &Known,
) -> Result<Vec<String>, Ended> {
    // A start blocks, and a panic in it is one of the process.
    let runtime = tokio::runtime::Handle::current();
    let started = tokio::task::spawn_blocking(move || {
        let _in_runtime = runtime.enter();
        settings().and_then(broker::start)
    });
    let started = started.await.map_err(|panic| Ended::Silently(panic.to_string()))?;
    let mut running = started.map_err(Ended::AtStart)?;
    match soon("everything that is read", read_all(running.handle(), known)).await? {
        Ok(read) => match soon("the end", running.stop()).await? {
            Ok(()) => Ok(read),
            Err(error) => Err(Ended::Later(error)),
        },
        Err(what) => Err(why(&mut running, what).await),
    }
}

/// The storage's error behind a refused read.
async fn why(running: &mut Running, what: String) -> Ended {
    match timeout(Duration::from_secs(5), running.failed()).await {
        Ok(error) => Ended::Later(error),
        Err(_) => Ended::Silently(what),
    }
}

async fn read_all(handle: &Handle, known: &Known) -> Result<Vec<String>, String> {
    let mut read = Vec::new();
    read_registry(handle, known, &mut read).await?;
    for id in &known.commands {
        let row = told(handle.command(*id).await, "a command")?;
        read.push(format!("command {row:?}"));
    }
    for id in &known.orders {
        // Its key is another row at rest, so it is here only until the first checkpoint.
        let row = told(handle.order(*id).await, "an order")?.map(|row| OrderRow { key: None, ..row });
        read.push(format!("order {row:?}"));
    }
    for (server, _) in &known.servers {
        read.push(format!("pages of {server}"));
        // What has ended stands elsewhere in the pages once the first checkpoint has brought it to the store, and may be
        // shown twice if that is made between two of them.
        let mut listed = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = told(handle.commands(*server, None, 7, cursor.as_deref()).await, "a page")?;
            let page = page.map_err(|error| error.to_string())?;
            listed.extend(page.commands.iter().map(|row| format!("listed {row:?}")));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        listed.sort_unstable();
        listed.dedup();
        read.append(&mut listed);
    }
    let states = told(handle.server_states(&known.server_ids()).await, "the states")?;
    read.push(format!("states {states:?}"));
    for (store, request) in &known.requests {
        let again = told(handle.publish(*store, request.clone()).await, "a repeated order")?;
        read.push(format!("again {again:?}"));
    }
    for (server, _) in &known.servers {
        let polled = told(handle.poll(*server).await, "a poll")?;
        let (deliveries, _) = polled.map_err(|error| error.to_string())?;
        read.extend(deliveries.iter().map(|delivery| format!("delivered to {server} {delivery:?}")));
        read.push(format!("{} delivered to {server}", deliveries.len()));
    }
    Ok(read)
}

/// An answer, which may be that there is none; a broker that stops is none.
fn told<T>(answer: Result<T, BrokerError>, what: &str) -> Result<Result<T, BrokerError>, String> {
    match answer {
        Err(BrokerError::Stopping) => Err(format!("{what} was refused")),
        answer => Ok(answer),
    }
}

async fn read_registry(handle: &Handle, known: &Known, read: &mut Vec<String>) -> Result<(), String> {
    let registry = handle.registry();
    read.extend(registry.stores().iter().map(|store| format!("{store:?}")));
    read.extend(registry.servers(None).iter().map(|server| format!("{server:?}")));
    for store in registry.stores() {
        read.extend(registry.keys(store.id).iter().map(|key| format!("{key:?}")));
        read.push(format!("{:?}", registry.server_ids(store.id)));
    }
    for (server, token) in &known.servers {
        let found = registry.check_token(token, workload::origin()).await;
        read.push(format!("token of {server}: {found:?}"));
    }
    for key in &known.keys {
        read.push(format!("key: {:?}", registry.check_key(key, workload::origin()).await));
    }
    let mut query = AuditQuery { limit: 5, ..AuditQuery::default() };
    loop {
        let page =
            told(handle.audit(query.clone()).await, "the trail")?.map_err(|error| error.to_string())?;
        read.extend(page.records.iter().map(|record| format!("{record:?}")));
        query.before = page.next;
        if query.before.is_none() {
            return Ok(());
        }
    }
}
