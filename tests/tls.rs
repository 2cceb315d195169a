//! TLS by the real binary: settings, the fingerprint that is printed, the command line's trust, SIGHUP and changed files.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

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
        let mut process = fluxrelay()
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "fluxrelay-data"])
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
