//! What came of a damage, and which of it is a failure. Must never forgive a difference in what was read.

use std::path::Path;
use std::sync::Arc;

use fluxrelay::broker;
use fluxrelay::storage::{CheckReport, StorageError, Unwatched};
use parking_lot::Mutex;

use crate::damage::Damage;
use crate::reader::Ended;

/// See the module.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The start was refused, and what is damaged was named.
    Refused,
    /// It started, and stopped with its name when it came to the damage.
    Stopped,
    /// Everything that can be read is as it was; a check names the damage.
    NamedByCheck,
    /// Everything that can be read is as it was, and nothing that is used is damaged.
    NoEffect,
    /// None of them.
    Failed(&'static str, String),
}

impl Outcome {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Outcome::Refused => "refused at the start",
            Outcome::Stopped => "stopped at the damage",
            Outcome::NamedByCheck => "without effect, named by the check",
            Outcome::NoEffect => "without effect",
            Outcome::Failed(name, _) => name,
        }
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Outcome::Failed(_, why) => Some(why),
            _ => None,
        }
    }
}

/// Panics since they were last taken: each would have ended the process.
#[derive(Clone, Default)]
pub(crate) struct Panics(Arc<Mutex<Vec<String>>>);

impl Panics {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

/// From now on panics are noted and not printed.
pub(crate) fn watch_panics() -> Panics {
    let panics = Panics::default();
    let noted = panics.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_this_test = panic.location().is_some_and(|at| at.file().starts_with("tests/"));
        if of_this_test {
            before(panic);
        } else {
            noted.0.lock().push(panic.to_string());
        }
    }));
    panics
}

/// What `store check` finds.
pub(crate) fn check(dir: &Path) -> Result<CheckReport, StorageError> {
    let checked = std::panic::catch_unwind(|| broker::check(dir, &mut Unwatched));
    checked.unwrap_or_else(|_| Ok(CheckReport::default()))
}

pub(crate) fn judge(
    damage: &Damage,
    read: Result<Vec<String>, Ended>,
    expected: &[String],
    panicked: Vec<String>,
    report: Result<CheckReport, StorageError>,
    check_panicked: Vec<String>,
) -> Outcome {
    if let Some(panic) = panicked.first() {
        return Outcome::Failed("PANICKED", panic.clone());
    }
    if let Some(panic) = check_panicked.first() {
        return Outcome::Failed("CHECK PANICKED", panic.clone());
    }
    let named = match &report {
        Ok(report) => report.findings.iter().any(|finding| finding.file == damage.file),
        Err(error) => is_clear(damage, error),
    };
    let (outcome, error) = match read {
        Ok(found) => match found.iter().zip(expected).find(|(found, expected)| found != expected) {
            Some((found, expected)) => {
                let (found, expected) = (
                    found.chars().take(300).collect::<String>(),
                    expected.chars().take(300).collect::<String>(),
                );
                return Outcome::Failed(
                    "WRONG",
                    format!("(check: {named}) read {found} where {expected} was stored"),
                );
            }
            None if found.len() != expected.len() => {
                return Outcome::Failed(
                    "WRONG",
                    format!("{} things read where {} were stored", found.len(), expected.len()),
                );
            }
            None if named => return Outcome::NamedByCheck,
            None => return Outcome::NoEffect,
        },
        Err(Ended::AtStart(error)) => (Outcome::Refused, error),
        Err(Ended::Later(error)) => (Outcome::Stopped, error),
        Err(Ended::Silently(what)) => return Outcome::Failed("SILENT", what),
    };
    if !is_clear(damage, &error) {
        return Outcome::Failed("UNCLEAR", error.to_string());
    }
    if !named {
        return Outcome::Failed("NOT IN THE CHECK", format!("{error}; the check says {report:?}"));
    }
    outcome
}

/// Whether an error says which file it is and what to do.
fn is_clear(damage: &Damage, error: &StorageError) -> bool {
    let text = error.to_string();
    // The data key is told from another one by the registry's row.
    text.contains(&damage.file)
        && (text.contains("restore it from a backup") || matches!(error, StorageError::TooNew { .. }))
}
