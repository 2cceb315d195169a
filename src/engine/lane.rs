//! The commands of one server in the order of acceptance. Owns who is before whom and what was looked at already;
//! must never decide whether a command may go out.
//!
//! A waiting command costs four bytes here: what was never looked at lies behind the cursor `fresh`, and only
//! commands that come back (a retry, a lost delivery, a joined player) stand in `again`.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use super::command::{Command, Flag};
use super::slab::Slab;
use crate::ids::Seq;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// By rising seq.
    slots: VecDeque<u32>,
    /// The highest seq that ever stood here: whether one lies beyond it is asked most of all, and costs no look at a command.
    top: u64,
    /// The first position that was not looked at.
    fresh: usize,
    /// The seq at the last position that was looked at.
    passed: u64,
    /// Looked at before, to be looked at again.
    again: BTreeMap<u64, u32>,
    /// Where the last look-up ended: a hint, never relied on.
    found: Cell<usize>,
    /// Commands with a predecessor, in memory.
    pub(super) followers: u32,
    /// Commands that were exported as ended and leave with the next [`Lane::take_leaving`].
    leaving: u32,
}

/// Where the next candidate of a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Candidate {
    Fresh(u32),
    Again(u32),
}

impl Candidate {
    pub(super) fn slot(self) -> u32 {
        match self {
            Candidate::Fresh(slot) | Candidate::Again(slot) => slot,
        }
    }
}

impl Lane {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The slot at a position.
    pub(super) fn at(&self, position: usize) -> Option<u32> {
        self.slots.get(position).copied()
    }

