//! See `check_ledger.rs`.
#![no_main]

#[path = "../check_ledger.rs"]
mod check_ledger;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_ledger::check_ledger(data));
