//! House rules as an ordinary test: headers, lengths, direction of dependencies, words that must not stand in the code.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file at most.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function at most, signature and braces included.
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    /// Path from the root of the project.
    path: String,
    text: String,
    /// Only tests run it.
    is_test: bool,
}

impl Source {
    /// The paths of the files that this one declares for tests alone: `#[cfg(test)]`, then `mod name;`.
    fn test_files(&self) -> Vec<String> {
        let mut folder = self.path.trim_end_matches(".rs").trim_end_matches("/mod").to_owned();
        if matches!(self.path.as_str(), "src/lib.rs" | "src/main.rs") {
            folder = "src".to_owned();
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let marked = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
        let name = |pair: &[&str]| pair[1].strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned);
        marked.filter_map(name).map(|name| format!("{folder}/{name}.rs")).collect()
    }

    /// Whether all house rules hold for it: what is built and run, and not a test.
    fn is_ours(&self) -> bool {
        self.path.starts_with("src/") || self.path.starts_with("benches/peers/src/")
    }

    /// The text before its test module.
    fn code(&self) -> &str {
        let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(all(test, fluxrelay_loom))]\nmod interleavings {"];
        let end = tests.iter().filter_map(|test| self.text.find(test)).min();
        match end {
            _ if self.is_test => "",
            Some(end) => &self.text[..end],
            None => &self.text,
        }
    }

    /// Code lines with their numbers, without comments.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code()
            .lines()
            .enumerate()
            .map(|(place, line)| (place + 1, line.split("//").next().unwrap_or_default()))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("a readable folder").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
    let is_ours = path.starts_with("src/") || path.starts_with("benches/peers/src/");
    let is_test = !is_ours || path.ends_with("_tests.rs");
    Source { path, text, is_test }
}

fn sources() -> Vec<Source> {
    let folders = ["src", "tests", "benches", "fuzz"];
    let mut all: Vec<Source> =
        folders.iter().flat_map(|folder| files_under(folder, "rs")).map(|path| read(&path)).collect();
    let for_tests: Vec<String> = all.iter().flat_map(Source::test_files).collect();
    all.iter_mut().filter(|source| for_tests.contains(&source.path)).for_each(|source| source.is_test = true);
    assert!(all.len() > 20, "the sources were not found");
    all
}

fn assert_none(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn every_file_says_what_it_owns_and_stays_short() {
    let mut offences = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            offences.push(format!("{}: does not start with `//! `", source.path));
        }
        let lines = source.text.lines().count();
        if lines >= FILE_LINES_MAX {
            offences.push(format!("{}: {lines} lines; cut it by noun", source.path));
        }
    }
    assert_none("files start with `//!` and stay under 500 lines", offences);
}

/// The functions of a formatted source as (name, first line, lines): from `fn` to the brace at the same indent.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some(name) = function_name(code) else { continue };
        if line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        let (close, declared) = (format!("{}}}", " ".repeat(indent)), format!("{})", " ".repeat(indent)));
        // A trait's, over several lines, without a body.
        let signature = lines[start..].iter().find(|line| line.starts_with(&declared));
        if line.ends_with('(') && signature.is_some_and(|line| line.ends_with(';')) {
            continue;
        }
        let end =
            lines[start..].iter().position(|line| *line == close || line.starts_with(&format!("{close},")));
        found.extend(end.map(|end| (name.to_owned(), start + 1, end + 1)));
    }
    found
}

