//! Where settings come from: flags and environment through clap, then the file, then defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use toml::{Table, Value as Toml};

use super::error::{ConfigError, Source};
use super::kind::{Kind, Value};
use super::{Config, SETTINGS, Setting};

/// The name of the flag for the file.
const CONFIG: &str = "config";

/// A text that somebody gave for a setting, and where.
type Given = BTreeMap<&'static str, (String, Source)>;

/// Settings as flags and environment give them: not checked yet.
#[derive(Debug, Clone, Default)]
pub struct ServeArgs {
    given: Given,
    file: Option<PathBuf>,
}

/// How one setting is given outside the file.
struct Names {
    setting: &'static Setting,
    /// `queue-max`
    flag: String,
    /// `FLUXRELAY_QUEUE_MAX`
    variable: String,
}

/// Those of all settings; clap wants them to live for ever.
static NAMES: LazyLock<Vec<Names>> = LazyLock::new(|| {
    let names = |setting: &'static Setting| Names {
        setting,
        flag: setting.name.replace('_', "-"),
        variable: format!("FLUXRELAY_{}", setting.name.to_uppercase()),
    };
    SETTINGS.iter().map(names).collect()
});

impl Names {
    fn arg(&'static self) -> Arg {
        let Setting { name, kind, default, help } = self.setting;
        let value_name = match kind {
            Kind::Number { unit, .. } | Kind::List { unit, .. } => unit,
            Kind::Path | Kind::Folder => "DIR",
            Kind::File => "FILE",
            Kind::Address | Kind::AddressOrNone => "ADDRESS",
            Kind::Switch => "BOOL",
            Kind::Filter => "FILTER",
            Kind::Format => "FORMAT",
        };
        let default = if default.is_empty() { "none" } else { default };
        let arg = Arg::new(*name)
            .long(self.flag.as_str())
            .env(self.variable.as_str())
            .hide_env(true)
            .value_name(value_name)
            .help_heading("Settings")
            .allow_hyphen_values(true)
            .help(format!("{} [default: {default}] [range: {}]", help.trim(), kind.range()));
        match kind {
            Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => arg,
        }
    }
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .env("FLUXRELAY_CONFIG")
            .hide_env(true)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with settings, by the names below with _ for -; flags and FLUXRELAY_<SETTING> go before it");
        command.arg(file).args(NAMES.iter().map(Names::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        ServeArgs::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ServeArgs, clap::Error> {
        let mut args = ServeArgs { given: Given::new(), file: matches.get_one::<PathBuf>(CONFIG).cloned() };
        for Names { setting, flag, variable } in NAMES.iter() {
            let source = match matches.value_source(setting.name) {
                Some(ValueSource::CommandLine) => Source::Flag(format!("--{flag}")),
                Some(ValueSource::EnvVariable) => Source::Environment(variable.clone()),
                _ => continue,
            };
            if let Some(text) = matches.get_one::<String>(setting.name) {
                args.given.insert(setting.name, (text.clone(), source));
            }
        }
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ServeArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ServeArgs {
    /// Reads the file, if there is one, and checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(self) -> Result<Config, ConfigError> {
        let ServeArgs { mut given, file } = self;
        if let Some(file) = file {
            let unreadable = |error: std::io::Error| ConfigError::Unreadable {
                file: file.clone(),
                detail: error.to_string(),
            };
            let text = std::fs::read_to_string(&file).map_err(unreadable)?;
            for (name, value) in read_file(&file, &text)? {
                given.entry(name).or_insert((value, Source::File(file.clone())));
            }
        }
        check(given)
    }
}

/// The settings in a file, as texts.
fn read_file(file: &Path, text: &str) -> Result<Vec<(&'static str, String)>, ConfigError> {
    let not_toml =
        |error: toml::de::Error| ConfigError::NotToml { file: file.to_path_buf(), detail: error.to_string() };
    let table: Table = text.parse().map_err(not_toml)?;
    let mut settings = Vec::with_capacity(table.len());
    for (name, value) in table {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            let nearest = SETTINGS.iter().min_by_key(|setting| distance(setting.name, &name));
            let nearest = nearest.expect("there are settings").name;
            return Err(ConfigError::Unknown { file: file.to_path_buf(), name, nearest });
        };
        settings.push((setting.name, as_text(&value)));
    }
    Ok(settings)
}

/// A value of the file as one would write it in a flag; what no flag can hold stays as it is and fails the check.
fn as_text(value: &Toml) -> String {
    match value {
        Toml::String(text) => text.clone(),
        Toml::Array(values) if values.iter().all(Toml::is_integer) => {
            values.iter().map(Toml::to_string).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

fn check(given: Given) -> Result<Config, ConfigError> {
    let source = |name: &str| given.get(name).map_or(Source::Default, |(_, source)| source.clone());
    let value = |setting: &Setting| -> Result<Value, ConfigError> {
        let text = given.get(setting.name).map_or(setting.default, |(text, _)| text);
        setting.kind.read(text).ok_or_else(|| ConfigError::OutOfRange {
            name: setting.name,
            value: text.to_owned(),
            source_of: source(setting.name),
            range: setting.kind.range(),
        })
    };
    let values = SETTINGS.iter().map(value).collect::<Result<Vec<Value>, ConfigError>>()?;
    let mut config = Config::from_values(values);
    config.settle(std::thread::available_parallelism().map_or(1, usize::from));
    check_together(&config, source)?;
    Ok(config)
}

/// Whether the settings go with each other.
fn check_together(config: &Config, source: impl Fn(&str) -> Source) -> Result<(), ConfigError> {
    let conflict = |name, value: String, problem: String| {
        Err(ConfigError::Conflict { name, value, source_of: source(name), problem })
    };
    match (&config.tls_cert, &config.tls_key) {
        (Some(file), None) => {
            let problem = "a certificate is of no use without its key; set tls_key to the key's file";
            return conflict("tls_cert", file.display().to_string(), problem.into());
        }
        (None, Some(file)) => {
            let problem =
                "a key is of no use without its certificate; set tls_cert to the certificate's file";
            return conflict("tls_key", file.display().to_string(), problem.into());
        }
        (Some(_), Some(_)) if config.tls_self_signed => {
            let problem = "tls_cert and tls_key name another certificate; leave out the one or the other";
            return conflict("tls_self_signed", "true".into(), problem.into());
        }
        _ => {}
    }
    if !config.listen.ip().is_loopback() && !config.has_tls() && !config.insecure_plaintext {
        let problem = "beyond this machine tokens would cross the network readable; set tls_cert and tls_key (or \
                       tls_self_signed), or listen on a loopback address behind a TLS proxy, or accept it with \
                       insecure_plaintext = true";
        return conflict("listen", config.listen.to_string(), problem.into());
    }
    if let Some((address, problem)) = config.quic_listen.zip(quic_problem(config)) {
        return conflict("quic_listen", address.to_string(), problem.into());
    }
    if config.idempotency_days > config.retention_days {
        let problem = format!(
            "an order has to be kept as long as its key; retention_days is {}",
            config.retention_days
        );
        return conflict("idempotency_days", config.idempotency_days.to_string(), problem);
    }
    if u64::from(config.queue_max) > config.live_max {
        let problem = format!("one server cannot hold more than its shard; live_max is {}", config.live_max);
        return conflict("queue_max", config.queue_max.to_string(), problem);
    }
    Ok(())
}

/// Why QUIC cannot be on with these settings.
fn quic_problem(config: &Config) -> Option<&'static str> {
    if !cfg!(feature = "quic") {
        Some("this program was built without QUIC; leave it out, or build with the cargo feature quic")
    } else if !config.has_tls() {
        Some("QUIC is always encrypted; set tls_cert and tls_key, or tls_self_signed = true")
    } else {
        None
    }
}

/// Edits between two names: insertions, removals, replacements.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
