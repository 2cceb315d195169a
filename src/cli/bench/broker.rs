//! The broker under test: a child process on a temporary data directory, or one that runs already.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::setup::Setup;
use crate::cli::clock;
use crate::cli::exit::CliError;
use crate::cli::rest::{Rest, read_secret};
use crate::cli::tls::TlsArgs;
use crate::load::{Usage, disk_bytes, usage};
use crate::tls::{ClientTls, Fingerprint, Trust};

/// How long a broker may take to start before the bench gives up.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// What `serve` prints before its address.
const LISTENING: &str = "listening on ";
/// What it prints before that, with TLS.
const FINGERPRINT: &str = "certificate fingerprint: ";

/// A broker to measure.
pub(super) struct Broker {
    url: String,
    key: String,
    tls: Option<ClientTls>,
    own: Option<Own>,
}

struct Own {
    binary: PathBuf,
    process: Child,
    data: TempDir,
    environment: Vec<(&'static str, String)>,
}

/// What a broker said when it began to serve.
struct Spawned {
    process: Child,
    url: String,
    fingerprint: Option<Fingerprint>,
}

impl Broker {
    /// A broker that runs already; its process is not measured.
    pub(super) fn running(url: &str, key: &str, tls: &TlsArgs) -> Result<Broker, CliError> {
        let tls = tls.client(url)?;
        Ok(Broker { url: url.trim_end_matches('/').to_owned(), key: key.to_owned(), tls, own: None })
    }

    /// Starts one from this binary, once `prepare` has filled its data directory; that is removed with it.
    pub(super) fn start<T>(
        binary: &Path,
        setup: &Setup<'_>,
        prepare: impl FnOnce(&Path) -> Result<T, CliError>,
    ) -> Result<(Broker, T), CliError> {
        let made = match setup.data_in {
            Some(folder) => tempfile::Builder::new().prefix("fluxrelay-bench-").tempdir_in(folder),
            None => tempfile::Builder::new().prefix("fluxrelay-bench-").tempdir(),
        };
        let data = made.map_err(|error| CliError::local("cannot make a data directory", error))?;
        let prepared = prepare(data.path())?;
        let mut environment = setup.environment.clone();
        environment.push(("FLUXRELAY_TLS_SELF_SIGNED", setup.tls.to_string()));
        let spawned = spawn(binary, data.path(), "127.0.0.1:0", &environment)?;
        let Spawned { process, url, fingerprint } = spawned;
        let own = Own { binary: binary.to_owned(), process, data, environment };
        let key = read_secret(&own.data.path().join("admin.key"))?;
        let trust = fingerprint.map(|fingerprint| ClientTls::new(&Trust::Fingerprint(fingerprint)));
        let tls = trust.transpose().map_err(|error| CliError::local("cannot use TLS", error))?;
        Ok((Broker { url, key, tls, own: Some(own) }, prepared))
    }

    /// `http://host:port` or `https://host:port`.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The same one, reached through another address; its process is not measured. Without TLS.
    pub(super) fn behind(&self, door: SocketAddr) -> Broker {
        Broker { url: format!("http://{door}"), key: self.key.clone(), tls: None, own: None }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> Result<SocketAddr, CliError> {
        let address = self.url.split_once("://").and_then(|(_, address)| address.parse().ok());
        address.ok_or_else(|| CliError::unexpected(format!("{} has no address", self.url)))
    }

    /// Its admin key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Its REST interface.
    pub(super) fn rest(&self) -> Result<Rest, CliError> {
        Rest::new(&self.url, Some(self.key.clone()), self.tls.clone())
    }

    /// Whom its clients trust.
    pub(super) fn tls(&self) -> Option<ClientTls> {
        self.tls.clone()
    }

    /// CPU and memory so far; `None` for a broker that the bench did not start.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.own.as_ref().and_then(|own| usage(own.process.id()))
    }

    /// Bytes of its data directory on disk; `None` as for [`Broker::usage`].
    pub(super) fn disk_bytes(&self) -> Option<u64> {
        self.own.as_ref().map(|own| disk_bytes(own.data.path()))
    }

    /// Starts the killed one again, on the same data directory and port; how long until it is ready.
    pub(super) fn restart_and_wait(&mut self) -> Result<Duration, CliError> {
        let started = clock::now();
        self.restart()?;
        let rest = self.rest()?;
        wait_ready(&rest, started)?;
        Ok(started.elapsed())
    }

    /// `kill -9`; it is gone when this returns.
    pub(super) fn kill(&mut self) -> Result<(), CliError> {
        let own = self.own()?;
        let gone = |error| CliError::local("cannot kill the broker", error);
        own.process.kill().map_err(gone)?;
        own.process.wait().map(drop).map_err(gone)
    }

    /// Starts the killed one again, on the same data directory and port; returns when it has recovered and accepts.
    pub(super) fn restart(&mut self) -> Result<(), CliError> {
        let address = self.url.split_once("://").map_or("", |(_, address)| address).to_owned();
        let own = self.own()?;
        let spawned = spawn(&own.binary, own.data.path(), &address, &own.environment)?;
        own.process = spawned.process;
        Ok(())
    }

    /// Removes a file of its data directory, while it does not run.
    pub(super) fn remove_file(&mut self, name: &str) -> Result<(), CliError> {
        let file = self.own()?.data.path().join(name);
        let cannot = |error| CliError::local(format_args!("cannot remove {}", file.display()), error);
        std::fs::remove_file(&file).map_err(cannot)
    }

    fn own(&mut self) -> Result<&mut Own, CliError> {
        self.own.as_mut().ok_or_else(|| CliError::usage("only a broker of the bench's own is killed"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The directory goes away with it, so there is nothing that an orderly end would save.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(
    binary: &Path,
    data: &Path,
    listen: &str,
    environment: &[(&'static str, String)],
) -> Result<Spawned, CliError> {
    let cannot = |error| CliError::local(format_args!("cannot start {}", binary.display()), error);
    let mut process = Command::new(binary)
        .args(["serve", "--listen", listen, "--data-dir"])
        .arg(data)
        .env_remove("FLUXRELAY_CONFIG")
        .env("FLUXRELAY_LOG", "warn")
        // What one store may take is not what is measured.
        .env("FLUXRELAY_STORE_COMMANDS_PER_SECOND", "0")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let stdout = process.stdout.take().expect("a pipe that was asked for is there");
    let mut lines = BufReader::new(stdout).lines();
    let mut fingerprint = None;
    let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
        if let Some(text) = line.strip_prefix(FINGERPRINT) {
            fingerprint = text.parse().ok();
        }
        let (_, url) = line.split_once(LISTENING)?;
        Some(url.split_whitespace().next().unwrap_or_default().to_owned())
    });
    // Its later lines have to go somewhere, or it would block on a full pipe.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    match url {
        Some(url) => Ok(Spawned { process, url, fingerprint }),
        None => {
            let _ = process.kill();
            let status = process.wait().map(|status| status.to_string()).unwrap_or_default();
            Err(CliError::local("the broker did not start", status))
        }
    }
}

fn wait_ready(rest: &Rest, started: Instant) -> Result<(), CliError> {
    loop {
        match rest.get("/readyz") {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > START_TIMEOUT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
