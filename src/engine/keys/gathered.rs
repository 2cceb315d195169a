//! Remembered keys on their way into memory, many at once. Must never be asked for one.
//!
//! A key by itself goes where nothing of what the processor holds lies, and so waits for memory several times. Gathered by where
//! they lie, those that go into one part of a table go there together, while it is at hand. Keys of a day with the same upper bits
//! lie together: see [`super::table`].

use super::Keys;
use crate::engine::io::KeyRow;

/// Upper bits by which they are gathered: so many lists can be written to in turn while a processor holds the ends of all.
const BITS: u32 = 10;
/// Keys that are gathered at most: some hundred for each list. They take 20 MiB.
const KEYS_MAX: usize = 512 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::engine) struct Gathered {
    lists: Vec<Vec<KeyRow>>,
    len: usize,
}

impl Gathered {
    /// Adds one; `keys` gets all of them when they are many. Of two of one day with the same key the later one counts.
    pub(in crate::engine) fn push(&mut self, row: KeyRow, keys: &mut Keys) {
        if self.len == KEYS_MAX {
            self.pour(keys);
        }
        if self.lists.is_empty() {
            self.lists.resize_with(1 << BITS, Vec::new);
        }
        self.lists[(row.digest.key >> (u64::BITS - BITS)) as usize].push(row);
        self.len += 1;
    }

    /// Gives all that are left to `keys`.
    pub(in crate::engine) fn pour(&mut self, keys: &mut Keys) {
        self.lists.iter_mut().flat_map(|list| list.drain(..)).for_each(|row| keys.insert(row));
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::DAY;
    use super::*;
    use crate::engine::io::KeyDigest;
    use crate::ids::{OrderId, Seq, StoreId, mix};
    use crate::time::UnixMs;

    fn row(key: u64, body: u64, at: u64) -> KeyRow {
        let order = OrderId { store: StoreId(1), seq: Seq(64 + key % 64) };
        KeyRow { digest: KeyDigest { key: mix(key), body }, order, at: UnixMs(at) }
    }

    #[test]
    fn all_of_them_get_there_and_the_later_one_counts() {
        let (mut gathered, mut keys, mut one_by_one) =
            (Gathered::default(), Keys::default(), Keys::default());
        let count = KEYS_MAX as u64 + 1000;
        let rows = (0..count).chain(0..50).zip(0..).map(|(key, body)| row(key, body, key % 3 * DAY));
        for row in rows {
            gathered.push(row, &mut keys);
            one_by_one.insert(row);
        }
        assert_eq!(keys.len(), KEYS_MAX, "once there were so many");
        gathered.pour(&mut keys);
        assert_eq!((keys.len(), keys.bytes()), (one_by_one.len(), one_by_one.bytes()));
        for key in (0..count).map(mix) {
            assert!(keys.find(key).is_some() && keys.find(key) == one_by_one.find(key));
        }
        assert_eq!(keys.find(mix(7)), Some((count + 7, Seq(64 + 7))));
        let (len, bytes) = (keys.len(), keys.bytes());
        gathered.pour(&mut keys);
        assert_eq!((keys.len(), keys.bytes()), (len, bytes), "none is left");
    }
}
