//! Where the programs of the peers are, and which Debian package has one that is not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use fluxrelay::cli::CliError;

use crate::kind::Kind;

/// Where Debian keeps the programs of servers beside the folders of `PATH`, which an ordinary user's may not name.
const SERVERS_IN: &str = "/usr/sbin";
/// Where Debian keeps PostgreSQL's own programs, a folder for each version.
const POSTGRES_IN: &str = "/usr/lib/postgresql";

/// A program that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Its Debian package.
    pub(crate) package: &'static str,
}

/// A program of `PATH`.
pub(crate) fn find(name: &str, package: &'static str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from(SERVERS_IN)]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file()).ok_or(Missing { package })
}

/// A program of PostgreSQL, of the newest version that is there.
pub(crate) fn find_postgres(name: &str) -> Result<PathBuf, Missing> {
    let versions = std::fs::read_dir(POSTGRES_IN).into_iter().flatten().filter_map(Result::ok);
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut versions: Vec<(u32, PathBuf)> =
        versions.map(|entry| entry.path()).filter_map(|path| Some((number(&path)?, path))).collect();
    versions.sort();
    let newest = versions.into_iter().rev().map(|(_, path)| path.join("bin").join(name));
    newest.into_iter().find(|file| file.is_file()).map_or_else(|| find(name, "postgresql"), Ok)
}

/// All programs of these systems must be there, before any is started.
pub(crate) fn check(kinds: &[Kind]) -> Result<(), CliError> {
    let missing = |kind: &&Kind| kind.program().is_err();
    let missing: Vec<Kind> = kinds.iter().filter(missing).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|kind| kind.name()).collect();
    let packages = missing.iter().filter_map(|kind| kind.program().err());
    let packages: Vec<&str> = packages.map(|missing| missing.package).collect();
    let left: Vec<&str> =
        kinds.iter().filter(|kind| !missing.contains(kind)).map(|kind| kind.name()).collect();
    let mut hint = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !left.is_empty() {
        hint.push_str(&format!(", or leave it out: --systems {}", left.join(",")));
    }
    Err(CliError::local("cannot start all systems", format_args!("{} not installed", names.join(", ")))
        .hint(hint))
}

/// The fluxrelay to measure.
pub(crate) fn fluxrelay(given: Option<&Path>) -> Result<PathBuf, CliError> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("fluxrelay"));
    let file = given.map(Path::to_owned).or_else(beside).unwrap_or_else(|| "fluxrelay".into());
    if file.is_file() {
        return Ok(file);
    }
    let hint = "build it (`cargo build --release` for one beside `cargo run --release`), or name one: --fluxrelay PATH";
    Err(CliError::local("cannot measure fluxrelay", format_args!("there is no {}", file.display()))
        .hint(hint))
}

/// The first line that a program says about its version.
pub(crate) fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_its_package() {
        assert_eq!(find("no-such-program", "its-package"), Err(Missing { package: "its-package" }));
        assert!(find("sh", "dash").is_ok());
        assert!(fluxrelay(Some(Path::new("no/such/file"))).is_err_and(|error| error.hint.is_some()));
    }
}
