//! What can be wrong with settings. Each message names the setting, the value, where it came from, and the range.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--name`
    Flag(String),
    /// `FLUXRELAY_NAME`
    Environment(String),
    /// The configuration file.
    File(PathBuf),
    /// Nothing was given.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) => write!(f, "by {name}"),
            Source::Environment(name) => write!(f, "by the environment variable {name}"),
            Source::File(path) => write!(f, "in {}", path.display()),
            Source::Default => f.write_str("by default"),
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value out of its range, or of another type.
    #[error("{name} is {value:?} ({source_of}): it must be {range}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// As it was given.
        value: String,
        /// Where it was given.
        source_of: Source,
        /// What is allowed.
        range: String,
    },
    /// Two settings that do not go together.
    #[error("{name} is {value} ({source_of}): {problem}")]
    Conflict {
        /// The setting to change.
        name: &'static str,
        /// Its value.
        value: String,
        /// Where it was given.
        source_of: Source,
        /// Why it does not fit, and what to do.
        problem: String,
    },
    /// A key in the file that is not a setting.
    #[error("{}: there is no setting {name:?}; did you mean {nearest}?", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// As it is written there.
        name: String,
        /// The setting with the most similar name.
        nearest: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {detail}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        detail: String,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {detail}", file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// The parser's words, with the line.
        detail: String,
    },
}
