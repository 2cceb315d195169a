//! Where the programs of the peers are, and which Debian package has one that is not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use fluxrelay::cli::CliError;

use crate::kind::Kind;

/// Where Debian keeps the programs of servers beside the folders of `PATH`, which an ordinary user's may not name.
const SERVERS_IN: &str = "/usr/sbin";
/// Where Debian keeps PostgreSQL's own programs, a folder for each version.
const POSTGRES_IN: &str = "/usr/lib/postgresql";

/// The programs of the systems that are to be measured.
#[derive(Debug)]
pub(crate) struct Programs(Vec<(Kind, PathBuf)>);

impl Programs {
    /// Finds all of them, before any is started; `fluxrelay` is where that one is, if it is not beside this program.
    pub(crate) fn find(kinds: &[Kind], fluxrelay: Option<&Path>) -> Result<Programs, CliError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for kind in kinds {
            let program = match kind {
                Kind::Fluxrelay => Some(self::fluxrelay(fluxrelay)?),
                Kind::Redis => of_path("redis-server"),
                Kind::Postgres => newest_postgres().or_else(|| of_path("postgres")),
                Kind::Nats => of_path("nats-server"),
                Kind::Beanstalkd => of_path("beanstalkd"),
                Kind::Bare => std::env::current_exe().ok(),
            };
            match program {
                Some(file) => found.push((*kind, file)),
                None => missing.push(*kind),
            }
        }
        if missing.is_empty() { Ok(Programs(found)) } else { Err(not_installed(&missing, &found)) }
    }

    /// The program of one of them.
    pub(crate) fn of(&self, kind: Kind) -> &Path {
        let program = self.0.iter().find(|(other, _)| *other == kind);
        &program.expect("each system that is measured was looked for").1
    }

    /// What one of them says about its version.
    pub(crate) fn version(&self, kind: Kind) -> String {
        // beanstalkd knows only the short flag.
        let flag = if kind == Kind::Beanstalkd { "-v" } else { "--version" };
        let said =
            Command::new(self.of(kind)).arg(flag).output().map(|output| output.stdout).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        said.lines().next().map_or("version unknown", str::trim).to_owned()
    }
}

fn not_installed(missing: &[Kind], found: &[(Kind, PathBuf)]) -> CliError {
    let names: Vec<&str> = missing.iter().map(|kind| kind.name()).collect();
    let packages: Vec<&str> = missing.iter().filter_map(|kind| kind.package()).collect();
    let left: Vec<&str> = found.iter().map(|(kind, _)| kind.name()).collect();
    let mut hint = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !left.is_empty() {
        hint.push_str(&format!(", or go without: --systems {}", left.join(",")));
    }
    let names = format_args!("not installed: {}", names.join(", ")).to_string();
    CliError::local("cannot start all systems", names).hint(hint)
}

/// A program of `PATH`.
fn of_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from(SERVERS_IN)]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The server of the newest PostgreSQL.
fn newest_postgres() -> Option<PathBuf> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let folders = std::fs::read_dir(POSTGRES_IN).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let servers = folders.filter_map(|folder| Some((version(&folder)?, folder.join("bin/postgres"))));
    servers.filter(|(_, file)| file.is_file()).max().map(|(_, file)| file)
}

fn fluxrelay(given: Option<&Path>) -> Result<PathBuf, CliError> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("fluxrelay"));
    let file = given.map(Path::to_owned).or_else(beside).unwrap_or_else(|| "fluxrelay".into());
    if file.is_file() {
        return Ok(file);
    }
    let hint = "build it (`cargo build --release` for one beside `cargo run --release`), or name one: --fluxrelay PATH";
    Err(CliError::local("cannot measure fluxrelay", format_args!("there is no {}", file.display()))
        .hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_its_package() {
        assert!(of_path("sh").is_some() && of_path("no-such-program").is_none());
        let error = Programs::find(&[Kind::Fluxrelay], Some(Path::new("no/such/file"))).expect_err("no file");
        assert!(error.message.contains("no/such/file") && error.hint.is_some(), "{error:?}");
        let found = [(Kind::Fluxrelay, PathBuf::new())];
        let error = not_installed(&[Kind::Redis, Kind::Nats], &found);
        assert!(error.message.ends_with("not installed: redis, nats"), "{error:?}");
        let hint = error.hint.expect("what to do");
        assert!(hint.contains(" redis-server nats-server, or go without: --systems fluxrelay"), "{hint}");
    }
}
