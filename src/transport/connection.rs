//! The life of one connection, the same for both kinds of peers and for any carrier. It decides nothing about commands.
//!
//! ```text
//! carrier open ─▶ login (one deadline) ─▶ serving ─▶ ending: error or go-away frame, close, a moment for the peer to read
//!                     │                     ├─ frames come in      ─▶ the broker's handle
//!                     │                     ├─ the mailbox has mail ─▶ all of it, as few messages, one flush
//!                     │                     ├─ events               ─▶ after the answers, in turns
//!                     └─ refused            └─ tick: ping the silent, end the dead and the slow
//! ```
//! What must stay true: mail is taken only when everything before it is written, and nothing is read while the peer
//! owes us more than its window, so that a connection holds a bounded amount whatever its peer does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{sleep, timeout};

use super::ending::Ending;
pub(super) use super::login::Login;
use super::login::{LoggedIn, Peer, login};
use super::plugin::Plugin;
use super::publisher::Publisher;
use super::rounds::moment_within;
use super::settings::TransportSettings;
use super::upgrade::Role;
use crate::broker::{Followed, Handle, KeyWatch, Mailbox, ToPeer};
use crate::carrier::{Step, Wire};
use crate::protocol::{Code, HEADER_BYTES, Request, Response};

/// Bytes of frames in one message, but for a single larger frame; also how much is encoded before it is written.
const MESSAGE_BYTES: usize = 256 * 1024;
/// Bytes of answers made while reading (pongs, refusals) that may wait before reading stops.
const ANSWERS_BYTES_MAX: usize = 64 * 1024;
/// Capacity that an empty buffer may keep.
const KEPT_BYTES: usize = 512;
/// How long a peer may take to read why its connection ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Half heartbeats of silence after which a peer is pinged, and after which it is gone.
const QUIET_TICKS_PING: u32 = 2;
const QUIET_TICKS_MAX: u32 = 5;

/// Runs a connection to its end.
pub(super) async fn run<W: Wire>(
    wire: Box<W>,
    login_as: Login,
    handle: &Handle,
    settings: &TransportSettings,
) {
    // Boxed, see `Entered::serve`.
    if let Some(entered) = Box::pin(enter(wire, login_as, handle)).await {
        entered.serve(handle, settings).await;
    }
}

/// Logs a peer in; whoever is not let in is told why, and gone.
pub(super) async fn enter<W: Wire>(mut wire: Box<W>, login_as: Login, handle: &Handle) -> Option<Entered<W>> {
    let address = login_as.peer;
    match login(&mut *wire, &login_as, handle).await {
        Ok(logged_in) => {
            let (role, who) = match &logged_in.peer {
                Peer::Plugin(server) => (Role::Plugin, server.id.to_string()),
                Peer::Publisher(principal) => (Role::Publisher, principal.store.to_string()),
            };
            tracing::debug!(role = role.name(), peer = %address, who, "logged in");
            Some(Entered { wire, logged_in: Box::new(logged_in), role, who, address })
        }
        Err(ending) => {
            let role = login_as.role.map_or("unknown", Role::name);
            tracing::debug!(role, peer = %address, ending = ending.name(), "not let in");
            end(wire, &ending).await;
            None
        }
    }
}

/// A peer that is logged in and not served yet: it may still change its runtime.
pub(super) struct Entered<W> {
    wire: Box<W>,
    logged_in: Box<LoggedIn>,
    role: Role,
    who: String,
    address: SocketAddr,
}

impl<W: Wire> Entered<W> {
    /// Its carrier.
    pub(super) fn wire(&mut self) -> &mut W {
        &mut self.wire
    }

    /// Serves it to its end. This future is what an idle connection costs, so it has no room for what is needed for a
    /// moment only: that is boxed. The wire is, because a future keeps room for an argument twice.
    pub(super) async fn serve(self, handle: &Handle, settings: &TransportSettings) {
        let Entered { mut wire, logged_in, role, who, address } = self;
        let Err(ending) = serve(&mut *wire, logged_in, handle, settings).await;
        tracing::debug!(role = role.name(), peer = %address, who, ending = ending.name(), "connection ended");
        end(wire, &ending).await;
    }
}

/// Tells the peer why its connection ends, if it can be told.
async fn end<W: Wire>(mut wire: Box<W>, ending: &Ending) {
    if let Some((frame, close)) = ending.frame() {
        let mut out = BytesMut::new();
        frame.encode(&mut out).expect("details are short");
        wire.queue(&out);
        let _ = Box::pin(timeout(CLOSE_TIMEOUT, wire.close(close, ending.name()))).await;
    }
}

