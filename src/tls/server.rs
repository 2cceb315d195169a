//! A broker's certificate: read from its files, swapped under open connections, served to each new handshake.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
};
use rustls::sign::CertifiedKey;
use rustls::{DEFAULT_VERSIONS, SupportedProtocolVersion, version};

use super::dates;
use super::error::TlsError;
use super::fingerprint::Fingerprint;
use super::pem::{self, Stamp};
use super::sessions::{KeptSessions, SessionClock};
use super::{ALPN_HTTP, ALPN_QUIC, hello, provider, self_signed};
use crate::credentials::SESSION_KEYS_FILE;
use crate::time::UnixMs;

/// Tickets for each handshake, of which a client uses one to come back: a second, so that it may fail once on the way. Of 10,000
/// clients that lost their broker to a kill 13 to 48 would have had none left, and the second costs nothing that was measured.
const TICKETS_EACH: usize = 2;

/// What one reading of the files gives. Session tickets go with it: a session begun under another certificate is not
/// resumed, so that its client sees the new one.
#[derive(Debug)]
struct Identity {
    pair: Arc<CertifiedKey>,
    tickets: Tickets,
}

impl Identity {
    /// `place` is where the keys of tickets are kept; without one they end with the identity.
    fn new(pair: CertifiedKey, place: Option<&SessionPlace>) -> Result<Arc<Identity>, TlsError> {
        let tickets = match place {
            Some(place) => Tickets::Kept(place.open(fingerprint(&pair))),
            None => {
                let own = Ticketer::new().map_err(|error| TlsError::Tickets(error.to_string()))?;
                Tickets::Passing(own)
            }
        };
        Ok(Arc::new(Identity { pair: Arc::new(pair), tickets }))
    }
}

fn fingerprint(pair: &CertifiedKey) -> Fingerprint {
    Fingerprint::of(pair.cert.first().expect("a chain that was read has a certificate"))
}

/// How session tickets are sealed.
#[derive(Debug)]
enum Tickets {
    /// With keys that nobody else has, and that change every six hours.
    Passing(Arc<dyn ProducesTickets>),
    /// With keys that outlive the process.
    Kept(KeptSessions),
}

impl Tickets {
    fn get(&self) -> &dyn ProducesTickets {
        match self {
            Tickets::Passing(tickets) => &**tickets,
            Tickets::Kept(tickets) => tickets,
        }
    }
}

/// Where the keys of session tickets are kept.
struct SessionPlace {
    file: PathBuf,
    clock: SessionClock,
}

impl SessionPlace {
    fn open(&self, certificate: Fingerprint) -> KeptSessions {
        KeptSessions::open(self.file.clone(), certificate, self.clock.clone())
    }
}

impl std::fmt::Debug for SessionPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionPlace").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The identity that new handshakes get.
#[derive(Debug)]
struct Current(ArcSwap<Identity>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().pair.clone())
    }
}

/// Resumption costs the server no memory: the session is in the ticket.
impl ProducesTickets for Current {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.0.load().tickets.get().lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.load().tickets.get().encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.load().tickets.get().decrypt(cipher)
    }
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn read(&self, place: Option<&SessionPlace>) -> Result<Arc<Identity>, TlsError> {
        Identity::new(pem::certified_key(&self.cert, &self.key)?, place)
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        [Stamp::of(&self.cert), Stamp::of(&self.key)]
    }
}

#[derive(Debug)]
struct Shared {
    files: Files,
    /// Of the files when they were last read, well or not.
    seen: Mutex<[Option<Stamp>; 2]>,
    /// Where sessions are kept, once they are.
    place: OnceLock<SessionPlace>,
    current: Arc<Current>,
    http: Arc<ServerConfig>,
}

/// The server's side of TLS: TLS 1.2 at least, rustls' suites, no client certificates, no early data. Cheap to clone;
/// all clones serve the same certificate.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<Shared>);

