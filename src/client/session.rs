//! What both clients share about one connection: how it ends, silence, and whole frames into messages.

use std::time::Duration;

use bytes::BytesMut;

use super::error::ClientError;
use super::socket::{Socket, SocketError};
use crate::limits::FRAME_BYTES_MAX;
use crate::protocol::{Code, HEADER_BYTES, Retry};

/// Bytes of frames after which what has gathered is sent first.
pub(super) const GATHER_BYTES: usize = 256 * 1024;
/// Capacity that an empty buffer may keep.
const KEPT_BYTES: usize = 1024;
/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Connecting again would not help.
    Fatal(ClientError),
    /// Connect again.
    Retry {
        /// For a log.
        reason: String,
        /// What the broker asked for.
        after: Option<Duration>,
    },
}

impl End {
    pub(super) fn lost(reason: impl Into<String>) -> End {
        End::Retry { reason: reason.into(), after: None }
    }

    /// The broker said go-away.
    pub(super) fn go_away(code: u16, delay_ms: u32) -> End {
        let name = Code::from_number(code).map_or("unknown", Code::name);
        let after = Some(Duration::from_millis(u64::from(delay_ms)));
        End::Retry { reason: format!("the broker said go away: {name}"), after }
    }

    /// The broker sent an error frame.
    pub(super) fn refused(number: u16, retry_after_ms: u32, detail: &str) -> End {
        let asked = (retry_after_ms > 0).then(|| Duration::from_millis(u64::from(retry_after_ms)));
        let Some(code) = Code::from_number(number) else {
            return End::Retry { reason: format!("code {number}: {detail}"), after: asked };
        };
        match code.retry() {
            Retry::Never => End::Fatal(ClientError::Refused { code, detail: detail.to_owned() }),
            Retry::Later | Retry::Reconnect => {
                End::Retry { reason: format!("{code}: {detail}"), after: asked }
            }
        }
    }
}

impl From<SocketError> for End {
    fn from(error: SocketError) -> End {
        match error {
            SocketError::Lost(reason) => End::lost(reason),
            SocketError::Later(reason, after) => End::Retry { reason, after: Some(after) },
            SocketError::Foreign(error) => End::Fatal(error),
        }
    }
}

/// Notices a broker that is no longer heard of. It counts ticks of half a heartbeat, so that hearing costs nothing.
#[derive(Debug)]
pub(super) struct Silence {
    tick: Duration,
    heard: bool,
    quiet: u32,
}

/// Ticks without a sound that end the connection: two and a half to three heartbeats.
const QUIET_TICKS_MAX: u32 = 5;

impl Default for Silence {
    /// Before the welcome has said what a heartbeat is.
    fn default() -> Silence {
        Silence { tick: Duration::from_secs(1), heard: true, quiet: 0 }
    }
}

impl Silence {
    pub(super) fn new(heartbeat_ms: u32) -> Silence {
        let tick = Duration::from_millis(u64::from(heartbeat_ms / 2).max(10));
        Silence { tick, heard: true, quiet: 0 }
    }

    pub(super) fn tick_length(&self) -> Duration {
        self.tick
    }

    pub(super) fn on_heard(&mut self) {
        self.heard = true;
    }

    /// To be called once per tick, after the welcome.
    pub(super) fn on_tick(&mut self) -> Result<(), End> {
        self.quiet = if std::mem::take(&mut self.heard) { 0 } else { self.quiet + 1 };
        if self.quiet >= QUIET_TICKS_MAX {
            Err(End::lost("nothing was heard from the broker"))
        } else {
            Ok(())
        }
    }
}

/// Queues all frames in `out`, in messages that no peer refuses for their size, and writes what the socket takes at
/// once.
pub(super) async fn send_frames(socket: &mut Socket, out: &mut BytesMut) -> Result<(), SocketError> {
    if out.is_empty() {
        return Ok(());
    }
    let mut rest = &out[..];
    while rest.len() > FRAME_BYTES_MAX {
        let mut end = 0;
        loop {
            let length = u32::from_le_bytes([rest[end + 1], rest[end + 2], rest[end + 3], 0]) as usize;
            if end > 0 && end + HEADER_BYTES + length > FRAME_BYTES_MAX {
                break;
            }
            end += HEADER_BYTES + length;
        }
        socket.queue(&rest[..end]);
        rest = &rest[end..];
    }
    socket.queue(rest);
    out.clear();
    if out.capacity() > KEPT_BYTES {
        *out = BytesMut::new();
    }
    socket.write().await
}
