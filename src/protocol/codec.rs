//! Read and write primitives: fixed-width little-endian integers, texts and bytes with a u16 length, flags.
//!
//! Reading never panics, never allocates, and never looks beyond its slice.

use bytes::{BufMut, BytesMut};

use super::error::{EncodeError, Flaw};

/// A field and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadField {
    pub(super) field: &'static str,
    pub(super) flaw: Flaw,
}

/// A place in a payload.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! integers {
    ($($name:ident: $type:ident),*) => {$(
        pub(super) fn $name(&mut self, field: &'static str) -> Result<$type, BadField> {
            match self.rest.split_first_chunk() {
                Some((bytes, rest)) => {
                    self.rest = rest;
                    Ok($type::from_le_bytes(*bytes))
                }
                None => Err(BadField { field, flaw: Flaw::CutShort }),
            }
        }
    )*};
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Reader<'a> {
        Reader { rest: payload }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    integers!(u8: u8, u16: u16, u32: u32, u64: u64);

    /// A u8 within `min..=max`.
    pub(super) fn u8_in(&mut self, field: &'static str, min: u8, max: u8) -> Result<u8, BadField> {
        let value = self.u8(field)?;
        in_range(field, u64::from(value), u64::from(min), u64::from(max))?;
        Ok(value)
    }

    /// A flags byte with no bit outside `known`.
    pub(super) fn flags(&mut self, field: &'static str, known: u8) -> Result<u8, BadField> {
        let flags = self.u8(field)?;
        if flags & !known != 0 {
            return Err(BadField { field, flaw: Flaw::UnknownFlag });
        }
        Ok(flags)
    }

    pub(super) fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], BadField> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(BadField { field, flaw: Flaw::CutShort });
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], BadField> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(BadField { field, flaw: Flaw::CutShort });
        };
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], BadField> {
        let len = self.u16(field)?;
        self.take(field, usize::from(len))
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, BadField> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| BadField { field, flaw: Flaw::NotUtf8 })
    }

    /// A value that follows only when its flag is set.
    pub(super) fn optional<T>(
        &mut self,
        present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, BadField>,
    ) -> Result<Option<T>, BadField> {
        if present { read(self).map(Some) } else { Ok(None) }
    }
}

/// An error unless `value` is within `min..=max`.
pub(super) fn in_range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), BadField> {
    if value < min || value > max {
        return Err(BadField { field, flaw: Flaw::OutOfRange { min, max } });
    }
    Ok(())
}

/// Where a payload is written.
#[derive(Debug)]
pub struct Writer<'b> {
    buf: &'b mut BytesMut,
}

impl<'b> Writer<'b> {
    pub(super) fn new(buf: &'b mut BytesMut) -> Writer<'b> {
        Writer { buf }
    }

    /// Bytes in the whole buffer.
    pub(super) fn position(&self) -> usize {
        self.buf.len()
    }

    /// Takes back everything after `position`.
    pub(super) fn rewind(&mut self, position: usize) {
        self.buf.truncate(position);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.buf.put_u8(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.buf.put_u16_le(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.buf.put_u32_le(value);
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.buf.put_u64_le(value);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.buf.put_slice(bytes);
    }

    pub(super) fn bytes(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        let len = u16_len(field, bytes.len())?;
        self.u16(len);
        self.raw(bytes);
        Ok(())
    }

    pub(super) fn text(&mut self, field: &'static str, text: &str) -> Result<(), EncodeError> {
        self.bytes(field, text.as_bytes())
    }

    pub(super) fn optional_text(
        &mut self,
        field: &'static str,
        text: Option<&str>,
    ) -> Result<(), EncodeError> {
        text.map_or(Ok(()), |text| self.text(field, text))
    }

    /// Overwrites bytes that were written before.
    pub(super) fn patch(&mut self, position: usize, bytes: &[u8]) {
        self.buf[position..position + bytes.len()].copy_from_slice(bytes);
    }
}

/// A length or count as it stands before its bytes or values.
pub(super) fn u16_len(field: &'static str, len: usize) -> Result<u16, EncodeError> {
    u16::try_from(len).map_err(|_| EncodeError { field, size: len, max: usize::from(u16::MAX) })
}

/// `flag` when it is set.
pub(super) fn bit(flag: u8, set: bool) -> u8 {
    if set { flag } else { 0 }
}
