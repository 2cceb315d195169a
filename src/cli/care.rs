//! `fluxrelay store check`, `backup` and `restore`: the care of a data directory. Prints what was found, changes nothing
//! by itself.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar};
use serde_json::{Value, json};

use super::args::Remote;
use super::clock;
use super::exit::{CliError, Exit};
use super::output::{self, BAD, BOLD, Cell, DIM, GOOD, WAIT, printable, styled};
use super::rest::Rest;
use super::server::text;
use crate::broker::{self, RestoreError};
use crate::storage::{self, CheckReport, Finding, Severity, StorageError, Watcher};

/// A backup of a large store takes minutes.
const BACKUP_ANSWER_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Shows progress on a terminal; has damaged files looked through by a process of their own.
struct Bar(ProgressBar);

impl Bar {
    fn new(json: bool) -> Bar {
        Bar(output::spinner("checking", json))
    }
}

impl Watcher for Bar {
    fn rows(&mut self, file: &'static str, table: &'static str, rows: u64) {
        self.0.set_message(match rows {
            0 => format!("{file}: {table}"),
            _ => format!("{file}: {table}, {} rows", HumanCount(rows)),
        });
    }

    fn salvage(&mut self, dir: &Path, file: &'static str) -> Vec<Finding> {
        self.0.set_message(format!("{file}: naming what is damaged"));
        // What cannot be named is damaged all the same, and that was said.
        named_by_another_process(dir, file).unwrap_or_default()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Prints findings as they come, one JSON document a line.
struct Lines;

impl Watcher for Lines {
    fn rows(&mut self, _: &'static str, _: &'static str, _: u64) {}

    fn found(&mut self, finding: &Finding) {
        // Whoever started this process reads them; without a reader they are for nobody.
        let _ = output::line(as_json(finding));
    }
}

fn named_by_another_process(dir: &Path, file: &str) -> std::io::Result<Vec<Finding>> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["store", "check", "--rows-of", file, "--data-dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = process.stdout.take().map(|pipe| std::io::BufReader::new(pipe).lines());
    let found = lines.into_iter().flatten().map_while(Result::ok).filter_map(|line| {
        let value: Value = serde_json::from_str(&line).ok()?;
        let field = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Finding {
            severity: Severity::Damage,
            file: field("file")?,
            record: field("record")?,
            flaw: field("flaw")?,
            advice: field("advice")?,
        })
    });
    let found = found.collect();
    process.wait()?;
    Ok(found)
}

/// Runs `store check`.
pub(super) fn check(data_dir: &Path, rows_of: Option<&str>, as_json: bool) -> Result<(), CliError> {
    if let Some(file) = rows_of {
        return storage::check_rows(data_dir, file, &mut Lines).map(drop).map_err(unusable);
    }
    let report = broker::check(data_dir, &mut Bar::new(as_json)).map_err(unusable)?;
    show(&report, as_json)?;
    if report.damaged > 0 {
        return Err(damaged(data_dir, &report));
    }
    Ok(())
}

/// Runs `store backup`.
pub(super) fn backup(name: Option<String>, remote: &Remote) -> Result<(), CliError> {
    let name = name.unwrap_or_else(now_as_name);
    let rest = Rest::patient(remote, BACKUP_ANSWER_WITHIN)?;
    let spinner = output::spinner(format!("making {name}"), remote.json);
    let made = rest.post("/v1/backups", &json!({"name": name}));
    spinner.finish_and_clear();
    let made = made?;
    if remote.json {
        return Ok(output::json(&made)?);
    }
    let size = HumanBytes(made["bytes"].as_u64().unwrap_or(0));
    let directory = printable(text(&made, "directory"));
    output::line(format_args!("Made {} ({size}), and checked every row of it.", styled(BOLD, directory)))?;
    let note = "It lies on the broker's machine, holds its secrets, and is best kept on another disk.";
    Ok(output::line(styled(DIM, note))?)
}

/// A name by the time, in UTC, that sorts as it should.
fn now_as_name() -> String {
    let now = i64::try_from(clock::unix_now().0).unwrap_or(0);
    let now = jiff::Timestamp::from_millisecond(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    now.strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
}

/// Runs `store restore`.
pub(super) fn restore(backup: &Path, data_dir: &Path, as_json: bool) -> Result<(), CliError> {
    let restored = broker::restore(backup, data_dir, clock::unix_now(), &mut Bar::new(as_json));
    let report = match restored {
        Ok(report) => report,
        Err(RestoreError::Damaged(dir, report)) => {
            show(&report, as_json)?;
            return Err(damaged(&dir, &report).hint("nothing was restored; take another backup"));
        }
        Err(error @ RestoreError::NotEmpty(_)) => {
            return Err(CliError::new(Exit::Local, error.to_string())
                .hint("move what is there away first; it may hold what the backup does not"));
        }
        Err(RestoreError::Failed(error)) => return Err(unusable(error)),
    };
    show(&report, as_json)?;
    if as_json {
        return Ok(());
    }
    output::line(format_args!("\nRestored {} from {}.", data_dir.display(), backup.display()))?;
    let notes = [
        "What happened since the backup was made is not known to it: commands that ran since are offered again, and",
        "plugins with a ledger answer for them without running them twice. Orders that were accepted since are gone:",
        "publish them again. Keys removed and tokens replaced since are as they were. docs/storage.md says more.",
    ];
    for note in notes {
        output::line(styled(DIM, note))?;
    }
    Ok(())
}

fn unusable(error: StorageError) -> CliError {
    let error_text = error.to_string();
    match error {
        StorageError::InUse { .. } => CliError::new(Exit::Local, error_text)
            .hint("check and restore need a stopped broker; `fluxrelay store backup` works on a running one"),
        _ => CliError::new(Exit::Local, error_text),
    }
}

fn damaged(dir: &Path, report: &CheckReport) -> CliError {
    let what = if report.damaged == 1 { "record is" } else { "records are" };
    CliError::unexpected(format!("{} {what} damaged in {}", report.damaged, dir.display()))
}

fn as_json(finding: &Finding) -> Value {
    let severity = match finding.severity {
        Severity::Damage => "damage",
        Severity::Warning => "warning",
    };
    let Finding { file, record, flaw, advice, .. } = finding;
    json!({"severity": severity, "file": file, "record": record, "flaw": flaw, "advice": advice})
}

fn show(report: &CheckReport, as_json_document: bool) -> Result<(), CliError> {
    if as_json_document {
        let table = |t: &storage::TableCount| json!({"file": t.file, "table": t.table, "rows": t.rows});
        return Ok(output::json(&json!({
            "clean": report.damaged == 0,
            "damaged": report.damaged,
            "warnings": report.warnings,
            "related": report.related,
            "tables": report.tables.iter().map(table).collect::<Vec<_>>(),
            "findings": report.findings.iter().map(as_json).collect::<Vec<_>>(),
        }))?);
    }
    let row = |t: &storage::TableCount| {
        vec![Cell::new(t.file), Cell::new(t.table), Cell::right(HumanCount(t.rows).to_string(), 12)]
    };
    let rows: Vec<Vec<Cell>> = report.tables.iter().map(row).collect();
    output::table(&["FILE", "TABLE", "ROWS"], &rows)?;
    for finding in &report.findings {
        let style = if finding.severity == Severity::Damage { BAD } else { WAIT };
        let what = if finding.severity == Severity::Damage { "damage" } else { "warning" };
        let (file, record) = (printable(&finding.file), printable(&finding.record));
        output::line(format_args!("\n{} {file}: {record}", styled(style, what)))?;
        output::line(format_args!("  {}", printable(&finding.flaw)))?;
        output::line(styled(DIM, format_args!("  {}", printable(&finding.advice))))?;
    }
    let named = report.findings.len() as u64;
    let all = report.damaged + report.warnings;
    if all > named {
        output::line(format_args!("\n... and {} more", all - named))?;
    }
    match (report.damaged, report.related) {
        (0, _) => {
            output::line(format_args!("\n{}: every page, row and relation checks.", styled(GOOD, "clean")))?
        }
        (_, false) => {
            output::line("\nWhat rows say of each other was not checked, because rows are damaged.")?
        }
        _ => {}
    }
    Ok(())
}

/// Where `store check` and `store restore` find the data directory.
#[derive(Debug, clap::Args)]
pub(super) struct DataDir {
    /// The data directory
    #[arg(long, env = "FLUXRELAY_DATA_DIR", default_value = "fluxrelay-data", value_name = "DIR")]
    pub(super) data_dir: PathBuf,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}