impl PartialEq for ServerTls {
    fn eq(&self, other: &ServerTls) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ServerTls {}

impl ServerTls {
    /// Serves the chain and the key in these two PEM files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn open(cert: &Path, key: &Path) -> Result<ServerTls, TlsError> {
        let files = Files { cert: cert.to_path_buf(), key: key.to_path_buf() };
        // Before the files are read, so that what changes meanwhile is read again.
        let seen = Mutex::new(files.stamps());
        let current = Arc::new(Current(ArcSwap::new(files.read(None)?)));
        let http = Arc::new(config(&current, DEFAULT_VERSIONS, ALPN_HTTP));
        Ok(ServerTls(Arc::new(Shared { files, seen, place: OnceLock::new(), current, http })))
    }

    /// Serves a self-signed certificate that is kept in this directory; made when there is none, and anew when it has
    /// expired at this time. Clients trust its fingerprint, or its file `tls-self-signed.crt` as a CA.
    ///
    /// # Errors
    /// It cannot be made, stored or read.
    pub fn self_signed(dir: &Path, now: UnixMs) -> Result<ServerTls, TlsError> {
        let (cert, key) = self_signed::files(dir, now)?;
        ServerTls::open(&cert, &key)
    }

    /// From now on sessions can be resumed after a restart, under the same certificate: the keys of their tickets are kept in
    /// a file of this directory, which is made if there is none. What cannot be written is warned of. To be called once,
    /// before the first handshake; then [`ServerTls::renew_session_key`] from time to time.
    pub fn keep_sessions(&self, dir: &Path, clock: SessionClock) {
        let place = SessionPlace { file: dir.join(SESSION_KEYS_FILE), clock };
        let place = self.0.place.get_or_init(|| place);
        let pair = self.0.current.0.load().pair.clone();
        let tickets = Tickets::Kept(place.open(fingerprint(&pair)));
        self.0.current.0.store(Arc::new(Identity { pair, tickets }));
    }

    /// Makes a new key for sessions that are kept, if it is time for one. Costs next to nothing if not; else it writes a
    /// file. The key before is good for another day.
    pub fn renew_session_key(&self) {
        if let Tickets::Kept(sessions) = &self.0.current.0.load().tickets {
            sessions.renew_if_due();
        }
    }

    /// The fingerprint of the certificate that new handshakes get.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.0.current.0.load().pair)
    }

    /// Why clients will refuse the certificate at this time, or `None`.
    pub fn time_flaw(&self, now: UnixMs) -> Option<&'static str> {
        dates::time_flaw(&self.0.current.0.load().pair, now)
    }

    /// Reads the files again. New handshakes get what they hold; open connections go on as they are. Sessions that are kept
    /// can be resumed if the certificate is the same and the file of their keys is still there; others cannot.
    ///
    /// # Errors
    /// As for [`ServerTls::open`]; then the old certificate stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut seen = self.0.seen.lock();
        *seen = self.0.files.stamps();
        self.0.current.0.store(self.0.files.read(self.0.place.get())?);
        Ok(())
    }

    /// Reads the files again if they changed since they were last read; `None` when they did not.
    pub fn reload_if_changed(&self) -> Option<Result<(), TlsError>> {
        let changed = *self.0.seen.lock() != self.0.files.stamps();
        changed.then(|| self.reload())
    }

    /// For TCP: HTTP/1.1 and WebSocket.
    pub fn http(&self) -> Arc<ServerConfig> {
        self.0.http.clone()
    }

    /// Whether a client's first bytes name a session that can be resumed here. A hint, given before the handshake and for less than
    /// a hundredth of its price: whoever has seen a client's first bytes can send them again.
    pub fn knows(&self, first_bytes: &[u8]) -> bool {
        hello::ticket(first_bytes).is_some_and(|ticket| self.0.current.decrypt(ticket).is_some())
    }

    /// For QUIC: TLS 1.3 alone, the frames of this protocol, the same certificate and its reloads.
    pub fn quic(&self) -> ServerConfig {
        config(&self.0.current, &[&version::TLS13], ALPN_QUIC)
    }
}

fn config(
    current: &Arc<Current>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[u8],
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("the provider has suites for these versions")
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![alpn.to_vec()];
    // Clients name what is slowest for us first.
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = current.clone();
    config.send_tls13_tickets = TICKETS_EACH;
    config
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
