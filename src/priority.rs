//! How threads that may wait give way to those that must not. Owns the numbers; decides nothing about which are which.
//!
//! There are two ways. Who [gives way](give_way) has little of a core that others want, and never nothing. Who
//! [stands aside](stand_aside) has a core when nobody else wants it, and leaves it at once when somebody does.
//!
//! No priority is enough of itself. A thread loses its core only when it next enters the system or at the next tick, 4 ms
//! later or so; and a fair scheduler lets even the system's own threads wait for a light one that runs, the disk's among
//! them. So what runs on threads that stand aside keeps to [`considerate`]: between two steps of its work, when it holds no
//! lock, it lets others go first; and once a millisecond all such threads rest at the same moment, so that for that moment a
//! core is nobody's, and whoever was made to wait for it has it.
//!
//! Who lets others go first is kept waiting by all that do not, also by what stands aside and has no steps, such as a password
//! hash. So it is counted [for how long](kept_waiting), and that work can make up for it.

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::time::{ClockId, clock_gettime};
#[cfg(target_os = "linux")]
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// How far a thread that gives way stands behind: as far as there is without being idle. On a busy core it still gets a
/// seventieth beside one that stands in front. At 10 it would get a tenth, and three times as much of deliveries' time.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;

/// A thread that stands aside lets others go first after so much work, in nanoseconds, and to the end of the step that it is in.
#[cfg(target_os = "linux")]
const WORK_NS: u64 = 100_000;
/// All of them rest when the system's clock begins another of these, in nanoseconds.
#[cfg(target_os = "linux")]
const ROUND_NS: u64 = 1_000_000;
/// A rest: the shortest sleep there is, which the system rounds up to some 50 us.
#[cfg(target_os = "linux")]
const REST: Duration = Duration::from_micros(1);
/// A pause that took no longer, in nanoseconds, was given to nobody that is in the way: two threads that take turns by steps.
#[cfg(target_os = "linux")]
const PAUSE_NS: u64 = 500_000;
/// For how long considerate work was kept from its core in all, in nanoseconds, by all of its threads.
static KEPT_WAITING_NS: AtomicU64 = AtomicU64::new(0);

#[cfg(target_os = "linux")]
thread_local! {
    /// `None` = the thread does not stand aside.
    static ASIDE: Cell<Option<Aside>> = const { Cell::new(None) };
}

/// The calling thread gives way to those that never called this. Call it once, where the thread begins.
///
/// On Linux each thread has a priority of its own; elsewhere the call would be for the whole process, and does nothing.
pub(crate) fn give_way() {
    // A system that refuses leaves the thread as it was: slower for others, and right all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICE);
}

/// The calling thread stands aside for all that do not, and gives way where the system has no such thing. Call it once, where
/// the thread begins; threads that it starts stand where it does.
///
/// Beside others that want all of a core it gets some 1/340 of it: for work of which a little goes a long way.
pub(crate) fn stand_aside() {
    #[cfg(target_os = "linux")]
    {
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).is_err() {
            give_way();
        }
        ASIDE.set(Some(Aside::rested()));
    }
}

/// The calling thread has just waited for something. For runtimes whose threads stand aside: tasks cannot see it.
pub(crate) fn has_rested() {
    #[cfg(target_os = "linux")]
    if ASIDE.get().is_some() {
        ASIDE.set(Some(Aside::rested()));
    }
}

/// Does the work; on threads that stand aside with pauses. Whoever does not notices nothing of it.
pub(crate) async fn considerate<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        #[cfg(target_os = "linux")]
        if let Some(aside) = ASIDE.get() {
            ASIDE.set(Some(aside.after_a_step()));
        }
        polled
    })
    .await
}

/// For how long considerate work has been kept from its core so far, by all of its threads.
pub(crate) fn kept_waiting() -> Duration {
    Duration::from_nanos(KEPT_WAITING_NS.load(Relaxed))
}

/// What a thread that stands aside knows of its own work; in nanoseconds of the system's clock, which all threads share.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy)]
struct Aside {
    rested_at: u64,
    gave_way_at: u64,
}

#[cfg(target_os = "linux")]
impl Aside {
    fn rested() -> Aside {
        let now = now_ns();
        Aside { rested_at: now, gave_way_at: now }
    }

