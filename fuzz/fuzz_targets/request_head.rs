#![no_main]
//! See `checks` for what must hold.

#[path = "../../lib/weir-http/tests/checks/mod.rs"]
#[allow(dead_code, reason = "each target uses one of the checks")]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::request_head(input));
