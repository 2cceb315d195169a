//! The entries of a ledger by rising seq. What comes is nearly always new and last, and what goes is nearly always first;
//! few are there at a time. So they lie in one ring, which keeps its room: a tree would make and free a node per command.

use std::collections::VecDeque;

use super::ledger::Entry;
use crate::ids::Seq;

/// Commands and where they stand.
#[derive(Debug, Default)]
pub(super) struct Entries {
    ring: VecDeque<(Seq, Entry)>,
}

impl Entries {
    /// Adds one, or takes the place of the one that was there, which is given back.
    pub(super) fn insert(&mut self, seq: Seq, entry: Entry) -> Option<Entry> {
        match self.place_of(seq) {
            Ok(place) => Some(std::mem::replace(&mut self.ring[place].1, entry)),
            Err(place) => {
                self.ring.insert(place, (seq, entry));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, seq: Seq) -> Option<Entry> {
        self.place_of(seq).ok().and_then(|place| self.ring.remove(place)).map(|(_, entry)| entry)
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Entry> {
        self.place_of(seq).ok().map(|place| &self.ring[place].1)
    }

    /// By rising seq.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, &Entry)> {
        self.ring.iter().map(|(seq, entry)| (*seq, entry))
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Where it is, or where it would go.
    fn place_of(&self, seq: Seq) -> Result<usize, usize> {
        let (Some((first, _)), Some((last, _))) = (self.ring.front(), self.ring.back()) else {
            return Err(0);
        };
        if *last < seq {
            Err(self.ring.len())
        } else if *last == seq {
            Ok(self.ring.len() - 1)
        } else if *first == seq {
            Ok(0)
        } else {
            self.ring.binary_search_by_key(&seq, |(seq, _)| *seq)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_sorted_map(steps in prop::collection::vec((0..20_u64, any::<u16>(), any::<bool>()), 0..200)) {
            let (mut entries, mut map) = (Entries::default(), BTreeMap::new());
            for (seq, attempt, is_new) in steps {
                let (seq, entry) = (Seq(seq), Entry::Started(attempt));
                if is_new {
                    prop_assert_eq!(entries.insert(seq, entry.clone()), map.insert(seq, entry));
                } else {
                    prop_assert_eq!(entries.remove(seq), map.remove(&seq));
                }
                prop_assert_eq!(entries.get(seq), map.get(&seq));
                prop_assert!(entries.iter().eq(map.iter().map(|(seq, entry)| (*seq, entry))));
                prop_assert_eq!(entries.len(), map.len());
            }
        }
    }
}
