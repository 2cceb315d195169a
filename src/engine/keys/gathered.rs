//! Remembered keys on their way into memory, many at once. Must never be asked for one.
//!
//! A key by itself goes where nothing of what the processor holds lies, and so waits for memory several times. Gathered by where
//! they lie, those that go into one part of a table go there together, while it is at hand. Keys of a day with the same upper bits
//! lie together: see [`super::table`].

use super::Keys;
use crate::engine::io::KeyRow;

/// Upper bits by which they are gathered: so many lists can be written to in turn while a processor holds the ends of all.
const BITS: u32 = 10;
/// Keys that are gathered at most, by all desks: some hundred for each list. With the room of their lists they take 40 MiB.
const KEYS_MAX: usize = 512 * 1024;

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Gathered {
    lists: Vec<Vec<KeyRow>>,
    len: usize,
    max: usize,
}

impl Gathered {
    /// For one desk of so many.
    pub(in crate::engine) fn new(desks: u16) -> Gathered {
        Gathered { lists: Vec::new(), len: 0, max: KEYS_MAX / usize::from(desks) }
    }

    /// Adds one; `keys` gets all of them when they are many. Of two of one day with the same key the later one counts.
    pub(in crate::engine) fn push(&mut self, row: KeyRow, keys: &mut Keys) {
        if self.len == self.max {
            self.pour(keys);
        }
        if self.lists.is_empty() {
            self.lists.resize_with(1 << BITS, Vec::new);
        }
        self.lists[(row.digest.key >> (u64::BITS - BITS)) as usize].push(row);
        self.len += 1;
    }

    /// Gives all that are left to `keys`; there may be more.
    fn pour(&mut self, keys: &mut Keys) {
        // A list goes into a few buckets of each day: they would be full, were these not as many as they will be.
        keys.prepare_for(self.lists.iter().flatten());
        self.lists.iter_mut().flat_map(|list| list.drain(..)).for_each(|row| keys.insert(row));
        self.len = 0;
    }

    /// Gives all that are left to `keys`: there are no more.
    pub(in crate::engine) fn end(&mut self, keys: &mut Keys) {
        self.pour(keys);
        self.lists = Vec::new();
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
        let (mut gathered, mut keys, mut one_by_one) = (Gathered::new(4), Keys::default(), Keys::default());
        let most = KEYS_MAX / 4;
        let count = most as u64 + 1000;
        // Those that come again: some lie gathered, the others were given to the table before.
        let keys_in_turn = (0..count).chain(count - 50..count).chain(0..50);
        let rows = keys_in_turn.zip(0..).map(|(key, body)| row(key, body, key % 3 * DAY));
        for row in rows {
            gathered.push(row, &mut keys);
            one_by_one.insert(row);
        }
        assert_eq!(keys.len(), most, "once there were so many");
        gathered.end(&mut keys);
        assert_eq!(keys.len(), one_by_one.len());
        let (bytes, usual) = (keys.bytes() as f64, one_by_one.bytes() as f64);
        assert!((0.99..1.01).contains(&(bytes / usual)), "{bytes} bytes, {usual} one by one");
        for key in 0..count {
            // The last one that it came with.
            let body = [key, key + 50, count + 50 + key];
            let body = body[usize::from(key >= count - 50) + 2 * usize::from(key < 50)];
            let known = keys.find(row(key, body, 0).digest).unwrap();
            assert!(known.same_body && known.seq == Seq(64 + key % 64));
        }
        assert!(gathered.lists.is_empty() && gathered.len == 0, "nothing is left, and no room for it");
    }
}
