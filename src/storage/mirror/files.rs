//! Comparing and copying files between a data directory and its mirror, and what two directories are to each other. Never
//! deletes a database: what is replaced is moved aside.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::Bound;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use rustix::fs::{Advice, fadvise};

use super::mark::{MARK_FILES, NO_FILE, SMALL_FILES, Sum, sum};
use crate::storage::clean::sync_dir;

/// Bytes that are read at once.
const STEP: usize = 1024 * 1024;
/// Bytes that are written when one of them differs.
const BLOCK: usize = 64 * 1024;
/// What a directory may hold and still be empty to us: what a file system makes by itself.
const LOST_AND_FOUND: &str = "lost+found";
/// Copies of one damaged file that are kept side by side, at most.
const ASIDE_MAX: u32 = 1000;

/// Which side failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The data directory: that ends a start.
    Data(io::Error),
    /// The mirror: one goes on without it.
    Mirror(io::Error),
    /// Another process has a file of the mirror open.
    InUse(PathBuf),
}

/// A file of the mirror, locked as a database is.
pub(super) struct Locked {
    pub(super) file: File,
    pub(super) backend: FileBackend,
}

impl Locked {
    /// Opens a file that is there, or makes it.
    pub(super) fn open(path: &Path, make: bool) -> Result<Locked, Failed> {
        let file =
            OpenOptions::new().read(true).write(true).create(make).truncate(false).mode(0o600).open(path);
        let file = file.map_err(Failed::Mirror)?;
        let backend = file.try_clone().map_err(Failed::Mirror)?;
        let backend = FileBackend::new(backend).map_err(|error| Failed::Mirror(io::Error::other(error)))?;
        match backend.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
            Ok(true) | Err(BackendError::Unsupported) => Ok(Locked { file, backend }),
            Ok(false) => Err(Failed::InUse(path.to_path_buf())),
            Err(error) => Err(Failed::Mirror(io::Error::other(error.to_string()))),
        }
    }
}

/// Drops what the system remembers of a file, so that it is read from the disk: after a failed sync memory may hold
/// what the disk does not.
pub(super) fn chill(file: &File) -> io::Result<()> {
    file.sync_all()?;
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

fn read_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Whether both hold the same bytes.
pub(super) fn same(data: &File, mirror: &File) -> io::Result<bool> {
    if data.metadata()?.len() != mirror.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; STEP], vec![0; STEP]);
    let mut offset = 0;
    loop {
        let count = read_at(data, offset, &mut left)?;
        if read_at(mirror, offset, &mut right)? != count || left[..count] != right[..count] {
            return Ok(false);
        }
        if count < STEP {
            return Ok(true);
        }
        offset += count as u64;
    }
}

/// Makes the mirror's file the same, durably; returns how many bytes were written.
pub(super) fn bring(data: &File, mirror: &File) -> Result<u64, Failed> {
    let length = data.metadata().map_err(Failed::Data)?.len();
    if mirror.metadata().map_err(Failed::Mirror)?.len() > length {
        mirror.set_len(length).map_err(Failed::Mirror)?;
    }
    let (mut left, mut right) = (vec![0; STEP], vec![0; STEP]);
    let (mut offset, mut written) = (0, 0);
    loop {
        let count = read_at(data, offset, &mut left).map_err(Failed::Data)?;
        // What cannot be read is written anew.
        let known = read_at(mirror, offset, &mut right).unwrap_or(0);
        let mut at = 0;
        for block in left[..count].chunks(BLOCK) {
            if right[..known].get(at..at + block.len()) != Some(block) {
                mirror.write_all_at(block, offset + at as u64).map_err(Failed::Mirror)?;
                written += block.len() as u64;
            }
            at += block.len();
        }
        if count < STEP {
            break;
        }
        offset += count as u64;
    }
    mirror.sync_all().map_err(Failed::Mirror)?;
    Ok(written)
}

/// Copies a file under another name, syncs it, and gives it its own: there is the old one or the new one.
pub(super) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let beside = to.with_added_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut source = File::open(from)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    io::copy(&mut source, &mut copy)?;
    copy.flush()?;
    copy.sync_all()?;
    fs::rename(&beside, to)?;
    sync_dir(to.parent().unwrap_or(Path::new(".")))
}

