//! Which damage there can be, and doing it to bytes. Must never do anything to a file but this one damage.

use std::collections::BTreeMap;
use std::fmt;

use super::mixed;

/// What is damaged at once.
const PAGE: usize = 4096;
/// Of pages that hold only zeros, as a journal has many, one in so many is damaged.
const EMPTY_EVERY: usize = 16;

/// How a page is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This bit of the file is another one.
    Flip(u64),
    /// Nothing but zeros.
    Zero,
    /// The file ends before it.
    Cut,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Flip(_) => "flipped",
            Kind::Zero => "zeroed",
            Kind::Cut => "cut",
        }
    }
}

/// One damage of one file.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    pub(crate) file: String,
    pub(crate) page: usize,
    pub(crate) kind: Kind,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} page {} {:?}", self.file, self.page, self.kind)
    }
}

/// Every damage of every file; the bits are chosen by `seed`. Those that would change nothing are left out.
pub(crate) fn damages(files: &BTreeMap<String, Vec<u8>>, seed: u64) -> Vec<Damage> {
    let mut all = Vec::new();
    for (file, bytes) in files {
        for (page, content) in bytes.chunks(PAGE).enumerate() {
            if page % EMPTY_EVERY > 0 && content.iter().all(|byte| *byte == 0) {
                continue;
            }
            let bit = mixed(seed ^ mixed(all.len() as u64)) % (content.len() as u64 * 8);
            let flip = Kind::Flip((page * PAGE) as u64 * 8 + bit);
            let zero = content.iter().any(|byte| *byte != 0).then_some(Kind::Zero);
            for kind in [Some(flip), zero, Some(Kind::Cut)].into_iter().flatten() {
                all.push(Damage { file: file.clone(), page, kind });
            }
        }
    }
    all
}

impl Damage {
    pub(crate) fn apply(&self, files: &mut BTreeMap<String, Vec<u8>>) {
        let bytes = files.get_mut(&self.file).expect("one of the files");
        let start = self.page * PAGE;
        match self.kind {
            Kind::Flip(bit) => bytes[(bit / 8) as usize] ^= 1 << (bit % 8),
            Kind::Zero => {
                let end = bytes.len().min(start + PAGE);
                bytes[start..end].fill(0);
            }
            Kind::Cut => bytes.truncate(start),
        }
    }
}
