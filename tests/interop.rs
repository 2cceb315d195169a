//! A client in another language, written from protocol.md alone, goes through the main job (`tests/interop/`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A python that has the `websockets` package: the system's or CI's, else a virtual environment of the tests' own.
fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop-venv");
    let own_python = own.join("bin/python");
    let candidates = [PathBuf::from("python3"), root.join("target/ci-venv/bin/python"), own_python.clone()];
    if let Some(python) = candidates.into_iter().find(|python| has_websockets(python)) {
        return python;
    }
    let venv = Command::new("python3").args(["-m", "venv"]).arg(&own).status();
    assert!(venv.is_ok_and(|status| status.success()), "this test needs python3 with venv");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "websockets"];
    let installed = Command::new(&own_python).args(pip).status();
    assert!(
        installed.is_ok_and(|status| status.success()) && has_websockets(&own_python),
        "this test needs the python package websockets: run `pip install websockets`"
    );
    own_python
}

fn has_websockets(python: &Path) -> bool {
    let import = ["-c", "import websockets.sync.client"];
    let status = Command::new(python).args(import).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_client_in_python_goes_through_the_main_job() {
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/story.py");
    let output = Command::new(python())
        .arg("-B")
        .arg(story)
        .args(["--fluxrelay", env!("CARGO_BIN_EXE_fluxrelay")])
        .output()
        .expect("python starts");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the story went wrong after:\n{said}\n{errors}");
    assert!(said.contains("all of the story came true"), "{said}");
}
