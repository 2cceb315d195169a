//! The list of faults in `tests/mutants/list.toml` fits the code: each has its place, once, and a test that is to catch it.
//!
//! That each is caught is shown by `tests/mutants/run`, which builds the crate once for every fault.

use std::collections::BTreeSet;
use std::path::Path;

use toml::{Table, Value};

/// Faults that are known to be caught; fewer are a list that was cut.
const MUTANTS_MIN: usize = 24;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All sources under a folder, one after the other.
fn sources(folder: &str) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = format!("{folder}/{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            text += &sources(&name);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            text += &read(&name);
        }
    }
    text
}

/// Whether a part of a test's name, with or without modules, is one of a test in these sources.
fn names_a_test(filter: &str, text: &str) -> bool {
    let (module, name) = filter.rsplit_once("::").map_or((None, filter), |(path, name)| (Some(path), name));
    let as_test = text.lines().any(|line| line.trim_start().contains("fn ") && line.contains(name));
    as_test || module.is_some_and(|module| text.contains(module.rsplit("::").next().expect("a part")))
}

#[test]
fn every_fault_has_its_place_and_a_test() {
    let list: Table = read("tests/mutants/list.toml").parse().expect("TOML");
    let mutants = list["mutant"].as_array().expect("faults");
    assert!(mutants.len() >= MUTANTS_MIN, "{} faults", mutants.len());
    let (mut names, mut offences) = (BTreeSet::new(), Vec::new());
    let unit_tests = sources("src");
    for mutant in mutants {
        let text = |field: &str| match mutant.get(field).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => panic!("{field} is missing in {mutant}"),
        };
        let (name, file, find) = (text("name"), text("file"), text("find"));
        assert!(names.insert(name.clone()), "{name} is listed twice");
        assert!(find != text("replace") && !text("says").is_empty(), "{name}");
        let promise = text("breaks").split(':').next().and_then(|number| number.parse::<u8>().ok());
        assert!(promise.is_some_and(|number| (1..=9).contains(&number)), "{name} breaks no promise");
        let found = read(&file).matches(&find).count();
        if found != 1 {
            offences.push(format!("{name}: its place stands {found} times in {file}"));
        }
        let (test, filter) = (text("test"), text("filter"));
        let tests = match test.as_str() {
            "lib" => unit_tests.clone(),
            _ if Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{test}.rs")).exists() => {
                read(&format!("tests/{test}.rs"))
            }
            _ => sources(&format!("tests/{test}")),
        };
        if !names_a_test(&filter, &tests) {
            offences.push(format!("{name}: there is no test {filter} in {test}"));
        }
    }
    assert!(offences.is_empty(), "mend tests/mutants/list.toml:\n  {}", offences.join("\n  "));
}
