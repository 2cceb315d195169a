//! Fingerprints and what they stand for, in small buckets. Grows by one bucket at a time, so that no step moves more
//! than the keys of two, and from some 50,000 keys on each takes the same memory however many there are. Must never be given
//! keys that somebody can choose: it does not hash them.
//!
//! Which bucket a key is in goes by spiral storage (G. N. Martin, 1979). `2^x`, for the `x` between 0 and 1 that the key's upper
//! half says, is written in binary, and as many of its digits are taken as make one of the numbers from `count` to
//! `2 * count - 1`. The first of these buckets has twice as many keys as the last one, and when it is halved, into `2 * count` and
//! `2 * count + 1`, that is so again: at any time there are buckets of each size in the same shares. In linear hashing all
//! buckets are of one size whenever their number is a power of two, and so all of their allocations are full at one time and half
//! empty at another.
//!
//! Within a bucket keys lie as they came, in two columns: the lower halves, which are looked through whole, and what is beside
//! them, which is looked at only where the lower half is the right one. So a key that is new costs a few lines of memory: those of
//! the halves, and the last one of each column.

use crate::ids::Seq;

/// Keys of a bucket on average; about half as many more are in the one that is halved next.
const BUCKET_KEYS: usize = 64;
/// Buckets of a chunk: one list of all buckets would be a pause whenever it is copied to grow.
const CHUNK_BUCKETS: usize = 1024;
/// Room of a bucket's first allocations.
const KEYS_LEAST: usize = 8;
/// Up to so many the room is doubled: a bucket that was made by halving another has as many from the start.
const KEYS_DOUBLED: usize = 32;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) body: u64,
    pub(super) seq: Seq,
}

/// Keys and what they stand for.
#[derive(Debug, Default)]
struct Bucket {
    /// The keys' lower halves.
    lower: Vec<u32>,
    /// What is beside them, in the same order.
    beside: Vec<Beside>,
}

/// The upper half of a key and its entry, in parts of four bytes, so that no byte is left empty.
#[derive(Debug, Clone, Copy)]
struct Beside([u32; 5]);

const LOWER_BYTES: usize = size_of::<u32>();
const BESIDE_BYTES: usize = size_of::<Beside>();
const _: () = assert!(LOWER_BYTES + BESIDE_BYTES == 24);

impl Beside {
    fn new(key: u64, entry: Entry) -> Beside {
        let (body, seq) = (entry.body, entry.seq.0);
        Beside([upper(key), lower(body), upper(body), lower(seq), upper(seq)])
    }

    fn entry(self) -> Entry {
        let Beside([_, body, body_upper, seq, seq_upper]) = self;
        Entry { body: whole(body, body_upper), seq: Seq(whole(seq, seq_upper)) }
    }
}

impl Bucket {
    /// With room for so many keys.
    fn with_room(keys: usize) -> Bucket {
        let room = room_for(keys);
        Bucket { lower: Vec::with_capacity(room), beside: Vec::with_capacity(room) }
    }

    fn len(&self) -> usize {
        self.lower.len()
    }

    /// Where a key lies.
    fn place_of(&self, key: u64) -> Option<usize> {
        let wanted = lower(key);
        // Nearly always there is none: to look at all of them is done many at a time.
        if !self.lower.iter().fold(false, |any, lower| any | (*lower == wanted)) {
            return None;
        }
        let mut places = self.lower.iter().zip(&self.beside);
        places.position(|(lower, beside)| *lower == wanted && beside.0[0] == upper(key))
    }

    /// Adds a key that is not there.
    fn push(&mut self, key: u64, beside: Beside) {
        if self.len() == self.beside.capacity() {
            // Twice as much while it is small, then what the allocator gives next.
            let wanted = (self.len() + 1).max((2 * self.len()).min(KEYS_DOUBLED));
            let more = room_for(wanted) - self.len();
            self.lower.reserve_exact(more);
            self.beside.reserve_exact(more);
        }
        self.lower.push(lower(key));
        self.beside.push(beside);
    }

    fn keys(&self) -> impl Iterator<Item = (u64, Beside)> {
        let keys = self.lower.iter().zip(&self.beside);
        keys.map(|(lower, beside)| (whole(*lower, beside.0[0]), *beside))
    }

    /// Bytes of its columns.
    fn bytes(&self) -> usize {
        given(self.lower.capacity() * LOWER_BYTES) + given(self.beside.capacity() * BESIDE_BYTES)
    }
}

fn lower(number: u64) -> u32 {
    number as u32
}

fn upper(number: u64) -> u32 {
    (number >> 32) as u32
}

fn whole(lower: u32, upper: u32) -> u64 {
    u64::from(upper) << 32 | u64::from(lower)
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    chunks: Vec<Vec<Bucket>>,
    count: usize,
    len: usize,
    /// Bytes of the buckets' columns.
    bytes: usize,
}

