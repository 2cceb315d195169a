//! Tests of TLS without sockets: files and what is wrong with them, handshakes in memory, reloads.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls::{ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, ServerConnection};

use self::pki::Pki;
use super::*;
#[cfg(feature = "quic")]
use crate::tls::QuicTls;
use crate::tls::{CertificateProblem, ClientTls, ReturningTls, Trust};

#[path = "../../tests/support/pki.rs"]
mod pki;

fn open(pki: &Pki, cert: &str, key: &str) -> Result<ServerTls, TlsError> {
    ServerTls::open(&pki.path(cert), &pki.path(key))
}

fn trusting(pki: &Pki) -> ClientTls {
    ClientTls::new(&Trust::CaFile(pki.path("ca.crt"))).unwrap()
}

struct Pair {
    client: ClientConnection,
    server: ServerConnection,
}

/// A handshake in memory, and one byte each way after it.
fn shake(server: Arc<ServerConfig>, client: &ClientTls, host: &str) -> Result<Pair, rustls::Error> {
    let mut pair = Pair::new(server, client.config(), host)?;
    pair.shake()?;
    Ok(pair)
}

impl Pair {
    fn new(
        server: Arc<ServerConfig>,
        client: Arc<rustls::ClientConfig>,
        host: &str,
    ) -> Result<Pair, rustls::Error> {
        let name = super::super::server_name(host).unwrap();
        Ok(Pair { client: ClientConnection::new(client, name)?, server: ServerConnection::new(server)? })
    }

    fn shake(&mut self) -> Result<(), rustls::Error> {
        self.exchange()?;
        self.server.writer().write_all(b"x").unwrap();
        self.exchange()?;
        self.client.reader().read_exact(&mut [0]).unwrap();
        Ok(())
    }

    /// What the server has been told.
    fn told(&mut self) -> Vec<u8> {
        let mut told = Vec::new();
        let _ = self.server.reader().read_to_end(&mut told);
        told
    }

    fn exchange(&mut self) -> Result<(), rustls::Error> {
        while self.client.wants_write() || self.server.wants_write() {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                self.server.read_tls(&mut rest).unwrap();
                self.server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut wire).unwrap();
            }
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                self.client.process_new_packets()?;
            }
        }
        Ok(())
    }

    fn seen(&self) -> Fingerprint {
        Fingerprint::of(&self.client.peer_certificates().unwrap()[0])
    }
}

fn problem(result: Result<Pair, rustls::Error>) -> CertificateProblem {
    problem_of(result.err().expect("the certificate is not accepted"))
}

fn problem_of(error: rustls::Error) -> CertificateProblem {
    CertificateProblem::of(&std::io::Error::other(error)).expect("a certificate was the cause")
}

fn now() -> UnixMs {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    UnixMs(since.as_millis() as u64)
}

