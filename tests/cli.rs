//! The binary as people and scripts use it: `serve` in one process, every other subcommand against it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Looks for something before the test says that it does not come.
const LOOKS_MAX: u32 = 200;
const LOOK_EVERY: Duration = Duration::from_millis(50);

fn fluxrelay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluxrelay"));
    for name in ["FLUXRELAY_URL", "FLUXRELAY_KEY", "FLUXRELAY_TOKEN", "FLUXRELAY_CONFIG", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A running broker and its first words.
struct Broker {
    process: Child,
    url: String,
    said: mpsc::Receiver<String>,
    folder: tempfile::TempDir,
}

impl Broker {
    fn start() -> Broker {
        Broker::start_in(tempfile::tempdir().expect("a folder"))
    }

    fn start_in(folder: tempfile::TempDir) -> Broker {
        let mut process = fluxrelay()
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "fluxrelay-data"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let (say, said) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(say.send(line))));
        let mut broker = Broker { process, url: String::new(), said, folder };
        let listening = broker.line_with("listening on ");
        broker.url =
            listening.split_whitespace().find(|word| word.starts_with("http")).expect("a URL").to_owned();
        broker
    }

    fn line_with(&self, text: &str) -> String {
        loop {
            let line = self.said.recv_timeout(Duration::from_secs(30)).expect("the broker says it in time");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// A subcommand in the broker's folder, where its admin key is found by itself.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = fluxrelay();
        command.args(words).env("FLUXRELAY_URL", &self.url).current_dir(self.folder.path());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary starts")
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn becomes(&self, id: &str, status: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..LOOKS_MAX {
            last = self.json(&["command", "show", id]);
            if last["status"] == status {
                return last;
            }
            thread::sleep(LOOK_EVERY);
        }
        panic!("{id} does not become {status}: {last}");
    }

    /// SIGTERM; its exit code.
    fn stop(mut self) -> (Option<i32>, tempfile::TempDir) {
        terminate(&self.process);
        let status = self.process.wait().expect("a child can be waited for");
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        (status.code(), folder)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn terminate(process: &Child) {
    let pid = rustix::process::Pid::from_raw(process.id().cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[cfg(target_os = "linux")]
#[test]
fn a_broker_that_has_started_gets_no_more_huge_pages() {
    let allowed = |process: &str| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a status");
        status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).map(|allowed| allowed.trim() == "1")
    };
    if allowed("self") != Some(true) {
        return eprintln!("huge pages are off here, or the system does not tell");
    }
    let broker = Broker::start();
    assert_eq!(allowed(&broker.process.id().to_string()), Some(false));
}

#[test]
fn orders_are_published_shown_cancelled_and_followed() {
    let broker = Broker::start();
    let made = broker.json(&["server", "add", "survival", "--address", "mc.example.org:25565"]);
    let server = text(&made["id"]);
    assert!(text(&made["token"]).starts_with(&format!("{server}.")));
    let words = ["publish", "--server", "survival", "--idempotency-key", "k1", "say hi", "say again"];
    let order = broker.json(&words);
    assert_eq!(broker.json(&words), order, "the same key gives the same order");
    let id = text(&order["commands"][0]["id"]);
    assert_eq!(broker.json(&["command", "show", id])["status"], "pending");
    assert_eq!(broker.json(&["command", "cancel", id])[0]["status"], "cancelled");
    let listed = broker.json(&["command", "list", "--server", "survival", "--status", "pending"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let listed = broker.json(&["command", "list", "--server", server, "--all"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!(broker.json(&["server", "list"])[0]["name"], "survival");

    let people = broker.run(&["command", "show", id]);
    let shown = String::from_utf8_lossy(&people.stdout).into_owned();
    assert!(shown.contains("cancelled") && shown.contains("History") && !shown.contains('\u{1b}'), "{shown}");

    let mut events = broker.command(&["events", "--count", "1", "--type", "command.cancelled", "--json"]);
    let events = events.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let other = text(&order["commands"][1]["id"]).to_owned();
    let (done, waited) = mpsc::channel();
    thread::spawn(move || done.send(events.wait_with_output()));
    // Whoever follows from now on hears of what comes; when "now" is cannot be seen, so there are several events.
    let output = (0..LOOKS_MAX).find_map(|_| {
        broker.json(&["publish", "--server", server, "say later"]);
        let last = broker.json(&["command", "list", "--server", server, "--status", "pending"]);
        broker.json(&["command", "cancel", text(&last[0]["id"])]);
        waited.recv_timeout(LOOK_EVERY).ok()
    });
    let event: Value =
        serde_json::from_slice(&output.expect("an event").expect("it ran").stdout).expect("JSON");
    assert_eq!(event["type"], "command.cancelled", "{event} {other}");
}

#[test]
fn refusals_are_sentences_with_their_own_exit_codes() {
    let broker = Broker::start();
    let unknown = broker.run(&["publish", "--server", "srv_99", "say hi"]);
    assert_eq!(unknown.status.code(), Some(3), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("commands[0].server"), "{}", stderr(&unknown));
    let nobody = broker.run(&["publish", "--server", "nobody", "say hi"]);
    assert!(stderr(&nobody).contains("no server has the id or name \"nobody\""), "{}", stderr(&nobody));
    let stranger = broker.run(&["server", "list", "--key", "wrong"]);
    assert_eq!(stranger.status.code(), Some(3));
    assert!(!stderr(&stranger).contains("wrong\""), "{}", stderr(&stranger));
    let away = broker.run(&["server", "list", "--url", "http://127.0.0.1:1"]);
    assert_eq!(away.status.code(), Some(4), "{}", stderr(&away));
    assert_eq!(broker.run(&["publish"]).status.code(), Some(2));
    assert_eq!(broker.run(&["server", "remove", "srv_1"]).status.code(), Some(2), "nobody can answer");
    assert_eq!(broker.run(&["server", "list", "--key-file", "no-such-file"]).status.code(), Some(6));
}

#[test]
fn sigterm_ends_the_broker_in_order_and_its_data_is_there_again() {
    let broker = Broker::start();
    let made = broker.json(&["server", "add", "survival"]);
    let order = broker.json(&["publish", "--server", text(&made["id"]), "say hi"]);
    let (code, folder) = broker.stop();
    assert_eq!(code, Some(0));
    let broker = Broker::start_in(folder);
    let command = broker.json(&["command", "show", text(&order["commands"][0]["id"])]);
    assert_eq!(command["status"], "pending");
}

#[test]
fn stores_and_keys_are_managed_and_the_audit_trail_tells() {
    let broker = Broker::start();
    let store = broker.json(&["store", "add", "shop"]);
    assert_eq!(broker.json(&["store", "list"])[1]["name"], "shop");
    let made = broker.json(&["key", "add", "--store", "shop", "--scope", "read", "eyes"]);
    assert_eq!((&made["store"], &made["scope"]), (&store["id"], &Value::from("read")));
    let id = text(&made["id"]);
    assert_eq!(broker.json(&["key", "list", "--store", "shop"])[0]["id"], id);
    assert_eq!(broker.run(&["key", "remove", id]).status.code(), Some(2), "nobody can answer");
    assert_eq!(broker.json(&["key", "remove", id, "--yes"])["removed"], true);
    let unknown = broker.run(&["key", "list", "--store", "nobody"]);
    assert!(stderr(&unknown).contains("no store has the id or name \"nobody\""), "{}", stderr(&unknown));

    let trail = broker.json(&["audit", "list", "--limit", "2"]);
    let actions: Vec<&str> =
        trail.as_array().expect("a list").iter().map(|record| text(&record["action"])).collect();
    assert_eq!(actions, ["key.remove", "key.create"]);
    assert!(text(&trail[0]["address"]).starts_with("127.0.0.1:"), "{trail}");
    let all = broker.json(&["audit", "list", "--all", "--from", "2020-01-01T00:00:00Z"]);
    assert_eq!(all.as_array().map(Vec::len), Some(4));
    let shown = broker.run(&["audit", "list", "--action", "store.create"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("sto_2") && shown.contains("shop") && !shown.contains("key.create"), "{shown}");
    let refused = broker.run(&["audit", "list", "--action", "explode"]);
    assert!(stderr(&refused).contains("token.regenerate"), "the names are told: {}", stderr(&refused));
}

#[test]
fn a_lost_admin_key_is_reset_on_a_stopped_broker_only() {
    let broker = Broker::start();
    let reset = ["admin-key", "reset", "--data-dir", "fluxrelay-data"];
    let file = broker.folder.path().join("fluxrelay-data/admin.key");
    let lost = std::fs::read_to_string(&file).expect("the first key");
    let refused = broker.run(&reset);
    assert_eq!(refused.status.code(), Some(6), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("in use by another process"), "{}", stderr(&refused));
    assert_eq!(std::fs::read_to_string(&file).expect("the first key"), lost);

    let (_, folder) = broker.stop();
    std::fs::remove_file(&file).expect("it is there");
    let output = fluxrelay().args(reset).arg("--json").current_dir(folder.path()).output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let broker = Broker::start_in(folder);
    assert_eq!(std::fs::read_to_string(&file).expect("a new key").trim(), text(&said["key"]));
    assert_eq!(broker.run(&["server", "list", "--key", lost.trim()]).status.code(), Some(3));
    let trail = broker.json(&["audit", "list"]);
    assert_eq!((&trail[0]["action"], &trail[0]["by"]), (&"admin_key.reset".into(), &"local".into()));

    let elsewhere = broker.run(&["admin-key", "reset", "--data-dir", "nowhere"]);
    assert_eq!(elsewhere.status.code(), Some(6));
    assert!(!broker.folder.path().join("nowhere").exists());
}

/// `fluxrelay plugin` with a program that prints what it reads.
struct Plugin {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Plugin {
    fn start(broker: &Broker, token: &str, ledger: &Path, more: &[&str], script: &str) -> Plugin {
        let mut process = broker
            .command(&["plugin", "--ledger"])
            .arg(ledger)
            .args(["--url", &broker.url.replacen("http", "ws", 1)])
            .args(more)
            .args(["--", "sh", "-c", script])
            .env("FLUXRELAY_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let said = BufReader::new(process.stdout.take().expect("a pipe"));
        Plugin { process, said }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line of text");
        line.trim_end().to_owned()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_console_program_gets_commands_and_its_players_are_known() {
    let broker = Broker::start();
    let made = broker.json(&["server", "add", "survival"]);
    let (server, token) = (text(&made["id"]), text(&made["token"]));
    let ledger = broker.folder.path().join("plugin.ledger");
    let script = "echo 'Done (1s)'; while read -r line; do
        case $line in join*) echo \"[12:00:00 INFO]: ${line#join } joined the game\" ;; stop) exit 7 ;;
        *) echo \"ran $line\" ;; esac; done";
    let mut plugin = Plugin::start(&broker, token, &ledger, &["--ready-regex", "Done"], script);
    assert_eq!(plugin.line(), "Done (1s)");

    let plain = broker.json(&["publish", "--server", server, "say hi"]);
    assert_eq!(plugin.line(), "ran say hi");
    let done = broker.becomes(text(&plain["commands"][0]["id"]), "completed");
    assert_eq!(done["attempts"], 1);

    let give =
        ["publish", "--server", server, "--player", "Steve", "--require-online", "give Steve diamond 64"];
    let give = broker.json(&give);
    let give = text(&give["commands"][0]["id"]);
    broker.becomes(give, "awaiting_player");
    // What is typed at the plugin goes to the program.
    plugin.process.stdin.as_mut().expect("a pipe").write_all(b"join Steve\n").expect("it reads");
    assert_eq!(plugin.line(), "[12:00:00 INFO]: Steve joined the game");
    assert_eq!(plugin.line(), "ran give Steve diamond 64");
    broker.becomes(give, "completed");

    let stop = broker.json(&["publish", "--server", server, "stop"]);
    assert_eq!(plugin.process.wait().expect("it ends").code(), Some(7), "the program's exit code is ours");
    broker.becomes(text(&stop["commands"][0]["id"]), "completed");
}

#[test]
fn sigterm_ends_the_program_behind_a_plugin() {
    let broker = Broker::start();
    let made = broker.json(&["server", "add", "survival"]);
    let ledger = broker.folder.path().join("plugin.ledger");
    let script = "trap 'exit 3' TERM; echo started; while :; do sleep 0.05; done";
    let mut plugin = Plugin::start(&broker, text(&made["token"]), &ledger, &["--no-players"], script);
    assert_eq!(plugin.line(), "started");
    terminate(&plugin.process);
    assert_eq!(plugin.process.wait().expect("it ends").code(), Some(3));
}

#[test]
fn a_plugin_checks_its_flags_before_it_starts_the_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |words: &[&str]| {
        let output = fluxrelay()
            .args(["plugin", "--ledger", "ledger"])
            .args(words)
            .current_dir(folder.path())
            .output();
        let output = output.expect("the binary starts");
        (output.status.code(), stderr(&output))
    };
    let touch = ["--", "touch", "started"];
    let (code, said) = run(&[&["--token", "nonsense"], &touch[..]].concat());
    assert!(code == Some(2) && said.contains("<server id>.<secret>"), "{said}");
    let (code, said) = run(&[&["--token", "srv_1.x", "--join-regex", "("], &touch[..]].concat());
    assert!(code == Some(2) && said.contains("--join-regex"), "{said}");
    std::fs::write(folder.path().join("ledger"), "not a ledger at all, but long enough to be one")
        .expect("writes");
    let (code, said) = run(&[&["--token", "srv_1.x"], &touch[..]].concat());
    assert!(code == Some(2) && said.contains("ledger"), "{said}");
    assert!(!folder.path().join("started").exists());
}

/// A bench that ends with its test.
struct Bench(Child);

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bench_that_is_stopped_takes_its_broker_and_its_files_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let entries = || std::fs::read_dir(folder.path()).expect("a folder").filter_map(Result::ok);
    let said = tempfile::NamedTempFile::new().expect("a file");
    let stderr = said.reopen().expect("a file");
    let words = "bench latency --servers 2 --rate 100 --duration 1h --json --data-in";
    let bench = fluxrelay().args(words.split(' ')).arg(folder.path()).stderr(stderr).spawn();
    let mut bench = Bench(bench.expect("the binary starts"));
    let starts = || entries().any(|entry| entry.path().join("journal.log").exists());
    for _ in 0..LOOKS_MAX {
        if starts() {
            break;
        }
        thread::sleep(LOOK_EVERY);
    }
    assert!(starts(), "no broker starts");
    terminate(&bench.0);
    let code = bench.0.wait().expect("it ends").code();
    let said = std::fs::read_to_string(said.path()).expect("text");
    assert!(code == Some(5) && said.contains("stopped before the end"), "{said}");
    assert_eq!(entries().count(), 0, "its files are gone");
}

#[test]
fn help_and_version_do_not_need_a_broker() {
    for words in [&["--help"][..], &["--version"], &["plugin", "--help"], &["bench", "throughput", "--help"]]
    {
        let output = fluxrelay().args(words).output().expect("the binary starts");
        assert!(output.status.success() && !output.stdout.is_empty(), "{words:?}");
        assert!(!output.stdout.contains(&0x1b), "colour only on a terminal");
    }
}

/// What `serve` says of settings that it refuses: they come from a file, the environment and flags.
fn refusal(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("fluxrelay.toml"), file).expect("a file");
    let mut command = fluxrelay();
    command.args(["serve", "--config", "fluxrelay.toml"]).args(flags).envs(environment.iter().copied());
    let output = command.current_dir(folder.path()).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("fluxrelay-data").exists(), "nothing is made before the settings are right");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_flag_goes_before_the_environment_and_the_environment_before_the_file() {
    let (file, variable) = ("queue_max = 0", ("FLUXRELAY_QUEUE_MAX", "11_000_000"));
    let said = refusal(file, &[], &[]);
    assert!(
        said.contains("queue_max is \"0\" (in fluxrelay.toml): it must be 1 to 10000000 commands"),
        "{said}"
    );
    let said = refusal(file, &[variable], &[]);
    assert!(
        said.contains("queue_max is \"11_000_000\" (by the environment variable FLUXRELAY_QUEUE_MAX)"),
        "{said}"
    );
    let said = refusal(file, &[variable], &["--queue-max", "-3"]);
    assert!(said.contains("queue_max is \"-3\" (by --queue-max)"), "{said}");
    let said = refusal(file, &[variable], &["--queue-max", "1", "--listen", "0.0.0.0:0"]);
    assert!(said.contains("listen is 0.0.0.0:0 (by --listen)"), "{said}");
}
