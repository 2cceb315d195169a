//! A database cluster of its own: made by `initdb`, served by `postgres`, both as a user that may, since root may not.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fluxrelay::cli::CliError;
use tokio::runtime::Handle;

use super::client::Client;
use crate::child::{Folder, Peer, Program};

/// The user of Debian's package.
const USER: &str = "postgres";

/// What an operator sets who has the machine for it, and no replica: as durable as the defaults, with room to work in.
const SETTINGS: [&str; 14] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "wal_level=minimal",
    "max_wal_senders=0",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=15min",
    "wal_buffers=64MB",
    "autovacuum_naptime=1s",
    "max_connections=32",
    "jit=off",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
];

/// Makes a cluster by the `initdb` beside this file, and starts it.
pub(super) fn start(file: &Path, data_in: Option<&Path>) -> Result<Peer<PostgresServer>, CliError> {
    let folder = Folder::new(data_in)?;
    let user = user()?;
    if let Some(user) = user {
        let owned = chown(folder.path(), Some(user.id), Some(user.group));
        owned.map_err(|error| CliError::local("cannot give a data directory to postgres", error))?;
    }
    let failed = |error: &dyn std::fmt::Display| CliError::local("cannot make a database", error);
    let mut made = run_as(user, &file.with_file_name("initdb"));
    made.current_dir(folder.path()).arg("--pgdata").arg(folder.data());
    made.args(["--auth=trust", "--username=postgres", "--no-locale", "--encoding=UTF8", "--no-sync"]);
    let made = made.output().map_err(|error| failed(&error))?;
    if !made.status.success() {
        return Err(failed(&String::from_utf8_lossy(&made.stderr).trim()));
    }
    Peer::start(folder, PostgresServer { file: file.to_owned(), user })
}

/// How PostgreSQL is started.
pub(super) struct PostgresServer {
    file: PathBuf,
    user: Option<User>,
}

impl Program for PostgresServer {
    const NAME: &str = "postgres";

    fn command(&self, data: &Path, port: u16) -> Command {
        let mut command = run_as(self.user, &self.file);
        command.current_dir(data).arg("-D").arg(data).args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
    }

    fn is_ready(&self, port: u16) -> bool {
        Handle::current().block_on(Client::connect(port)).is_ok()
    }
}

/// A user of this system.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    group: u32,
}

/// Whom to run it as; `None` = whoever runs this.
fn user() -> Result<Option<User>, CliError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.strip_prefix(USER)?.strip_prefix(':')?.split(':').skip(1);
        Some(User { id: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    });
    let none = || {
        let error = CliError::local("cannot start postgres", "it does not run as root");
        error.hint(format!("run this as an ordinary user, or make a user {USER}"))
    };
    found.ok_or_else(none).map(Some)
}

fn run_as(user: Option<User>, program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user.id).gid(user.group);
    }
    command
}
