//! The consumer of one stream: reads, runs, and then acknowledges and reads on in one write. Now and then it trims in the
//! same write what is acknowledged: an entry takes its room until then, and is not read again.

use bytes::BytesMut;
use fluxrelay::load::Runner;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::resp::{self, Value, bulk, command, head};

/// Entries of one read at most.
const READ_MAX: &[u8] = b"1000";
/// Entries that are acknowledged before they are trimmed away. One at a time took a tenth of what a command costs Redis.
const TRIM_AFTER: u64 = 64;
/// Bytes for which there is room when something has come.
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Consumer<R> {
    socket: TcpStream,
    key: String,
    runner: R,
    input: BytesMut,
    out: BytesMut,
    /// Acknowledged and not trimmed away.
    untrimmed: u64,
    /// Reads what an earlier connection of this consumer was given and did not acknowledge.
    from_before: bool,
}

/// Answers that are to come before the next entries.
#[derive(Default)]
struct Expected {
    acknowledged: u64,
    trimmed: u64,
}

impl<R: Runner> Consumer<R> {
    pub(super) fn new(socket: TcpStream, key: String, runner: R) -> Consumer<R> {
        let (input, out) = (BytesMut::new(), BytesMut::new());
        Consumer { socket, key, runner, input, out, untrimmed: 0, from_before: true }
    }

    /// Consumes from when it may until it is dropped. What is left when its connection ends shows in the figures; and says so,
    /// unless it is to be quiet.
    pub(super) async fn run(mut self, mut going: watch::Receiver<bool>, quiet: bool) {
        if going.wait_for(|going| *going).await.is_ok() {
            let Err(reason) = self.consume().await;
            if !quiet {
                anstream::eprintln!("the consumer of {} ended: {reason}", self.key);
            }
        }
    }

    async fn consume(&mut self) -> Result<std::convert::Infallible, String> {
        let mut expected = Expected::default();
        loop {
            let key = self.key.as_bytes();
            let read: [&[u8]; 10] =
                [b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", READ_MAX, b"BLOCK", b"0", b"STREAMS", key];
            head(&mut self.out, read.len() + 1);
            read.iter().for_each(|word| bulk(&mut self.out, word));
            bulk(&mut self.out, if self.from_before { b"0" } else { b">" });
            let written = self.socket.write_all_buf(&mut self.out).await;
            written.map_err(|error| error.to_string())?;
            if expected.acknowledged > 0 {
                let all = |number| number == expected.acknowledged;
                self.receive(|_, value| expect_number(&value, all)).await?;
                self.runner.confirmed(expected.acknowledged);
            }
            if expected.trimmed > 0 {
                // Those that a connection before had left go with them.
                let all = |number| number >= expected.trimmed;
                self.receive(|_, value| expect_number(&value, all)).await?;
            }
            expected = self.receive(Self::take).await?;
        }
    }

    /// Runs what a read has found, and says so in the next write.
    fn take(parts: &mut Parts<'_, R>, value: Value<'_>) -> Result<Expected, String> {
        let (ids, texts) = entries(value)?;
        if ids.is_empty() && std::mem::take(parts.from_before) {
            return Ok(Expected::default());
        }
        parts.runner.run(texts.iter().copied());
        let Some(beyond) = ids.last().and_then(|last| next_id(last)) else {
            return Err("a read was answered without entries".into());
        };
        head(parts.out, 3 + ids.len());
        [b"XACK", parts.key, b"g"].iter().chain(&ids).for_each(|word| bulk(parts.out, word));
        let acknowledged = ids.len() as u64;
        *parts.untrimmed += acknowledged;
        if *parts.untrimmed < TRIM_AFTER {
            return Ok(Expected { acknowledged, trimmed: 0 });
        }
        // There is nothing before them that is not acknowledged.
        command(parts.out, &[b"XTRIM", parts.key, b"MINID", beyond.as_bytes()]);
        Ok(Expected { acknowledged, trimmed: std::mem::take(parts.untrimmed) })
    }

    /// Reads one reply and hands it over.
    async fn receive<T>(
        &mut self,
        mut take: impl FnMut(&mut Parts<'_, R>, Value<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        loop {
            if let Some((value, length)) = resp::read(&self.input)? {
                let mut parts = Parts {
                    runner: &mut self.runner,
                    key: self.key.as_bytes(),
                    out: &mut self.out,
                    untrimmed: &mut self.untrimmed,
                    from_before: &mut self.from_before,
                };
                let taken = take(&mut parts, value)?;
                let _ = self.input.split_to(length);
                if self.input.is_empty() {
                    // Thousands of them wait most of the time.
                    self.input = BytesMut::new();
                }
                return Ok(taken);
            }
            self.socket.readable().await.map_err(|error| error.to_string())?;
            self.input.reserve(READ_BYTES);
            match self.socket.try_read_buf(&mut self.input) {
                Ok(0) => return Err("Redis closed the connection".into()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// What a reply may change while the input is borrowed.
struct Parts<'a, R> {
    runner: &'a mut R,
    key: &'a [u8],
    out: &'a mut BytesMut,
    untrimmed: &'a mut u64,
    from_before: &'a mut bool,
}

fn expect_number(value: &Value<'_>, expected: impl Fn(u64) -> bool) -> Result<(), String> {
    match value {
        Value::Number(number) if u64::try_from(*number).is_ok_and(expected) => Ok(()),
        other => Err(format!("entries were to be acknowledged or trimmed, the answer was {other:?}")),
    }
}

/// Ids and texts of the entries that a read of one stream has found.
fn entries(value: Value<'_>) -> Result<(Vec<&[u8]>, Vec<&str>), String> {
    let found = || -> Option<(Vec<&[u8]>, Vec<&str>)> {
        let stream = array(value)?.into_iter().next()?;
        let entries = array(array(stream)?.into_iter().nth(1)?)?;
        let mut found = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for entry in entries {
            let mut entry = array(entry)?.into_iter();
            let Value::Bulk(Some(id)) = entry.next()? else { return None };
            let Value::Bulk(Some(text)) = array(entry.next()?)?.into_iter().nth(1)? else { return None };
            found.0.push(id);
            found.1.push(std::str::from_utf8(text).ok()?);
        }
        Some(found)
    };
    found().ok_or_else(|| "a read was answered with something else than entries".into())
}

/// The id after one, such as `1526919030474-56` after `1526919030474-55`.
fn next_id(id: &[u8]) -> Option<String> {
    let (ms, ordinal) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some(format!("{ms}-{}", ordinal.parse::<u64>().ok()?.checked_add(1)?))
}

fn array(value: Value<'_>) -> Option<Vec<Value<'_>>> {
    match value {
        Value::Array(values) => values,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_in_the_answer_of_a_read() {
        let bytes = b"*1\r\n*2\r\n$3\r\ns:0\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nc\r\n$2\r\nhi\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nc\r\n$2\r\nho\r\n";
        let (value, length) = resp::read(bytes).expect("a reply").expect("a whole one");
        assert_eq!(length, bytes.len());
        assert_eq!(entries(value), Ok((vec![&b"1-0"[..], b"1-1"], vec!["hi", "ho"])));
        assert!(entries(Value::Number(1)).is_err());
        assert!(entries(Value::Array(None)).is_err());
        assert_eq!(next_id(b"17-9").as_deref(), Some("17-10"));
        assert_eq!(next_id(b"17"), None);
    }
}
