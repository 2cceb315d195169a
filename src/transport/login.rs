//! From the first byte to a known peer: the first frame, the version, the credentials. Bounded by one deadline.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use super::ending::Ending;
use super::upgrade::Role;
use crate::broker::{Handle, Network, Origin, Principal, Server};
use crate::carrier::{Step, Wire};
#[cfg(feature = "quic")]
use crate::protocol::HelloHead;
use crate::protocol::{Code, Credential, Request, VERSION};

/// Messages behind the hello that are looked at before the login; a peer with more to say is there.
const STEPS_MAX: usize = 8;

/// What the carrier knows before the first frame.
pub(super) struct Login {
    /// Which of the two kinds of peers this path is for; `None` = both.
    pub(super) role: Option<Role>,
    /// The credential of the upgrade request. When its tag is right, the hello may be as large as any frame.
    pub(super) bearer: Option<String>,
    /// When the login must be over.
    pub(super) deadline: Instant,
    /// The other end of the socket.
    pub(super) peer: SocketAddr,
    /// True when the broker stops.
    pub(super) shutdown: watch::Receiver<bool>,
    /// Its place among the logins under way, given back with the login.
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

/// A peer that has proved who it is.
pub(super) enum Peer {
    Plugin(Arc<Server>),
    Publisher(Principal),
}

/// The outcome of a login.
pub(super) struct LoggedIn {
    pub(super) peer: Peer,
    /// The message with the hello.
    pub(super) message: Bytes,
    /// Bytes of the hello in it; other frames may follow.
    pub(super) hello_bytes: usize,
}

/// Reads the hello and checks who it is.
pub(super) async fn login<W: Wire>(wire: &mut W, login: &Login, handle: &Handle) -> Result<LoggedIn, Ending> {
    let mut shutdown = login.shutdown.clone();
    tokio::select! {
        biased;
        result = timeout_at(login.deadline, login_unbounded(wire, login, handle)) => match result {
            Ok(result) => result,
            Err(_) => Err(Ending::code(Code::LoginTimeout)),
        },
        _ = shutdown.wait_for(|stop| *stop) => Err(Ending::code(Code::ShuttingDown)),
    }
}

async fn login_unbounded<W: Wire>(wire: &mut W, login: &Login, handle: &Handle) -> Result<LoggedIn, Ending> {
    // Only the tag is looked at before the hello is known: the hello may hold a ticket, which spares the hash.
    if let (Some(role), Some(bearer)) = (login.role, login.bearer.as_deref())
        && is_plausible(role, bearer, handle)
    {
        wire.on_login();
    }
    let mut message = first_message(wire).await?;
    let Some((hello, hello_bytes)) = Request::decode(&message, wire.frame_bytes_max())? else {
        return Err(Ending::error(Code::BadFrame, "the first message ends inside its first frame"));
    };
    let (role, credential) = hello_credential(login.role, &hello)?;
    let peer = check(login, role, credential, handle).await?;
    wire.on_login();
    still_there(wire, &mut message)?;
    Ok(LoggedIn { peer, message, hello_bytes })
}

/// Notices a peer that went away while its credentials were checked. Checks end in any order: without this, the
/// connection of a process that has died could take over from the one that came after it.
fn still_there<W: Wire>(wire: &mut W, message: &mut Bytes) -> Result<(), Ending> {
    for _ in 0..STEPS_MAX {
        match wire.step(true).now_or_never() {
            None => return Ok(()),
            Some(Ok(Step::Closed)) => return Err(Ending::Gone),
            Some(Ok(Step::Frames(more))) => *message = [&message[..], &more[..]].concat().into(),
            Some(Ok(Step::Heard | Step::Written)) => {}
            Some(Err(fault)) => return Err(fault.into()),
        }
    }
    Ok(())
}

/// Role and credential of a first frame that is the right hello in a version that we speak.
fn hello_credential<'a>(
    expected: Option<Role>,
    first: &Request<'a>,
) -> Result<(Role, Credential<'a>), Ending> {
    let (found, credential, min, max) = match first {
        Request::PluginHello(hello) => (Role::Plugin, hello.credential, hello.version_min, hello.version_max),
        Request::PublisherHello(hello) => {
            (Role::Publisher, hello.credential, hello.version_min, hello.version_max)
        }
        _ => return Err(Ending::error(Code::LoginRequired, "the first frame must be a hello")),
    };
    match (expected, found) {
        (Some(Role::Plugin), Role::Publisher) => {
            return Err(Ending::error(
                Code::ProtocolViolation,
                "a publisher's hello came on the plugins' path",
            ));
        }
        (Some(Role::Publisher), Role::Plugin) => {
            return Err(Ending::error(
                Code::ProtocolViolation,
                "a plugin's hello came on the publishers' path",
            ));
        }
        _ => {}
    }
    if !(min..=max).contains(&VERSION) {
        let detail = format!("this broker speaks version {VERSION}, the hello offers {min} to {max}");
        return Err(Ending::error(Code::UnsupportedVersion, detail));
    }
    Ok((found, credential))
}

/// Whether a hello that begins like this may be as long as any frame: it shows a token or key with the right tag.
#[cfg(feature = "quic")]
pub(super) fn may_be_long(head: &[u8], handle: &Handle) -> bool {
    match HelloHead::of(head) {
        Some(HelloHead::Plugin(Credential::Token(token) | Credential::TicketAndToken { token, .. })) => {
            is_plausible(Role::Plugin, token, handle)
        }
        Some(HelloHead::Publisher(Credential::Token(key))) => is_plausible(Role::Publisher, key, handle),
        _ => false,
    }
}

fn is_plausible(role: Role, bearer: &str, handle: &Handle) -> bool {
    match role {
        Role::Plugin => handle.registry().is_plausible_token(bearer),
        Role::Publisher => handle.registry().is_plausible_key(bearer),
    }
}

/// Checks who it is, with one password hash at most. A token in the hello counts alone; a ticket there goes first, and
/// the upgrade request's credential counts when it is of no use.
async fn check(
    login: &Login,
    role: Role,
    credential: Credential<'_>,
    handle: &Handle,
) -> Result<Peer, Ending> {
    let registry = handle.registry();
    let within = login.deadline.saturating_duration_since(Instant::now());
    let origin = Origin { network: Network::of(login.peer.ip()), within };
    let bearer = login.bearer.as_deref();
    let secret = match credential {
        Credential::Token(token) => token,
        // There are none for publishers: with nothing else, that is a wrong key.
        Credential::Ticket(_) if role == Role::Publisher => bearer.unwrap_or_default(),
        Credential::TicketAndToken { token, .. } if role == Role::Publisher => token,
        Credential::Ticket(ticket) => {
            return Ok(Peer::Plugin(registry.check_ticket(ticket, bearer, origin).await?));
        }
        Credential::TicketAndToken { ticket, token } => {
            return Ok(Peer::Plugin(registry.check_ticket(ticket, Some(token), origin).await?));
        }
        Credential::None => bearer.ok_or_else(|| Ending::code(Code::LoginRequired))?,
    };
    Ok(match role {
        Role::Plugin => Peer::Plugin(registry.check_token(secret, origin).await?),
        Role::Publisher => Peer::Publisher(registry.check_key(secret, origin).await?),
    })
}

async fn first_message<W: Wire>(wire: &mut W) -> Result<Bytes, Ending> {
    loop {
        match wire.step(true).await? {
            Step::Frames(message) if message.has_remaining() => return Ok(message),
            Step::Frames(_) | Step::Heard | Step::Written => {}
            Step::Closed => return Err(Ending::Gone),
        }
    }
}