    /// All slots from a position on, by rising seq.
    pub(super) fn slots_from(&self, position: usize) -> impl Iterator<Item = u32> + '_ {
        self.slots.range(position.min(self.slots.len())..).copied()
    }

    /// Adds a command where its seq belongs: at the end, but for an operator who changed the number of shards.
    pub(super) fn insert(&mut self, commands: &Slab<Command>, slot: u32) {
        let seq = commands[slot].seq;
        if seq.0 > self.top {
            self.top = seq.0;
            self.slots.push_back(slot);
            return;
        }
        let position = self.position_after(commands, seq);
        self.slots.insert(position, slot);
        if position < self.fresh {
            self.fresh += 1;
        }
    }

    /// The first position with a seq above this one. Gallops from the front, where the answers are.
    pub(super) fn position_after(&self, commands: &Slab<Command>, seq: Seq) -> usize {
        let mut low = 0;
        let mut step = 1;
        while low + step <= self.slots.len() && commands[self.slots[low + step - 1]].seq <= seq {
            low += step;
            step *= 2;
        }
        let mut high = (low + step).min(self.slots.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if commands[self.slots[middle]].seq <= seq { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// A command by its seq. Answers come in order as a rule: the one after the last found is tried first.
    pub(super) fn find(&self, commands: &Slab<Command>, seq: Seq) -> Option<u32> {
        let is_it = |slot: &u32| commands[*slot].seq == seq;
        // What recovery asks about nearly every command.
        if seq.0 > self.top {
            return None;
        }
        let next = self.found.get() + 1;
        if let Some(slot) = self.at(next).filter(is_it) {
            self.found.set(next);
            return Some(slot);
        }
        let position = self.position_after(commands, seq).checked_sub(1)?;
        self.found.set(position);
        self.at(position).filter(is_it)
    }

    /// What is likely to be found next, one after the other.
    pub(super) fn next_found(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots_from(self.found.get() + 1)
    }

    /// A look at its memory, for [`touch`](crate::prefetch::touch).
    pub(super) fn look(&self) -> u64 {
        self.slots.back().map_or(0, |slot| u64::from(*slot)) ^ self.top ^ self.passed
    }

    /// The next of the same ordered order that has not ended.
    pub(super) fn successor(&self, commands: &Slab<Command>, slot: u32) -> Option<u32> {
        if self.followers == 0 {
            return None;
        }
        let order = commands[slot].order();
        self.slots_from(self.position_after(commands, commands[slot].seq))
            .take_while(|next| commands[*next].order() == order)
            .find(|next| !commands[*next].status.is_terminal())
            .filter(|next| commands[*next].after().is_some())
    }

    /// Whether a command of an ordered order waits for one before it, which has not ended durably.
    ///
    /// An ended one in between says nothing of those before it, unless it went out when all of them had ended.
    pub(super) fn is_blocked(&self, commands: &Slab<Command>, slot: u32) -> bool {
        let command = &commands[slot];
        if command.after().is_none() {
            return false;
        }
        let order = command.order();
        let own = self.position_after(commands, command.seq) - 1;
        let before = self.slots.range(..own).rev().map(|before| &commands[*before]);
        let waited_for = |before: &&Command| !before.status.is_terminal() || before.is(Flag::Ending);
        before
            .take_while(|before| before.order() == order)
            .find(|before| waited_for(before) || before.is(Flag::WentInTurn))
            .is_some_and(|before| waited_for(&before))
    }

    // ------------------------------------------------------------ candidates

    /// Whether there is anything to look at.
    pub(super) fn has_candidates(&self) -> bool {
        self.fresh < self.slots.len() || !self.again.is_empty()
    }

    /// The candidate with the lowest seq.
    pub(super) fn next_candidate(&self, commands: &Slab<Command>) -> Option<Candidate> {
        let again = self.again.first_key_value();
        let Some(fresh) = self.at(self.fresh) else { return again.map(|(_, slot)| Candidate::Again(*slot)) };
        match again {
            Some((seq, slot)) if *seq < commands[fresh].seq.0 => Some(Candidate::Again(*slot)),
            _ => Some(Candidate::Fresh(fresh)),
        }
    }

    /// Takes the candidate that [`Lane::next_candidate`] named.
    pub(super) fn take_candidate(&mut self, commands: &mut Slab<Command>, candidate: Candidate) {
        let command = &mut commands[candidate.slot()];
        match candidate {
            Candidate::Fresh(_) => {
                self.passed = command.seq.0;
                self.fresh += 1;
            }
            Candidate::Again(_) => {
                self.again.remove(&command.seq.0);
                command.set(Flag::InAgain, false);
            }
        }
    }

    /// Makes sure that a command will be a candidate.
    pub(super) fn look_again(&mut self, command: &mut Command, slot: u32) {
        if command.seq.0 <= self.passed && !command.is(Flag::InAgain) {
            self.again.insert(command.seq.0, slot);
            command.set(Flag::InAgain, true);
        }
    }

    /// A command is no candidate any more (a fresh one is noticed when its turn comes).
    pub(super) fn forget_again(&mut self, command: &mut Command) {
        if command.is(Flag::InAgain) {
            self.again.remove(&command.seq.0);
            command.set(Flag::InAgain, false);
        }
    }

    /// Whether a pending command is known here as a candidate.
    pub(super) fn knows(&self, command: &Command) -> bool {
        command.seq.0 > self.passed || command.is(Flag::InAgain)
    }

    // ------------------------------------------------------------ leaving memory

    /// A command was exported as ended; true for the first one since the last [`Lane::take_leaving`].
    pub(super) fn mark_leaving(&mut self, command: &mut Command) -> bool {
        command.set(Flag::Leaving, true);
        self.leaving += 1;
        self.leaving == 1
    }

    /// Removes all commands that are marked from the lane; hands their slots to `out`.
    ///
    /// They stand near the front as a rule: only the part up to the last of them is touched.
    pub(super) fn take_leaving(&mut self, commands: &Slab<Command>, out: &mut Vec<u32>) {
        let mut end = 0;
        while self.leaving > 0 && end < self.slots.len() {
            if commands[self.slots[end]].is(Flag::Leaving) {
                self.leaving -= 1;
            }
            end += 1;
        }
        debug_assert_eq!(self.leaving, 0, "what leaves stands in its lane");
        let mut write = end;
        let mut passed_gone = 0;
        for read in (0..end).rev() {
            let slot = self.slots[read];
            if commands[slot].is(Flag::Leaving) {
                out.push(slot);
                self.followers -= u32::from(commands[slot].after().is_some());
                passed_gone += usize::from(read < self.fresh);
            } else {
                write -= 1;
                self.slots[write] = slot;
            }
        }
        self.slots.drain(..write);
        self.fresh -= passed_gone;
        if self.slots.capacity() > 64 && self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }
}
