//! The bytes of NATS: a line for each operation, a payload after some of them.

use bytes::BytesMut;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A message to one of our subscriptions.
    Message {
        /// Where an acknowledgement goes; empty = nowhere.
        reply: &'a str,
        /// What it is.
        payload: &'a str,
    },
    /// It wants [`PONG`].
    Ping,
    /// The answer to our own.
    Pong,
    /// What it can do, or that all is well.
    Aside,
    /// Something is wrong: the words.
    Error(&'a str),
}

/// The first thing that a client says; then it asks whether it was understood.
pub(super) const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1}\r\nPING\r\n";
/// The answer to a ping.
pub(super) const PONG: &[u8] = b"PONG\r\n";

/// Appends a message; `reply` is where an answer is to go, empty = nowhere.
pub(super) fn publish(out: &mut BytesMut, subject: &str, reply: &str, payload: &[u8]) {
    let space = if reply.is_empty() { "" } else { " " };
    let head = format!("PUB {subject} {reply}{space}{}\r\n", payload.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends a subscription, the only one of its connection.
pub(super) fn subscribe(out: &mut BytesMut, subject: &str) {
    out.extend_from_slice(format!("SUB {subject} 1\r\n").as_bytes());
}

/// What stands at the beginning of the input, and its length; `None` = it is not whole yet.
///
/// # Errors
/// It is nothing that a server says.
pub(super) fn read(input: &[u8]) -> Result<Option<(Heard<'_>, usize)>, String> {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|error| error.to_string());
    let line = text(&input[..end])?.trim_end();
    let begin = end + 1;
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(Some(match word {
        "MSG" => {
            let fields: Vec<&str> = rest.split(' ').collect();
            let (reply, length) = match fields[..] {
                [_, _, length] => ("", length),
                [_, _, reply, length] => (reply, length),
                _ => return Err(format!("{line:?} is no message")),
            };
            let length: usize = length.parse().map_err(|error| format!("{line:?}: {error}"))?;
            let Some(payload) = input.get(begin..begin + length) else { return Ok(None) };
            if input.len() < begin + length + 2 {
                return Ok(None);
            }
            (Heard::Message { reply, payload: text(payload)? }, begin + length + 2)
        }
        "PING" => (Heard::Ping, begin),
        "PONG" => (Heard::Pong, begin),
        "INFO" | "+OK" => (Heard::Aside, begin),
        "-ERR" => (Heard::Error(rest), begin),
        _ => return Err(format!("{line:?} is nothing that NATS says")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_when_it_is_whole() {
        let said: [(&[u8], Heard<'_>); 5] = [
            (b"INFO {\"a\":1}\r\n", Heard::Aside),
            (b"PING\r\n", Heard::Ping),
            (b"MSG a.b 1 2\r\nhi\r\n", Heard::Message { reply: "", payload: "hi" }),
            (b"MSG a.b 1 $JS.ACK.x 2\r\nhi\r\n", Heard::Message { reply: "$JS.ACK.x", payload: "hi" }),
            (b"-ERR 'no'\r\n", Heard::Error("'no'")),
        ];
        for (bytes, heard) in said {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None));
            }
            assert_eq!(read(bytes), Ok(Some((heard, bytes.len()))));
        }
        assert!(read(b"HTTP/1.1 200 OK\r\n").is_err() && read(b"MSG a\r\n").is_err());
    }

    #[test]
    fn messages_name_where_an_answer_goes() {
        let mut out = BytesMut::new();
        publish(&mut out, "c.1", "_INBOX.1", b"hi");
        publish(&mut out, "c.1", "", b"hi");
        assert_eq!(&out[..], b"PUB c.1 _INBOX.1 2\r\nhi\r\nPUB c.1 2\r\nhi\r\n");
    }
}
