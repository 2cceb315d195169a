//! What may be in the dependency tree, by the lists of deny.toml: no banned crate, no other source than the registry, no
//! licence that does not go together with ours. And that the advisories in advisories/ are about all of it; whether one
//! hits us is checked by `.ci/deny`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};
use toml::Table;

/// The members of the workspace.
const OWN: [&str; 3] = [env!("CARGO_PKG_NAME"), "fluxrelay-fuzz", "fluxrelay-peers"];

fn read(name: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(path).expect("a file of the project");
    text.parse().expect("TOML")
}

/// A list of texts in deny.toml.
fn list(part: &str, name: &str) -> Vec<String> {
    let deny = read("deny.toml");
    let entries = deny[part][name].as_array().expect("a list").iter();
    entries.map(|entry| entry.as_str().expect("a text").to_owned()).collect()
}

/// A banned crate, and by which others it may be named all the same.
struct Ban {
    name: String,
    wrappers: Vec<String>,
}

fn bans() -> Vec<Ban> {
    let deny = read("deny.toml");
    let text = |value: &toml::Value| value.as_str().expect("a text").to_owned();
    let ban = |entry: &toml::Value| Ban {
        name: text(&entry["crate"]),
        wrappers: entry
            .get("wrappers")
            .map_or(Vec::new(), |names| names.as_array().expect("a list").iter().map(text).collect()),
    };
    deny["bans"]["deny"].as_array().expect("a list").iter().map(ban).collect()
}

/// Who names a crate in a lock file.
fn parents<'l>(lock: &'l Table, name: &str) -> Vec<&'l str> {
    let names = |package: &toml::Value| {
        let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
        dependencies.is_some_and(|all| {
            all.iter().any(|each| each.as_str().and_then(|each| each.split(' ').next()) == Some(name))
        })
    };
    let packages = lock["package"].as_array().expect("packages").iter();
    packages.filter(|package| names(package)).filter_map(|package| package["name"].as_str()).collect()
}

/// What is wrong with the packages of a lock file.
fn offences_of_lock(lock: &Table, bans: &[Ban], registries: &[String]) -> Vec<String> {
    let mut offences = Vec::new();
    for package in lock["package"].as_array().expect("packages") {
        let text = |field: &str| package.get(field).and_then(toml::Value::as_str).unwrap_or_default();
        let name = text("name");
        if let Some(ban) = bans.iter().find(|ban| ban.name == name) {
            let parents = parents(lock, name);
            let is_wrapped = |parent: &&str| ban.wrappers.iter().any(|wrapper| wrapper == parent);
            if parents.is_empty() || !parents.iter().all(is_wrapped) {
                offences.push(format!("{name} is banned"));
            }
        }
        let source = text("source");
        let known = registries.iter().any(|registry| source == format!("registry+{registry}"));
        let is_own = source.is_empty() && OWN.contains(&name);
        if !known && !is_own {
            offences.push(format!("{name} comes from {source:?}"));
        }
    }
    offences
}

/// What a program of the toolchain prints.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.expect("cargo and rustc are there where tests are run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// This platform. Only what it needs was downloaded for sure.
fn host() -> String {
    let version = run("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_owned()
}

#[test]
fn every_crate_comes_from_the_registry_and_none_is_banned() {
    let lock = read("Cargo.lock");
    let (bans, registries) = (bans(), list("sources", "allow-registry"));
    assert!(lock["package"].as_array().is_some_and(|packages| packages.len() > 100) && bans.len() > 3);
    assert_eq!(offences_of_lock(&lock, &bans, &registries), Vec::<String>::new());
    // A lock file also names what no feature turns on; this is what is built here, with all features.
    let args =
        ["tree", "--locked", "--offline", "--all-features", "--prefix=none", "--format={p}", "--target"];
    let tree = run(env!("CARGO"), &[&args[..], &[&host()]].concat());
    let built: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(built.len() > 100 && built.contains(&"aws-lc-rs"));
    let banned: Vec<&Ban> = bans.iter().filter(|ban| built.contains(&&*ban.name)).collect();
    assert!(banned.is_empty(), "{} is banned and built", banned[0].name);
}

#[test]
fn a_banned_crate_and_a_foreign_source_are_noticed() {
    let lock = "
        [[package]]
        name = \"ring\"
        source = \"registry+https://example.org/index\"
        [[package]]
        name = \"left\"
        source = \"git+https://example.org/left#abc\"
        [[package]]
        name = \"beside\"";
    let registries = ["https://example.org/index".to_owned()];
    let bans = [Ban { name: "ring".into(), wrappers: vec!["wrapper".into()] }];
    let offences = |lock: &str| offences_of_lock(&lock.parse().expect("TOML"), &bans, &registries);
    let named_by = |name: &str| {
        let source = "source = \"registry+https://example.org/index\"";
        format!("{lock}\n[[package]]\nname = \"{name}\"\n{source}\ndependencies = [\"ring 0.17.14\"]")
    };
    let expected =
        ["ring is banned", "left comes from \"git+https://example.org/left#abc\"", "beside comes from \"\""];
    assert_eq!(offences(lock), expected);
    assert_eq!(offences(&named_by("other")), expected);
    assert_eq!(offences(&named_by("wrapper")), expected[1..]);
}

/// Crates with their versions, and the features with which they are built for a package of the workspace.
fn features(package: &str, edges: &str) -> BTreeMap<String, String> {
    let args = ["tree", "--locked", "--offline", "--prefix=none", "--format={p}|{f}"];
    let tree = run(env!("CARGO"), &[&args[..], &["--package", package, "--edges", edges]].concat());
    let crates = tree.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once('|'));
    crates.map(|(name, features)| (name.to_owned(), features.to_owned())).collect()
}

