//! Huge pages for the start of this process, and none after it. Must never keep a start from going on.
//!
//! A start fills hundreds of megabytes at once, which the system hands out faster in huge pages: the allocator asks for them
//! (`.cargo/config.toml`). Afterwards memory comes and goes in small parts, and what the allocator gives back of a huge page the system's
//! `khugepaged` fills again, so that memory would creep up for hours.

/// From now on this process and its children get no huge pages more; those that it has stay.
pub(super) fn no_more() {
    // A system that refuses leaves them on: more memory, and right all the same.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
