//! Replays the saved inputs of a fuzz target in an ordinary test. Must never pass over one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Inputs that a corpus has at least: one that was not found would prove nothing.
const INPUTS_MIN: usize = 10;

/// Gives every input of a target to its check; a failure names the file.
pub(crate) fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("an input").path();
        let input = std::fs::read(&path).expect("an input");
        if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
            panic!("failed on {}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= INPUTS_MIN, "{} holds {seen} inputs", folder.display());
}
