//! See `check_recovery.rs`.
#![no_main]

#[path = "../check_recovery.rs"]
mod check_recovery;
#[path = "../../tests/crash/disk.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod disk;
#[path = "../../tests/crash/workload.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod workload;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_recovery::check_recovery(data));
