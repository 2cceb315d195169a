//! Lists inside frames: checked once when a frame is decoded, then read value by value; never a Vec.

use std::fmt;
use std::marker::PhantomData;

use super::codec::{BadField, Reader, Writer, u16_len};
use super::error::EncodeError;

/// A value that can stand in a [`List`].
pub trait Item<'a>: Copy + PartialEq + fmt::Debug {
    /// Reads one.
    fn read(reader: &mut Reader<'a>) -> Result<Self, BadField>;
    /// Writes one.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError>;
}

/// A list of values: borrowed from a received frame, or from a slice that is about to be sent.
pub struct List<'a, T> {
    source: Source<'a, T>,
}

enum Source<'a, T> {
    /// Bytes that hold exactly `count` values, all of which were read once without error.
    Wire {
        bytes: &'a [u8],
        count: u16,
        values: PhantomData<T>,
    },
    Slice(&'a [T]),
}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Source<'_, T> {}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        List { source: Source::Slice(&[]) }
    }
}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(values: &'a [T]) -> Self {
        List { source: Source::Slice(values) }
    }
}

impl<'a, T> From<&'a Vec<T>> for List<'a, T> {
    fn from(values: &'a Vec<T>) -> Self {
        List { source: Source::Slice(values) }
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for List<'a, T> {
    fn from(values: &'a [T; N]) -> Self {
        List { source: Source::Slice(values) }
    }
}

impl<'a, T> List<'a, T> {
    /// How many values.
    pub fn len(&self) -> usize {
        match self.source {
            Source::Wire { count, .. } => usize::from(count),
            Source::Slice(values) => values.len(),
        }
    }

    /// No values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Item<'a>> List<'a, T> {
    /// The values in order.
    pub fn iter(&self) -> ListIter<'a, T> {
        ListIter {
            left: self.len(),
            source: match self.source {
                Source::Wire { bytes, .. } => IterSource::Wire(Reader::new(bytes)),
                Source::Slice(values) => IterSource::Slice(values.iter()),
            },
        }
    }

    /// Reads the count and checks every value with `check` too.
    pub(super) fn read(
        reader: &mut Reader<'a>,
        field: &'static str,
        mut check: impl FnMut(&T) -> Result<(), BadField>,
    ) -> Result<List<'a, T>, BadField> {
        let count = reader.u16(field)?;
        let before = reader.rest();
        for _ in 0..count {
            check(&T::read(reader)?)?;
        }
        let bytes = &before[..before.len() - reader.rest().len()];
        Ok(List { source: Source::Wire { bytes, count, values: PhantomData } })
    }

    pub(super) fn write(&self, field: &'static str, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.u16(u16_len(field, self.len())?);
        match self.source {
            Source::Wire { bytes, .. } => writer.raw(bytes),
            Source::Slice(values) => values.iter().try_for_each(|value| value.write(writer))?,
        }
        Ok(())
    }
}

impl<'a, T: Item<'a>> IntoIterator for List<'a, T> {
    type Item = T;
    type IntoIter = ListIter<'a, T>;
    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Item<'a>> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'a, T: Item<'a>> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// See [`List::iter`].
#[derive(Debug, Clone)]
pub struct ListIter<'a, T> {
    left: usize,
    source: IterSource<'a, T>,
}

#[derive(Debug, Clone)]
enum IterSource<'a, T> {
    Wire(Reader<'a>),
    Slice(std::slice::Iter<'a, T>),
}

impl<'a, T: Item<'a>> Iterator for ListIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        Some(match &mut self.source {
            IterSource::Wire(reader) => {
                T::read(reader).expect("every value was read when the frame was decoded")
            }
            IterSource::Slice(values) => *values.next().expect("`left` counts what the slice has left"),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a, T: Item<'a>> ExactSizeIterator for ListIter<'a, T> {}

impl<'a> Item<'a> for u64 {
    fn read(reader: &mut Reader<'a>) -> Result<u64, BadField> {
        reader.u64("ids")
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.u64(*self);
        Ok(())
    }
}
