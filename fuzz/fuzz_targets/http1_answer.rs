#![no_main]
//! See `weir_pool::fuzz` for what must hold.

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_pool::fuzz::http1_answer(input));
