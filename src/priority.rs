//! How threads that may wait give way to those that must not. Owns the numbers; decides nothing about which are which.
//!
//! Niceness alone is not enough: a scheduler lets whoever runs go on for a slice, and often to its next tick, however nice
//! it is and whoever waits. So what runs on such threads for long pauses of its own accord ([`considerate`]): between two
//! steps of its work, when it holds no lock, it sleeps for as short as the system can, and whoever waits for the core has it.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

/// How far such a thread stands behind: as far as there is without being idle. On a busy core it still gets a seventieth
/// beside one that stands in front, so that load on the others slows it down and never stops it; an idle one could be
/// stopped for long while it holds a lock. At 10 it would get a tenth, and three times as much of deliveries' time.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;

/// A thread that gives way works for so long without a pause, and to the end of the step that it is in.
const WORK: Duration = Duration::from_millis(1);
/// A pause: the shortest sleep there is, which the system rounds up to some 50 us.
const PAUSE: Duration = Duration::from_micros(1);

thread_local! {
    /// Since when the thread works without a pause; `None` = it gives way to nobody.
    static WORKS_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The calling thread gives way to those that never called this. Call it once, where the thread begins.
///
/// On Linux each thread has a priority of its own; elsewhere the call would be for the whole process, and does nothing.
pub(crate) fn give_way() {
    // A system that refuses leaves the thread as it was: slower for others, and right all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICE);
    WORKS_SINCE.set(Some(Instant::now()));
}

/// The calling thread gives way, and has just waited for something. For runtimes whose threads do: tasks cannot see it.
pub(crate) fn has_rested() {
    if WORKS_SINCE.get().is_some() {
        WORKS_SINCE.set(Some(Instant::now()));
    }
}

/// Does the work; on threads that give way with pauses. Whoever has nobody to give way to notices nothing of it.
pub(crate) async fn considerate<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        if WORKS_SINCE.get().is_some_and(|since| since.elapsed() >= WORK) {
            std::thread::sleep(PAUSE);
            WORKS_SINCE.set(Some(Instant::now()));
        }
        polled
    })
    .await
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_the_thread_that_calls_gives_way() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let there = std::thread::spawn(move || {
            give_way();
            priority()
        });
        assert_eq!((there.join().unwrap(), priority()), ((before + NICE).min(19), before));
    }

    /// How often the calling thread has left its core because it wanted to.
    fn pauses() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// Pauses in work of three steps, each longer than a thread that gives way works without a pause.
    fn pauses_of_long_work() -> u64 {
        let before = pauses();
        for _ in 0..3 {
            let step = async {
                let begun = Instant::now();
                while begun.elapsed() <= WORK {}
            };
            considerate(step).now_or_never().unwrap();
        }
        pauses() - before
    }

    #[test]
    fn long_work_pauses_after_each_step_where_it_gives_way_and_nowhere_else() {
        let there = std::thread::spawn(|| {
            give_way();
            pauses_of_long_work()
        });
        assert!(there.join().unwrap() >= 3);
        assert!(pauses_of_long_work() < 3);
    }

    #[test]
    fn short_work_does_not_pause_after_a_rest() {
        let there = std::thread::spawn(|| {
            give_way();
            WORKS_SINCE.set(Some(Instant::now() - WORK));
            has_rested();
            let before = pauses();
            considerate(std::future::ready(())).now_or_never().unwrap();
            pauses() - before
        });
        assert_eq!(there.join().unwrap(), 0);
    }
}
