//! The engine's specification by example: every script in `tests/scenarios/` is run with virtual time, and what the
//! shards do must be what the script says. The language is described in `tests/scenarios/README.md`.
//!
//! After a change that is meant, `FLUXRELAY_BLESS=1 cargo test --test scenarios` writes what happened into the scripts:
//! review the difference before it is committed.

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

#[path = "scenarios/act.rs"]
mod act;
#[path = "scenarios/parse.rs"]
mod parse;
#[path = "scenarios/show.rs"]
mod show;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use act::Stage;
use parse::Line;

/// Runs a script; returns it as it should read.
fn run(text: &str, name: &str) -> String {
    let mut stage = Stage::new();
    let mut actual = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        match parse::line(line) {
            Ok(Line::Expected) => {}
            Ok(Line::Prose) => writeln!(actual, "{line}").expect("a string takes everything"),
            Ok(Line::Step(step)) => {
                writeln!(actual, "{line}").expect("a string takes everything");
                let shown =
                    stage.act(&step).unwrap_or_else(|error| panic!("{name}:{number}: {error}\n  {line}"));
                for shown in shown {
                    writeln!(actual, "    {shown}").expect("a string takes everything");
                }
            }
            Err(error) => panic!("{name}:{number}: {error}\n  {line}"),
        }
    }
    actual
}

/// The lines of two texts side by side: `-` only expected, `+` only seen, with their surroundings.
fn difference(expected: &str, actual: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, left) in old.iter().enumerate().rev() {
        for (j, right) in new.iter().enumerate().rev() {
            let skip = common[i + 1][j].max(common[i][j + 1]);
            common[i][j] = if left == right { common[i + 1][j + 1] + 1 } else { skip };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        lines[at.saturating_sub(4)..(at + 4).min(lines.len())].iter().any(|(mark, _)| *mark != ' ')
    };
    let shown = (0..lines.len()).filter(|at| near(*at));
    shown.map(|at| format!("{} {}\n", lines[at].0, lines[at].1)).collect()
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of scripts is there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    scripts
}

#[test]
fn every_script_happens_as_written() {
    let scripts = scripts();
    assert!(scripts.len() >= 10, "the scripts are found");
    let bless = std::env::var_os("FLUXRELAY_BLESS").is_some();
    let only = std::env::var("FLUXRELAY_SCENARIO").unwrap_or_default();
    let mut failed = String::new();
    for path in scripts.iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let name = path.file_name().expect("a file").to_string_lossy();
        let expected = std::fs::read_to_string(path).expect("the script can be read");
        let actual = run(&expected, &name);
        if bless && actual != expected {
            std::fs::write(path, &actual).expect("the script can be written");
        } else if actual != expected {
            write!(failed, "{name}\n{}\n", difference(&expected, &actual))
                .expect("a string takes everything");
        }
    }
    assert!(failed.is_empty(), "expected (-), happened (+):\n\n{failed}");
}

#[test]
fn a_wrong_expectation_is_seen() {
    let script = "0s servers 1\n0s show srv_1\n    nonsense\n";
    let actual = run(script, "inline");
    assert_ne!(script, actual);
    assert!(difference(script, &actual).contains("-     nonsense"));
}
