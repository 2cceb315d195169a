//! How far a long piece of work is: on stderr, only on a terminal, and only where nobody asked for quiet.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Progress over `total` steps.
pub(crate) fn progress(total: u64, what: &'static str, quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{msg:<28} [{bar:30}] {human_pos}/{human_len} {per_sec} eta {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_message(what)
}

/// A spinner for a wait of unknown length.
pub(crate) fn spinner(what: impl Into<String>, quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(what.into());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
