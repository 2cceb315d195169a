//! The tour with curl alone (`docs/tour.sh`) ends well on the real binary.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A broker that ends with the test.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_tour_with_curl_ends_well() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let process = Command::new(env!("CARGO_BIN_EXE_fluxrelay"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut broker = Broker(process);
    // Kept until the end: a broker whose standard output is closed early ends.
    let mut lines = BufReader::new(broker.0.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let url = lines
        .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
        .expect("the broker says where it listens");
    let key = std::fs::read_to_string(data.path().join("admin.key")).expect("the admin key is kept");
    let tour = Command::new("sh")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tour.sh"))
        .env("URL", url)
        .env("KEY", key.trim())
        .output()
        .expect("there is a shell");
    let said = String::from_utf8_lossy(&tour.stdout);
    let complained = String::from_utf8_lossy(&tour.stderr);
    assert!(tour.status.success(), "{said}\n{complained}");
    assert!(said.contains("The tour ends here."), "{said}");
    assert!(!said.contains(key.trim()), "the tour shows the admin key");
    drop(lines);
}
