//! Bodies that show whose they are: each byte follows from the request's number and its position.

/// The byte at `at` of the body of request `id`.
pub(crate) const fn byte(id: u64, at: usize) -> u8 {
    let mixed = (id ^ (at as u64).wrapping_mul(0x9E37_79B9)).wrapping_mul(0xA24B_AED4_963E_E407);
    (mixed >> 32) as u8
}

/// `len` bytes of the body of request `id`.
pub(crate) fn body(id: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte(id, at)).collect()
}

/// Whether `bytes` stand at `at` in the body of request `id`.
pub(crate) fn matches(id: u64, at: usize, bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(offset, got)| *got == byte(id, at + offset))
}

/// The salt that tells a response's body from its request's.
pub(crate) const RESPONSE: u64 = 1 << 60;
