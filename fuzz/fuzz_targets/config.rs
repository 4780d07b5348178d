#![no_main]
//! See `weir_config::fuzz_one` for what must hold.

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_config::fuzz_one(input));