async fn serve<W: Wire>(
    wire: &mut W,
    logged_in: Box<LoggedIn>,
    handle: &Handle,
    settings: &TransportSettings,
) -> Result<Infallible, Ending> {
    let mut connection = Box::pin(Connection::open(wire, *logged_in, handle, settings)).await?;
    connection.serve().await
}

struct Connection<'a, W> {
    wire: &'a mut W,
    settings: &'a TransportSettings,
    mailbox: Arc<Mailbox>,
    role: RoleState,
    /// The key that the peer logged in with, if it was one.
    key: Option<KeyWatch>,
    /// Mail that was taken and did not fit in the last message.
    mail: VecDeque<ToPeer>,
    /// Whole frames that are not queued yet.
    out: BytesMut,
    pulse: Pulse,
}

enum RoleState {
    Plugin(Plugin),
    Publisher(Publisher),
}

impl<'a, W: Wire> Connection<'a, W> {
    async fn open(
        wire: &'a mut W,
        logged_in: LoggedIn,
        handle: &Handle,
        settings: &'a TransportSettings,
    ) -> Result<Connection<'a, W>, Ending> {
        let LoggedIn { peer, message, hello_bytes } = logged_in;
        let mailbox = Arc::new(Mailbox::default());
        let mut out = BytesMut::new();
        let hello = Request::decode(&message, message.len())?;
        let role = match (&peer, hello) {
            (Peer::Plugin(server), Some((Request::PluginHello(hello), _))) => {
                RoleState::Plugin(Plugin::connect(handle, server, &hello, mailbox.clone()).await?)
            }
            (Peer::Publisher(principal), _) => RoleState::Publisher(Publisher::connect(
                handle,
                principal,
                mailbox.clone(),
                settings,
                &mut out,
            )),
            _ => return Err(Ending::code(Code::Internal)),
        };
        let key = match &peer {
            Peer::Plugin(_) => None,
            Peer::Publisher(principal) => Some(handle.registry().watch_key(principal.key)),
        };
        let (mail, pulse) = Default::default();
        let mut connection = Connection { wire, settings, mailbox, role, key, mail, out, pulse };
        connection.on_frames(&message[hello_bytes..]).await?;
        Ok(connection)
    }

    async fn serve(&mut self) -> Result<Infallible, Ending> {
        let tick_length = (self.settings.heartbeat / 2).max(Duration::from_millis(5));
        let tick = sleep(tick_length);
        tokio::pin!(tick);
        tick.as_mut().reset(moment_within(tick_length));
        loop {
            // Neither is left to its branch below, which a peer that is never silent keeps from its turn.
            if self.key.as_mut().is_some_and(KeyWatch::is_removed) {
                return Err(key_removed());
            }
            if tick.is_elapsed() {
                self.on_tick()?;
                tick.as_mut().reset(moment_within(tick_length));
            }
            if self.wire.unwritten() == 0 {
                self.take_mail()?;
            }
            let writing = !self.wire.write().await?;
            let reading = self.may_read();
            tokio::select! {
                // What there is most of first: a turn costs what was asked before it. Mail is bounded by what was read.
                biased;
                () = self.mailbox.ready(), if !writing => {}
                step = self.wire.step(reading) => match step? {
                    Step::Frames(message) => {
                        self.pulse.heard = true;
                        self.on_frames(&message).await?;
                    }
                    Step::Heard => self.pulse.heard = true,
                    Step::Written => {}
                    Step::Closed => return Err(Ending::Gone),
                },
                () = removed(&mut self.key) => return Err(key_removed()),
                event = self.role.next_event(), if !writing => self.role.put_events(event, &mut self.out),
                () = &mut tick => {}
            }
        }
    }

    fn may_read(&self) -> bool {
        let owed = match &self.role {
            RoleState::Plugin(plugin) => plugin.may_read(),
            RoleState::Publisher(publisher) => publisher.may_read(),
        };
        owed && self.out.len() < ANSWERS_BYTES_MAX
    }

    async fn on_frames(&mut self, message: &[u8]) -> Result<(), Ending> {
        // Boxed, see `run`: an allocation for each message that comes in is nothing beside the system call that read it.
        match &mut self.role {
            RoleState::Plugin(plugin) => Box::pin(plugin.on_frames(message, &mut self.out)).await,
            RoleState::Publisher(publisher) => Box::pin(publisher.on_frames(message, &mut self.out)).await,
        }
    }

    /// Encodes all that waits, up to a message's worth, and queues it.
    fn take_mail(&mut self) -> Result<(), Ending> {
        self.mailbox.drain(&mut self.mail);
        // Made once, not in steps of twice as much.
        let bytes: usize = self.mail.iter().map(ToPeer::usual_frame_bytes).sum();
        self.out.reserve(bytes.min(MESSAGE_BYTES));
        let mut ending = Ok(());
        while ending.is_ok() && self.out.len() < MESSAGE_BYTES {
            let Some(mail) = self.mail.pop_front() else { break };
            ending = self.put(mail);
        }
        if let RoleState::Plugin(plugin) = &mut self.role {
            plugin.put_last(&mut self.out);
        }
        // What came before the end is still sent.
        for message in messages(&self.out) {
            self.wire.queue(message);
        }
        self.out.clear();
        if self.out.capacity() > KEPT_BYTES {
            self.out = BytesMut::new();
        }
        if self.mail.is_empty() && self.mail.capacity() > 16 {
            self.mail = VecDeque::new();
        }
        ending
    }

    fn put(&mut self, mail: ToPeer) -> Result<(), Ending> {
        match (mail, &mut self.role) {
            (ToPeer::Plugin(message), RoleState::Plugin(plugin)) => {
                plugin.put(message, self.settings, &mut self.out)
            }
            (ToPeer::Published { request, result }, RoleState::Publisher(publisher)) => {
                publisher.put(request, result, &mut self.out);
                Ok(())
            }
            (ToPeer::GoAway { delay_ms }, _) => Err(Ending::GoAway { delay_ms }),
            (mail, _) => {
                tracing::error!(?mail, "mail for the other kind of peer");
                Err(Ending::code(Code::Internal))
            }
        }
    }

    fn on_tick(&mut self) -> Result<(), Ending> {
        if let RoleState::Plugin(plugin) = &mut self.role {
            plugin.on_tick(&mut self.out);
        }
        let waiting = (self.wire.unwritten() > 0).then(|| self.wire.progress());
        let is_stuck = waiting.is_some() && waiting == self.pulse.waiting;
        self.pulse.stuck = if is_stuck { self.pulse.stuck + 1 } else { 0 };
        self.pulse.waiting = waiting;
        if self.settings.heartbeat / 2 * self.pulse.stuck >= self.settings.write_timeout {
            return Err(Ending::code(Code::SlowReader));
        }
        // While we do not read, silence is our own doing.
        let heard = std::mem::take(&mut self.pulse.heard) || !self.may_read();
        self.pulse.quiet = if heard { 0 } else { self.pulse.quiet + 1 };
        match self.pulse.quiet {
            QUIET_TICKS_MAX.. => Err(Ending::code(Code::HeartbeatTimeout)),
            QUIET_TICKS_PING => {
                let ping = Response::Ping { nonce: u64::from(self.pulse.quiet) };
                ping.encode(&mut self.out).expect("a ping fits");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl RoleState {
    async fn next_event(&mut self) -> Option<Followed> {
        match self {
            RoleState::Plugin(_) => std::future::pending().await,
            RoleState::Publisher(publisher) => publisher.next_event().await,
        }
    }

    fn put_events(&mut self, first: Option<Followed>, out: &mut BytesMut) {
        if let RoleState::Publisher(publisher) = self {
            publisher.put_events(first, out);
        }
    }
}

fn key_removed() -> Ending {
    Ending::error(Code::TokenRevoked, "the API key was removed")
}

async fn removed(key: &mut Option<KeyWatch>) {
    match key {
        Some(key) => key.removed().await,
        None => std::future::pending().await,
    }
}

/// What is known of the peer's health, in ticks of half a heartbeat: hearing and writing cost nothing.
#[derive(Default)]
struct Pulse {
    heard: bool,
    quiet: u32,
    /// The wire's progress at the last tick, if bytes waited then.
    waiting: Option<u64>,
    stuck: u32,
}

/// Cuts whole frames into messages of `MESSAGE_BYTES`, or of one larger frame.
fn messages(frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frames;
    std::iter::from_fn(move || {
        let mut end = if rest.len() <= MESSAGE_BYTES { rest.len() } else { 0 };
        while end < rest.len() {
            let length = u32::from_le_bytes([rest[end + 1], rest[end + 2], rest[end + 3], 0]) as usize;
            if end > 0 && end + HEADER_BYTES + length > MESSAGE_BYTES {
                break;
            }
            end += HEADER_BYTES + length;
        }
        let (message, after) = rest.split_at(end);
        rest = after;
        (!message.is_empty()).then_some(message)
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

    use super::*;
    use crate::broker::{self, Actor, Principal, Scope};
    use crate::carrier::WebSocket;
    use crate::credentials::HashCost;
    use crate::ids::StoreId;
    use crate::tls::Readable;

    #[test]
    fn messages_hold_whole_frames() {
        let mut frames = BytesMut::new();
        let mut sizes = Vec::new();
        for length in [10usize, 200_000, 70_000, 300_000, 5, 0, 262_140, 1] {
            let [low, middle, high, _] = (length as u32).to_le_bytes();
            frames.extend_from_slice(&[0x99, low, middle, high]);
            frames.resize(frames.len() + length, 0);
            sizes.push(length + HEADER_BYTES);
        }
        let cut: Vec<usize> = messages(&frames).map(<[u8]>::len).collect();
        let of = |range: std::ops::Range<usize>| sizes[range].iter().sum::<usize>();
        assert_eq!(cut, [of(0..2), of(2..3), of(3..4), of(4..6), of(6..7), of(7..8)]);
        assert_eq!(messages(&[]).count(), 0);
    }

    /// Says what it is given, and takes nothing.
    struct Babbler<R>(R);

    /// Pongs without an end: a byte that is, again and again, a masked message of ten zeros.
    fn pongs() -> tokio::io::Repeat {
        tokio::io::repeat(0x8a)
    }

    impl<R> Readable for Babbler<R> {
        fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    impl<R: AsyncRead + Unpin> AsyncRead for Babbler<R> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl<R: Unpin> AsyncWrite for Babbler<R> {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// How a publisher's connection ends that is never silent and takes nothing, and how many bytes of answers wait then. Its
    /// key is removed if it is said so.
    async fn ending_of_a_babbler(
        babble: impl AsyncRead + Unpin + Send + 'static,
        write_timeout: Duration,
        removed: bool,
    ) -> (&'static str, usize) {
        let dir = tempfile::tempdir().unwrap();
        let broker =
            broker::Settings { hash_cost: HashCost::TINY, ..broker::Settings::new(dir.path().join("data")) };
        let running = broker::start(broker).unwrap();
        let heartbeat = Duration::from_millis(20);
        let settings = TransportSettings { heartbeat, write_timeout, ..TransportSettings::default() };
        let (store, scope) = (StoreId(1), Scope::Publish);
        let registry = running.handle().registry().by(Actor::LOCAL);
        let (id, _) = registry.create_key(store, scope, "shop").await.unwrap();
        let principal = Principal { key: Some(id), scope, store };
        let (handle, mailbox) = (running.handle().clone(), Arc::new(Mailbox::default()));
        let serving = tokio::spawn(async move {
            let mut wire = WebSocket::server(Babbler(babble), Bytes::new(), 1024);
            wire.queue(b"what waits");
            let mut out = BytesMut::new();
            let publisher = Publisher::connect(&handle, &principal, mailbox.clone(), &settings, &mut out);
            let key = Some(handle.registry().watch_key(Some(id)));
            let (mail, pulse) = Default::default();
            let (wire, settings, role) = (&mut wire, &settings, RoleState::Publisher(publisher));
            let mut connection = Connection { wire, settings, mailbox, role, key, mail, out, pulse };
            let Err(ending) = connection.serve().await;
            (ending.name(), connection.out.len())
        });
        if removed {
            registry.remove_key(id).await.unwrap();
        }
        let abort = serving.abort_handle();
        let ended = timeout(Duration::from_secs(30), serving).await;
        abort.abort();
        running.stop().await.unwrap();
        ended.expect("it ends").unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_never_silent_stops_neither_the_clock_nor_the_removal_of_its_key() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(3600));
        assert_eq!(ending_of_a_babbler(pongs(), short, false).await.0, "slow_reader");
        assert_eq!(ending_of_a_babbler(pongs(), long, true).await.0, "token_revoked");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_takes_no_answers_is_asked_nothing_more() {
        let mut ping = BytesMut::new();
        Request::Ping { nonce: 1 }.encode(&mut ping).unwrap();
        let pings = ping.repeat(100);
        let head = [&[0x82, 0xfe][..], &(pings.len() as u16).to_be_bytes(), &[0; 4]].concat();
        let babble = io::Cursor::new([head, pings].concat().repeat(1000)).chain(pongs());
        let (ending, waiting) = ending_of_a_babbler(babble, Duration::from_millis(500), false).await;
        assert!(waiting < 2 * ANSWERS_BYTES_MAX, "{waiting} bytes of answers wait");
        assert_eq!(ending, "slow_reader");
    }
}
