//! Exit codes and the one error type of the subcommands: a sentence for people, a number for scripts.
//!
//! Nothing here may print; `mod.rs` does, once, at the end.

use std::fmt;
use std::io;

/// What a non-zero exit code means. Part of the command line's contract (README.md, "Exit codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The broker's storage failed; it stopped rather than acknowledge what it could not store.
    Storage = 1,
    /// Arguments, settings or input are wrong; clap uses the same number.
    Usage = 2,
    /// The broker answered and said no.
    Refused = 3,
    /// The broker did not answer.
    Unreachable = 4,
    /// `demo` or `bench` saw something other than what must be, or `store check` found damage.
    Unexpected = 5,
    /// A file, a port or a process of this machine could not be used.
    Local = 6,
}

/// Why a subcommand ends early.
#[derive(Debug)]
pub struct CliError {
    /// The process's exit code.
    pub exit: Exit,
    /// One sentence: what is wrong, with the field and its range where there is one.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The reader of our output went away, which is no error at all (`fluxrelay events | head`).
    pub(super) broken_pipe: bool,
}

impl CliError {
    /// An error with its code and sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> CliError {
        CliError { exit, message: message.into(), hint: None, broken_pipe: false }
    }

    /// Wrong arguments, settings or input.
    pub fn usage(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Usage, message)
    }

    /// A file, port or process could not be used: what was tried, and what the system said.
    pub fn local(what: impl fmt::Display, error: impl fmt::Display) -> CliError {
        CliError::new(Exit::Local, format!("{what}: {error}"))
    }

    /// Something was not as it must be.
    pub fn unexpected(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Unexpected, message)
    }

    /// The same error, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }
}

/// Failures to print; everything else says what it was doing through [`CliError::local`].
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> CliError {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        CliError { broken_pipe, ..CliError::local("cannot write the output", error) }
    }
}
