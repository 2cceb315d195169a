//! What the tests of the engine share: shards, a disk and virtual time. Must never read a clock.

pub(crate) mod disk;
pub(crate) mod random;
pub(crate) mod world;
