//! See `check_rest.rs`.
#![no_main]

#[path = "../check_rest.rs"]
#[allow(dead_code, reason = "two targets share it")]
mod check_rest;
#[path = "../../tests/rest/document.rs"]
mod document;
#[path = "../../tests/rest/relay.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod relay;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_rest::check_rest(data));
