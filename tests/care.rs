//! The care of a data directory with the real binary: `store check`, `backup` of a running broker, `restore`, and files
//! that an earlier program wrote.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;
use serde_json::{Value, json};

#[path = "care/broker.rs"]
mod broker;
#[path = "care/fixture.rs"]
mod fixture;

use broker::{Broker, bytes, copy, fluxrelay, run, said, text};

/// `store check --json`: exit code and document.
fn check(dir: &Path) -> (Option<i32>, Value) {
    let output = run(fluxrelay().args(["store", "check", "--json", "--data-dir"]).arg(dir));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// A broker that has done a little of everything; its directory once it has ended.
fn used_directory() -> tempfile::TempDir {
    let broker = Broker::start(tempfile::tempdir().expect("a folder"), &[]);
    let server = broker.add_server("survival");
    broker.admin("POST", "/v1/stores/sto_1/keys", Some(json!({"scope": "read", "name": "eyes"})));
    for n in 0..20 {
        broker.publish(&server, &format!("key-{n}"));
    }
    broker.complete_due(&server);
    broker.publish(&server, "last");
    broker.stop()
}

#[test]
fn a_good_directory_checks_and_a_missing_or_used_one_cannot_be_checked() {
    let folder = used_directory();
    let data = folder.path().join("fluxrelay-data");
    let before = bytes(&data);
    let (code, report) = check(&data);
    assert_eq!(
        (code, &report["clean"], &report["related"]),
        (Some(0), &true.into(), &true.into()),
        "{report}"
    );
    assert!(bytes(&data) == before, "a check changed something");
    let shown = run(fluxrelay().args(["store", "check", "--data-dir"]).arg(&data));
    assert!(said(&shown).contains("ended_by_server") && said(&shown).contains("clean"), "{}", said(&shown));

    let missing = run(fluxrelay().args(["store", "check", "--data-dir"]).arg(folder.path().join("nowhere")));
    assert_eq!(missing.status.code(), Some(6), "{}", said(&missing));
    assert!(!folder.path().join("nowhere").exists());

    let broker = Broker::start(folder, &[]);
    let used = run(fluxrelay().args(["store", "check", "--data-dir"]).arg(broker.data()));
    assert_eq!(used.status.code(), Some(6), "{}", said(&used));
    assert!(said(&used).contains("in use by another process") && said(&used).contains("store backup"));
}

/// After a kill, redb's own opening would write; a check does not.
#[test]
fn a_directory_after_a_kill_checks_without_being_changed() {
    let broker = Broker::start(tempfile::tempdir().expect("a folder"), &[]);
    let server = broker.add_server("survival");
    broker.publish(&server, "one");
    let folder = broker.kill();
    let data = folder.path().join("fluxrelay-data");
    let before = bytes(&data);
    let (code, report) = check(&data);
    assert_eq!(code, Some(0), "{report}");
    assert!(bytes(&data) == before, "a check changed something");
}

/// Kinds of sealed rows, and commits, where they lie, and their tables (docs/storage.md, sections 1 and 3).
const KINDS: [(u8, &str, &[&str]); 14] = [
    (1, "journal.log", &["commits/"]),
    (4, "store.redb", &["servers/"]),
    (6, "store.redb", &["ended_by_server/"]),
    (7, "store.redb", &["orders_by_checkpoint/"]),
    (8, "journal.log", &["meta/journal"]),
    (9, "store.redb", &["meta/store"]),
    (10, "registry.redb", &["stores/"]),
    (11, "registry.redb", &["servers/"]),
    (12, "registry.redb", &["keys/"]),
    (13, "registry.redb", &["meta/registry"]),
    (14, "registry.redb", &["audit/"]),
    (15, "store.redb", &["live_blocks/", "ended_blocks/"]),
    (16, "store.redb", &["order_blocks/"]),
    (17, "store.redb", &["keys/"]),
];

#[test]
fn a_flipped_bit_in_any_kind_of_row_is_named() {
    let broker = Broker::start(used_directory(), &[]);
    broker.publish("srv_1", "for the journal");
    // A copy by rows has each row once: a flipped bit in it is none of a page that is not used any more.
    let made = broker.admin("POST", "/v1/backups", Some(json!({"name": "whole"})));
    let whole = Path::new(text(&made["directory"])).to_path_buf();
    for (kind, file, tables) in KINDS {
        let damaged = tempfile::tempdir().expect("a folder");
        copy(&whole, damaged.path());
        let path = damaged.path().join(file);
        let mut bytes_of_file = fs::read(&path).expect("a file");
        // A commit is no sealed row but a record of the log with only one part.
        let magic = if kind == 1 { *b"fj" } else { *b"fr" };
        let head = [magic[0], magic[1], kind, 1];
        let at = bytes_of_file.windows(4).position(|found| found == head);
        bytes_of_file[at.unwrap_or_else(|| panic!("no row of kind {kind} in {file}")) + 9] ^= 0x10;
        fs::write(&path, bytes_of_file).expect("it is written");
        let before = bytes(damaged.path());
        let (code, report) = check(damaged.path());
        assert_eq!((code, &report["clean"]), (Some(5), &false.into()), "kind {kind}: {report}");
        let findings = report["findings"].as_array().expect("a list");
        let is_named = |finding: &Value| {
            let record = text(&finding["record"]);
            finding["file"] == file && tables.iter().any(|table| record.starts_with(table))
        };
        assert!(findings.iter().any(is_named), "kind {kind}: {report}");
        assert!(bytes(damaged.path()) == before, "kind {kind}: a check changed something");
    }
}

#[test]
fn small_files_are_checked() {
    use std::os::unix::fs::PermissionsExt;
    let folder = used_directory();
    let data = folder.path().join("fluxrelay-data");
    let warned = |file: &str| {
        let (code, report) = check(&data);
        let warnings: Vec<&Value> =
            report["findings"].as_array().expect("a list").iter().filter(|f| f["file"] == file).collect();
        assert_eq!((code, warnings.len()), (Some(0), 1), "{report}");
        assert_eq!(warnings[0]["severity"], "warning");
    };
    fs::set_permissions(data.join("secret.key"), fs::Permissions::from_mode(0o644)).expect("it is ours");
    warned("secret.key");
    fs::set_permissions(data.join("secret.key"), fs::Permissions::from_mode(0o600)).expect("it is ours");
    fs::write(data.join("admin.key"), "admin.nonsense\n").expect("it is ours");
    warned("admin.key");
    fs::write(data.join("tickets.key"), "nonsense").expect("it is ours");
    fs::remove_file(data.join("admin.key")).expect("it is there");
    warned("tickets.key");
    fs::write(data.join("secret.key"), [7; 32]).expect("it is ours");
    let (code, report) = check(&data);
    assert_eq!((code, &report["findings"][0]["file"]), (Some(5), &"secret.key".into()), "{report}");
}

/// Publishes until told to stop; ids of what was acknowledged go where all can see them.
fn publish_until(
    broker: &Broker,
    server: &str,
    thread: u32,
    acknowledged: &Mutex<Vec<String>>,
    stop: &AtomicBool,
) {
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let order = broker.publish(server, &format!("{thread}-{n}"));
        acknowledged.lock().push(text(&order["id"]).to_owned());
    }
}

