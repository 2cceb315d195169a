//! See `check_config.rs`.
#![no_main]

#[path = "../check_config.rs"]
mod check_config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_config::check_config(data));
