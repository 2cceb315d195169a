//! Files of a format version as the program of that time wrote them: made once, kept, and read by every later program.
//!
//! `FLUXRELAY_MAKE_FIXTURES=format-N cargo test --test care format_version` makes those of the present version, in a
//! folder that must not exist yet. Never make those of an earlier version again: they are what that program wrote.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::broker::{Broker, copy, text};

/// Nothing expires while anybody uses this.
const KEEP: [&str; 6] = ["--retention-days", "3650", "--idempotency-days", "365", "--audit-days", "3650"];
/// How far numbers get in the year for which a key can be kept.
const KEPT_FOR: u64 = 365 * 24 * 3600 * 1000 * 1000 * 64;
/// What each command is to be, by its text.
const EXPECTED: &str = "expected.json";

/// Where all of them are kept.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Starts the fixture in `folder` and compares every command with what it was when it was made.
pub(crate) fn read(data: tempfile::TempDir, fixture: &Path, seen: &mut HashSet<String>) {
    let expected = fs::read_to_string(fixture.join(EXPECTED)).expect("what is expected");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let broker = Broker::start(data, &KEEP);
    let mut last = 0;
    for (id, before) in expected.as_object().expect("an object") {
        let now = broker.admin("GET", &format!("/v1/commands/{id}"), None);
        // A delivery whose connection is gone may have been taken back by now.
        let lasts = before["status"] != "delivered";
        let always = ["order", "server", "command", "player", "metadata", "error", "output"];
        let lasting = ["status", "attempts", "history"].into_iter().filter(|_| lasts);
        for field in always.into_iter().chain(lasting) {
            assert_eq!(now[field], before[field], "{field} of {id}");
        }
        let order = broker.admin("GET", &format!("/v1/orders/{}", text(&before["order"])), None);
        let commands = order["commands"].as_array().expect("a list");
        assert!(commands.iter().any(|command| command["id"] == id.as_str()), "{order}");
        seen.insert(text(&before["status"]).to_owned());
        last = last.max(seq(id));
    }
    let server = text(&expected.as_object().expect("an object").values().next().expect("one")["server"]);
    let again = broker.publish(server, "a key");
    let since = seq(text(&again["commands"][0]["id"])).saturating_sub(last);
    assert!(since == 0 || since > KEPT_FOR, "its key was forgotten: {again}");
}

/// The number in a command's id.
fn seq(id: &str) -> u64 {
    id.rsplit('_').next().and_then(|seq| seq.parse().ok()).expect("the id of a command")
}

/// Makes the fixtures of the present version when the environment says so.
pub(crate) fn make_if_asked() {
    let Ok(name) = std::env::var("FLUXRELAY_MAKE_FIXTURES") else { return };
    let target = folder().join(name);
    fs::create_dir(&target).expect("fixtures are made once");
    let first = Broker::start(tempfile::tempdir().expect("a folder"), &KEEP);
    let server = first.add_server("survival");
    let ids = |order: Value| -> Vec<String> {
        let commands = order["commands"].as_array().expect("a list").iter();
        commands.map(|command| text(&command["id"]).to_owned()).collect()
    };
    let publish = |broker: &Broker, count: usize| {
        let command =
            |n: usize| json!({"server": server, "command": format!("say {n}"), "metadata": {"n": n}});
        let commands: Vec<Value> = (0..count).map(command).collect();
        let order = json!({"reference": "fixture", "player": {"name": "Steve"}, "commands": commands});
        ids(broker.admin("POST", "/v1/orders", Some(order)))
    };
    let due = publish(&first, 4);
    first.plugin(&server, "GET", "/v1/plugin/commands", None);
    let result =
        |id: &String, status: &str| json!({"id": id, "status": status, "output": "out", "error": null});
    let results = json!({"results": [result(&due[0], "completed"), result(&due[1], "in_doubt"),
        result(&due[2], "awaiting_player")]});
    first.plugin(&server, "POST", "/v1/plugin/results", Some(results));
    first.publish(&server, "a key");
    let store = first.stop();
    // The store at rest has these; the rest stays in the journal.
    let broker = Broker::start(
        store,
        &[&KEEP[..], &["--checkpoint-seconds", "3600", "--retry-delays-seconds", ""]].concat(),
    );
    let more = publish(&broker, 4);
    let token = broker.admin("POST", &format!("/v1/servers/{server}/token"), None);
    broker.keep_token(&server, text(&token["token"]));
    broker.admin("POST", &format!("/v1/commands/{}/cancel", more[0]), None);
    broker.plugin(&server, "GET", "/v1/plugin/commands", None);
    let failed = json!({"results": [{"id": more[1], "status": "failed", "error": "no such item"}]});
    broker.plugin(&server, "POST", "/v1/plugin/results", Some(failed));
    let last = publish(&broker, 2);
    let all = due.iter().chain(&more).chain(&last);
    let show = |id: &String| (id.clone(), broker.admin("GET", &format!("/v1/commands/{id}"), None));
    let expected: serde_json::Map<String, Value> = all.map(show).collect();
    fs::write(target.join(EXPECTED), format!("{:#}\n", Value::Object(expected))).expect("it is written");
    let folder = broker.kill();
    copy(&folder.path().join("fluxrelay-data"), &target);
    for name in ["tickets.key", "clean"] {
        let _ = fs::remove_file(target.join(name));
    }
}
