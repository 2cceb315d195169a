//! What the tests of the engine share: shards, a disk and virtual time. Must never read a clock.

pub mod disk;
pub mod world;