/// Ends the load, also when the test fails: its threads would go on for ever.
struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_backup_under_load_has_what_was_acknowledged_before_it_and_can_be_restored() {
    let broker = Broker::start(tempfile::tempdir().expect("a folder"), &["--server-calls-per-second", "0"]);
    let server = broker.add_server("survival");
    let (acknowledged, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (before, directory) = thread::scope(|scope| {
        let _end = EndOfLoad(&stop);
        for thread in 0..3 {
            let (broker, server, acknowledged, stop) = (&broker, &server, &acknowledged, &stop);
            scope.spawn(move || publish_until(broker, server, thread, acknowledged, stop));
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                broker.complete_due(&server);
            }
        });
        let enough = |count: usize| {
            while acknowledged.lock().len() < count {
                thread::yield_now();
            }
        };
        enough(200);
        let before = acknowledged.lock().clone();
        let made = broker.cli(&["store", "backup", "under-load"]);
        // Some more, that the backup does not know of.
        let known = acknowledged.lock().len();
        enough(known + 50);
        (before, text(&made["directory"]).to_owned())
    });
    let later = broker.add_server("registered later");
    let again = run(&mut broker.command(&["store", "backup", "under-load"]));
    assert_eq!(again.status.code(), Some(3), "{}", said(&again));
    let refused = run(&mut broker.command(&["store", "backup", "../elsewhere"]));
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    let trail = broker.admin("GET", "/v1/audit?action=backup.create", None);
    assert_eq!(trail["records"][0]["name"], "under-load", "{trail}");
    assert_eq!(check(Path::new(&directory)).0, Some(0));
    assert!(
        !Path::new(&directory).join("tickets.key").exists(),
        "tickets of another past must not come back"
    );

    let highest = acknowledged.lock().iter().map(|id| seq(id)).max().expect("some");
    let folder = tempfile::tempdir().expect("a folder");
    let restore =
        |data: &Path| run(fluxrelay().args(["store", "restore", &directory, "--data-dir"]).arg(data));
    let full = restore(&broker.data());
    assert_eq!(full.status.code(), Some(6), "{}", said(&full));
    let restored = restore(&folder.path().join("fluxrelay-data"));
    assert!(restored.status.success(), "{}", said(&restored));
    assert_eq!(check(&folder.path().join("fluxrelay-data")).0, Some(0));
    let twice = restore(&folder.path().join("fluxrelay-data"));
    assert_eq!(twice.status.code(), Some(6), "{}", said(&twice));
    drop(broker);

    let broker = Broker::start(folder, &["--key-requests-per-second", "0"]);
    for id in &before {
        let order = broker.admin("GET", &format!("/v1/orders/{id}"), None);
        let command = text(&order["commands"][0]["id"]).to_owned();
        let command = broker.admin("GET", &format!("/v1/commands/{command}"), None);
        assert_eq!(text(&command["order"]), id);
    }
    let new = broker.publish(&server, "after the restore");
    assert!(seq(text(&new["id"])) > highest, "{new} after {highest}");
    let other = broker.add_server("registered after the restore");
    let number = |id: &str| id.trim_start_matches("srv_").parse::<u64>().expect("a number");
    assert!(number(&other) > number(&later), "{other} after {later}");
    let trail = broker.admin("GET", "/v1/audit?action=backup.restore", None);
    assert_eq!(trail["records"][0]["by"], "local", "{trail}");
}

