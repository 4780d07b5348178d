#![no_main]
//! See `checks` for what must hold.

#[path = "../../lib/weir-route/tests/checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::path_normalise(input));
