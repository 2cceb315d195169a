//! See `check_record.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fluxrelay::storage::check_record(data));
