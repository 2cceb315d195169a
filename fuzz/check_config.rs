//! Any words on the command line and any text as the file of settings: the program starts with settings that go together,
//! or says what is wrong and where.
//!
//! The environment is not set here, because a process may not change its own safely: clap hands its texts over exactly as
//! it does those of flags.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Command, FromArgMatches};
use fluxrelay::config::{Config, ConfigError, SETTINGS, ServeArgs};
use fluxrelay::limits::SHARDS_MAX;

/// The line between the words of the command line, one a line, and the file. Without it there is no file.
const FILE: &str = "\n---\n";

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

/// Panics if what `data` asks for is neither good nor refused by name.
pub(crate) fn check_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (words, file) = match text.split_once(FILE) {
        Some((words, file)) => (words, Some(file)),
        None => (&*text, None),
    };
    // Only the file of this check is read.
    let words = words.lines().filter(|word| !word.is_empty() && !word.starts_with("--c"));
    let path: Option<PathBuf> = file.map(|text| {
        let path = FOLDER.path().join("fluxrelay.toml");
        std::fs::write(&path, text).expect("a writable folder");
        path
    });
    let from_file = path.iter().flat_map(|path| ["--config", path.to_str().expect("a plain path")]);
    let all = std::iter::once("serve").chain(from_file).chain(words);
    let command = ServeArgs::augment_args(Command::new("serve")).no_binary_name(false);
    let matches = match command.try_get_matches_from(all) {
        Ok(matches) => matches,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let args = ServeArgs::from_arg_matches(&matches).expect("every setting is a text");
    match args.load() {
        Ok(config) => good(&config),
        Err(error) => refused(&error),
    }
}

fn good(config: &Config) {
    assert!((1..=SHARDS_MAX).contains(&config.shards) && config.runtime_threads > 0);
    assert!(config.door_threads > 0 && config.login_threads > 0);
    assert!(config.listen.ip().is_loopback() || config.has_tls() || config.insecure_plaintext);
    assert!(config.quic_listen.is_none() || config.has_tls());
    assert!(config.tls_cert.is_some() == config.tls_key.is_some());
    assert!(config.tls_cert.is_none() || !config.tls_self_signed);
    assert!(config.idempotency_days <= config.retention_days);
    assert!(u64::from(config.queue_max) <= config.live_max);
    assert!(config.retry_delays_seconds.iter().all(|wait| *wait > 0));
    assert!(!config.to_string().contains('\n'), "it is shown on one line");
}

fn refused(error: &ConfigError) {
    let known = |name: &str| SETTINGS.iter().any(|setting| setting.name == name);
    let (is_known, named) = match error {
        ConfigError::OutOfRange { name, .. } | ConfigError::Conflict { name, .. } => (known(name), *name),
        ConfigError::Unknown { nearest, .. } => (known(nearest), *nearest),
        ConfigError::Unreadable { .. } | ConfigError::NotToml { .. } => (true, "fluxrelay.toml"),
    };
    assert!(is_known && error.to_string().contains(named), "{error}");
}
