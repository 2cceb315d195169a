//! The marks that say of a data directory and its mirror that they belong together, and whether they are in step. There
//! are two copies in each directory, so that damage to one file takes nothing away. Never decides what follows from them.
//!
//! A copy has 136 bytes: `frmm`, version 1, whose it is (1 data directory, 2 mirror), in step (1) or not (0), a zero;
//! 16 random bytes that both sides of a pair share; for each of [`SMALL_FILES`] the first 16 bytes of its BLAKE3 hash
//! when it was last the same on both sides (zeros: there was none); at the end 16 bytes of the BLAKE3 hash of all that.
//! It is written over in one piece: that needs no space on a disk that is full.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::credentials::{
    ADMIN_FILE, SECRET_FILE, SESSION_KEYS_FILE, TICKET_KEYS_FILE, TLS_CERT_FILE, TLS_KEY_FILE,
};
use crate::storage::clean::sync_dir;

/// The two copies.
pub(super) const MARK_FILES: [&str; 2] = ["mirror-1.mark", "mirror-2.mark"];
/// What is copied beside the databases. The order is stored: never change it.
pub(super) const SMALL_FILES: [&str; 6] =
    [SECRET_FILE, ADMIN_FILE, TICKET_KEYS_FILE, SESSION_KEYS_FILE, TLS_CERT_FILE, TLS_KEY_FILE];

const MAGIC: [u8; 4] = *b"frmm";
const VERSION: u8 = 1;
const SUM_BYTES: usize = 16;
const HEAD_BYTES: usize = 8;
const BODY_BYTES: usize = HEAD_BYTES + 16 + SMALL_FILES.len() * SUM_BYTES;
const BYTES: usize = BODY_BYTES + SUM_BYTES;

/// A part of a hash of a small file; zeros when there is no file.
pub(super) type Sum = [u8; SUM_BYTES];
/// No file.
pub(super) const NO_FILE: Sum = [0; SUM_BYTES];

/// The sum of these bytes.
pub(super) fn sum(bytes: &[u8]) -> Sum {
    blake3::hash(bytes).as_bytes()[..SUM_BYTES].try_into().expect("a hash is longer")
}

/// Which of the two directories a mark lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Data = 1,
    Mirror = 2,
}

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) side: Side,
    pub(super) in_step: bool,
    pub(super) pair: [u8; 16],
    pub(super) small: [Sum; SMALL_FILES.len()],
}

impl Mark {
    /// Of a pair that is new and not in step yet.
    pub(super) fn new_pair() -> io::Result<Mark> {
        let mut pair = [0; 16];
        getrandom::fill(&mut pair).map_err(io::Error::other)?;
        Ok(Mark { side: Side::Data, in_step: false, pair, small: [NO_FILE; SMALL_FILES.len()] })
    }

    /// The same in the other directory.
    pub(super) fn on(&self, side: Side) -> Mark {
        Mark { side, ..self.clone() }
    }

    /// The same, not in step.
    pub(super) fn stale(&self) -> Mark {
        Mark { in_step: false, ..self.clone() }
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..7].copy_from_slice(&[VERSION, self.side as u8, u8::from(self.in_step)]);
        bytes[HEAD_BYTES..HEAD_BYTES + 16].copy_from_slice(&self.pair);
        for (place, small) in bytes[HEAD_BYTES + 16..].chunks_exact_mut(SUM_BYTES).zip(&self.small) {
            place.copy_from_slice(small);
        }
        let check = sum(&bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&check);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Mark> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let (body, check) = bytes.split_at(BODY_BYTES);
        if sum(body) != check || body[..4] != MAGIC || body[4] != VERSION {
            return None;
        }
        let side = [Side::Data, Side::Mirror].into_iter().find(|side| *side as u8 == body[5])?;
        let mut small = [NO_FILE; SMALL_FILES.len()];
        for (small, found) in small.iter_mut().zip(body[HEAD_BYTES + 16..].chunks_exact(SUM_BYTES)) {
            small.copy_from_slice(found);
        }
        let pair = body[HEAD_BYTES..HEAD_BYTES + 16].try_into().expect("16 bytes");
        Some(Mark { side, in_step: body[6] == 1, pair, small })
    }
}

/// The mark of a directory; `None` when neither copy can be read. Of two that differ, which a crash between them
/// leaves, the one that is not in step holds.
pub(super) fn read(dir: &Path) -> Option<Mark> {
    let copies =
        MARK_FILES.map(|name| std::fs::read(dir.join(name)).ok().and_then(|bytes| Mark::decode(&bytes)));
    let [first, second] = copies;
    match (first, second) {
        (Some(first), Some(second)) => Some(if first.in_step { second } else { first }),
        (first, second) => first.or(second),
    }
}

/// Writes both copies; they are durable when this returns.
pub(super) fn write(dir: &Path, mark: &Mark) -> io::Result<()> {
    let mut made = false;
    for name in MARK_FILES {
        let path = dir.join(name);
        made |= !path.exists();
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened?;
        file.write_all(&mark.encode())?;
        file.set_len(BYTES as u64)?;
        file.sync_all()?;
    }
    if made { sync_dir(dir) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let mut mark = Mark::new_pair().unwrap();
        mark.small[1] = sum(b"a key");
        mark
    }

    #[test]
    fn either_copy_is_enough_and_damage_to_both_is_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        let mark = Mark { in_step: true, ..mark().on(Side::Mirror) };
        write(dir.path(), &mark).unwrap();
        assert_eq!(read(dir.path()), Some(mark.clone()));
        for (damaged, other) in [(0, 1), (1, 0)] {
            let path = dir.path().join(MARK_FILES[damaged]);
            let sound = std::fs::read(&path).unwrap();
            for bit in 0..BYTES * 8 {
                let mut bytes = sound.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Mark::decode(&bytes), None, "bit {bit}");
            }
            std::fs::write(&path, &sound[..40]).unwrap();
            assert_eq!(read(dir.path()), Some(mark.clone()));
            std::fs::write(dir.path().join(MARK_FILES[other]), b"").unwrap();
            assert_eq!(read(dir.path()), None);
            write(dir.path(), &mark).unwrap();
        }
    }

    #[test]
    fn of_two_copies_the_one_that_is_not_in_step_holds() {
        let dir = tempfile::tempdir().unwrap();
        let stale = mark();
        for behind in MARK_FILES {
            write(dir.path(), &Mark { in_step: true, ..stale.clone() }).unwrap();
            std::fs::write(dir.path().join(behind), stale.encode()).unwrap();
            assert_eq!(read(dir.path()), Some(stale.clone()), "{behind} says that it is stale");
        }
    }

    #[test]
    fn pairs_differ() {
        assert_ne!(mark().pair, mark().pair);
    }
}
