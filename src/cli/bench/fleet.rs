//! The game servers of a bench: registered, and connected with the client library.
//!
//! Each token costs a password hash to make and one to log in with, so both happen before anything is measured; and in
//! a data directory of the bench's own the hashes are cheap ones, unless password hashes are what is measured.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde_json::json;

use super::broker::Broker;
use crate::broker::{Actor, DEFAULT_STORE, FailedLoginLimit, Registry, RegistryOptions, Server};
use crate::cli::exit::{CliError, Exit};
use crate::cli::rest::Rest;
use crate::cli::server::text;
use crate::cli::{clock, output};
use crate::client::{
    ClientError, PluginClient, PluginHandler, PluginOptions, PublisherClient, PublisherOptions,
};
use crate::credentials::{HashCost, Secret};
use crate::ids::ServerId;
use crate::storage::StorageError;
use crate::time::Millis;

/// Registrations and logins under way at once: enough to keep the broker's password threads busy, few enough that
/// none of them waits past the login deadline.
pub(super) const AT_ONCE: usize = 8;

/// Registrations in one transaction.
const PREPARED_AT_ONCE: usize = 250;

/// A registered server.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    /// Its id.
    pub(super) id: ServerId,
    /// Its token.
    token: String,
}

/// Registers so many servers in a data directory in which no broker runs; their tokens' hashes have this cost.
pub(super) async fn prepare(
    data: &Path,
    count: u32,
    cost: HashCost,
    quiet: bool,
) -> Result<Vec<Registered>, CliError> {
    let progress = output::progress(u64::from(count), "registering servers", quiet);
    // The admin key is made at the first opening: whoever measures logs in with it.
    drop(open(data, HashCost::TINY)?);
    let registry = open(data, cost)?;
    let mut made = Vec::with_capacity(count as usize);
    for first in (0..count).step_by(PREPARED_AT_ONCE) {
        let last = count.min(first + PREPARED_AT_ONCE as u32);
        let names = (first..last).map(|number| (format!("bench-{number}"), String::new())).collect();
        let servers = registry.by(Actor::LOCAL).create_servers(DEFAULT_STORE, names).await;
        let servers = servers.map_err(|error| CliError::local("cannot register servers", error))?;
        progress.inc(servers.len() as u64);
        let registered = |(server, token): (Arc<Server>, Secret)| Registered {
            id: server.id,
            token: token.reveal().to_owned(),
        };
        made.extend(servers.into_iter().map(registered));
    }
    progress.finish_and_clear();
    Ok(made)
}

fn open(data: &Path, cost: HashCost) -> Result<Registry, CliError> {
    let options = RegistryOptions {
        login_threads: std::thread::available_parallelism().map_or(2, usize::from),
        login_timeout: Duration::from_secs(60),
        hash_cost: cost,
        ticket_lifetime: Millis(0),
        failed_logins: FailedLoginLimit::default(),
        audit_kept: Millis::seconds(3600),
        mirror: None,
        clock: Arc::new(clock::unix_now),
    };
    let failed = |error: StorageError| CliError::new(Exit::Storage, error.to_string());
    // A failure comes back from the call that met it.
    Registry::open(data, options, drop).map(|(registry, _)| registry).map_err(failed)
}

/// Registers so many servers with a broker that runs.
pub(super) fn register(broker: &Broker, count: u32, quiet: bool) -> Result<Vec<Registered>, CliError> {
    let rest = broker.rest()?;
    let prefix = format!("bench-{:08x}", getrandom::u32().unwrap_or_default());
    let progress = output::progress(u64::from(count), "registering servers", quiet);
    let next = AtomicU32::new(0);
    let made = Mutex::new(Vec::with_capacity(count as usize));
    std::thread::scope(|scope| {
        let work = || -> Result<(), CliError> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                let answer = rest.post("/v1/servers", &json!({"name": format!("{prefix}-{number}")}))?;
                let id = text(&answer, "id").parse::<ServerId>();
                let id = id.map_err(|error| CliError::unexpected(error.to_string()))?;
                made.lock().push(Registered { id, token: text(&answer, "token").to_owned() });
                progress.inc(1);
            }
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a registering thread does not panic"))
    })?;
    progress.finish_and_clear();
    let mut made = made.into_inner();
    made.sort_by_key(|server| server.id);
    Ok(made)
}

/// Removes them again, from a broker that goes on without the bench.
pub(super) fn remove(rest: &Rest, servers: &[Registered], quiet: bool) -> Result<(), CliError> {
    let progress = output::progress(servers.len() as u64, "removing servers", quiet);
    for server in servers {
        rest.call("DELETE", &format!("/v1/servers/{}", server.id), None, &[])?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

/// Connects one plugin for each server, with this window, and waits until all are logged in.
pub(super) async fn connect<H: PluginHandler>(
    broker: &Broker,
    servers: &[Registered],
    window: u32,
    quiet: bool,
    mut handler: impl FnMut() -> H,
) -> Result<Vec<PluginClient>, CliError> {
    let progress = output::progress(servers.len() as u64, "connecting plugins", quiet);
    let logins = servers.iter().map(|server| {
        let (handler, progress) = (handler(), progress.clone());
        async move {
            let client = plugin(broker, server, window, handler).await;
            progress.inc(1);
            client
        }
    });
    let clients = stream::iter(logins).buffered(AT_ONCE).try_collect().await?;
    progress.finish_and_clear();
    Ok(clients)
}

/// Connects the plugin of one server and waits until it is logged in.
async fn plugin(
    broker: &Broker,
    server: &Registered,
    window: u32,
    handler: impl PluginHandler,
) -> Result<PluginClient, CliError> {
    let mut options = PluginOptions::new(broker.url(), &server.token);
    options.tls = broker.tls();
    options.window = window;
    let client = PluginClient::start(options, handler).await.map_err(client_failed)?;
    client.connected().await.map_err(client_failed)?;
    Ok(client)
}

/// Connects publishers with the admin key.
pub(super) async fn publishers(
    broker: &Broker,
    count: u32,
    in_flight: u32,
) -> Result<Vec<PublisherClient>, CliError> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut options = PublisherOptions::new(broker.url(), broker.key());
        options.tls = broker.tls();
        options.in_flight = in_flight.clamp(1, 65_536);
        let client = PublisherClient::start(options).map_err(client_failed)?;
        client.connected().await.map_err(client_failed)?;
        clients.push(client);
    }
    Ok(clients)
}

/// A client of the bench that ended by itself.
pub(super) fn client_failed(error: ClientError) -> CliError {
    CliError::new(Exit::Unexpected, format!("a client of the bench ended: {error}"))
}
