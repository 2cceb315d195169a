//! See `check_session.rs`.
#![no_main]

#[path = "../../tests/model/check.rs"]
mod check;
#[path = "../check_session.rs"]
mod check_session;
#[path = "../../tests/model/driver.rs"]
mod driver;
#[path = "../../tests/model/inputs.rs"]
mod inputs;
#[path = "../../tests/model/naive.rs"]
mod naive;
#[path = "../../tests/model/outcomes.rs"]
mod outcomes;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_session::check_session(data));