impl Table {
    /// How many keys it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let of_chunk = |buckets: usize| given(buckets * size_of::<Bucket>());
        let full = self.chunks.len().saturating_sub(1) * of_chunk(CHUNK_BUCKETS);
        let last = self.chunks.last().map_or(0, |chunk| of_chunk(chunk.capacity()));
        self.bytes + full + last + given(self.chunks.capacity() * size_of::<Vec<Bucket>>())
    }

    pub(super) fn find(&self, key: u64) -> Option<Entry> {
        if self.count == 0 {
            return None;
        }
        let index = index_of(key, self.count);
        let bucket = &self.chunks[index / CHUNK_BUCKETS][index % CHUNK_BUCKETS];
        Some(bucket.beside[bucket.place_of(key)?].entry())
    }

    /// Adds a key, or lets one that is there stand for something else.
    pub(super) fn insert(&mut self, key: u64, entry: Entry) {
        if self.count == 0 {
            self.push(Bucket::default());
        }
        let index = index_of(key, self.count);
        let bucket = &mut self.chunks[index / CHUNK_BUCKETS][index % CHUNK_BUCKETS];
        let beside = Beside::new(key, entry);
        match bucket.place_of(key) {
            Some(place) => bucket.beside[place] = beside,
            None => {
                let before = bucket.bytes();
                bucket.push(key, beside);
                self.bytes += bucket.bytes() - before;
                self.len += 1;
            }
        }
        if self.len > self.count * BUCKET_KEYS {
            self.halve_first();
        }
    }

    /// Takes a bucket away, with what it has; false when there is none. For a table that nobody asks any more.
    pub(super) fn drop_bucket(&mut self) -> bool {
        let Some(chunk) = self.chunks.last_mut() else { return false };
        if let Some(bucket) = chunk.pop() {
            self.bytes -= bucket.bytes();
        }
        if chunk.is_empty() {
            self.chunks.pop();
        }
        true
    }

    fn push(&mut self, bucket: Bucket) {
        if self.count.is_multiple_of(CHUNK_BUCKETS) {
            self.chunks.push(Vec::new());
        }
        self.chunks[self.count / CHUNK_BUCKETS].push(bucket);
        self.count += 1;
    }

    /// Halves the bucket that has the most keys: the one whose number is the count.
    fn halve_first(&mut self) {
        let halved = index_of_number(self.count as u64);
        let old = std::mem::take(&mut self.chunks[halved / CHUNK_BUCKETS][halved % CHUNK_BUCKETS]);
        let stays = |key: u64| index_of(key, self.count + 1) == halved;
        let staying = old.keys().filter(|(key, _)| stays(*key)).count();
        let [mut first, mut second] = [staying, old.len() - staying].map(Bucket::with_room);
        for (key, beside) in old.keys() {
            if stays(key) { first.push(key, beside) } else { second.push(key, beside) }
        }
        self.bytes += first.bytes() + second.bytes();
        self.bytes -= old.bytes();
        self.chunks[halved / CHUNK_BUCKETS][halved % CHUNK_BUCKETS] = first;
        self.push(second);
    }
}

/// Where the bucket of a key lies, of so many and at least one.
fn index_of(key: u64, count: usize) -> usize {
    let count = count as u64;
    let position = position_of(upper(key));
    let number = position >> (32 - count.ilog2());
    // A number that was halved is one of two, by one digit more.
    let number = if number < count { position >> (31 - count.ilog2()) } else { number };
    index_of_number(number)
}

/// Where the bucket of this number lies. Of the two that come of one, the even one stays in its place, and the odd one is put
/// at the end, behind as many as there were.
fn index_of_number(number: u64) -> usize {
    (number >> (number.trailing_zeros() + 1)) as usize
}

/// `2^x` for `x` of 32 binary digits, to as many behind the point: by the parabola through its ends and its middle, with which
/// the shares of buckets are off by a twentieth.
fn position_of(x: u32) -> u64 {
    const LINEAR: u64 = (0.656_854 * (1_u64 << 32) as f64) as u64;
    const SQUARE: u64 = (1 << 32) - LINEAR;
    let x = u64::from(x);
    (1 << 32) + ((x * (LINEAR + ((x * SQUARE) >> 32))) >> 32)
}

/// So many keys, and as many more as fill what an allocator gives for what is beside them; 0 for none.
fn room_for(keys: usize) -> usize {
    if keys == 0 { 0 } else { given(keys.max(KEYS_LEAST) * BESIDE_BYTES) / BESIDE_BYTES }
}

/// What an allocator gives for so many bytes: a power of two and no, one, two or three quarters of it.
fn given(bytes: usize) -> usize {
    match bytes {
        0..8 => bytes,
        _ => bytes.next_multiple_of(1 << (bytes.ilog2() - 2)),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
