//! Server-Sent Events (the WHATWG format) from any reader: one event at a time, with its id.
//!
//! Pure apart from the reader; a line is bounded, so that a stranger on the other end cannot fill the memory.

use std::io::{self, BufRead, BufReader, Read};

/// Bytes of one line at most.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// One event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// Its id, where the next stream starts.
    pub(super) id: Option<String>,
    /// Its type.
    pub(super) kind: String,
    /// Its data lines.
    pub(super) data: String,
}

/// Reads events.
pub(super) struct SseReader<R> {
    from: BufReader<R>,
}

impl<R: Read> SseReader<R> {
    /// Events of this stream.
    pub(super) fn new(from: R) -> SseReader<R> {
        SseReader { from: BufReader::new(from) }
    }

    /// The next event; `None` at the end of the stream (an unfinished event is dropped, as the format demands).
    pub(super) fn next(&mut self) -> io::Result<Option<SseEvent>> {
        let mut event = SseEvent::default();
        let mut any = false;
        loop {
            let mut line = Vec::new();
            let read = (&mut self.from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') && read as u64 == LINE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an event line is over 1 MiB"));
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                if any {
                    return Ok(Some(event));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => event.id = Some(value.to_owned()),
                "event" => event.kind = value.to_owned(),
                "data" if event.data.is_empty() => event.data = value.to_owned(),
                "data" => {
                    event.data.push('\n');
                    event.data.push_str(value);
                }
                _ => continue,
            }
            any = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_and_comments_do_not() {
        let text = ": hello\n\nid: 1-2\nevent: server.online\ndata: {\"a\":1}\n\nretry: 5\n\n\
                    data: x\ndata: y\n\ndata: unfinished\n";
        let mut reader = SseReader::new(text.as_bytes());
        let first = reader.next().expect("reads").expect("an event");
        let expected =
            SseEvent { id: Some("1-2".into()), kind: "server.online".into(), data: "{\"a\":1}".into() };
        assert_eq!(first, expected);
        assert_eq!(reader.next().expect("reads").expect("an event").data, "x\ny");
        assert_eq!(reader.next().expect("reads"), None);
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let mut reader = SseReader::new(io::repeat(b'a'));
        assert!(reader.next().is_err());
    }
}
