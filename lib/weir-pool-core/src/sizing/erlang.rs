//! Erlang's two formulas, by the recursion that is stable for every number of servers.
//!
//! ```text
//! B(0) = 1,   B(n) = a B(n−1) / (n + a B(n−1))        blocking without a line
//! C(c) = B(c) / (1 − ρ (1 − B(c))),   ρ = a / c       waiting with one
//! ```
//!
//! Every term stays within 0 and 1: neither powers nor factorials are formed, so nothing overflows at 100,000 servers, where
//! the formula as textbooks print it does at 170. What is too small for a float becomes 0.
//!
//! Arrivals that come in bursts, or more evenly than chance, are handled as fewer, or more, of a kind: with peakedness z, `c`
//! servers and `a` busy are taken as `c / z` and `a / z` (Hayward's approximation: A. A. Fredericks, "Congestion in blocking
//! systems", Bell System Technical Journal 59, 1980). Between whole numbers of servers, ln B is taken as straight.
//!
//! Source: A. K. Erlang, "Solution of some problems in the theory of probabilities of significance in automatic
//! telephone exchanges", 1917; the recursion is in every text of teletraffic, such as V. B. Iversen, "Teletraffic
//! Engineering Handbook" (ITU), section 7.3.

/// Arrivals more even than this are taken as this even; it bounds the work.
const PEAKEDNESS_MIN: f64 = 0.05;

/// B for 0, 1, 2 … servers, each from the one before.
#[derive(Clone, Debug)]
struct ErlangB {
    offered: f64,
    servers: u32,
    blocking: f64,
}

impl ErlangB {
    /// No servers: all is blocked.
    fn new(offered: f64) -> Self {
        Self { offered, servers: 0, blocking: 1.0 }
    }

    /// One server more.
    fn step(&mut self) {
        self.servers += 1;
        let carried = self.offered * self.blocking;
        self.blocking = carried / (f64::from(self.servers) + carried);
    }

    fn advance(&mut self, servers: u32) {
        while self.servers < servers {
            self.step();
        }
    }

    /// Between this and the next one, at the share `part` of the way.
    fn between(&self, next: &Self, part: f64) -> f64 {
        if part <= 0.0 || self.blocking <= 0.0 || next.blocking <= 0.0 {
            return if part <= 0.0 { self.blocking } else { next.blocking };
        }
        (self.blocking.ln() * (1.0 - part) + next.blocking.ln() * part).exp()
    }
}

/// C for growing numbers of servers, with arrivals of any peakedness.
#[derive(Clone, Debug)]
pub(super) struct ErlangC {
    offered: f64,
    peakedness: f64,
    below: ErlangB,
    above: ErlangB,
}

impl ErlangC {
    /// `peakedness` is 1 for independent users.
    pub(super) fn new(offered: f64, peakedness: f64) -> Self {
        let peakedness = peakedness.max(PEAKEDNESS_MIN);
        let below = ErlangB::new(offered / peakedness);
        let mut above = below.clone();
        above.step();
        Self { offered, peakedness, below, above }
    }

    /// C with so many servers, which may not be fewer than at the last call; 1 where they cannot keep up.
    pub(super) fn waiting(&mut self, servers: u32) -> f64 {
        if self.offered >= f64::from(servers) {
            return 1.0;
        }
        let alike = f64::from(servers) / self.peakedness;
        let whole = alike.floor() as u32;
        debug_assert!(self.below.servers <= whole, "servers may only grow");
        self.below.advance(whole);
        self.above.advance(whole + 1);
        let blocking = self.below.between(&self.above, alike - f64::from(whole));
        let rho = self.offered / f64::from(servers);
        (blocking / (1.0 - rho * (1.0 - blocking))).clamp(0.0, 1.0)
    }
}

