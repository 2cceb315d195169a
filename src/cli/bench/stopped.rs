//! Somebody stops a measurement: what it has started and made goes with it.

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit::CliError;

/// Ends when somebody stops this process, by Ctrl-C or SIGTERM; says so.
pub async fn stopped() -> CliError {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => drop(terminated.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
    CliError::unexpected("stopped before the end")
}
