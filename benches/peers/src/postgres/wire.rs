//! The bytes of PostgreSQL's protocol, version 3, as far as a gateway needs them: log in where everybody is trusted, send
//! statements, prepare one and run it with arrays, read rows.

use bytes::{Buf, BufMut, BytesMut};

/// Version 3.0.
const VERSION: i32 = 196_608;
/// How arrays say of what they are.
const INT4: i32 = 23;
const TEXT: i32 = 25;
/// Parameters and results are binary.
const BINARY: i16 = 1;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A row: a number and a text.
    Row(i32, String),
    /// All that was sent up to a sync or a query has been done.
    Ready,
    /// A statement failed: the words.
    Error(String),
    /// Anything else.
    Aside,
}

/// Appends the first message.
pub(super) fn start_up(out: &mut BytesMut) {
    message(out, None, |out| {
        out.put_i32(VERSION);
        ["user", "postgres", "database", "postgres", ""].iter().for_each(|text| put_text(out, text));
    });
}

/// Appends statements without parameters; one answer for all.
pub(super) fn query(out: &mut BytesMut, statements: &str) {
    message(out, Some(b'Q'), |out| put_text(out, statements));
}

/// Appends a statement to be prepared as the only one of its connection.
pub(super) fn prepare(out: &mut BytesMut, statement: &str) {
    message(out, Some(b'P'), |out| {
        put_text(out, "s");
        put_text(out, statement);
        out.put_i16(0);
    });
    sync(out);
}

/// Appends a run of the prepared statement: so many parameters, which `parameters` appends.
pub(super) fn run(out: &mut BytesMut, count: i16, parameters: impl FnOnce(&mut BytesMut)) {
    message(out, Some(b'B'), |out| {
        put_text(out, "");
        put_text(out, "s");
        out.put_i16(1);
        out.put_i16(BINARY);
        out.put_i16(count);
        parameters(out);
        out.put_i16(1);
        out.put_i16(BINARY);
    });
    message(out, Some(b'E'), |out| {
        put_text(out, "");
        out.put_i32(0);
    });
    sync(out);
}

/// Appends a parameter: a number of eight bytes.
pub(super) fn put_number(out: &mut BytesMut, number: i64) {
    out.put_i32(8);
    out.put_i64(number);
}

/// Appends a parameter: an array of numbers.
pub(super) fn put_numbers(out: &mut BytesMut, numbers: impl ExactSizeIterator<Item = i32>) {
    array(out, INT4, numbers, |out, number| out.put_i32(number));
}

/// Appends a parameter: an array of texts.
pub(super) fn put_texts<'t>(out: &mut BytesMut, texts: impl ExactSizeIterator<Item = &'t str>) {
    array(out, TEXT, texts, |out, text| out.extend_from_slice(text.as_bytes()));
}

fn array<T>(
    out: &mut BytesMut,
    kind: i32,
    values: impl ExactSizeIterator<Item = T>,
    mut put: impl FnMut(&mut BytesMut, T),
) {
    sized(out, false, |out| {
        // One dimension, no nulls.
        out.put_i32(1);
        out.put_i32(0);
        out.put_i32(kind);
        out.put_i32(values.len() as i32);
        out.put_i32(1);
        values.for_each(|value| sized(out, false, |out| put(out, value)));
    });
}

fn sync(out: &mut BytesMut) {
    message(out, Some(b'S'), |_| ());
}

fn message(out: &mut BytesMut, kind: Option<u8>, body: impl FnOnce(&mut BytesMut)) {
    kind.into_iter().for_each(|kind| out.put_u8(kind));
    sized(out, true, body);
}

/// A length in four bytes, of itself too if asked for, and what is so long.
fn sized(out: &mut BytesMut, of_itself: bool, body: impl FnOnce(&mut BytesMut)) {
    let begin = out.len();
    out.put_i32(0);
    body(out);
    let length = out.len() - begin - if of_itself { 0 } else { 4 };
    out[begin..begin + 4].copy_from_slice(&(length as i32).to_be_bytes());
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.put_u8(0);
}

/// Takes what stands at the beginning of the input; `None` = it is not whole yet.
///
/// # Errors
/// It is nothing that a server says, or a row is not a number and a text.
pub(super) fn read(input: &mut BytesMut) -> Result<Option<Heard>, String> {
    let Some(head) = input.first_chunk::<5>() else { return Ok(None) };
    let (kind, length) = (head[0], i32::from_be_bytes([head[1], head[2], head[3], head[4]]));
    let length = usize::try_from(length).ok().filter(|length| *length >= 4);
    let length = length.ok_or("a message without a length")? + 1;
    if input.len() < length {
        input.reserve(length - input.len());
        return Ok(None);
    }
    let mut body = input.split_to(length);
    body.advance(5);
    Ok(Some(match kind {
        b'D' => row(&body).ok_or("a row is not a number and a text")?,
        b'Z' => Heard::Ready,
        b'E' => Heard::Error(error(&body)),
        _ => Heard::Aside,
    }))
}

/// A row of two fields; before them stands their number.
fn row(body: &[u8]) -> Option<Heard> {
    let (number, rest) = field(body.strip_prefix(&2_i16.to_be_bytes())?)?;
    let (text, rest) = field(rest)?;
    let number = i32::from_be_bytes(number.try_into().ok()?);
    let text = std::str::from_utf8(text).ok()?;
    rest.is_empty().then(|| Heard::Row(number, text.to_owned()))
}

/// A length in four bytes and so many bytes; the rest.
fn field(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)
}

/// Severity, code and words, as fields of a letter and a text.
fn error(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0);
    let words = fields.filter_map(|field| field.strip_prefix(b"M")).map(String::from_utf8_lossy);
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_they_say() {
        let mut out = BytesMut::new();
        query(&mut out, "SELECT 1");
        assert_eq!(&out[..], b"Q\0\0\0\x0dSELECT 1\0");
        out.clear();
        start_up(&mut out);
        assert_eq!(out.len(), out[3] as usize);
        out.clear();
        put_texts(&mut out, ["ab"].into_iter());
        let expected = [0, 0, 0, 26, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(&out[..28], expected);
        assert_eq!(&out[28..], b"ab");
    }

    #[test]
    fn what_is_said_is_read_when_it_is_whole() {
        let said: [(&[u8], Heard); 4] = [
            (b"D\0\0\0\x14\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x02hi", Heard::Row(7, "hi".into())),
            (b"Z\0\0\0\x05I", Heard::Ready),
            (b"E\0\0\0\x10SERROR\0Mno\0\0", Heard::Error("no".into())),
            (b"C\0\0\0\x04", Heard::Aside),
        ];
        for (bytes, heard) in said {
            for end in 0..bytes.len() {
                assert_eq!(read(&mut BytesMut::from(&bytes[..end])), Ok(None));
            }
            let mut input = BytesMut::from(bytes);
            assert_eq!(read(&mut input), Ok(Some(heard)));
            assert!(input.is_empty());
        }
        assert!(read(&mut BytesMut::from(&b"D\0\0\0\x04"[..])).is_err());
        assert!(read(&mut BytesMut::from(&b"HTTP/1.1"[..])).is_ok_and(|heard| heard.is_none()));
        assert!(read(&mut BytesMut::from(&b"E\0\0\0\x01"[..])).is_err());
    }
}