    fn after_a_step(self) -> Aside {
        let now = now_ns();
        if now / ROUND_NS != self.rested_at / ROUND_NS {
            let rested_at = pause(now, || std::thread::sleep(REST));
            return Aside { rested_at, gave_way_at: rested_at };
        }
        if now - self.gave_way_at < WORK_NS {
            return self;
        }
        let gave_way_at = pause(now, std::thread::yield_now);
        Aside { gave_way_at, ..self }
    }
}

/// Lets others go first from `now` on; gives when the work goes on.
#[cfg(target_os = "linux")]
fn pause(now: u64, others: impl FnOnce()) -> u64 {
    others();
    let after = now_ns();
    if after - now > PAUSE_NS {
        KEPT_WAITING_NS.fetch_add(after - now, Relaxed);
    }
    after
}

#[cfg(target_os = "linux")]
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is negative on this clock, which begins when the machine does.
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use thread_priority::thread_schedule_policy;

    use super::*;

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    fn is_idle() -> bool {
        thread_schedule_policy().unwrap() == ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle)
    }

    /// What a thread of its own says after `enter`.
    fn there<T: Send + 'static>(enter: fn(), ask: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(move || {
            enter();
            ask()
        });
        thread.join().unwrap()
    }

    #[test]
    fn only_the_thread_that_calls_gives_way() {
        let before = nice();
        assert_eq!(there(give_way, || (nice(), is_idle())), ((before + NICE).min(19), false));
        assert_eq!((nice(), is_idle()), (before, false));
    }

    #[test]
    fn only_the_thread_that_calls_stands_aside() {
        let before = nice();
        assert!(there(stand_aside, is_idle));
        assert_eq!((nice(), is_idle()), (before, false));
    }

    /// How often the calling thread has left its core because it wanted to.
    fn rests() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// Work of `steps` steps, each of which ends in another round than it began.
    fn work(steps: u32) {
        for _ in 0..steps {
            let step = async {
                let round = now_ns() / ROUND_NS;
                while now_ns() / ROUND_NS == round {}
            };
            considerate(step).now_or_never().unwrap();
        }
    }

    fn rests_in_long_work() -> u64 {
        let before = rests();
        work(3);
        rests() - before
    }

    #[test]
    fn long_work_rests_each_round_where_it_stands_aside_and_nowhere_else() {
        assert!(there(stand_aside, rests_in_long_work) >= 3);
        assert!(there(give_way, rests_in_long_work) < 3);
        assert!(rests_in_long_work() < 3);
    }

    #[test]
    fn short_work_after_a_rest_goes_on_at_once() {
        let (rested_before, gave_way_before, rested, gave_way) = there(stand_aside, || {
            ASIDE.set(Some(Aside { rested_at: 0, gave_way_at: 0 }));
            has_rested();
            let before = ASIDE.get().unwrap();
            considerate(std::future::ready(())).now_or_never().unwrap();
            let after = ASIDE.get().unwrap();
            (before.rested_at, before.gave_way_at, after.rested_at, after.gave_way_at)
        });
        assert!(rested_before > 0 && gave_way_before > 0);
        // A round may have begun in between: then it has rested once more.
        assert!(
            (rested, gave_way) == (rested_before, gave_way_before)
                || rested / ROUND_NS > rested_before / ROUND_NS
        );
    }

    #[test]
    fn it_is_counted_for_how_long_others_went_first() {
        let before = kept_waiting();
        let now = now_ns();
        let after = pause(now, || std::thread::sleep(Duration::from_millis(3)));
        assert!(after - now >= 3_000_000);
        // Other tests of this process may have been kept waiting too.
        assert!(kept_waiting() >= before + Duration::from_nanos(after - now));
    }

    #[test]
    fn after_enough_work_within_a_round_the_count_begins_anew() {
        let moved = there(stand_aside, || {
            let now = now_ns();
            // As if it had rested in this round already.
            let before = Aside { rested_at: now, gave_way_at: now - WORK_NS };
            let after = before.after_a_step();
            after.gave_way_at > before.gave_way_at + WORK_NS
        });
        assert!(moved);
    }
}
