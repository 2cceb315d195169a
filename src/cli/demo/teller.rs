//! The voice of the demo: says what happens, notes what was checked, ends the story when something is not as it must be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::clock;
use crate::cli::exit::CliError;
use crate::cli::output::{self, BAD, BOLD, DIM, GOOD, styled};

/// Tells the story on stdout, or keeps it for one JSON document.
pub(super) struct Teller {
    as_json: bool,
    started: Instant,
    checks: Vec<Value>,
    chapter: u32,
}

impl Teller {
    /// Begins.
    pub(super) fn new(as_json: bool) -> Teller {
        Teller { as_json, started: clock::now(), checks: Vec::new(), chapter: 0 }
    }

    /// A heading.
    pub(super) fn chapter(&mut self, title: &str) -> Result<(), CliError> {
        self.chapter += 1;
        self.print(format!("\n{}", styled(BOLD, format_args!("{}. {title}", self.chapter))))
    }

    /// A sentence.
    pub(super) fn say(&self, text: impl AsRef<str>) -> Result<(), CliError> {
        self.print(format!("   {}", text.as_ref()))
    }

    /// A detail.
    pub(super) fn detail(&self, text: impl AsRef<str>) -> Result<(), CliError> {
        self.print(styled(DIM, format_args!("   {}", text.as_ref())))
    }

    /// Notes something that must be so; ends the story if it is not.
    pub(super) fn check(&mut self, what: impl AsRef<str>, ok: bool) -> Result<(), CliError> {
        let what = what.as_ref();
        self.checks.push(json!({"what": what, "ok": ok}));
        let mark = if ok { styled(GOOD, "ok") } else { styled(BAD, "NOT SO") };
        self.print(format!("   {mark}  {what}"))?;
        if ok { Ok(()) } else { Err(CliError::unexpected(format!("not as it must be: {what}"))) }
    }

    /// How long the story has taken.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The last word.
    pub(super) fn end(&self, counts: &Value) -> Result<(), CliError> {
        let seconds = self.elapsed().as_secs_f64();
        if self.as_json {
            let whole = json!({"checks": self.checks, "commands": counts, "seconds": seconds});
            return Ok(output::json(&whole)?);
        }
        let counted: Vec<String> = counts
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0))
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        output::line(styled(BOLD, "\nSummary"))?;
        output::line(format_args!("   commands: {}", counted.join(", ")))?;
        let all = format!("all {} checks hold", self.checks.len());
        output::line(format_args!("   {}, in {seconds:.1} s", styled(GOOD, all)))?;
        Ok(())
    }

    fn print(&self, text: String) -> Result<(), CliError> {
        if self.as_json { Ok(()) } else { Ok(output::line(text)?) }
    }
}
