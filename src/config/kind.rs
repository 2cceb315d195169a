//! The types of settings: how a text becomes a checked value, and how its range reads in words.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

/// Type, range and unit of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number from `min` to `max`.
    Number {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Whole numbers with commas between them.
    List {
        /// How many there may be.
        count_max: usize,
        /// The least of each.
        min: u64,
        /// The most of each.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A directory.
    Path,
    /// A file, or none.
    File,
    /// A directory, or none.
    Folder,
    /// An IP address and a port.
    Address,
    /// An IP address and a port, or none.
    AddressOrNone,
    /// `true` or `false`.
    Switch,
    /// Log levels by target.
    Filter,
    /// See [`LogFormat`].
    Format,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A checked value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Number(u64),
    List(Vec<u64>),
    Path(PathBuf),
    File(Option<PathBuf>),
    Address(SocketAddr),
    AddressOrNone(Option<SocketAddr>),
    Switch(bool),
    Filter(String),
    Format(LogFormat),
}

impl Kind {
    /// A whole number.
    pub(super) const fn number(min: u64, max: u64, unit: &'static str) -> Kind {
        Kind::Number { min, max, unit }
    }

    /// Whole numbers.
    pub(super) const fn list(count_max: usize, min: u64, max: u64, unit: &'static str) -> Kind {
        Kind::List { count_max, min, max, unit }
    }

    /// What is allowed, in words that follow "it must be".
    pub(super) fn range(&self) -> String {
        match self {
            Kind::Number { min, max, unit } => format!("{min} to {max} {unit}"),
            Kind::List { count_max, min, max, unit } => {
                format!("up to {count_max} numbers of {min} to {max} {unit}, with commas between them")
            }
            Kind::Path | Kind::Folder => "a directory".into(),
            Kind::File => "a file".into(),
            Kind::Address | Kind::AddressOrNone => {
                "an IP address and a port, such as 127.0.0.1:7440 or [::1]:7440".into()
            }
            Kind::Switch => "true or false".into(),
            Kind::Filter => {
                "error, warn, info, debug, trace or off, also per target (info,fluxrelay::http=debug)".into()
            }
            Kind::Format => "text or json".into(),
        }
    }

    /// The value in a text; `None` when it is not within the range.
    pub(super) fn read(&self, text: &str) -> Option<Value> {
        let text = text.trim();
        match self {
            Kind::Number { min, max, .. } => number(text, *min, *max).map(Value::Number),
            Kind::List { count_max, min, max, .. } => {
                let parts = text.split(',').map(str::trim).filter(|_| !text.is_empty());
                let numbers: Option<Vec<u64>> = parts.map(|part| number(part, *min, *max)).collect();
                numbers.filter(|numbers| numbers.len() <= *count_max).map(Value::List)
            }
            Kind::Path => (!text.is_empty()).then(|| Value::Path(text.into())),
            Kind::File | Kind::Folder => Some(Value::File((!text.is_empty()).then(|| text.into()))),
            Kind::Address => text.parse().ok().map(Value::Address),
            Kind::AddressOrNone if text.is_empty() => Some(Value::AddressOrNone(None)),
            Kind::AddressOrNone => text.parse().ok().map(|address| Value::AddressOrNone(Some(address))),
            Kind::Switch => text.parse().ok().map(Value::Switch),
            Kind::Filter => {
                // The library cuts some texts of other letters in the middle of one, and panics.
                let fits = !text.is_empty() && text.is_ascii() && EnvFilter::try_new(text).is_ok();
                fits.then(|| Value::Filter(text.into()))
            }
            Kind::Format => match text {
                "text" => Some(Value::Format(LogFormat::Text)),
                "json" => Some(Value::Format(LogFormat::Json)),
                _ => None,
            },
        }
    }
}

/// A decimal number; `_` between digits is read over, as in TOML.
fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let plain =
        text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| plain)?;
    (min..=max).contains(&number).then_some(number)
}

/// The type of a field of `Config`.
pub(super) trait FromValue {
    fn from_value(value: Value) -> Self;
}

macro_rules! from_value {
    ($($type:ty, $variant:ident;)+) => {
        $(impl FromValue for $type {
            fn from_value(value: Value) -> $type {
                match value {
                    Value::$variant(value) => value.try_into().expect("the range of a setting fits its field"),
                    other => unreachable!(concat!("a field of type ", stringify!($type), " with the value {:?}"), other),
                }
            }
        })+
    };
}

from_value! {
    u16, Number;
    u32, Number;
    u64, Number;
    usize, Number;
    Vec<u64>, List;
    PathBuf, Path;
    Option<PathBuf>, File;
    SocketAddr, Address;
    Option<SocketAddr>, AddressOrNone;
    bool, Switch;
    String, Filter;
    LogFormat, Format;
}
