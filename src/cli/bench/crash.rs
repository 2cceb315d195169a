//! `fluxrelay bench crash`: kills under load, and what became of the commands.

use super::args::CrashArgs;
use super::report::{Report, seconds_at};
use super::system::Fluxrelay;
use crate::cli::exit::CliError;

/// Measures; kills and restarts the broker on the way.
pub(super) async fn run(broker: &mut Fluxrelay, args: &CrashArgs, quiet: bool) -> Result<Report, CliError> {
    let found = args.load.run(broker, quiet).await?;
    let mut ready = found.ready.clone();
    ready.sort_unstable();
    let mut report = Report::new("crash", args.load.json());
    report.figure("kills", ready.len() as f64, "");
    report.figure("acknowledged", found.acknowledged as f64, "commands");
    report.figure("publishes without an answer", found.unanswered as f64, "commands");
    report.figure("missing", found.missing as f64, "commands");
    report.figure("confirmed and delivered again", found.again_confirmed as f64, "commands");
    report.figure("unconfirmed and delivered again", found.again_unconfirmed as f64, "commands");
    report.figure("ready after kill -9, median", seconds_at(&ready, 0.5), "s");
    report.figure("ready after kill -9, longest", seconds_at(&ready, 1.0), "s");
    report.note("each kill ends all connections; new plugins know nothing of what ran before, so that the broker alone counts");
    if let Err(error) = found.check() {
        report.fail(error.into());
    }
    Ok(report)
}
