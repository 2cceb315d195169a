//! What processes cost: CPU and memory from `/proc`, bytes of files; and both over a span that is measured.

use std::path::Path;
use std::time::{Duration, Instant};

use super::clock;
use super::system::System;

/// Unit of the times in `/proc/PID/stat`: Linux shows them in hundredths of a second on every architecture.
const MS_PER_TICK: u64 = 10;

/// CPU and memory of a process, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Resident bytes now.
    pub rss: u64,
}

/// CPU and memory of a process; `None` where there is no such thing in `/proc`.
pub fn usage(pid: u32) -> Option<Usage> {
    let [user, system, ..] = times(pid)?;
    let rss = kib(&format!("/proc/{pid}/status"), "VmRSS:")?;
    Some(Usage { cpu: user + system, rss: rss * 1024 })
}

/// CPU and memory of a process and its children, those that have ended among them. Memory that several have in common
/// counts once: where there are children, each process counts with its proportional share (`Pss`).
pub fn usage_of_all(pid: u32) -> Option<Usage> {
    let mut sum = usage(pid)?;
    sum.cpu = times(pid)?.iter().sum();
    let children = children(pid);
    let share = |pid| kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:").map(|kib| kib * 1024);
    if !children.is_empty() {
        sum.rss = share(pid).unwrap_or(sum.rss);
    }
    // One that has just ended is none any more.
    for (pid, one) in children.into_iter().filter_map(|pid| Some((pid, usage(pid)?))) {
        sum.cpu += one.cpu;
        sum.rss += share(pid).unwrap_or(one.rss);
    }
    Some(sum)
}

/// User and system time of a process, then those of its children that have ended.
fn times(pid: u32) -> Option<[Duration; 4]> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; fields 14 to 17 are the times.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut time = || Some(Duration::from_millis(fields.next()?.parse::<u64>().ok()? * MS_PER_TICK));
    Some([time()?, time()?, time()?, time()?])
}

/// The processes that one has started and that live.
pub fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A number of KiB that stands behind a name in a file of `/proc`.
fn kib(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Bytes of all files below a folder. Files that go away meanwhile are left out.
pub fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(Result::ok).filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { disk_bytes(&entry.path()) } else { metadata.len() })
    });
    sizes.sum()
}

/// What a system used over a span.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Cores that were busy with it, on average.
    pub cores: f64,
    /// Its resident bytes at the end.
    pub rss: u64,
    /// By how much these have grown.
    pub grown: u64,
}

/// A span that was measured.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// How long it was.
    pub seconds: f64,
    /// By the system; `None` where its processes are not known.
    pub system: Option<Used>,
    /// Cores that were busy with the load generator, on average.
    pub own_cores: Option<f64>,
}

/// A span that is being measured.
pub(super) struct Meter {
    started: Instant,
    system: Option<Usage>,
    own: Option<Usage>,
}

impl Meter {
    pub(super) fn start(system: &impl System) -> Meter {
        Meter { system: system.usage(), own: usage(std::process::id()), started: clock::now() }
    }

    pub(super) fn stop(&self, system: &impl System) -> Spent {
        let seconds = self.started.elapsed().as_secs_f64();
        let cores =
            |before: Usage, after: Usage| after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds;
        let used = |before: Usage, after: Usage| Used {
            cores: cores(before, after),
            rss: after.rss,
            grown: after.rss.saturating_sub(before.rss),
        };
        Spent {
            seconds,
            system: self.system.zip(system.usage()).map(|(before, after)| used(before, after)),
            own_cores: self.own.zip(usage(std::process::id())).map(|(before, after)| cores(before, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory() {
        let own = usage(std::process::id()).expect("this process has a /proc entry");
        assert!(own.rss > 100 * 1024);
        assert!(usage(u32::MAX).is_none() && usage_of_all(u32::MAX).is_none());
    }

    #[test]
    fn children_count_too() {
        let mut shell = std::process::Command::new("sh");
        let mut shell = shell.args(["-c", "sleep 60 & wait"]).spawn().expect("a shell");
        while children(shell.id()).is_empty() {
            std::thread::yield_now();
        }
        let sleeping = children(shell.id());
        assert_eq!(sleeping.len(), 1);
        assert!(usage_of_all(shell.id()).is_some_and(|usage| usage.rss > 0));
        for pid in sleeping {
            let _ = std::process::Command::new("kill").arg(pid.to_string()).status();
        }
        assert!(shell.wait().expect("it ends with its child").success() || children(shell.id()).is_empty());
    }

    #[test]
    fn files_are_measured_to_the_bottom() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("below")).expect("a folder");
        std::fs::write(folder.path().join("a"), [0; 10]).expect("a file");
        std::fs::write(folder.path().join("below/b"), [0; 5]).expect("a file");
        assert_eq!(disk_bytes(folder.path()), 15);
        assert_eq!(disk_bytes(&folder.path().join("none")), 0);
    }
}
