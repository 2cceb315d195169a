//! The program as a whole: fluxrelay beside every peer whose package is installed here, at a tiny size.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Peers and the programs that they need.
const PEERS: [(&str, &[&str]); 4] = [
    ("redis", &["/usr/bin/redis-server"]),
    ("postgres", &["/usr/lib/postgresql"]),
    ("nats", &["/usr/sbin/nats-server", "/usr/bin/nats-server"]),
    ("beanstalkd", &["/usr/bin/beanstalkd"]),
];

fn peers(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fluxrelay-peers")).args(args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_system_that_is_here_is_measured_and_nothing_is_left_behind() {
    let here = |files: &[&str]| files.iter().any(|file| Path::new(file).exists());
    let installed = PEERS.iter().filter(|(_, files)| here(files)).map(|(name, _)| *name);
    let names: Vec<&str> = std::iter::once("fluxrelay").chain(installed).collect();
    let folder = tempfile::tempdir().expect("a folder");
    // PostgreSQL may run as somebody else.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).expect("our own folder");
    let data_in = folder.path().to_string_lossy().into_owned();
    let output = peers(&["--tiny", "--json", "--systems", &names.join(","), "--data-in", &data_in]);
    let hint = "`cargo test -p fluxrelay -p fluxrelay-peers` builds the fluxrelay that it needs";
    assert!(output.status.success(), "{}({hint})", text(&output.stderr));
    let modes: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (mode, figure) in [
        (0, "completed_commands_per_s"),
        (1, "receipt_p50_ms"),
        (2, "drained_commands_per_s"),
        (3, "acknowledged_commands"),
    ] {
        for name in &names {
            let medians = &modes[mode]["systems"][name]["medians"];
            assert!(medians[figure].as_f64().is_some_and(|value| value > 0.0), "{name}: {medians}");
            assert_eq!(medians["missing_commands"], 0.0, "{name}: {medians}");
            assert!(
                mode != 3 || medians["confirmed_and_delivered_again_commands"] == 0.0 || *name == "nats",
                "{name}: {medians}"
            );
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("our own folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_bound_of_the_sockets_is_measured_where_there_is_one() {
    let tiny = ["--systems", "bare", "--rounds", "1", "--json", "--servers", "8", "--duration", "200ms"];
    let output = peers(&[&["throughput", "--in-flight", "32"], &tiny[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mode: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let medians = &mode["systems"]["bare"]["medians"];
    assert!(medians["completed_commands_per_s"].as_f64().is_some_and(|value| value > 0.0), "{mode}");
    for none in ["missing_commands", "delivered_twice_commands", "publishes_refused"] {
        assert_eq!(medians[none], 0.0, "{mode}");
    }
    let output = peers(&["crash", "--systems", "bare"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("bare keeps nothing"), "{}", text(&output.stderr));
}

#[test]
fn curves_are_drawn() {
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("curves").to_string_lossy().into_owned();
    let points = ["--curves", "latency,servers", "--most", "500", "--seconds", "1", "--rounds", "1"];
    let output = peers(&[&["plot", &into, "--systems", "fluxrelay"], &points[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    for name in ["latency.svg", "servers.svg", "curves.json"] {
        let drawn = std::fs::read_to_string(folder.path().join("curves").join(name)).expect(name);
        assert!(drawn.contains("fluxrelay"), "{name}: {drawn}");
    }
}

#[test]
fn it_explains_itself() {
    let help = text(&peers(&["--help"]).stdout);
    assert!(
        help.contains("cargo run --release -p fluxrelay-peers -- throughput")
            && help.contains("apt-get install")
    );
    for (args, words) in [
        (&["throughput", "--systems", "kafka"][..], "possible values: fluxrelay, redis, postgres"),
        (&["latency", "--rate", "0"], "0 is not in 1..=1000000"),
        (&["--tiny", "backlog"], "--tiny is all modes"),
        (
            &["throughput", "--systems", "fluxrelay", "--fluxrelay", "no/such/file"],
            "there is no no/such/file",
        ),
    ] {
        let output = peers(args);
        assert!(!output.status.success() && text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
}
