//! Backups of a running broker, restoring them, and checking a data directory whole: databases and small files.
//!
//! Must never change what it checks, nor leave a directory under its final name that is not complete and checked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::numbers::floors;
use super::registry::{Actor, AuditAction, AuditOutcome, AuditRecord, AuditTarget};
use crate::credentials::{
    ADMIN_FILE, DataKey, DataKeyFile, KeysFound, SECRET_FILE, SESSION_KEYS_FILE, Sealer, Subject,
    TICKET_KEYS_FILE, TLS_CERT_FILE, TLS_KEY_FILE, TicketKeys,
};
use crate::ids::AuditId;
use crate::limits::NAME_BYTES_MAX;
use crate::storage::{
    self, CheckReport, DATABASE_FILES, Finding, Severity, Snapshot, StorageError, Unwatched, Watcher,
};
use crate::time::UnixMs;

/// Small files that a backup has, where they exist.
const KEPT_FILES: [&str; 4] = [ADMIN_FILE, TLS_CERT_FILE, TLS_KEY_FILE, SECRET_FILE];
/// The directory within a data directory in which a restored one is put together.
const RESTORING: &str = "restoring";

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupMade {
    /// Where it lies.
    pub directory: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Why there is no backup. Nothing is left of it, and the broker goes on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackupError {
    /// There is something of that name.
    #[error("{0} exists: choose another name")]
    Exists(PathBuf),
    /// Another backup is under way.
    #[error("another backup is under way: wait for its end")]
    Running,
    /// The broker is stopping.
    #[error("the broker is stopping")]
    Stopping,
    /// It could not be written, or what was written does not check.
    #[error(transparent)]
    Failed(#[from] StorageError),
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The data directory has something in it.
    #[error("{0} is not empty: name a directory that is empty or does not exist")]
    NotEmpty(PathBuf),
    /// The backup, or the copy of it, does not check.
    #[error("{0} is damaged: nothing was restored")]
    Damaged(PathBuf, CheckReport),
    /// A file could not be read or written.
    #[error(transparent)]
    Failed(#[from] StorageError),
}

fn failed(file: &Path, operation: &'static str) -> impl Fn(io::Error) -> StorageError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StorageError::Full { file: file.to_path_buf() }
        }
        _ => StorageError::Io { file: file.to_path_buf(), operation, detail: error.to_string() },
    }
}

/// Whether a backup may have this name: a directory's name without surprises.
pub fn is_backup_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// Checks a data directory whole: every page and row of its databases, what rows say of each other, the small files.
///
/// # Errors
/// As [`storage::check`]. Damage is no error but a finding.
pub fn check(dir: &Path, watcher: &mut dyn Watcher) -> Result<CheckReport, StorageError> {
    let mut report = storage::check(dir, watcher)?;
    let data_key = check_data_key(dir, &mut report);
    check_others(dir, data_key.as_ref(), &mut report);
    for name in KEPT_FILES.into_iter().chain([TICKET_KEYS_FILE, SESSION_KEYS_FILE]).chain(DATABASE_FILES) {
        let mode = fs::metadata(dir.join(name)).map_or(0, |found| found.permissions().mode() & 0o777);
        if mode & 0o077 != 0 && name != TLS_CERT_FILE {
            let flaw = format!("others may open it: its mode is {mode:o}");
            report.add(finding(Severity::Warning, name, "mode", flaw, "chmod 600 it"));
        }
    }
    Ok(report)
}

fn finding(severity: Severity, file: &str, record: &str, flaw: impl ToString, advice: &str) -> Finding {
    let (file, record, advice) = (file.to_owned(), record.to_owned(), advice.to_owned());
    Finding { severity, file, record, flaw: flaw.to_string(), advice }
}

fn check_data_key(dir: &Path, report: &mut CheckReport) -> Option<DataKey> {
    let flaw = match DataKeyFile::read(&dir.join(SECRET_FILE)) {
        Ok(Some(key)) => match report.data_key_check {
            Some(check) if check != key.check_value() => {
                "it is not the one that registry.redb was made with".to_owned()
            }
            _ => return Some(key),
        },
        Ok(None) if report.data_key_check.is_none() && report.damaged == 0 => return None,
        Ok(None) => "it is missing, and every token rests on it".to_owned(),
        Err(error) => error.to_string(),
    };
    let advice = "restore it from the backup that registry.redb comes from";
    report.add(finding(Severity::Damage, SECRET_FILE, "the data key", flaw, advice));
    None
}

fn check_others(dir: &Path, data_key: Option<&DataKey>, report: &mut CheckReport) {
    let Some(data_key) = data_key else { return };
    if let Ok(text) = fs::read_to_string(dir.join(ADMIN_FILE)) {
        let opened = Sealer::new(data_key).open(text.trim());
        if !opened.is_some_and(|presented| presented.subject == Subject::Admin) {
            let flaw = "it does not hold an admin key of this data directory";
            let advice = "remove it, and if the key is lost run `fluxrelay admin-key reset`";
            report.add(finding(Severity::Warning, ADMIN_FILE, "the admin key", flaw, advice));
        }
    }
    // The instant matters only for keys that are made.
    let (_, found) = TicketKeys::open(&dir.join(TICKET_KEYS_FILE), data_key, UnixMs(0));
    if found == KeysFound::Damaged {
        let (flaw, advice) =
            ("it does not check", "nothing: the next start replaces it, plugins log in once");
        report.add(finding(Severity::Warning, TICKET_KEYS_FILE, "the ticket keys", flaw, advice));
    }
}

/// Writes a snapshot with the small files into a new directory, checks it, and only then gives it its name.
pub(super) fn make_backup(
    snapshot: Snapshot,
    data_dir: &Path,
    target: &Path,
    stop: &dyn Fn() -> bool,
) -> Result<BackupMade, BackupError> {
    if target.exists() {
        return Err(BackupError::Exists(target.to_path_buf()));
    }
    let parent = target.parent().unwrap_or(Path::new("."));
    new_dir(parent, true)?;
    let partial = target.with_added_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(failed(&partial, "remove"))?;
    }
    new_dir(&partial, false)?;
    let written = write_backup(snapshot, data_dir, &partial, stop);
    let named = written.and_then(|bytes| {
        fs::rename(&partial, target).map_err(failed(target, "name"))?;
        sync(parent)?;
        Ok(bytes)
    });
    match named {
        // Whoever reads it stands in another directory than the broker.
        Ok(bytes) => Ok(BackupMade {
            directory: fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf()),
            bytes,
        }),
        Err(error) => {
            // What is left is in nobody's way: the next backup of this name removes it.
            let _ = fs::remove_dir_all(&partial);
            Err(error.into())
        }
    }
}

