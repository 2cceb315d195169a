//! The bytes of Redis (RESP2): commands out, replies in.

use bytes::{BufMut, BytesMut};

/// A reply, with its texts where they were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A status, such as `OK`.
    Status(&'a str),
    /// A refusal.
    Error(&'a str),
    /// A number.
    Number(i64),
    /// A text of any bytes; `None` = nil.
    Bulk(Option<&'a [u8]>),
    /// Several; `None` = nil, which a read answers that found nothing.
    Array(Option<Vec<Value<'a>>>),
}

/// Appends a command.
pub(super) fn command(out: &mut BytesMut, words: &[&[u8]]) {
    count(out, b'*', words.len());
    words.iter().for_each(|word| bulk(out, word));
}

/// Appends the head of a command of so many words; each follows by [`bulk`].
pub(super) fn head(out: &mut BytesMut, words: usize) {
    count(out, b'*', words);
}

/// Appends a word.
pub(super) fn bulk(out: &mut BytesMut, word: &[u8]) {
    count(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

fn count(out: &mut BytesMut, kind: u8, count: usize) {
    let mut digits = [0; 20];
    let mut place = digits.len();
    let mut left = count;
    loop {
        place -= 1;
        digits[place] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.put_u8(kind);
    out.extend_from_slice(&digits[place..]);
    out.extend_from_slice(b"\r\n");
}

/// The reply at the beginning of the input, and its length; `None` = it is not whole yet.
///
/// # Errors
/// It is none.
pub(super) fn read(input: &[u8]) -> Result<Option<(Value<'_>, usize)>, String> {
    let mut reader = Reader { input, place: 0 };
    Ok(reader.value()?.map(|value| (value, reader.place)))
}

struct Reader<'a> {
    input: &'a [u8],
    place: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Result<Option<Value<'a>>, String> {
        let Some(line) = self.line() else { return Ok(None) };
        let Some((kind, rest)) = line.split_first() else { return Err("an empty line".into()) };
        let rest = std::str::from_utf8(rest).map_err(|error| error.to_string())?;
        let number = || rest.parse::<i64>().map_err(|error| format!("{rest:?}: {error}"));
        Ok(Some(match kind {
            b'+' => Value::Status(rest),
            b'-' => Value::Error(rest),
            b':' => Value::Number(number()?),
            b'$' => match usize::try_from(number()?) {
                Err(_) => Value::Bulk(None),
                Ok(length) => {
                    let end = self.place + length;
                    let Some(text) = self.input.get(self.place..end).filter(|_| self.input.len() >= end + 2)
                    else {
                        return Ok(None);
                    };
                    self.place = end + 2;
                    Value::Bulk(Some(text))
                }
            },
            b'*' => match usize::try_from(number()?) {
                Err(_) => Value::Array(None),
                Ok(count) => {
                    let mut values = Vec::with_capacity(count.min(4096));
                    for _ in 0..count {
                        let Some(value) = self.value()? else { return Ok(None) };
                        values.push(value);
                    }
                    Value::Array(Some(values))
                }
            },
            _ => return Err(format!("no reply begins with {:?}", char::from(*kind))),
        }))
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.input[self.place..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.place += end + 2;
        Some(&rest[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_texts() {
        let mut out = BytesMut::new();
        command(&mut out, &[b"XADD", b"s:0", b"*", b"c", b"0123456789"]);
        assert_eq!(&out[..], b"*5\r\n$4\r\nXADD\r\n$3\r\ns:0\r\n$1\r\n*\r\n$1\r\nc\r\n$10\r\n0123456789\r\n");
    }

    #[test]
    fn replies_are_read_when_they_are_whole() {
        let replies: [(&[u8], Value<'_>); 6] = [
            (b"+OK\r\n", Value::Status("OK")),
            (b"-ERR no\r\n", Value::Error("ERR no")),
            (b":12\r\n", Value::Number(12)),
            (b"$2\r\nhi\r\n", Value::Bulk(Some(b"hi"))),
            (b"*-1\r\n", Value::Array(None)),
            (b"*2\r\n:1\r\n$-1\r\n", Value::Array(Some(vec![Value::Number(1), Value::Bulk(None)]))),
        ];
        for (bytes, value) in replies {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None));
            }
            assert_eq!(read(bytes), Ok(Some((value, bytes.len()))));
        }
        assert!(read(b"hello\r\n").is_err());
    }
}
