//! What one system call has read ahead of who asks. The reader of messages is given a few bytes at a time: it writes zeros over all the
//! room that it has for a read before each, and holds that room while it is idle. Knows no message.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that one system call reads at the least.
const READ_BYTES: usize = 2 * 1024;
/// Capacity that is kept while there is nothing to read.
const BYTES_KEPT: usize = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    taken: usize,
}

impl Ahead {
    /// As the stream's own; nothing is left here where it is pending.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.bytes.is_empty() {
            self.give(into);
            return Poll::Ready(Ok(()));
        }
        let read = self.read(stream, cx, into);
        if read.is_pending() && self.bytes.capacity() > BYTES_KEPT {
            self.bytes = Vec::new();
        }
        read
    }

    fn read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = Pin::new(stream);
        if into.remaining() >= READ_BYTES {
            return stream.poll_read(cx, into);
        }
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(stream.poll_read(cx, &mut read))?;
        let (first, later) = read.filled().split_at(read.filled().len().min(into.remaining()));
        into.put_slice(first);
        self.bytes.extend_from_slice(later);
        Poll::Ready(Ok(()))
    }

    fn give(&mut self, into: &mut ReadBuf<'_>) {
        let left = &self.bytes[self.taken..];
        let count = left.len().min(into.remaining());
        into.put_slice(&left[..count]);
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.taken = 0;
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// Gives these pieces, one a read or less, and counts how often it is read.
    #[derive(Default)]
    pub(in crate::carrier) struct Pieces {
        pub(in crate::carrier) pieces: Vec<Vec<u8>>,
        pub(in crate::carrier) reads: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.reads += 1;
            let Some(piece) = self.pieces.first_mut() else { return Poll::Pending };
            let later = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(piece);
            *piece = later;
            if piece.is_empty() {
                self.pieces.remove(0);
            }
            Poll::Ready(Ok(()))
        }
    }

    fn read(ahead: &mut Ahead, stream: &mut Pieces, room: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; room];
        let mut into = ReadBuf::new(&mut bytes);
        let poll = std::future::poll_fn(|cx| ahead.poll_read(stream, cx, &mut into));
        poll.now_or_never()?.expect("pieces are no errors");
        let count = into.filled().len();
        bytes.truncate(count);
        Some(bytes)
    }

    #[test]
    fn small_reads_share_a_system_call() {
        let mut stream = Pieces { pieces: vec![vec![7; 1000]], reads: 0 };
        let mut ahead = Ahead::default();
        for _ in 0..10 {
            assert_eq!(read(&mut ahead, &mut stream, 100), Some(vec![7; 100]));
        }
        assert_eq!(stream.reads, 1);
        assert_eq!(read(&mut ahead, &mut stream, 100), None);
        assert_eq!(ahead.bytes.capacity(), 0, "what was held is given back");
    }

    proptest! {
        #[test]
        fn every_byte_comes_once_and_in_order(
            lengths in prop::collection::vec(1..5_000_usize, 0..6),
            rooms in prop::collection::vec(1..4_000_usize, 1..5),
        ) {
            let all: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|place| place as u8).collect();
            let mut rest = &all[..];
            let pieces = lengths.iter().map(|length| rest.split_off(..*length).expect("all have these lengths").to_vec()).collect();
            let (mut stream, mut ahead) = (Pieces { pieces, reads: 0 }, Ahead::default());
            let mut found = Vec::new();
            for room in rooms.iter().cycle() {
                let Some(bytes) = read(&mut ahead, &mut stream, *room) else { break };
                prop_assert!(!bytes.is_empty() && bytes.len() <= *room);
                found.extend(bytes);
            }
            prop_assert_eq!(found, all);
        }
    }
}
