//! Threads of their own for everybody who is not logged in yet, so that ten thousand handshakes at once slow down one
//! another and nobody who is in. Knows no socket and no frame.
//!
//! ```text
//! doors:   accept ─▶ first byte ─▶ turn ─▶ TLS ─▶ head of the first request ─▶ login
//!                                                     │                          │
//! serving:                                       REST ◀┘             connection ◀┘
//! ```
//! What must stay true: a peer that does nothing holds nothing that another one needs for longer than a moment.

use tokio::runtime::{Builder, Handle, Runtime};

use super::turns::Turns;
use crate::limits::{SUSPECT_TURNS_PER_DOOR_THREAD, TURNS_PER_DOOR_THREAD};
use crate::priority;

/// The threads, which end when this is dropped, with everything that runs on them.
pub(super) struct Doors {
    runtime: Option<Runtime>,
    /// One thread for the accept loop: behind the handshakes of those that it took, it would take a hundred in the time of
    /// thousands of theirs, and the system would turn away the others.
    accepting: Option<Runtime>,
    turns: Turns,
}

impl Doors {
    /// Starts so many threads, at least one; they stand aside for those that serve.
    pub(super) fn open(threads: usize) -> Doors {
        let threads = threads.max(1);
        let turns = Turns::new(
            threads.saturating_mul(TURNS_PER_DOOR_THREAD),
            threads.saturating_mul(SUSPECT_TURNS_PER_DOOR_THREAD),
        );
        let (runtime, accepting) = (Some(runtime("doors", threads)), Some(runtime("accept", 1)));
        Doors { runtime, accepting, turns }
    }

    /// Where tasks are given to them.
    pub(super) fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("it is taken when this is dropped").handle()
    }

    /// Where the accept loop belongs.
    pub(super) fn accepting(&self) -> &Handle {
        self.accepting.as_ref().expect("it is taken when this is dropped").handle()
    }

    /// Their turns.
    pub(super) fn turns(&self) -> Turns {
        self.turns.clone()
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        // Not in the usual way, which blocks: this happens in a task of another runtime.
        [self.accepting.take(), self.runtime.take()]
            .into_iter()
            .flatten()
            .for_each(Runtime::shutdown_background);
    }
}

fn runtime(name: &str, threads: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .on_thread_start(priority::stand_aside)
        .on_thread_unpark(priority::has_rested)
        .enable_all()
        .build()
        .expect("threads can be started at start-up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_stand_aside_and_can_be_dropped_in_a_task() {
        let serving = Builder::new_current_thread().build().unwrap();
        serving.block_on(async {
            let doors = Doors::open(1);
            let name = doors.handle().spawn(async { std::thread::current().name().map(str::to_owned) });
            assert_eq!(name.await.unwrap().as_deref(), Some("doors"));
            #[cfg(target_os = "linux")]
            {
                let policy = || thread_priority::thread_schedule_policy().unwrap();
                let there = doors.handle().spawn(async move { policy() }).await.unwrap();
                assert_ne!(there, policy());
            }
        });
    }
}
