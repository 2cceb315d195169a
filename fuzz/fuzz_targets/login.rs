//! See `check_login.rs`.
#![no_main]

#[path = "../check_login.rs"]
mod check_login;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_login::check_login(data));
