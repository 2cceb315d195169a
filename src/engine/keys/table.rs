//! Fingerprints and what they stand for, in small buckets. Grows by one bucket at a time, so that no step moves more than the keys
//! of one, and from some 200,000 keys on each takes the same memory however many there are. Must never be given keys that
//! somebody can choose: it does not hash them.
//!
//! Which bucket a key is in goes by linear hashing (W. Litwin, 1980) over the key's upper half: as a fraction it lies in one of
//! the spans into which the numbers from 1 to 2 are cut, and with each bucket more the next span in their order is cut in two.
//!
//! A bucket is a list of blocks, all of one size, which lie side by side in large pieces of memory: what a bucket that is
//! cut in two leaves the next that grows takes, and an allocator that rounds sizes up and keeps notes of each small block has no part in it. Within a block keys
//! lie as they came, in two columns: the lower halves, which are looked through whole, and what is beside them, which is
//! looked at only where the lower half is the right one. So a key that is new costs a few lines of memory: the bucket's, one of each of
//! its blocks, and its own.

use std::collections::BTreeMap;

use super::chunked::Chunked;

/// Keys of a bucket on average; one that is cut in two next has up to twice as many.
const BUCKET_KEYS: usize = 64;
/// Keys of a block: as many lower halves as a line of memory has.
const BLOCK_KEYS: usize = 16;
/// Blocks of a bucket: as many numbers of theirs as a line has, beside the length.
const BLOCKS_MAX: usize = 15;

/// Bits of a stride that are kept: the others are the same for all keys of a table.
pub(super) const STRIDE_BITS: u32 = 36;
/// Bits of a body's fingerprint that are kept.
pub(super) const BODY_BITS: u32 = 28;
/// Bits of a stride that lie beside the body.
const STRIDE_UPPER_BITS: u32 = STRIDE_BITS - u32::BITS;
const _: () = assert!(BODY_BITS + STRIDE_UPPER_BITS == u32::BITS);

/// What a key stands for, in as many bits as are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) body: u32,
    /// Of the order's seq.
    pub(super) stride: u64,
}

/// The upper half of a key and its entry, in parts of four bytes, so that no byte is left empty.
#[derive(Debug, Clone, Copy, Default)]
struct Beside([u32; 3]);

impl Beside {
    fn new(key: u64, entry: Entry) -> Beside {
        let Entry { body, stride } = entry;
        debug_assert!(body < 1 << BODY_BITS && stride < 1 << STRIDE_BITS, "{entry:?}");
        Beside([upper(key), (body << STRIDE_UPPER_BITS) | upper(stride), lower(stride)])
    }

    fn upper(self) -> u32 {
        self.0[0]
    }

    fn entry(self) -> Entry {
        let Beside([_, body_and_upper, stride]) = self;
        let stride_upper = body_and_upper & ((1 << STRIDE_UPPER_BITS) - 1);
        Entry { body: body_and_upper >> STRIDE_UPPER_BITS, stride: whole(stride, stride_upper) }
    }
}

/// Keys and what they stand for. Lies on lines of its own.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
struct Block {
    /// The keys' lower halves. Behind the last key is anything.
    lower: [u32; BLOCK_KEYS],
    /// What is beside them, in the same order.
    beside: [Beside; BLOCK_KEYS],
}

const _: () = assert!(size_of::<Block>() == 16 * BLOCK_KEYS);

impl Block {
    /// Where a key lies among so many.
    fn place_of(&self, key: u64, len: usize) -> Option<usize> {
        let wanted = lower(key);
        // Nearly always there is none: to look at all of them is done many at a time.
        if !self.lower.iter().fold(false, |any, lower| any | (*lower == wanted)) {
            return None;
        }
        let mut places = self.lower.iter().zip(&self.beside).take(len);
        places.position(|(lower, beside)| *lower == wanted && beside.upper() == upper(key))
    }
}

/// The numbers of its blocks, the last of which may have room. Lies on a line of its own.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
struct Bucket {
    len: u32,
    blocks: [u32; BLOCKS_MAX],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    fn len(&self) -> usize {
        self.len as usize
    }

    /// Its blocks and how many keys each of them has.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let starts = (0..self.len()).step_by(BLOCK_KEYS);
        let lens = starts.map(|start| (self.len() - start).min(BLOCK_KEYS));
        self.blocks.iter().map(|block| *block as usize).zip(lens)
    }
}

/// The blocks of all buckets.
#[derive(Debug, Default)]
struct Blocks {
    all: Chunked<Block>,
    /// Blocks of no bucket, fewer than one may have: one that is cut in two leaves them to whoever grows next.
    free: Vec<u32>,
}

impl Blocks {
    /// The block and the place in it where a key lies.
    fn place_of(&self, bucket: &Bucket, key: u64) -> Option<(usize, usize)> {
        bucket.blocks().find_map(|(block, len)| Some((block, self.all[block].place_of(key, len)?)))
    }

