#![no_main]
//! See `weir_control::fuzz` for what must hold.

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_control::fuzz::grantor_claim(input));
