//! Small deterministic mixing functions. For spreading, not for secrets.

/// One step of SplitMix64 (Steele, Lea, Flood 2014): turns a counter or seed into well-mixed bits.
pub const fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Maps `random` (uniform over u64) to `0..n` without division (Lemire's multiply-shift).
/// Returns 0 for `n == 0`.
pub const fn reduce(random: u64, n: u64) -> u64 {
    ((random as u128 * n as u128) >> 64) as u64
}

/// A tiny generator for jitter and load spreading: SplitMix64 over a counter.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts the sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        splitmix64(self.0)
    }

    /// A number in `0..n` (0 for `n == 0`).
    pub const fn below(&mut self, n: u64) -> u64 {
        reduce(self.next(), n)
    }
}
