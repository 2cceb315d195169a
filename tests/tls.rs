//! TLS by the real binary: settings, the fingerprint that is printed, the command line's trust, SIGHUP and changed files.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fluxrelay::client::{
    BackoffOptions, ClientState, ClientTls, DeliveredCommand, PluginClient, PluginOptions, Report, Trust,
};
use fluxrelay::ids::SessionEpoch;
use rustix::process::{Pid, Signal, kill_process};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, DEFAULT_VERSIONS, HandshakeKind, RootCertStore};
use tempfile::TempDir;
use tokio::time::timeout;

#[path = "support/pki.rs"]
mod pki;

use pki::Pki;

/// How long a line may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

fn fluxrelay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluxrelay"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FLUXRELAY_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A running broker and what it says.
struct Broker {
    process: Child,
    url: String,
    fingerprint: Option<String>,
    logged: mpsc::Receiver<String>,
    folder: TempDir,
    strangers: Pki,
}

impl Broker {
    fn start(flags: &[&str]) -> Broker {
        Broker::start_in(tempfile::tempdir().expect("a folder"), flags)
    }

    fn start_in(folder: TempDir, flags: &[&str]) -> Broker {
        Broker::start_at("127.0.0.1:0", folder, flags)
    }

    /// `kill -9`, and a start at the same address with the same data, which may be changed in between.
    fn kill_and_restart(&mut self, flags: &[&str], change: impl FnOnce(&Path)) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("a child");
        change(&self.folder.path().join("fluxrelay-data"));
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        let (_, address) = self.url.split_once("://").expect("a URL");
        *self = Broker::start_at(address, folder, flags);
    }

    fn start_at(listen: &str, folder: TempDir, flags: &[&str]) -> Broker {
        let mut process = fluxrelay()
            .args(["serve", "--listen", listen, "--data-dir", "fluxrelay-data"])
            .args(flags)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let logged = lines(process.stderr.take().expect("a pipe"));
        let said = lines(process.stdout.take().expect("a pipe"));
        let (mut fingerprint, mut url) = (None, None);
        while url.is_none() {
            let line = said.recv_timeout(PATIENCE).expect("the broker says where it listens");
            if let Some(found) = line.strip_prefix("certificate fingerprint: ") {
                fingerprint = Some(found.to_owned());
            }
            url = line.strip_prefix("listening on ").map(str::to_owned);
        }
        let url = url.expect("the loop ends with one");
        Broker { process, url, fingerprint, logged, folder, strangers: Pki::new() }
    }

    /// Asks it something; this machine's authorities are a stranger's.
    fn list(&self, trust: &[&str]) -> Output {
        fluxrelay()
            .args(["server", "list", "--url", &self.url])
            .env("SSL_CERT_FILE", self.strangers.path("ca.crt"))
            .args(trust)
            .current_dir(self.folder.path())
            .output()
            .expect("the binary starts")
    }

    /// One handshake with this client's sessions: whether it was resumed, and the metrics that came through it.
    fn metrics(&self, client: &Arc<ClientConfig>) -> (HandshakeKind, String) {
        let (_, address) = self.url.split_once("://").expect("a URL");
        let mut socket = TcpStream::connect(address).expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut session = ClientConnection::new(client.clone(), name).expect("a session");
        let mut stream = rustls::Stream::new(&mut session, &mut socket);
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        (session.handshake_kind().expect("it is over"), text)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for a log line with this in it.
    fn logs(&self, words: &str) -> String {
        loop {
            let line = self.logged.recv_timeout(PATIENCE).expect("the broker logs it in time");
            if line.contains(words) {
                return line;
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).for_each(|line| drop(say.send(line)))
    });
    said
}