fn function_name(code: &str) -> Option<&str> {
    let mut rest = code;
    for word in ["pub", "const", "async", "unsafe"] {
        if let Some(after) = rest.strip_prefix(word) {
            let after =
                if after.starts_with('(') { after.split_once(')').map_or(after, |(_, a)| a) } else { after };
            rest = after.trim_start();
        }
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

#[test]
fn functions_fit_a_screen() {
    let mut offences = Vec::new();
    for source in sources() {
        for (name, line, length) in functions(&source.text) {
            if length >= FUNCTION_LINES_MAX && source.is_ours() {
                offences.push(format!("{}:{line}: fn {name} has {length} lines", source.path));
            }
        }
    }
    assert_none("functions stay under 70 lines", offences);
}

#[test]
fn the_length_of_functions_is_measured() {
    let text = "impl A {\n    pub(super) async fn a(\n        b: u8,\n    ) -> u8 {\n        b\n    }\n\n    fn c() {}\n}\n";
    assert_eq!(functions(text), [("a".to_owned(), 2, 5)]);
    let text = "trait A {\n    fn a(\n        b: u8,\n    ) -> u8;\n\n    fn c() {\n        d()\n    }\n}\n";
    assert_eq!(functions(text), [("c".to_owned(), 6, 3)]);
}

/// Layers and what each may import of this crate. `cli` and `main` may import everything.
const LAYERS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("time", &[]),
    ("limits", &[]),
    ("protocol", &["ids", "time", "limits"]),
    ("engine", &["ids", "time", "limits", "protocol", "prefetch"]),
    ("credentials", &["ids", "time", "limits"]),
    ("config", &["ids", "time", "limits", "credentials", "engine"]),
    ("tls", &["time", "limits", "credentials"]),
    ("telemetry", &["config"]),
    ("priority", &[]),
    ("pace", &[]),
    ("sync", &[]),
    ("prefetch", &[]),
    (
        "storage",
        &["ids", "time", "limits", "protocol", "engine", "credentials", "config", "pace", "prefetch"],
    ),
    (
        "broker",
        &[
            "ids",
            "time",
            "limits",
            "protocol",
            "engine",
            "storage",
            "credentials",
            "config",
            "priority",
            "pace",
            "sync",
            "prefetch",
        ],
    ),
    ("carrier", &["limits", "tls"]),
    (
        "transport",
        &[
            "ids",
            "time",
            "limits",
            "protocol",
            "engine",
            "storage",
            "broker",
            "credentials",
            "config",
            "carrier",
            "tls",
            "priority",
        ],
    ),
    (
        "http",
        &[
            "ids",
            "time",
            "limits",
            "protocol",
            "engine",
            "storage",
            "broker",
            "credentials",
            "config",
            "sync",
        ],
    ),
    ("client", &["ids", "time", "limits", "protocol", "carrier", "tls", "priority"]),
    ("values", &["limits"]),
    ("progress", &[]),
    ("load", &["values", "progress"]),
];

#[test]
fn layers_import_only_what_stands_below_them() {
    let mut offences = Vec::new();
    for source in sources() {
        let Some(rest) = source.path.strip_prefix("src/") else { continue };
        let layer = rest.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else { continue };
        for (number, line) in source.code_lines() {
            for used in line.split("crate::").skip(1) {
                let module: String =
                    used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if module != layer && !module.is_empty() && !allowed.contains(&module.as_str()) {
                    offences.push(format!("{}:{number}: {layer} imports {module}", source.path));
                }
            }
        }
    }
    assert_none("dependencies go one way (src/lib.rs)", offences);
}

#[test]
fn pure_layers_use_only_std_and_bytes() {
    let foreign = ["tokio", "redb", "serde", "axum", "parking_lot", "tracing", "rkyv", "getrandom", "regex"];
    let banned =
        ["std::fs", "std::net", "std::thread", "std::sync::mpsc", "std::process", "SystemTime", "Instant::"];
    let mut offences = Vec::new();
    for source in sources() {
        if !["src/protocol/", "src/engine/", "src/ids.rs", "src/time.rs", "src/limits.rs"]
            .iter()
            .any(|pure| source.path.starts_with(pure))
        {
            continue;
        }
        for (number, line) in source.code_lines() {
            let uses_foreign = foreign.iter().any(|name| line.contains(&format!("{name}::")));
            if uses_foreign || banned.iter().any(|name| line.contains(name)) {
                offences.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("protocol and engine are pure", offences);
}

#[test]
fn rkyv_stays_in_the_records() {
    let mut offences = Vec::new();
    for source in sources() {
        let on_disk = source.path.starts_with("src/storage/record") || !source.path.starts_with("src/");
        if !on_disk
            && source.code_lines().any(|(_, line)| line.contains("rkyv::") || line.contains("Archive,"))
        {
            offences.push(source.path);
        }
    }
    assert_none("rkyv only in src/storage/record*", offences);
}

/// Put together here, so that this file does not offend against itself.
fn banned_words() -> Vec<(String, &'static str)> {
    let word = |a: &str, b: &str| format!("{a}{b}");
    vec![
        (word("todo", "!("), "finish it"),
        (word("unimplemented", "!("), "finish it"),
        (word("dbg", "!("), "remove it"),
        (word(".unw", "rap()"), "use `expect` with the invariant, or handle it"),
        (word("#[al", "low("), "mend the cause; where there is none, use a scoped `expect` with a reason"),
        (word("#![al", "low("), "mend the cause"),
        (word("#[ign", "ore"), "a test that does not run is none"),
    ]
}

#[test]
fn banned_words_do_not_stand_in_the_code() {
    let words = banned_words();
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.is_ours()) {
        for (number, line) in source.code_lines() {
            for (word, advice) in words.iter().filter(|(word, _)| line.contains(word.as_str())) {
                offences.push(format!("{}:{number}: {word}: {advice}", source.path));
            }
        }
    }
    assert_none("words that must not stand in the code", offences);
}

#[test]
fn no_test_is_switched_off() {
    let ignored = format!("#[ign{}", "ore");
    let offences =
        sources().into_iter().filter(|source| source.text.contains(&ignored)).map(|source| source.path);
    assert_none("every test runs", offences.collect());
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let paths = ["work", "home", "root", "Users"].map(|folder| format!("/{folder}/"));
    let mut files: Vec<Source> = sources();
    for name in ["README.md", "CHANGELOG.md", "protocol.md", "Cargo.toml", "justfile", ".ci/run"] {
        files.extend(Some(root().join(name)).filter(|path| path.exists()).map(|path| read(&path)));
    }
    for folder in ["docs", "benches", "tests"] {
        files.extend(
            ["md", "py", "txt"].iter().flat_map(|kind| files_under(folder, kind)).map(|path| read(&path)),
        );
    }
    let mut offences = Vec::new();
    for file in files {
        for (place, line) in file.text.lines().enumerate() {
            if paths.iter().any(|path| absolute(line, path)) {
                offences.push(format!("{}:{}: {}", file.path, place + 1, line.trim()));
            }
        }
    }
    assert_none("no machine paths", offences);
}

/// True when `path` stands in the line as the beginning of an absolute path.
fn absolute(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(place, _)| {
        let before = line[..place].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '-' | '}' | '*' | '>'))
    })
}

/// They need root and loop devices, so no ordinary run gets further than this.
#[test]
fn the_power_cuts_explain_themselves() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/run");
    let asked = |words: &[&str]| {
        std::process::Command::new("python3").arg(&run).args(words).output().expect("python3 starts")
    };
    let help = asked(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout);
    assert!(help.status.success(), "{}", String::from_utf8_lossy(&help.stderr));
    for mode in ["cut", "full", "failing", "mirror"] {
        assert!(text.contains(&format!("sudo tests/power/run {mode} ")), "no example of {mode}: {text}");
    }
    assert_eq!(asked(&["flood", "--binary", "fluxrelay"]).status.code(), Some(2));
}
