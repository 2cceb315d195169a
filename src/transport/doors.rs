//! Threads of their own for everybody who is not logged in yet, so that ten thousand handshakes at once slow down one
//! another and nobody who is in. Knows no socket and no frame.
//!
//! ```text
//! doors:   accept ─▶ first byte ─▶ turn ─▶ TLS ─▶ head of the first request ─▶ login
//!                                                     │                          │
//! serving:                                       REST ◀┘             connection ◀┘
//! ```
//! What must stay true: a peer that does nothing holds nothing that another one needs for longer than a moment.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::limits::{TURN_MS_MAX, TURNS_AT_ONCE_MAX};
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
    /// Starts so many threads, at least one; they give way to those that serve.
    pub(super) fn open(threads: usize) -> Doors {
        let turns = Turns::new(TURNS_AT_ONCE_MAX);
        let (runtime, accepting) = (Some(runtime("doors", threads.max(1))), Some(runtime("accept", 1)));
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
        .on_thread_start(priority::give_way)
        .enable_all()
        .build()
        .expect("threads can be started at start-up")
}

/// First come, first served, for TLS handshakes: without it all that have come would be begun at once, and all would be
/// finished late, many of them too late.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

/// A turn; the next one's when it is dropped.
pub(super) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
}

impl Turns {
    /// So many at once.
    pub(super) fn new(at_once: usize) -> Turns {
        Turns(Arc::new(Semaphore::new(at_once)))
    }

    /// Waits for a turn.
    pub(super) async fn next(&self) -> Turn<'_> {
        Turn { _permit: self.0.acquire().await.expect("it is never closed") }
    }
}

impl Turn<'_> {
    /// Does the work. The turn ends with it, or after a moment: the work then goes on beside the next one's.
    pub(super) async fn take<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        let done = timeout(Duration::from_millis(TURN_MS_MAX), work.as_mut()).await;
        drop(self);
        match done {
            Ok(output) => output,
            Err(_) => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_does_nothing_holds_a_turn_for_a_moment_only() {
        let turns = Turns::new(1);
        let silent = turns.next().await.take(std::future::pending::<()>());
        let mut silent = pin!(silent);
        assert!(silent.as_mut().now_or_never().is_none());
        let mut second = pin!(turns.next());
        assert!(second.as_mut().now_or_never().is_none(), "it is taken");
        let turn = tokio::select! {
            turn = second => turn,
            () = silent => panic!("it never ends"),
        };
        assert_eq!(turn.take(std::future::ready(7)).now_or_never(), Some(7));
        assert!(turns.next().now_or_never().is_some(), "it ends with the work");
    }

    #[test]
    fn the_threads_give_way_and_can_be_dropped_in_a_task() {
        let serving = Builder::new_current_thread().build().unwrap();
        serving.block_on(async {
            let doors = Doors::open(1);
            let name = doors.handle().spawn(async { std::thread::current().name().map(str::to_owned) });
            assert_eq!(name.await.unwrap().as_deref(), Some("doors"));
            #[cfg(target_os = "linux")]
            {
                let priority = || rustix::process::getpriority_process(None).unwrap();
                let there = doors.handle().spawn(async move { priority() }).await.unwrap();
                assert!(there > priority());
            }
        });
    }
}
