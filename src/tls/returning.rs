//! A client's TLS with the one broker that it comes back to, over TCP: its sessions, and how the next handshake begins. Opens no
//! socket.
//!
//! ```text
//! no session ─▶ full: hybrid key exchange (X25519 with ML-KEM), certificate ─▶ tickets are kept
//! a session  ─▶ quick: the session and X25519 alone ─┬─ resumed ─▶ new tickets are kept
//!                                                    └─ not resumed: refused before anything is said ─▶ full, on a new socket
//! ```
//! A session's secret comes out of a full handshake or out of another session, so it is as safe from a quantum computer of a
//! later day as ML-KEM made it; what is mixed with it when it is resumed need not be so again.
//!
//! What must stay true: no handshake without ML-KEM is finished that does not rest on a session, or else whoever makes a
//! broker forget its sessions would have taken ML-KEM away; and no certificate is accepted here that the trust would refuse.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DEFAULT_VERSIONS, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

use super::{ClientTls, quick_provider};
use crate::limits::TLS_SESSIONS_KEPT;

/// So often in a row sessions may turn out to be worth nothing before no more is hoped of them: behind a balancer whose
/// brokers share no keys each try would be one handshake too many.
const MISSES_MAX: u32 = 2;

/// See the module. One handshake at a time.
pub(crate) struct ReturningTls {
    full: Arc<ClientConfig>,
    quick: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
    gate: Arc<Gate>,
    misses: AtomicU32,
}

impl ReturningTls {
    /// Trusts whom `tls` trusts, and has no session yet.
    pub(crate) fn new(tls: &ClientTls) -> ReturningTls {
        let sessions = Arc::new(Sessions::default());
        let gate =
            Arc::new(Gate { inner: tls.verifier(), is_quick: false.into(), was_refused: false.into() });
        let mut full = ClientConfig::clone(&tls.config());
        full.dangerous().set_certificate_verifier(gate.clone());
        full.resumption = Resumption::store(sessions.clone());
        let mut quick = ClientConfig::builder_with_provider(quick_provider())
            .with_protocol_versions(DEFAULT_VERSIONS)
            .expect("the provider has suites for these versions")
            .dangerous()
            .with_custom_certificate_verifier(gate.clone())
            .with_no_client_auth();
        quick.alpn_protocols = full.alpn_protocols.clone();
        quick.resumption = full.resumption.clone();
        // A session is for the same verifier and the same certificate of the client's, which there is none of.
        quick.client_auth_cert_resolver = full.client_auth_cert_resolver.clone();
        ReturningTls {
            full: Arc::new(full),
            quick: Arc::new(quick),
            sessions,
            gate,
            misses: AtomicU32::new(0),
        }
    }

    /// For a handshake that succeeds only by resuming; `None` if that is not worth a try.
    pub(crate) fn quick(&self) -> Option<Arc<ClientConfig>> {
        let hopeful = self.misses.load(Ordering::Relaxed) < MISSES_MAX && self.sessions.is_any();
        hopeful.then(|| {
            self.gate.is_quick.store(true, Ordering::Relaxed);
            self.quick.clone()
        })
    }

    /// To be asked after each quick handshake: whether it failed only because the session was not resumed. No session is
    /// left then: do a full one.
    pub(crate) fn was_not_resumed(&self) -> bool {
        let refused = self.gate.was_refused.swap(false, Ordering::Relaxed);
        if refused {
            self.misses.fetch_add(1, Ordering::Relaxed);
            self.sessions.forget();
        }
        refused
    }

    /// A quick handshake succeeded.
    pub(crate) fn on_resumed(&self) {
        self.misses.store(0, Ordering::Relaxed);
    }

    /// For any handshake.
    pub(crate) fn full(&self) -> Arc<ClientConfig> {
        self.gate.is_quick.store(false, Ordering::Relaxed);
        self.full.clone()
    }
}

/// Decides as `inner` does; but sees no certificate in a quick handshake, in which one is shown only if nothing is resumed.
#[derive(Debug)]
struct Gate {
    inner: Arc<dyn ServerCertVerifier>,
    is_quick: AtomicBool,
    was_refused: AtomicBool,
}

impl ServerCertVerifier for Gate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_quick.load(Ordering::Relaxed) {
            self.was_refused.store(true, Ordering::Relaxed);
            return Err(Error::General("the session was not resumed".into()));
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The sessions that can be resumed, of one client with one broker.
#[derive(Default)]
struct Sessions(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Each is used once; the latest last.
    tls13: VecDeque<(ServerName<'static>, Tls13ClientSessionValue)>,
    tls12: Option<(ServerName<'static>, Tls12ClientSessionValue)>,
}

impl Sessions {
    fn is_any(&self) -> bool {
        let kept = self.0.lock();
        kept.tls12.is_some() || !kept.tls13.is_empty()
    }

    fn forget(&self) {
        *self.0.lock() = Kept::default();
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(...)")
    }
}

impl ClientSessionStore for Sessions {
    /// None is remembered: the two kinds of handshakes have their own groups.
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.lock().tls12 = Some((name, session));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let kept = self.0.lock();
        kept.tls12.as_ref().filter(|(whose, _)| whose == name).map(|(_, session)| session.clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.lock().tls12 = None;
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, session: Tls13ClientSessionValue) {
        let mut kept = self.0.lock();
        if kept.tls13.len() == TLS_SESSIONS_KEPT {
            kept.tls13.pop_front();
        }
        kept.tls13.push_back((name, session));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let latest = self.0.lock().tls13.pop_back();
        latest.filter(|(whose, _)| whose == name).map(|(_, session)| session)
    }
}
