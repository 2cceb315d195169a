//! The process of a peer: on a loopback port of its own, with a temporary data directory. Both go away with it.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fluxrelay::cli::CliError;
use fluxrelay::load::{self, Usage};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// How long one may take to start, what it recovers included.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long processes that were killed may take to go away.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether one is there, or gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// How one is started, each time anew.
pub(crate) trait Program {
    /// The system's name, for messages.
    const NAME: &str;

    /// The command that serves this data directory at this port.
    fn command(&self, data: &Path, port: u16) -> Command;

    /// Whether the one at this port serves by now. Called on a thread that may block.
    fn is_ready(&self, port: u16) -> bool;
}

/// A folder for data, before a process has it.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// Makes one: in `data_in`, or where temporary files are.
    pub(crate) fn new(data_in: Option<&Path>) -> Result<Folder, CliError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("fluxrelay-peers-");
        let made = data_in.map_or_else(|| builder.tempdir(), |folder| builder.tempdir_in(folder));
        made.map(Folder).map_err(|error| CliError::local("cannot make a data directory", error))
    }

    /// The folder that holds the data directory and the log.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where the data is.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }
}

/// A process that serves. Dropping it kills it with all its children and removes its data.
pub(crate) struct Peer<P: Program> {
    program: P,
    process: Child,
    port: u16,
    folder: Folder,
}

impl<P: Program> Peer<P> {
    /// Starts one and waits until it serves.
    pub(crate) fn start(folder: Folder, program: P) -> Result<Peer<P>, CliError> {
        let no_port = |error| CliError::local("there is no free port", error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(no_port)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        drop(listener);
        let data = folder.data();
        let exists = std::fs::create_dir_all(&data);
        exists.map_err(|error| CliError::local(format_args!("cannot make {}", data.display()), error))?;
        let process = spawn(&program, &folder, port)?;
        let mut peer = Peer { program, process, port, folder };
        peer.wait_ready()?;
        Ok(peer)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// CPU and memory of all its processes.
    pub(crate) fn usage(&self) -> Option<Usage> {
        load::usage_of_all(self.process.id())
    }

    /// Bytes of its data directory.
    pub(crate) fn disk_bytes(&self) -> u64 {
        load::disk_bytes(&self.folder.data())
    }

    /// Starts the killed one on the same data and port; how long until it serves.
    pub(crate) fn restart(&mut self) -> Result<Duration, CliError> {
        let started = load::now();
        self.process = spawn(&self.program, &self.folder, self.port)?;
        self.wait_ready()?;
        Ok(started.elapsed())
    }

    fn wait_ready(&mut self) -> Result<(), CliError> {
        let started = load::now();
        while !self.program.is_ready(self.port) {
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || started.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(self.folder.log()).unwrap_or_default();
                let reason =
                    log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
                return Err(CliError::local(format_args!("{} did not start", P::NAME), reason));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Kills the process and its children; they are gone when this returns.
    pub(crate) fn kill(&mut self) -> Result<(), CliError> {
        let failed = |error| CliError::local(format_args!("cannot kill {}", P::NAME), error);
        let children: Vec<Pid> = load::children(self.process.id())
            .into_iter()
            .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .collect();
        self.process.kill().map_err(failed)?;
        for pid in &children {
            // One that has ended with its parent is no error.
            let _ = kill_process(*pid, Signal::KILL);
        }
        self.process.wait().map_err(failed)?;
        let started = load::now();
        while children.iter().any(|pid| is_alive(*pid)) && started.elapsed() < END_TIMEOUT {
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

impl<P: Program> Drop for Peer<P> {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.kill();
    }
}

/// Whether it still runs. One that is dead and that nobody has asked for yet does not.
fn is_alive(pid: Pid) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let is_dead =
        state.is_ok_and(|text| text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')));
    !is_dead && test_kill_process(pid).is_ok()
}

fn spawn<P: Program>(program: &P, folder: &Folder, port: u16) -> Result<Child, CliError> {
    let cannot = |error| CliError::local(format_args!("cannot start {}", P::NAME), error);
    let log = File::create(folder.log()).map_err(cannot)?;
    let errors = log.try_clone().map_err(cannot)?;
    let mut command = program.command(&folder.data(), port);
    command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(cannot)
}
