//! See `check_console.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fluxrelay::cli::check_console(data));
