//! A mirrored run loses power: each side's files keep what they have synced, and of the rest whatever the disk likes. Of
//! what is left any file may come from either side. Must never look at more than one copy of a file.
//!
//! The two sides are written by threads of their own, so a run of a seed is not the same each time; its images are those
//! of the order in which things really happened.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::disk::{DATABASES, Disk, Image, Random};
use crate::images::{record, recover};
use crate::made;

/// Images of one recorded run.
const IMAGES_PER_RUN: u64 = 50;
/// Failures that are shown.
const SHOWN: usize = 5;

/// What was tried.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    images: u64,
    mixed: u64,
    /// Files of which the two sides held different bytes.
    apart: u64,
    pub(crate) failures: Vec<String>,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tried { images, mixed, apart, failures } = self;
        write!(f, "images of mirrored runs: {images}, {mixed} mixed, {apart} files that differed")?;
        write!(f, "; failures: {}", failures.len())?;
        failures.iter().take(SHOWN).try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

/// Records a run for every so many seeds, and makes and checks the image of each seed.
pub(crate) fn try_all(seeds: Range<u64>) -> Tried {
    let mut tried = Tried::default();
    let mut recorded = None;
    for seed in seeds {
        let run = seed / IMAGES_PER_RUN;
        if recorded.as_ref().is_none_or(|(of, _)| *of != run) {
            recorded = Some((run, record(run, &Disk::mirrored(&made()))));
        }
        let (_, recorded) = recorded.as_ref().expect("it was just made");
        let mut random = Random::new(seed);
        let n = random.below(recorded.tape.operations() + 1);
        let (image, _) = recorded.tape.start().crash([n; DATABASES], &mut random);
        let sides: [usize; DATABASES] = std::array::from_fn(|_| random.below(2));
        tried.images += 1;
        tried.mixed += u64::from(sides.iter().any(|side| *side != sides[0]));
        tried.apart += (0..DATABASES).filter(|file| image[*file] != image[file + DATABASES]).count() as u64;
        let mut taken = Image::default();
        for (file, side) in sides.into_iter().enumerate() {
            taken[file] = image[file + side * DATABASES].clone();
        }
        let checked = catch_unwind(AssertUnwindSafe(|| recorded.expect(&recover(&taken).0, [n; DATABASES])));
        if let Err(panic) = checked {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = format!("seed {seed} (run {run}), crash at {n}, files of sides {sides:?}");
            tried.failures.push(format!("{what}: {}", text.unwrap_or_default()));
        }
    }
    tried
}
