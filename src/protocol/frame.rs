//! The frame header, and how frames follow one another in a message or stream. Knows no frame's fields.

use bytes::BytesMut;

use super::codec::{BadField, Reader, Writer};
use super::error::{EncodeError, Flaw, ProtocolError};
use crate::limits::FRAME_BYTES_MAX;

/// Bytes of a frame's header: u8 type, u24 little-endian payload length.
pub const HEADER_BYTES: usize = 4;

/// Frame types from here on carry nothing that a receiver must understand: unknown ones are skipped.
pub const SKIPPABLE_FROM: u8 = 0x80;

const _: () = assert!(FRAME_BYTES_MAX < 1 << 24);

/// One frame whose payload has not been looked at.
pub(super) struct RawFrame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    /// Bytes of header and payload.
    pub(super) used: usize,
}

/// The first frame of `bytes`; `None` while it is incomplete. A frame over `max` bytes is refused from its header.
pub(super) fn split(bytes: &[u8], max: usize) -> Result<Option<RawFrame<'_>>, ProtocolError> {
    let Some(([kind, low, middle, high], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
    let used = HEADER_BYTES + len;
    if used > max {
        let flaw = Flaw::TooLarge { bytes: used, max };
        return Err(ProtocolError { frame: *kind, field: "length", flaw });
    }
    Ok(rest.get(..len).map(|payload| RawFrame { kind: *kind, payload, used }))
}

/// Bytes of the first frame in a stream, header included, as its header says; `None` while the header is not whole.
pub fn frame_bytes(stream: &[u8]) -> Option<usize> {
    let [_, low, middle, high] = *stream.first_chunk::<HEADER_BYTES>()?;
    Some(HEADER_BYTES + u32::from_le_bytes([low, middle, high, 0]) as usize)
}

/// A direction of the protocol: requests or responses.
pub trait Direction<'a>: Sized {
    /// Reads the payload of a known type, `None` for another type.
    fn read(kind: u8, reader: &mut Reader<'a>) -> Option<Result<Self, BadField>>;
    /// What stands for a skippable frame of unknown type.
    fn skipped(kind: u8) -> Self;
    /// Whether bytes after the last field are ignored: only in what is sent before a version is agreed.
    fn open_ended(kind: u8) -> bool;
}

/// Decodes the first frame of `bytes`: the frame and the bytes that it took, or `None` while it is incomplete.
pub(super) fn decode<'a, T: Direction<'a>>(
    bytes: &'a [u8],
    max: usize,
) -> Result<Option<(T, usize)>, ProtocolError> {
    let Some(RawFrame { kind, payload, used }) = split(bytes, max)? else {
        return Ok(None);
    };
    let mut reader = Reader::new(payload);
    let frame = match T::read(kind, &mut reader) {
        Some(Ok(frame)) => frame,
        Some(Err(BadField { field, flaw })) => return Err(ProtocolError { frame: kind, field, flaw }),
        None if kind >= SKIPPABLE_FROM => return Ok(Some((T::skipped(kind), used))),
        None => return Err(ProtocolError { frame: kind, field: "type", flaw: Flaw::UnknownType }),
    };
    if !reader.rest().is_empty() && !T::open_ended(kind) {
        return Err(ProtocolError { frame: kind, field: "length", flaw: Flaw::TrailingBytes });
    }
    Ok(Some((frame, used)))
}

/// The frames of one whole message. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Frames<'a, T> {
    rest: &'a [u8],
    max: usize,
    direction: std::marker::PhantomData<T>,
}

impl<'a, T> Frames<'a, T> {
    pub(super) fn new(message: &'a [u8], max: usize) -> Self {
        Frames { rest: message, max, direction: std::marker::PhantomData }
    }
}

impl<'a, T: Direction<'a>> Iterator for Frames<'a, T> {
    type Item = Result<T, ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = *self.rest.first()?;
        let outcome = match decode(self.rest, self.max) {
            Ok(Some((frame, used))) => {
                self.rest = &self.rest[used..];
                return Some(Ok(frame));
            }
            Ok(None) => Err(ProtocolError { frame: kind, field: "length", flaw: Flaw::Incomplete }),
            Err(error) => Err(error),
        };
        self.rest = &[];
        Some(outcome)
    }
}

/// Writes one frame to the end of `buf`; on an error `buf` is as it was.
pub(super) fn encode<R>(
    buf: &mut BytesMut,
    kind: u8,
    payload: impl FnOnce(&mut Writer<'_>) -> Result<R, EncodeError>,
) -> Result<R, EncodeError> {
    let mut writer = Writer::new(buf);
    let start = writer.position();
    writer.raw(&[kind, 0, 0, 0]);
    let outcome = payload(&mut writer).and_then(|value| {
        let size = writer.position() - start;
        if size > FRAME_BYTES_MAX {
            return Err(EncodeError { field: "frame", size, max: FRAME_BYTES_MAX });
        }
        let [low, middle, high, _] = ((size - HEADER_BYTES) as u32).to_le_bytes();
        writer.patch(start + 1, &[low, middle, high]);
        Ok(value)
    });
    if outcome.is_err() {
        writer.rewind(start);
    }
    outcome
}

/// Writes a frame whose payload is `head`, a u16 count, and as many of `items` as fit in `max_count` and one frame.
/// Returns how many were written.
pub(super) fn encode_some<I>(
    buf: &mut BytesMut,
    kind: u8,
    head: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    items: I,
    max_count: usize,
    write: impl Fn(&I::Item, &mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<usize, EncodeError>
where
    I: IntoIterator,
{
    let frame_start = buf.len();
    encode(buf, kind, |writer| {
        head(writer)?;
        let count_at = writer.position();
        writer.u16(0);
        let mut count = 0;
        for item in items.into_iter().take(max_count) {
            let before = writer.position();
            write(&item, writer)?;
            if count > 0 && writer.position() - frame_start > FRAME_BYTES_MAX {
                writer.rewind(before);
                break;
            }
            count += 1;
        }
        writer.patch(count_at, &(count as u16).to_le_bytes());
        Ok(count)
    })
}