/// Erlang B: the share of requests that find all of `servers` busy and go away, when `offered` are busy on average if
/// nobody is turned away. 1 without servers.
pub fn erlang_b(servers: u32, offered: f64) -> f64 {
    let mut erlang = ErlangB::new(offered);
    erlang.advance(servers);
    erlang.blocking
}

/// Erlang C: the share of requests that have to wait when those that find all of `servers` busy stand in line (M/M/c).
/// 1 if `offered` is not below `servers`.
pub fn erlang_c(servers: u32, offered: f64) -> f64 {
    ErlangC::new(offered, 1.0).waiting(servers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values that others give: one and two servers in closed form (ρ and 2ρ² / (1 + ρ)); the worked example of call centres
    /// (360 calls in half an hour, 4 minutes each, 55 agents: 48 busy, 0.239 wait); those that other implementations are
    /// tested with (0.3211, 0.3812). All were confirmed in exact fractions by the sum that textbooks print.
    #[test]
    fn values_that_others_give() {
        for (servers, offered, expected) in [
            (1, 0.5, 0.5),
            (1, 0.99, 0.99),
            (2, 1.0, 1.0 / 3.0),
            (2, 1.8, 2.0 * 0.81 / 1.9),
            (3, 2.0, 4.0 / 9.0),
            (8, 5.0, 0.167_266_5),
            (25, 20.0, 0.209_102_8),
            (55, 48.0, 0.238_700_9),
            (132, 123.0, 0.321_116_2),
            (12_421, 12_345.0, 0.381_225_0),
        ] {
            let waiting = erlang_c(servers, offered);
            assert!((waiting - expected).abs() < 1e-6, "C({servers}, {offered}) = {waiting}, expected {expected}");
        }
        assert!((erlang_b(2, 1.0) - 0.2).abs() < 1e-12);
        assert!((erlang_b(10, 5.0) - 0.018_384_6).abs() < 1e-6, "{}", erlang_b(10, 5.0));
    }

    /// The sum as textbooks print it, for few servers.
    fn by_the_sum(servers: u32, offered: f64) -> f64 {
        let c = f64::from(servers);
        let (mut term, mut sum) = (1.0, 0.0);
        for k in 0..servers {
            sum += term;
            term *= offered / f64::from(k + 1);
        }
        let waiting = term * c / (c - offered);
        waiting / (sum + waiting)
    }

    #[test]
    fn a_hundred_thousand_servers_are_no_trouble() {
        let near = erlang_c(100_000, 99_900.0);
        assert!(near > 0.5 && near < 0.8, "{near}");
        assert!(erlang_c(100_000, 1.0).abs() < f64::MIN_POSITIVE);
        assert!((erlang_c(100_000, 100_000.0) - 1.0).abs() < 1e-12);
        assert!((erlang_c(0, 1.0) - 1.0).abs() < 1e-12);
        // Halfin and Whitt 1981: with c = a + β √a the share tends to 1 / (1 + β Φ(β) / φ(β)), here 0.223 at β = 1.
        let many = erlang_c(100_000, 99_684.27);
        assert!((many - 0.223).abs() < 0.005, "{many}");
    }

    proptest! {
        #[test]
        fn the_recursion_is_the_sum(servers in 1_u32..60, share in 0.01_f64..0.999) {
            let offered = f64::from(servers) * share;
            let (ours, theirs) = (erlang_c(servers, offered), by_the_sum(servers, offered));
            prop_assert!((ours - theirs).abs() < 1e-9, "{ours} {theirs}");
        }

        #[test]
        fn more_servers_wait_less_and_more_load_waits_more(servers in 1_u32..500, offered in 0.001_f64..600.0) {
            let here = erlang_c(servers, offered);
            prop_assert!((0.0..=1.0).contains(&here));
            prop_assert!(erlang_c(servers + 1, offered) <= here);
            prop_assert!(erlang_c(servers, offered * 1.01) >= here);
            prop_assert!(erlang_b(servers, offered) <= here);
        }
    }
}
