//! What a plugin's ledger is written on: bytes of which the last ones may not be safe yet. Must never lose what was
//! synced.

use std::io;
use std::sync::Arc;

use fluxrelay::client::{LedgerError, LedgerFile};
use parking_lot::Mutex;

use crate::random::Random;

#[derive(Debug, Default)]
struct State {
    /// All that was written; the first `safe` bytes are synced.
    bytes: Vec<u8>,
    safe: usize,
    /// The next write or sync fails, and all after it.
    broken: bool,
}

/// The bytes, which outlive the process that writes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paper(Arc<Mutex<State>>);

impl Paper {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    pub(crate) fn break_it(&self) {
        self.0.lock().broken = true;
    }

    /// The process is gone; with `power`, what was not synced may be cut off or have holes.
    pub(crate) fn end_process(&self, power: bool, random: &mut Random) {
        let state = &mut *self.0.lock();
        if power || state.broken {
            let unsafe_bytes = (state.bytes.len() - state.safe) as u64;
            let kept = state.safe + random.below(unsafe_bytes + 1) as usize;
            state.bytes.truncate(kept);
            if kept > state.safe && random.chance(1, 3) {
                let from = state.safe + random.below((kept - state.safe) as u64) as usize;
                state.bytes[from..].fill(0);
            }
        }
        state.broken = false;
        state.safe = state.bytes.len();
    }
}

impl LedgerFile for Paper {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.0.lock();
        if state.broken {
            // Half of it got there.
            state.bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
            return Err(io::Error::other("broken disk"));
        }
        state.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let state = &mut *self.0.lock();
        if state.broken {
            return Err(io::Error::other("broken disk"));
        }
        state.safe = state.bytes.len();
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let state = &mut *self.0.lock();
        state.bytes = bytes.to_vec();
        state.safe = bytes.len();
        Ok(())
    }
}