/// A client that speaks this version alone.
fn speaking(pki: &Pki, version: &'static rustls::SupportedProtocolVersion) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.ca.der().clone()).unwrap();
    rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[test]
fn both_versions_are_spoken_and_http_inside() {
    let pki = Pki::new();
    let tls = open(&pki, "a.crt", "a.key").unwrap();
    let pair = shake(tls.http(), &trusting(&pki), "localhost").unwrap();
    assert_eq!(pair.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(pair.server.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(pair.seen(), tls.fingerprint());
    let mut old = speaking(&pki, &version::TLS12);
    let name = super::super::server_name("localhost").unwrap();
    let connect = |config: &rustls::ClientConfig, server| {
        let client = ClientConnection::new(Arc::new(config.clone()), name.clone()).unwrap();
        let mut pair = Pair { client, server: ServerConnection::new(server).unwrap() };
        pair.exchange().map(|()| pair)
    };
    let pair = connect(&old, tls.http()).unwrap();
    assert_eq!(pair.server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert!(connect(&old, Arc::new(tls.quic())).is_err(), "QUIC has TLS 1.3 alone");
    old.alpn_protocols = vec![b"h2".to_vec()];
    assert!(connect(&old, tls.http()).is_err(), "HTTP/2 is not spoken");
}

#[test]
fn quic_has_the_same_certificate_and_another_protocol() {
    let pki = Pki::new();
    let tls = open(&pki, "a.crt", "a.key").unwrap();
    let quic = tls.quic();
    assert_eq!(quic.alpn_protocols, [b"fluxrelay.v1".to_vec()]);
    assert_eq!(quic.max_early_data_size, 0);
    assert!(Arc::ptr_eq(&tls.0.current, &{ tls.clone() }.0.current));
    // A client of HTTP has no protocol in common with it.
    assert!(shake(Arc::new(quic), &trusting(&pki), "localhost").is_err());
}

#[test]
fn sessions_are_resumed_until_the_certificate_changes() {
    let pki = Pki::new();
    let tls = open(&pki, "a.crt", "a.key").unwrap();
    let client = trusting(&pki);
    let kind = |client| shake(tls.http(), client, "localhost").unwrap().client.handshake_kind().unwrap();
    assert_ne!(kind(&client), HandshakeKind::Resumed);
    assert_eq!(kind(&client), HandshakeKind::Resumed);
    assert!(tls.reload_if_changed().is_none(), "nothing changed");
    let before = tls.fingerprint();
    pki.issue("a", |_| {});
    tls.reload_if_changed().expect("it changed").unwrap();
    let pair = shake(tls.http(), &client, "localhost").unwrap();
    assert_ne!(pair.client.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_ne!(pair.seen(), before);
    assert_eq!(pair.seen(), tls.fingerprint());
}

/// A server whose sessions outlive it.
fn remembering(pki: &Pki, folder: &tempfile::TempDir) -> ServerTls {
    let tls = open(pki, "a.crt", "a.key").unwrap();
    tls.keep_sessions(folder.path(), Arc::new(now));
    tls
}

#[test]
fn sessions_that_are_kept_are_resumed_after_a_restart_and_not_with_other_keys() {
    let pki = Pki::new();
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = |folder| remembering(&pki, folder);
    let client = trusting(&pki);
    let kind =
        |tls: &ServerTls| shake(tls.http(), &client, "localhost").unwrap().client.handshake_kind().unwrap();
    assert_ne!(kind(&server(&here)), HandshakeKind::Resumed);
    assert_eq!(kind(&server(&here)), HandshakeKind::Resumed);
    assert_ne!(kind(&server(&elsewhere)), HandshakeKind::Resumed, "it is done in full instead");
    let tls = server(&elsewhere);
    assert_eq!(kind(&tls), HandshakeKind::Resumed);
    tls.reload().unwrap();
    assert_eq!(kind(&tls), HandshakeKind::Resumed, "the same certificate was read again");
    pki.issue("a", |_| {});
    tls.reload().unwrap();
    assert_ne!(kind(&tls), HandshakeKind::Resumed);
    assert_eq!(kind(&tls), HandshakeKind::Resumed);
}

#[test]
fn a_first_message_shows_a_session_of_ours_as_a_whole_and_unaltered_only() {
    let pki = Pki::new();
    let (tls, other) = (open(&pki, "a.crt", "a.key").unwrap(), open(&pki, "a.crt", "a.key").unwrap());
    for version in [&version::TLS12, &version::TLS13] {
        let client = Arc::new(speaking(&pki, version));
        let hello = || {
            let mut bytes = Vec::new();
            let mut pair = Pair::new(tls.http(), client.clone(), "localhost").unwrap();
            pair.client.write_tls(&mut bytes).unwrap();
            bytes
        };
        assert!(!tls.knows(&hello()), "it was never here");
        Pair::new(tls.http(), client.clone(), "localhost").unwrap().shake().unwrap();
        let hello = hello();
        assert!(tls.knows(&hello) && !other.knows(&hello));
        assert!((0..hello.len()).all(|length| !tls.knows(&hello[..length])));
        let noticed = (0..hello.len()).filter(|at| {
            let mut altered = hello.clone();
            altered[*at] ^= 1;
            !tls.knows(&altered)
        });
        assert!(noticed.count() > 100, "the ticket alone is longer");
    }
}

/// A handshake as QUIC has it, without its packets: what kind it was, as both ends say.
#[cfg(feature = "quic")]
fn quic_kind(tls: &ServerTls, client: &QuicTls) -> HandshakeKind {
    use rustls::quic::{self, Connection, Version};
    /// Hands over what one end has to say; false = nothing.
    fn pass(from: &mut Connection, to: &mut Connection) -> bool {
        let mut said = false;
        loop {
            let mut bytes = Vec::new();
            let change = from.write_hs(&mut bytes);
            if bytes.is_empty() && change.is_none() {
                return said;
            }
            said = true;
            to.read_hs(&bytes).unwrap();
        }
    }
    let name = super::super::server_name("localhost").unwrap();
    let parameters = b"opaque to TLS".to_vec();
    let client = quic::ClientConnection::new(client.config(), Version::V1, name, parameters.clone()).unwrap();
    let server = quic::ServerConnection::new(Arc::new(tls.quic()), Version::V1, parameters).unwrap();
    let (mut client, mut server) = (Connection::from(client), Connection::from(server));
    while pass(&mut client, &mut server) | pass(&mut server, &mut client) {}
    let kind = client.handshake_kind().expect("it is over");
    assert_eq!((server.handshake_kind(), client.zero_rtt_keys().is_some()), (Some(kind), false));
    kind
}

#[cfg(feature = "quic")]
#[test]
fn sessions_of_quic_are_resumed_after_a_restart_and_not_with_other_keys() {
    let pki = Pki::new();
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = |folder| remembering(&pki, folder);
    let client = QuicTls::new(&trusting(&pki));
    assert_ne!(quic_kind(&server(&here), &client), HandshakeKind::Resumed);
    assert_eq!(quic_kind(&server(&here), &client), HandshakeKind::Resumed);
    let others = QuicTls::new(&trusting(&pki));
    assert_ne!(quic_kind(&server(&here), &others), HandshakeKind::Resumed, "sessions are not shared");
    assert_ne!(quic_kind(&server(&elsewhere), &client), HandshakeKind::Resumed, "it is done in full instead");
    let tls = server(&elsewhere);
    assert_eq!(quic_kind(&tls, &client), HandshakeKind::Resumed);
    pki.issue("a", |_| {});
    tls.reload().unwrap();
    assert_ne!(quic_kind(&tls, &client), HandshakeKind::Resumed, "it sees the new certificate");
    assert_eq!(quic_kind(&tls, &client), HandshakeKind::Resumed);
}

/// A handshake in which the client's first bytes are a secret: its group, if it was resumed, and what the server was told.
fn come(
    server: &ServerTls,
    client: Option<Arc<rustls::ClientConfig>>,
) -> (Result<(NamedGroup, bool), rustls::Error>, Vec<u8>) {
    let mut pair = Pair::new(server.http(), client.expect("it is worth a try"), "localhost").unwrap();
    pair.client.writer().write_all(b"secret").unwrap();
    let shaken = pair.shake().map(|()| {
        let resumed = pair.client.handshake_kind() == Some(HandshakeKind::Resumed);
        (pair.client.negotiated_key_exchange_group().unwrap().name(), resumed)
    });
    let told = pair.told();
    (shaken, told)
}

#[test]
fn who_comes_back_resumes_without_ml_kem_and_nothing_else_is_without() {
    let pki = Pki::new();
    let tls = open(&pki, "a.crt", "a.key").unwrap();
    let client = ReturningTls::new(&trusting(&pki));
    assert!(client.quick().is_none(), "there is no session yet");
    let (hybrid, quick) = ((NamedGroup::X25519MLKEM768, false), (NamedGroup::X25519, true));
    let secret = b"secret".to_vec();
    assert_eq!(come(&tls, Some(client.full())), (Ok(hybrid), secret.clone()));
    for _ in 0..2 * crate::limits::TLS_SESSIONS_KEPT {
        assert_eq!(come(&tls, client.quick()), (Ok(quick), secret.clone()));
        assert!(!client.was_not_resumed());
    }
    assert!(ReturningTls::new(&trusting(&pki)).quick().is_none(), "sessions are not shared");
    // The broker has lost its keys.
    tls.reload().unwrap();
    let (shaken, told) = come(&tls, client.quick());
    assert!(shaken.is_err() && told.is_empty(), "{shaken:?}");
    assert!(client.was_not_resumed() && !client.was_not_resumed());
    assert!(client.quick().is_none(), "its other session is worth nothing either");
    assert_eq!(come(&tls, Some(client.full())), (Ok(hybrid), secret.clone()));
    // A session is used by a full handshake too.
    let (shaken, _) = come(&tls, Some(client.full()));
    assert_eq!(shaken, Ok((NamedGroup::X25519MLKEM768, true)));
}

#[test]
fn a_certificate_is_looked_at_whenever_nothing_is_resumed() {
    let pki = Pki::new();
    let tls = open(&pki, "a.crt", "a.key").unwrap();
    let client = ReturningTls::new(&ClientTls::new(&Trust::Fingerprint(tls.fingerprint())).unwrap());
    assert!(come(&tls, Some(client.full())).0.is_ok());
    pki.issue("a", |_| {});
    tls.reload().unwrap();
    assert!(come(&tls, client.quick()).0.is_err() && client.was_not_resumed());
    let (shaken, told) = come(&tls, Some(client.full()));
    assert!(problem_of(shaken.unwrap_err()).to_string().contains("has the fingerprint"));
    assert!(told.is_empty() && !client.was_not_resumed());
}

#[test]
fn a_client_whose_sessions_are_never_resumed_hopes_no_more() {
    let pki = Pki::new();
    let tls = open(&pki, "a.crt", "a.key").unwrap();
    let client = ReturningTls::new(&trusting(&pki));
    let miss = || {
        assert!(come(&tls, Some(client.full())).0.is_ok());
        tls.reload().unwrap();
        assert!(come(&tls, client.quick()).0.is_err() && client.was_not_resumed());
    };
    miss();
    assert!(come(&tls, Some(client.full())).0.is_ok() && come(&tls, client.quick()).0.is_ok());
    client.on_resumed();
    miss();
    miss();
    assert!(come(&tls, Some(client.full())).0.is_ok() && client.quick().is_none());
}

#[test]
fn a_broken_new_certificate_leaves_the_old_one() {
    let pki = Pki::new();
    let tls = open(&pki, "a.crt", "a.key").unwrap();
    let before = tls.fingerprint();
    pki.issue("b", |_| {});
    std::fs::rename(pki.path("b.crt"), pki.path("a.crt")).unwrap();
    assert!(matches!(tls.reload_if_changed(), Some(Err(TlsError::Mismatch { .. }))));
    assert_eq!(tls.fingerprint(), before);
    assert!(tls.reload_if_changed().is_none(), "said once");
    assert_eq!(shake(tls.http(), &trusting(&pki), "localhost").unwrap().seen(), before);
    std::fs::rename(pki.path("b.key"), pki.path("a.key")).unwrap();
    tls.reload_if_changed().expect("the other half came").unwrap();
    assert_ne!(tls.fingerprint(), before);
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
    let pki = Pki::new();
    pki.issue("b", |_| {});
    let key = std::fs::read_to_string(pki.path("a.key")).unwrap();
    let body = key.lines().nth(1).unwrap();
    let encrypted =
        format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n");
    pki.write("encrypted.key", &encrypted);
    let old =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    pki.write("old.key", old);
    pki.write("cut.key", key.trim_end().trim_end_matches('-'));
    pki.write("cut.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    pki.write("junk.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    pki.write("junk.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    pki.write("empty", "");
    pki.write("large", &"a".repeat(crate::limits::PEM_BYTES_MAX + 1));
    for (cert, key, named, words) in [
        ("none.crt", "a.key", "none.crt", "cannot read"),
        ("a.crt", "none.key", "none.key", "cannot read"),
        ("empty", "a.key", "empty", "holds no certificate"),
        ("a.key", "a.key", "a.key", "holds no certificate"),
        ("a.crt", "a.crt", "a.crt", "holds no private key"),
        ("a.crt", "encrypted.key", "encrypted.key", "openssl pkey"),
        ("a.crt", "old.key", "old.key", "is encrypted"),
        ("cut.crt", "a.key", "cut.crt", "no END line"),
        ("a.crt", "cut.key", "cut.key", "not valid PEM"),
        ("junk.crt", "a.key", "junk.crt", "the certificate in"),
        ("a.crt", "junk.key", "junk.key", "use RSA"),
        ("a.crt", "b.key", "b.key", "does not belong"),
        ("large", "a.key", "large", "is it a PEM file"),
    ] {
        let error = open(&pki, cert, key).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains(words), "{cert} {key}: {error}");
        assert!(!error.contains(body), "a piece of a key in an error: {error}");
    }
}

#[test]
fn a_client_says_what_is_wrong_with_a_certificate() {
    let pki = Pki::new();
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    pki.issue("expired", |params| params.not_after = year(2020));
    pki.issue("early", |params| params.not_before = year(4000));
    let tls = |name: &str| open(&pki, &format!("{name}.crt"), &format!("{name}.key")).unwrap();
    let other = Pki::new();
    let pin = |tls: &ServerTls| ClientTls::new(&Trust::Fingerprint(tls.fingerprint())).unwrap();
    for (server, client, host, words, advice, passes) in [
        ("expired", trusting(&pki), "localhost", "has expired", "renew", true),
        ("early", trusting(&pki), "localhost", "not valid yet", "clock", true),
        ("a", trusting(&other), "localhost", "issuer is not trusted", "--tls-ca", false),
        ("a", trusting(&pki), "[::1]", "for another name", "the name", false),
        ("a", trusting(&pki), "relay.example", "for another name", "--tls-fingerprint", false),
        ("a", pin(&tls("early")), "localhost", "has the fingerprint sha256:", "in between", false),
    ] {
        let problem = problem(shake(tls(server).http(), &client, host));
        assert!(problem.to_string().contains(words), "{server} {host}: {problem}");
        assert!(problem.advice().contains(advice), "{server} {host}: {}", problem.advice());
        assert_eq!(problem.passes(), passes, "{problem}");
    }
    // Whoever is pinned needs no name, no issuer and no dates.
    shake(tls("expired").http(), &pin(&tls("expired")), "relay.example").unwrap();
}

#[test]
fn a_pinned_certificate_without_its_key_is_refused() {
    let pki = Pki::new();
    pki.issue("b", |_| {});
    let (real, thief) = (open(&pki, "a.crt", "a.key").unwrap(), open(&pki, "b.crt", "b.key").unwrap());
    let stolen = CertifiedKey::new(
        real.0.current.0.load().pair.cert.clone(),
        thief.0.current.0.load().pair.key.clone(),
    );
    thief.0.current.0.store(Identity::new(stolen, None).unwrap());
    let client = ClientTls::new(&Trust::Fingerprint(real.fingerprint())).unwrap();
    assert_eq!(thief.fingerprint(), real.fingerprint());
    assert!(shake(thief.http(), &client, "localhost").is_err());
}

#[test]
fn rsa_works_too() {
    let pki = Pki::new();
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let cert = pki.write("rsa.crt", &certificate.pem());
    let tls = ServerTls::open(&cert, &pki.write("rsa.key", &key.serialize_pem())).unwrap();
    // A self-signed certificate is its own CA.
    shake(tls.http(), &ClientTls::new(&Trust::CaFile(cert)).unwrap(), "localhost").unwrap();
}

#[test]
fn a_self_signed_certificate_stays_until_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let tls = ServerTls::self_signed(&data, now()).unwrap();
    let key = data.join("tls-self-signed.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let ca = ClientTls::new(&Trust::CaFile(data.join("tls-self-signed.crt"))).unwrap();
        shake(tls.http(), &ca, host).unwrap();
    }
    assert_eq!(ServerTls::self_signed(&data, now()).unwrap().fingerprint(), tls.fingerprint());
    let late = UnixMs(now().0 + 3660 * 24 * 3600 * 1000);
    assert_eq!((tls.time_flaw(now()), tls.time_flaw(late)), (None, Some("it has expired")));
    let renewed = ServerTls::self_signed(&data, late).unwrap();
    assert_ne!(renewed.fingerprint(), tls.fingerprint());
    // Half a pair, as a crash leaves it.
    std::fs::remove_file(data.join("tls-self-signed.crt")).unwrap();
    assert_ne!(ServerTls::self_signed(&data, now()).unwrap().fingerprint(), renewed.fingerprint());
    // What cannot be read is not overwritten.
    std::fs::write(&key, "mine").unwrap();
    assert!(matches!(ServerTls::self_signed(&data, now()), Err(TlsError::NoKey { .. })));
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "mine");
}
