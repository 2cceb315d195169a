//! The pure heart: queues, the life of a command, timers. No socket, thread, disk, clock or random source.

mod io;
mod wheel;

pub use crate::ids::Seq;
pub use io::*;
pub use wheel::{TimerId, Wheel};