fn write_backup(
    snapshot: Snapshot,
    data_dir: &Path,
    partial: &Path,
    stop: &dyn Fn() -> bool,
) -> Result<u64, StorageError> {
    snapshot.write(partial, stop)?;
    copy_files(data_dir, partial, &KEPT_FILES)?;
    let report = check(partial, &mut Unwatched)?;
    if let Some(found) = report.findings.iter().find(|found| found.severity == Severity::Damage) {
        let file = data_dir.join(&found.file);
        return Err(StorageError::Damaged { file, record: found.record.clone(), detail: found.flaw.clone() });
    }
    let sizes = DATABASE_FILES.into_iter().chain(KEPT_FILES).map(|name| partial.join(name));
    Ok(sizes.filter_map(|file| fs::metadata(file).ok()).map(|found| found.len()).sum())
}

fn new_dir(dir: &Path, may_exist: bool) -> Result<(), StorageError> {
    DirBuilder::new().recursive(may_exist).mode(0o700).create(dir).map_err(failed(dir, "make"))
}

fn sync(dir: &Path) -> Result<(), StorageError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir, "sync"))
}

/// Copies those of the files that are there, mode 0600, and makes them durable.
fn copy_files(from: &Path, to: &Path, names: &[&str]) -> Result<(), StorageError> {
    for name in names {
        let (source, target) = (from.join(name), to.join(name));
        let mut read = match File::open(&source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed(&source, "read"))?,
        };
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target);
        let mut write = made.map_err(failed(&target, "make"))?;
        io::copy(&mut read, &mut write).map_err(failed(&target, "write"))?;
        write.sync_all().map_err(failed(&target, "sync"))?;
    }
    sync(to)
}

/// Makes a data directory from a backup: checked before and after, with all numbers above those that were given out
/// since the backup was made. Returns what the last check found.
///
/// # Errors
/// Any: nothing was restored.
pub fn restore(
    backup: &Path,
    data_dir: &Path,
    now: UnixMs,
    watcher: &mut dyn Watcher,
) -> Result<CheckReport, RestoreError> {
    let in_it = fs::read_dir(data_dir).map(|mut entries| entries.next().is_some());
    match in_it {
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(true) => return Err(RestoreError::NotEmpty(data_dir.to_path_buf())),
        Err(error) => return Err(failed(data_dir, "read")(error).into()),
    }
    let report = check(backup, watcher)?;
    if report.damaged > 0 {
        return Err(RestoreError::Damaged(backup.to_path_buf(), report));
    }
    new_dir(data_dir, true)?;
    let restoring = data_dir.join(RESTORING);
    new_dir(&restoring, false)?;
    let restored = put_together(backup, &restoring, now, watcher).and_then(|report| {
        move_up(&restoring, data_dir)?;
        Ok(report)
    });
    let removed = fs::remove_dir_all(&restoring).map_err(failed(&restoring, "remove"));
    let report = restored?;
    removed?;
    sync(data_dir)?;
    Ok(report)
}

fn put_together(
    backup: &Path,
    restoring: &Path,
    now: UnixMs,
    watcher: &mut dyn Watcher,
) -> Result<CheckReport, RestoreError> {
    copy_files(backup, restoring, &DATABASE_FILES)?;
    copy_files(backup, restoring, &KEPT_FILES)?;
    storage::raise(restoring, floors(now), &|id| {
        let (action, outcome) = (AuditAction::BackupRestored, AuditOutcome::Done);
        let (by, on) = (Actor::LOCAL, AuditTarget::default());
        Arc::new(AuditRecord { id: AuditId(id), at: now, action, outcome, by, on })
    })?;
    let report = check(restoring, watcher)?;
    match report.damaged {
        0 => Ok(report),
        _ => Err(RestoreError::Damaged(restoring.to_path_buf(), report)),
    }
}

/// Moves the files to their place. The data key goes last: a start before that finds a registry without it and refuses.
fn move_up(restoring: &Path, data_dir: &Path) -> Result<(), StorageError> {
    let [journal, _, store, registry] = DATABASE_FILES;
    for name in [registry, journal, store].into_iter().chain(KEPT_FILES) {
        let (from, to) = (restoring.join(name), data_dir.join(name));
        if from.exists() {
            fs::rename(&from, &to).map_err(failed(&to, "move"))?;
        }
    }
    sync(data_dir)
}