    /// Adds a key that is not there; false when the bucket is full.
    #[must_use]
    fn push(&mut self, bucket: &mut Bucket, key: u64, beside: Beside) -> bool {
        let (nth, place) = (bucket.len() / BLOCK_KEYS, bucket.len() % BLOCK_KEYS);
        let Some(block) = bucket.blocks.get_mut(nth) else { return false };
        if place == 0 {
            *block = self.take();
        }
        let block = &mut self.all[*block as usize];
        (block.lower[place], block.beside[place]) = (lower(key), beside);
        bucket.len += 1;
        true
    }

    /// A block for a bucket.
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.all.push(Block::default());
            (self.all.len() - 1) as u32
        })
    }

    /// What a block has that is of no bucket any more.
    fn give(&mut self, block: usize) -> Block {
        self.free.push(block as u32);
        self.all[block].clone()
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
    buckets: Chunked<Bucket>,
    blocks: Blocks,
    /// Keys whose bucket was full when they came: none, unless somebody chose them.
    beyond: BTreeMap<u64, Entry>,
    len: usize,
}

impl Table {
    /// How many keys it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.bytes() + self.blocks.all.bytes() + self.beyond.len() * size_of::<(u64, Entry)>()
    }

    pub(super) fn find(&self, key: u64) -> Option<Entry> {
        if self.len == 0 {
            return None;
        }
        let bucket = &self.buckets[index_of(key, self.buckets.len())];
        match self.blocks.place_of(bucket, key) {
            Some((block, place)) => Some(self.blocks.all[block].beside[place].entry()),
            None => self.beyond.get(&key).copied(),
        }
    }

    /// A look at the bucket of a key and at each of its blocks.
    pub(super) fn look_at(&self, key: u64) -> u64 {
        if self.len == 0 {
            return 0;
        }
        let bucket = &self.buckets[index_of(key, self.buckets.len())];
        bucket.blocks().fold(0, |all, (block, _)| all ^ u64::from(self.blocks.all[block].lower[0]))
    }

    /// Has buckets for so many keys more, which come in any order.
    pub(super) fn prepare_for(&mut self, more: usize) {
        while self.buckets.len() < (self.len + more).div_ceil(BUCKET_KEYS) {
            self.add_bucket();
        }
    }

    /// Adds a key, or lets one that is there stand for something else.
    pub(super) fn insert(&mut self, key: u64, entry: Entry) {
        self.prepare_for(1);
        let index = index_of(key, self.buckets.len());
        let bucket = &mut self.buckets[index];
        let beside = Beside::new(key, entry);
        if let Some((block, place)) = self.blocks.place_of(bucket, key) {
            self.blocks.all[block].beside[place] = beside;
        } else if let Some(known) = self.beyond.get_mut(&key) {
            *known = entry;
        } else {
            if !self.blocks.push(bucket, key, beside) {
                self.beyond.insert(key, entry);
            }
            self.len += 1;
        }
    }

    /// Takes a piece of it away, with what it has; false when there is none. For a table that nobody asks any more.
    pub(super) fn drop_some(&mut self) -> bool {
        self.beyond.clear();
        self.blocks.all.drop_chunk() || self.buckets.drop_chunk()
    }

    /// Cuts the bucket in two that is next: the one whose number is the count.
    fn add_bucket(&mut self) {
        let count = self.buckets.len();
        if count == 0 {
            return self.buckets.push(Bucket::default());
        }
        let halved = index_of_number(count as u64);
        let old = std::mem::take(&mut self.buckets[halved]);
        let [mut first, mut second] = [Bucket::default(), Bucket::default()];
        for (block, len) in old.blocks() {
            let block = self.blocks.give(block);
            for (lower, beside) in block.lower.iter().zip(block.beside).take(len) {
                let key = whole(*lower, beside.upper());
                let stays = index_of(key, count + 1) == halved;
                let bucket = if stays { &mut first } else { &mut second };
                let pushed = self.blocks.push(bucket, key, beside);
                assert!(pushed, "each of the two has room for all");
            }
        }
        self.buckets[halved] = first;
        self.buckets.push(second);
    }
}

/// Where the bucket of a key lies, of so many and at least one.
fn index_of(key: u64, count: usize) -> usize {
    let count = count as u64;
    // 1 and the fraction, with 32 binary digits of it. As many digits are taken as make a number that there is.
    let position = (1 << 32) | u64::from(upper(key));
    let number = position >> (32 - count.ilog2());
    // A number that was cut in two is one of two, by one digit more.
    let number = if number < count { position >> (31 - count.ilog2()) } else { number };
    index_of_number(number)
}

/// Where the bucket of this number lies. Of the two that come of one, the even one stays in its place, and the odd one is put
/// at the end, behind as many as there were.
fn index_of_number(number: u64) -> usize {
    (number >> (number.trailing_zeros() + 1)) as usize
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