/// A client that trusts this CA, with sessions of its own.
fn client(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("a CA");
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(DEFAULT_VERSIONS)
        .expect("suites");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// The value of a counter in the metrics.
fn value(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().expect("a number")
}

async fn connected(plugin: &PluginClient) -> SessionEpoch {
    timeout(PATIENCE, plugin.connected()).await.expect("in time").expect("it goes on")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn flags(pki: &Pki) -> Vec<String> {
    ["--tls-cert", "a.crt", "--tls-key", "a.key"]
        .map(|word| if word.starts_with("--") { word.into() } else { pki.path(word).display().to_string() })
        .to_vec()
}

fn text(file: &std::path::Path) -> &str {
    file.to_str().expect("a path in UTF-8")
}

#[test]
fn a_self_signed_broker_prints_the_fingerprint_that_it_serves() {
    let broker = Broker::start(&["--tls-self-signed"]);
    assert!(broker.url.starts_with("https://"), "{}", broker.url);
    let fingerprint = broker.fingerprint.clone().expect("it is printed");
    let pinned = broker.list(&["--tls-fingerprint", &fingerprint]);
    assert!(pinned.status.success(), "{}", stderr(&pinned));
    let by_file = broker.list(&["--tls-ca", "fluxrelay-data/tls-self-signed.crt"]);
    assert!(by_file.status.success(), "{}", stderr(&by_file));
    // Neither by the system's authorities nor by another fingerprint.
    let wrong = format!("sha256:{}", "0".repeat(64));
    for (trust, words) in [
        (&[][..], ["is not trusted here", "--tls-fingerprint"]),
        (&["--tls-fingerprint", &wrong], [fingerprint.as_str(), "in between"]),
    ] {
        let refused = broker.list(trust);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(4), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let plain = fluxrelay()
        .args(["server", "list", "--url", &broker.url.replacen("https", "http", 1)])
        .current_dir(broker.folder.path())
        .output()
        .expect("the binary starts");
    assert!(!plain.status.success());
    // The next start has the same certificate.
    broker.signal(Signal::TERM);
    let mut broker = broker;
    assert!(broker.process.wait().expect("a child").success());
    let folder = std::mem::replace(&mut broker.folder, tempfile::tempdir().expect("a folder"));
    assert_eq!(Broker::start_in(folder, &["--tls-self-signed"]).fingerprint, Some(fingerprint));
}

#[test]
fn the_environment_says_whom_to_trust_too() {
    let pki = Pki::new();
    let flags = flags(&pki);
    let broker = Broker::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let run = |variable: &str, value: &str| {
        let mut command = fluxrelay();
        command.args(["server", "add", "survival", "--json"]).env("FLUXRELAY_URL", &broker.url);
        command.env(variable, value).current_dir(broker.folder.path()).output().expect("the binary starts")
    };
    let added = run("FLUXRELAY_TLS_CA", text(&pki.path("ca.crt")));
    assert!(added.status.success(), "{}", stderr(&added));
    let again = run("FLUXRELAY_TLS_FINGERPRINT", broker.fingerprint.as_deref().expect("it is printed"));
    assert!(stderr(&again).contains("name_taken"), "it got through: {}", stderr(&again));
    let mistyped = run("FLUXRELAY_TLS_FINGERPRINT", "sha256:123");
    assert_eq!(mistyped.status.code(), Some(2));
    assert!(stderr(&mistyped).contains("64 hexadecimal digits"), "{}", stderr(&mistyped));
    let missing = run("FLUXRELAY_TLS_CA", "nowhere.crt");
    assert!(stderr(&missing).contains("--tls-ca: cannot read nowhere.crt"), "{}", stderr(&missing));
}

#[test]
fn the_certificate_is_read_again_on_sighup_and_when_it_changes() {
    let pki = Pki::new();
    let flags = flags(&pki);
    let broker = Broker::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let first = broker.fingerprint.clone().expect("it is printed");
    let accepts = |fingerprint: &str| broker.list(&["--tls-fingerprint", fingerprint]).status.success();
    let fingerprint_in = |line: &str| {
        let start = line.find("sha256:").expect("the fingerprint is logged");
        line[start..start + "sha256:".len() + 64].to_owned()
    };
    assert!(accepts(&first));
    broker.signal(Signal::HUP);
    assert_eq!(fingerprint_in(&broker.logs("read again")), first);

    pki.issue("a", |_| {});
    let second = fingerprint_in(&broker.logs("read again"));
    assert!(second != first && accepts(&second) && !accepts(&first));

    pki.write("a.crt", "no certificate");
    let line = broker.logs("the old certificate stays");
    assert!(line.contains("ERROR") && line.contains("a.crt holds no certificate"), "{line}");
    assert!(accepts(&second));
    pki.issue("a", |_| {});
    let third = fingerprint_in(&broker.logs("read again"));
    assert!(accepts(&third) && !accepts(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_everybody_resumes_and_still_has_to_log_in() {
    const PLUGINS: u64 = 8;
    let flags = ["--tls-self-signed"];
    let mut broker = Broker::start(&flags);
    let fingerprint = broker.fingerprint.clone().expect("it is printed");
    let trust =
        ClientTls::new(&Trust::Fingerprint(fingerprint.parse().expect("a fingerprint"))).expect("TLS");
    let mut plugins = Vec::new();
    for number in 0..PLUGINS {
        let mut add = fluxrelay();
        add.args(["server", "add", &format!("server {number}"), "--json", "--url", &broker.url]);
        add.args(["--tls-fingerprint", &fingerprint]).current_dir(broker.folder.path());
        let added = add.output().expect("the binary starts");
        let answer: serde_json::Value = serde_json::from_slice(&added.stdout).expect("JSON");
        let mut options = PluginOptions::new(&broker.url, answer["token"].as_str().expect("a token"));
        options.tls = Some(trust.clone());
        let (first, longest) = (Duration::from_millis(50), Duration::from_millis(500));
        options.backoff = BackoffOptions { first, longest };
        let nothing = |_: Vec<DeliveredCommand>, _: &mut Vec<Report>| {};
        let plugin = PluginClient::start(options, nothing).await.expect("it starts");
        let epoch = connected(&plugin).await;
        plugins.push((plugin, epoch));
    }
    let ca = broker.folder.path().join("fluxrelay-data/tls-self-signed.crt");
    // The second time the keys of sessions are lost.
    for resumed in [PLUGINS, 0] {
        broker.kill_and_restart(&flags, |data| {
            if resumed == 0 {
                std::fs::remove_file(data.join("tls-sessions.key")).expect("it is there");
            }
        });
        for (plugin, epoch) in &mut plugins {
            let mut state = plugin.state();
            let again = state.wait_for(|state| matches!(state, ClientState::Connected(now) if now != epoch));
            timeout(PATIENCE, again).await.expect("in time").expect("it goes on");
            *epoch = connected(plugin).await;
        }
        let (kind, metrics) = broker.metrics(&client(&ca));
        assert_ne!(kind, HandshakeKind::Resumed, "its first");
        let counted = |name| value(&metrics, name);
        // A plugin may have needed more than one, if its first came to nothing.
        assert!(counted("fluxrelay_tls_handshakes_total") > PLUGINS);
        let found = counted("fluxrelay_tls_handshakes_resumed_total");
        assert!(if resumed == 0 { found == 0 } else { found >= resumed }, "{found} of {resumed}");
        assert_eq!(counted("fluxrelay_logins_by_ticket_total"), PLUGINS, "TLS let nobody in");
    }
}

/// A client's first message, which it may have sent before.
fn first_message(client: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut message = Vec::new();
    let mut session = ClientConnection::new(client.clone(), name).expect("a session");
    session.write_tls(&mut message).expect("a vector takes it");
    message
}

#[test]
fn in_a_storm_strangers_from_where_logins_fail_have_few_handshakes() {
    const ALERT: u8 = 21;
    /// More than have their turn at once.
    const CROWD: usize = 400;
    let pki = Pki::new();
    let mut flags = flags(&pki);
    flags.extend(["--failed-logins-burst", "1", "--failed-logins-per-second", "1"].map(String::from));
    flags.extend(["--door-threads", "1"].map(String::from));
    let broker = Broker::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let (_, address) = broker.url.split_once("://").expect("a URL");
    let begin = |message: &[u8]| {
        let mut socket = TcpStream::connect(address).expect("it listens");
        socket.write_all(message).expect("it reads");
        socket
    };
    let ca = pki.path("ca.crt");
    let returning = client(&ca);
    assert_ne!(broker.metrics(&returning).0, HandshakeKind::Resumed);
    let (known, unknown) = (first_message(&returning), first_message(&client(&ca)));
    let denied = || {
        assert!(!broker.list(&["--tls-ca", text(&ca), "--key", "adm_wrong"]).status.success());
        // Nobody of the crowd goes on, so turns are free again only after their time.
        let _crowd: Vec<_> = (0..CROWD).map(|_| begin(&known)).collect();
        let mut strangers: Vec<_> = (0..4).map(|_| begin(&unknown)).collect();
        let mut kind = [0];
        strangers.iter_mut().any(|socket| socket.read_exact(&mut kind).is_ok() && kind[0] == ALERT)
    };
    // The network is over its limit for a second after each login that fails.
    assert!((0..PATIENCE.as_secs()).any(|_| denied()), "they have all that they ask for");
    // The crowd may still be there.
    let (kind, metrics) = broker.metrics(&returning);
    assert_eq!(kind, HandshakeKind::Resumed);
    assert!(value(&metrics, "fluxrelay_limited_total{limit=\"failed_logins_per_second\"}") > 0);
}

#[test]
fn a_new_certificate_ends_sessions_and_the_same_one_read_again_does_not() {
    let pki = Pki::new();
    let flags = flags(&pki);
    let broker = Broker::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let client = client(&pki.path("ca.crt"));
    let resumes = || broker.metrics(&client).0 == HandshakeKind::Resumed;
    assert!(!resumes() && resumes() && resumes());
    broker.signal(Signal::HUP);
    broker.logs("read again");
    assert!(resumes());
    let keys = broker.folder.path().join("fluxrelay-data/tls-sessions.key");
    std::fs::remove_file(&keys).expect("it is there");
    broker.signal(Signal::HUP);
    broker.logs("read again");
    assert!(keys.exists() && !resumes() && resumes(), "without the file of their keys they end");
    pki.issue("a", |_| {});
    broker.logs("read again");
    assert!(!resumes() && resumes());
}

#[test]
fn sighup_without_a_certificate_ends_nothing() {
    let broker = Broker::start(&[]);
    assert_eq!((broker.url.starts_with("http://"), &broker.fingerprint), (true, &None));
    broker.signal(Signal::HUP);
    broker.logs("SIGHUP");
    assert!(broker.list(&[]).status.success());
}

#[test]
fn a_broker_that_cannot_speak_tls_as_asked_does_not_start() {
    let pki = Pki::new();
    pki.issue("b", |_| {});
    let folder = tempfile::tempdir().expect("a folder");
    let (a_crt, b_key) = (pki.path("a.crt"), pki.path("b.key"));
    for (flags, words) in [
        (&["--listen", "0.0.0.0:0"][..], "tls_cert"),
        (&["--tls-cert", text(&a_crt)], "set tls_key"),
        (&["--tls-cert", text(&a_crt), "--tls-key", text(&b_key)], "does not belong"),
        (&["--tls-cert", text(&a_crt), "--tls-key", "nowhere.key"], "cannot read nowhere.key"),
    ] {
        let output = fluxrelay().arg("serve").args(flags).current_dir(folder.path()).output();
        let output = output.expect("the binary starts");
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{flags:?}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing was begun");
}
