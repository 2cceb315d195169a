//! Room for segments to come, made beside the commits: a slot of zeros that are really on the disk, so that a sync of what is
//! written there has no extents to write down. A commit that finds none makes it itself, which takes milliseconds.
//!
//! Goes through a description of the file of its own: the system tells each of an error once, and one that was told here
//! must not be missed by the commit whose bytes it was about.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

/// What a segment to come is made of. No memory is taken for it in the middle of a commit.
pub(super) static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A slot that holds nothing and is nobody's until it is brought back.
#[derive(Debug)]
pub struct Room {
    pub(super) slot: u32,
    pub(super) beside: Arc<dyn StorageBackend>,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Room {
    /// Makes it durable, in pieces that no commit waits long for: a sync takes the whole file with it.
    ///
    /// # Errors
    /// Those of the disk. The slot is as good as before, and a commit in it as slow.
    pub fn make(&self) -> io::Result<()> {
        let mut at = self.from;
        while at < self.to {
            at += write_zeros(&*self.beside, at, self.to)?;
            self.beside.sync_data()?;
        }
        Ok(())
    }
}

/// Writes zeros from here, up to there at most; how many.
pub(super) fn write_zeros(backend: &dyn StorageBackend, at: u64, end: u64) -> io::Result<u64> {
    let zeros = &ZEROS[..usize::try_from(end - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()))];
    backend.write(at, zeros)?;
    Ok(zeros.len() as u64)
}
