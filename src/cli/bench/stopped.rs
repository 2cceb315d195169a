//! Somebody stops a measurement: what it has started and made goes with it.

use tokio::sync::oneshot;

use crate::cli::exit::{CliError, Exit};
use crate::cli::signals::Signals;

/// Ends when somebody stops this process, by Ctrl-C or SIGTERM; says so. It listens from when it is first asked. Whoever insists, because
/// something is under way that cannot be left, ends the process at once.
pub async fn stopped() -> CliError {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return CliError::local("cannot listen for signals", error),
    };
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        signals.next().await;
        let _ = tell.send(());
        signals.next().await;
        std::process::exit(Exit::Unexpected as i32);
    });
    // The other end goes away with the runtime only, and this with it.
    let _ = told.await;
    CliError::unexpected("stopped before the end")
}