#[test]
fn the_fuzz_targets_need_no_second_build_of_what_the_tests_have() {
    let (tests, fuzz) = (features(OWN[0], "normal,build,dev"), features(OWN[1], "normal,build"));
    let differ: Vec<_> = fuzz
        .iter()
        .filter_map(|(name, features)| tests.get(name).map(|of_tests| (name, of_tests, features)))
        .filter(|(_, of_tests, features)| of_tests != features)
        .collect();
    assert!(fuzz.keys().filter(|name| tests.contains_key(*name)).count() > 100);
    assert!(differ.is_empty(), "give fuzz/Cargo.toml the features that the tests have: {differ:#?}");
}

#[test]
fn the_peers_need_no_second_build_of_what_fluxrelay_has() {
    let (own, peers) = (features(OWN[0], "normal,build"), features(OWN[2], "normal,build"));
    let foreign = |(name, features): &(&String, &String)| own.get(*name) != Some(*features);
    // By which curves are drawn, and nothing else needs.
    let alone = [OWN[2], "plotters"];
    let foreign: Vec<_> = peers
        .iter()
        .filter(foreign)
        .filter(|(name, _)| !alone.iter().any(|alone| name.starts_with(alone)))
        .collect();
    assert!(peers.len() > 100);
    assert!(foreign.is_empty(), "give benches/peers/Cargo.toml what fluxrelay has: {foreign:#?}");
}

#[test]
fn every_crate_was_looked_up_in_the_advisories() {
    let (lock, copy) = (read("Cargo.lock"), read("advisories/copy.toml"));
    let crates: Vec<&str> =
        copy["crates"].as_array().expect("a list").iter().filter_map(toml::Value::as_str).collect();
    let packages = lock["package"].as_array().expect("packages").iter();
    let names = packages.filter(|package| package.get("source").is_some()).map(|package| &package["name"]);
    let unknown: Vec<&str> =
        names.filter_map(toml::Value::as_str).filter(|name| !crates.contains(name)).collect();
    assert!(unknown.is_empty(), "run advisories/renew, which does not know of {unknown:?} yet");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("advisories/crates");
    let about =
        std::fs::read_dir(folder).expect("the copy").map(|entry| entry.expect("an entry").file_name());
    let (about, strangers): (Vec<_>, Vec<_>) =
        about.partition(|name| name.to_str().is_some_and(|name| crates.contains(&name)));
    assert!(about.len() > 20 && strangers.is_empty(), "advisories/renew makes the copy whole: {strangers:?}");
}

/// Whether one may use it under the allowed licences alone.
fn is_allowed(licence: &str, allowed: &[String]) -> bool {
    let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX) else { return false };
    expression.evaluate(|need| allowed.iter().any(|allowed| *allowed == need.to_string()))
}

#[test]
fn every_licence_goes_together_with_ours() {
    let host = host();
    let args = [
        "metadata",
        "--format-version=1",
        "--locked",
        "--offline",
        "--all-features",
        "--filter-platform",
        &host,
    ];
    let metadata: Value = serde_json::from_str(&run(env!("CARGO"), &args)).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100);
    let allowed = list("licenses", "allow");
    let licence = |package: &Value| package["license"].as_str().unwrap_or_default().to_owned();
    let offences: Vec<String> = packages
        .iter()
        .filter(|package| !is_allowed(&licence(package), &allowed))
        .map(|package| format!("{} has {:?}", package["name"], licence(package)))
        .collect();
    assert_eq!(offences, Vec::<String>::new(), "licences that deny.toml does not allow");
}

#[test]
fn licences_are_read_as_they_are_meant() {
    let allowed = ["MIT".to_owned(), "BSD-3-Clause".to_owned()];
    for licence in
        ["MIT", "MIT OR GPL-3.0-only", "GPL-3.0/MIT", "MIT AND BSD-3-Clause", "(MIT OR GPL-2.0) AND MIT"]
    {
        assert!(is_allowed(licence, &allowed), "{licence}");
    }
    for licence in
        ["", "GPL-3.0-only", "MIT AND GPL-3.0-only", "Apache-2.0 WITH LLVM-exception", "SSPL", "MIT AND"]
    {
        assert!(!is_allowed(licence, &allowed), "{licence}");
    }
}