/// Gives a file another name, under which it is kept; `None` when there is none.
pub(super) fn move_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    let names = (1..=ASIDE_MAX).map(|number| path.with_added_extension(format!("damaged-{number}")));
    let Some(aside) = names.into_iter().find(|name| !name.exists()) else {
        return Err(io::Error::other("too many damaged files are kept beside it: move them away"));
    };
    fs::rename(path, &aside)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok(Some(aside))
}

/// The sum of a small file, `NO_FILE` when there is none.
pub(super) fn sum_of(path: &Path) -> io::Result<Sum> {
    match fs::read(path) {
        Ok(bytes) => Ok(sum(&zeroize::Zeroizing::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(NO_FILE),
        Err(error) => Err(error),
    }
}

/// Whether a directory holds nothing of anybody; marks and files half made do not count.
pub(super) fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name != LOST_AND_FOUND && !name.ends_with(".new") && !MARK_FILES.contains(&&*name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a data directory holds none of the files that a broker makes in it.
pub(super) fn is_lost(data: &Path, databases: &[&str]) -> bool {
    let mut names = databases.iter().chain(&SMALL_FILES).chain(&MARK_FILES);
    !names.any(|name| data.join(name).exists())
}

/// Why the two cannot be a pair, or `None`.
pub(super) fn conflict(data: &Path, mirror: &Path) -> io::Result<Option<String>> {
    let (data, mirror) = (resolved(data)?, resolved(mirror)?);
    let is_same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let found = fs::metadata(&data).ok().zip(fs::metadata(&mirror).ok());
    Ok(if data == mirror || found.is_some_and(|(data, mirror)| is_same(&data, &mirror)) {
        Some("it is the data directory itself: name a directory of its own, best on another disk".into())
    } else if data.starts_with(&mirror) || mirror.starts_with(&data) {
        Some(format!(
            "it and the data directory {} lie one within the other: keep them apart",
            data.display()
        ))
    } else {
        None
    })
}

/// Without links and dots, also where the last parts do not exist yet.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for known in path.ancestors() {
        if let Ok(found) = fs::canonicalize(known) {
            let rest = path.strip_prefix(known).expect("an ancestor is a prefix");
            return Ok(if rest.as_os_str().is_empty() { found } else { found.join(rest) });
        }
    }
    Ok(path)
}

/// A directory that nobody else uses as one of a pair, for as long as the returned file is open; `None` = somebody does.
pub(super) fn lock(dir: &Path) -> io::Result<Option<File>> {
    let opened = File::open(dir)?;
    match opened.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without such locks has those of the databases.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(opened)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_copied_and_then_they_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let bytes: Vec<u8> = (0..STEP * 2 + 777).map(|at| (at / 7) as u8).collect();
        fs::write(&from, &bytes).unwrap();
        let (mut shorter, mut longer, mut flipped) = (bytes.clone(), bytes.clone(), bytes.clone());
        shorter.truncate(STEP + 10);
        longer.extend([9; 5000]);
        flipped[STEP + 3] ^= 1;
        for (before, written) in [
            (bytes.clone(), Some(0)),
            (flipped, Some(BLOCK as u64)),
            (longer, Some(0)),
            (shorter, None),
            (Vec::new(), Some(bytes.len() as u64)),
        ] {
            fs::write(&to, &before).unwrap();
            let (data, mirror) = (File::open(&from).unwrap(), Locked::open(&to, false).unwrap());
            assert_eq!(same(&data, &mirror.file).unwrap(), before == bytes);
            let found = bring(&data, &mirror.file).unwrap();
            assert!(written.is_none_or(|written| written == found), "{found} of {written:?}");
            assert!(same(&data, &mirror.file).unwrap());
            assert!(fs::read(&to).unwrap() == bytes);
        }
    }

    #[test]
    fn directories_that_are_one_or_lie_within_each_other_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("data/deep")).unwrap();
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        for other in ["data", "data/deep", "data/new/one", "link", "link/new", "data/deep/..", "."] {
            assert!(conflict(&at("data"), &at(other)).unwrap().is_some(), "{other}");
        }
        for other in ["data2", "mirror/data", "new"] {
            assert_eq!(conflict(&at("data"), &at(other)).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn what_is_moved_aside_is_kept_under_a_name_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        assert_eq!(move_aside(&path).unwrap(), None);
        for number in 1..3 {
            fs::write(&path, [number]).unwrap();
            let aside = move_aside(&path).unwrap().unwrap();
            assert_eq!(aside, dir.path().join(format!("store.redb.damaged-{number}")));
            assert_eq!(fs::read(aside).unwrap(), [number]);
        }
    }
}
