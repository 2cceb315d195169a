//! Memory that is needed in a moment, fetched now. Must never change anything, nor be needed for anything to be right.
//!
//! What lies anywhere in memory costs more to fetch than to work on. A processor fetches many lines at once as long as none has to
//! be known before the next can be asked for, and does not look beyond a few hundred steps for more of them: work on one thing is as many.
//! So before it begins with the first of many, whoever works on them reads a little of each. (There is an instruction for it, which
//! no safe code may use.)

/// How many things are fetched at once, as a rule: more would not come sooner.
pub(crate) const AHEAD: usize = 16;

/// Reads all of these, each of which is a look at another part of memory.
pub(crate) fn touch(looks: impl Iterator<Item = u64>) {
    std::hint::black_box(looks.fold(0, |all, look| all ^ look));
}

/// A look at every 64th of these bytes: the processor's lines are as long.
pub(crate) fn look_along(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(64).fold(0, |all, byte| all ^ u64::from(*byte))
}