/// The number in an order's id.
fn seq(id: &str) -> u64 {
    id.rsplit('_').next().and_then(|number| number.parse().ok()).expect("an order's id")
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let folder = used_directory();
    let (data, target) = (folder.path().join("fluxrelay-data"), folder.path().join("restored"));
    let path = data.join("store.redb");
    let mut store = fs::read(&path).expect("a file");
    // Every copy of a block of commands, in pages that are used and others.
    let places: Vec<usize> =
        (0..store.len() - 4).filter(|&at| store[at..at + 4] == [b'f', b'r', 15, 1]).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|&at| store[at + 9] ^= 1);
    fs::write(&path, store).expect("it is written");
    let output = run(fluxrelay().args(["store", "restore"]).arg(&data).arg("--data-dir").arg(&target));
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(!target.exists(), "nothing is made of it");
}

#[test]
fn files_of_each_format_version_open_check_and_read() {
    fixture::make_if_asked();
    let mut seen = HashSet::new();
    for entry in fs::read_dir(fixture::folder()).expect("fixtures") {
        let fixture = entry.expect("an entry").path();
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("fluxrelay-data");
        fs::create_dir(&data).expect("it is new");
        copy(&fixture, &data);
        let (code, report) = check(&data);
        assert_eq!((code, &report["warnings"]), (Some(0), &0.into()), "{}: {report}", fixture.display());
        fixture::read(folder, &fixture, &mut seen);
    }
    let all = ["pending", "delivered", "awaiting_player", "completed", "failed", "in_doubt", "cancelled"];
    assert_eq!(seen, all.map(str::to_owned).into(), "every status that lasts is in the fixtures");
}
