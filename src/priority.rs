//! How threads that may wait give way to those that must not. Owns the one number; decides nothing about which are which.

/// How far such a thread stands behind: as far as there is without being idle. On a busy core it still gets a seventieth
/// beside one that stands in front, so that load on the others slows it down and never stops it; an idle one could be
/// stopped for long while it holds a lock. At 10 it would get a tenth, and three times as much of deliveries' time.
#[cfg(target_os = "linux")]
const NICE: i32 = 19;

/// The calling thread gives way to those that never called this. Call it once, where the thread begins.
///
/// On Linux each thread has a priority of its own; elsewhere the call would be for the whole process, and does nothing.
pub(crate) fn give_way() {
    // A system that refuses leaves the thread as it was: slower for others, and right all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICE);
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_thread_that_calls_gives_way() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let there = std::thread::spawn(move || {
            super::give_way();
            priority()
        });
        assert_eq!((there.join().unwrap(), priority()), ((before + super::NICE).min(19), before));
    }
}
