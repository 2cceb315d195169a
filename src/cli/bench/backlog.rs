//! `fluxrelay bench backlog`: commands for offline servers, and what became of them.

use super::args::BacklogArgs;
use super::report::Report;
use super::system::Fluxrelay;
use crate::cli::exit::CliError;

/// Measures; kills and restarts the broker on the way.
pub(super) async fn run(broker: &mut Fluxrelay, args: &BacklogArgs, quiet: bool) -> Result<Report, CliError> {
    let found = args.load.run(broker, quiet).await?;
    let mut report = Report::new("backlog", args.load.json());
    report.figure("accepted", found.accepted, "commands/s");
    if let Some(memory) = found.memory {
        report.figure("memory", memory, "bytes/command");
    }
    report.spent(&found.spent);
    if let Some(disk) = found.disk {
        report.figure("disk", disk, "bytes/command");
    }
    if found.refused > 0 {
        report.note(format!("{} publishes were refused for load and sent again", found.refused));
    }
    report.figure("ready after kill -9", found.ready.as_secs_f64(), "s");
    if let Some(memory) = found.memory_after {
        report.figure("memory after restart", memory, "bytes/command");
    }
    if let Some(memory) = found.memory_at_rest {
        report.figure("memory at rest", memory, "bytes/command");
    }
    if let Some(disk) = found.disk_at_rest {
        report.figure("disk at rest", disk, "bytes/command");
    }
    report.figure("drained", found.drained, "commands/s");
    report.figure("drained, logins included", found.drained_with_logins, "commands/s");
    report.figure("missing", found.missing as f64, "commands");
    report.figure("delivered twice", found.twice as f64, "commands");
    report.note("drained: from when all plugins were logged in, with a window of 0, and were given one");
    if let Err(error) = found.check() {
        report.print()?;
        return Err(error.into());
    }
    Ok(report)
}
