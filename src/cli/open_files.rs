//! How many files and sockets this process and its children may have open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are no connections: files of the storage, the listener, the runtime's own.
pub(super) const FILES_BESIDE: u64 = 128;

/// Raises the soft limit to the hard one, for which nobody needs a privilege; gives the limit that holds now.
pub(super) fn raise() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    // A system that refuses leaves the limit as it was, which is then what is given.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, limit), (now.maximum, now.maximum.unwrap_or(u64::MAX)));
    }
}
