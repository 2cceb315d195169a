//! Blocks: rows that lie together under one key of the store at rest, so that a page is full of them and one look-up finds
//! a page of them. Knows what a row is called, not what it holds.
//!
//! The body of a sealed block: of each row, by rising seq, the difference of its seq to the one before (of the first one, the seq), the
//! number of its bytes, and they.

use super::pack::{self, Unpack, number_bytes};
use super::{Flaw, Kind, SEAL_BYTES, finish_seal, unseal};
use crate::ids::Seq;

/// Bytes of a block, its header included, up to which rows join it: two blocks fill a page of 4,096 bytes of the database,
/// its own bookkeeping (a head of 4 bytes, a key of 12 and an offset of 4 for each) included. A row that is larger has a
/// block of its own.
pub(crate) const BLOCK_BYTES: usize = 2030;
/// Rows that most blocks have at the most.
const ROWS_USUAL: usize = 32;

/// A row in a block.
pub(crate) type Entry<'a> = (Seq, &'a [u8]);

/// How far a block is filled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filling {
    pub(crate) bytes: usize,
    last: u64,
}

impl Filling {
    /// With one more row, if it still fits or is the first.
    pub(crate) fn with(self, (seq, row): Entry<'_>) -> Option<Filling> {
        let head = number_bytes(seq.0.wrapping_sub(self.last)) + number_bytes(row.len() as u64);
        let bytes = self.bytes.max(SEAL_BYTES) + head + row.len();
        (self.bytes == 0 || bytes <= BLOCK_BYTES).then_some(Filling { bytes, last: seq.0 })
    }
}

/// The sealed block of rows with rising seqs.
pub(crate) fn encode_block<'a>(kind: Kind, key: u64, rows: impl IntoIterator<Item = Entry<'a>>) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    block.resize(SEAL_BYTES, 0);
    let mut before = 0;
    for (seq, row) in rows {
        pack::number(&mut block, seq.0.wrapping_sub(before));
        pack::number(&mut block, row.len() as u64);
        block.extend_from_slice(row);
        before = seq.0;
    }
    finish_seal(kind, key, &mut block);
    block
}

/// The rows of a sealed block: one at the least, with rising seqs.
pub(crate) fn decode_block(kind: Kind, key: u64, block: &[u8]) -> Result<Vec<Entry<'_>>, Flaw> {
    let mut unpack = Unpack(unseal(kind, key, block)?);
    let mut rows: Vec<Entry<'_>> = Vec::with_capacity(ROWS_USUAL);
    let mut before = None;
    while !unpack.is_empty() {
        let ahead = unpack.number()?;
        let seq = match before {
            None => Some(ahead),
            Some(before) => ahead.checked_add(before).filter(|_| ahead > 0),
        };
        let seq = seq.ok_or_else(|| Flaw::new("the numbers of its rows do not rise"))?;
        before = Some(seq);
        let length = unpack.number()?;
        rows.push((Seq(seq), unpack.bytes(length)?));
    }
    match rows.is_empty() {
        false => Ok(rows),
        true => Err(Flaw::new("a block without a row")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::assert_golden;
    use super::*;

    const KIND: Kind = Kind::Commands;

    #[test]
    fn blocks_read_back_and_their_bytes_are_golden() {
        let rows: Vec<Entry<'_>> = vec![(Seq(65), b"first"), (Seq(129), b""), (Seq(130), b"third")];
        let block = encode_block(KIND, 7, rows.iter().copied());
        assert_eq!(decode_block(KIND, 7, &block), Ok(rows));
        assert!(decode_block(KIND, 8, &block).is_err(), "another key");
        assert!(decode_block(Kind::Orders, 7, &block).is_err(), "another kind");
        assert_golden("block", &block);
    }

    #[test]
    fn what_is_no_block_is_refused_in_words() {
        let refused = |body: &[u8]| {
            let mut block = [&[0; SEAL_BYTES], body].concat();
            finish_seal(KIND, 7, &mut block);
            decode_block(KIND, 7, &block).unwrap_err().0
        };
        assert_eq!(refused(&[]), "a block without a row");
        assert_eq!(refused(&[5, 3, b'a', b'b']), "3 bytes where 2 are left");
        assert_eq!(refused(&[5, 0, 9]), "1 bytes where 0 are left");
        assert_eq!(refused(&[5, 0, 0, 0]), "the numbers of its rows do not rise");
        let ahead = [&[5, 0][..], &[0xff; 9], &[1, 0]].concat();
        assert_eq!(refused(&ahead), "the numbers of its rows do not rise");
    }

    #[test]
    fn rows_join_until_a_block_is_full_and_a_large_one_stands_alone() {
        let large = vec![0; 2 * BLOCK_BYTES];
        let filling = Filling::default().with((Seq(1), &large)).unwrap();
        assert_eq!(encode_block(KIND, 7, [(Seq(1), &large[..])]).len(), filling.bytes);
        assert!(filling.with((Seq(2), b"")).is_none());
        let row = |n: u64| (Seq(n * n * 1000), &large[..100]);
        let (mut filling, mut count) = (Filling::default(), 0);
        while let Some(with) = filling.with(row(count)) {
            (filling, count) = (with, count + 1);
        }
        let bytes = encode_block(KIND, 7, (0..count).map(row)).len();
        assert_eq!(bytes, filling.bytes);
        assert!(bytes <= BLOCK_BYTES && encode_block(KIND, 7, (0..=count).map(row)).len() > BLOCK_BYTES);
    }
}
