//! Arguments, start, stop, exit code; no logic.

fn main() {}
