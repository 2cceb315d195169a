//! The real binary with a mirror, killed and damaged over and over.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fluxrelay::storage::mirror::MIRRORED_FILES;
use serde_json::{Value, json};

use super::{Dirs, damage};

struct Served {
    process: Child,
    url: String,
    key: String,
}

impl Served {
    fn start(dirs: &Dirs) -> Served {
        let mut process = Command::new(env!("CARGO_BIN_EXE_fluxrelay"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(&dirs.data)
            .arg("--mirror-dir")
            .arg(&dirs.mirror)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let url = lines.find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned()));
        let url = url.unwrap_or_else(|| panic!("it ended before it listened: {:?}", process.wait()));
        std::thread::spawn(move || lines.for_each(drop));
        let key = fs::read_to_string(dirs.data.join("admin.key")).expect("the admin key").trim().to_owned();
        Served { process, url, key }
    }

    fn kill(mut self) {
        self.process.kill().expect("it was running");
        self.process.wait().expect("a child can be waited for");
    }

    fn call(&self, path: &str, body: Option<Value>) -> Value {
        let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().new_agent();
        let (url, bearer) = (format!("{}{path}", self.url), format!("Bearer {}", self.key));
        let answer = match body {
            Some(body) => agent.post(url).header("Authorization", bearer).send_json(body),
            None => agent.get(url).header("Authorization", bearer).call(),
        };
        let mut answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = answer.body_mut().read_to_string().expect("a body");
        assert!(answer.status().is_success(), "{path}: {} {text}", answer.status());
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn after_a_kill_and_damage_to_any_file_the_binary_has_everything() {
    let dirs = Dirs::new();
    let mut served = Served::start(&dirs);
    let server = served.call("/v1/servers", Some(json!({"name": "survival"})))["id"].clone();
    let mut orders = Vec::new();
    let names = MIRRORED_FILES.into_iter().chain(["secret.key", "mirror-1.mark"]);
    for (number, name) in names.enumerate() {
        for part in 0..10 {
            let body = json!({"commands": [{"server": server, "command": format!("say {number} {part}")}]});
            orders.push(served.call("/v1/orders", Some(body))["id"].as_str().expect("an id").to_owned());
        }
        served.kill();
        match number % 2 {
            0 => spoil(&dirs.data.join(name)),
            _ => fs::remove_file(dirs.data.join(name)).expect("it is ours"),
        }
        served = Served::start(&dirs);
        for order in &orders {
            served.call(&format!("/v1/orders/{order}"), None);
        }
        assert_eq!(served.call("/readyz", None)["mirror"], "in_step", "after {name}");
    }
    let metrics = served.call("/metrics", None);
    assert!(
        metrics.as_str().is_some_and(|text| text.contains("\nfluxrelay_mirror_in_step 1\n")),
        "{metrics}"
    );
}

fn spoil(file: &Path) {
    match fs::metadata(file).expect("a file").len() {
        0..4096 => fs::write(file, b"nonsense").expect("it is written"),
        _ => damage(file),
    }
}
