//! What limits a size from below and above besides the wait.
//!
//! | rule | formula | source |
//! |---|---|---|
//! | no deadlock among tasks that hold several connections | `tasks × (each − 1) + 1` | HikariCP's wiki, "About Pool Sizing" |
//! | what a database works on at once | `cores × 2 + spindles` | the same, from PostgreSQL's wiki, "Number Of Database Connections" |
//! | a burst served in time | `(requests + busy) / ⌊within / hold⌋` | [`Burst::needs`] |
//! | a server shared by instances | `(max_connections − reserved) / instances` | [`Sharing::each`] |

use std::time::Duration;

use super::{CONNECTIONS_MAX, Load, SizingError};

/// Tasks that each hold several connections of the pool at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tasks {
    /// Tasks that run at once, at most.
    pub tasks: u32,
    /// Connections that one task holds at once, at most.
    pub connections_each: u32,
}

impl Tasks {
    /// The smallest size that cannot lock up: if every task holds all but one of its connections, one is left, and the
    /// task that gets it goes on to its end. With one less, all may wait for each other for ever.
    pub fn floor(self) -> Result<u32, SizingError> {
        if self.tasks == 0 || self.connections_each == 0 {
            return Ok(0);
        }
        let floor = u64::from(self.tasks) * u64::from(self.connections_each - 1) + 1;
        u32::try_from(floor).ok().filter(|floor| *floor <= CONNECTIONS_MAX).ok_or(SizingError::TooMany(floor as f64))
    }
}

/// Requests that come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Burst {
    /// How many.
    pub requests: u32,
    /// The last of them has its answer after this time.
    pub within: Duration,
}

impl Burst {
    /// The size that serves the burst in time, by mean values.
    ///
    /// Each connection serves ⌊within / hold⌋ requests one after the other. Callers are served first come, first
    /// served: those that come after the burst are no concern of it, but those before it are, which are the connections busy
    /// on average. Holds that vary much need more.
    pub fn needs(self, load: &Load) -> Result<u32, SizingError> {
        let rounds = self.within.as_nanos() / load.hold().as_nanos().max(1);
        if rounds == 0 {
            return Err(SizingError::BurstWithin { within: self.within, hold: load.hold() });
        }
        // A thousandth of a connection is none; but whoever asks for anything needs one.
        let needed = ((f64::from(self.requests) + load.busy()) / rounds as f64 - 1e-3).ceil();
        let needed = needed.max(f64::from(self.requests.min(1)));
        if needed > f64::from(CONNECTIONS_MAX) { Err(SizingError::TooMany(needed)) } else { Ok(needed as u32) }
    }
}

/// The machine of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Server {
    /// Cores, without hyper-threads.
    pub cores: u32,
    /// Disks with moving arms that reads wait for; zero with flash or if the data is in memory.
    pub spindles: u32,
}

impl Server {
    /// Around so many connections, over all pools, the database is busy; more make it slower, not faster.
    pub fn hint(self) -> u32 {
        self.cores.saturating_mul(2).saturating_add(self.spindles)
    }
}

/// One server's connections, shared by equal instances.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sharing {
    /// What the server allows in all.
    pub max_connections: u32,
    /// Kept free for others: superusers, replication, tools.
    pub reserved: u32,
}

impl Sharing {
    /// What instances may have in all.
    pub fn usable(self) -> u32 {
        self.max_connections.saturating_sub(self.reserved)
    }

    /// What each of `instances` may have.
    pub fn each(self, instances: u32) -> u32 {
        self.usable() / instances.max(1)
    }
}

/// The squared coefficient of variation of the log-normal distribution with this mean and this p99: times of requests
/// are often close to one.
///
/// ln(p99 / mean) = z σ − σ² / 2 with z = 2.326, solved for the smaller σ; then e^(σ²) − 1.
pub fn scv_of_log_normal(mean: Duration, p99: Duration) -> Result<f64, SizingError> {
    /// The p99 of the standard normal distribution.
    const Z: f64 = 2.326_347_874_040_841;
    if mean.is_zero() {
        return Err(SizingError::Hold);
    }
    if p99 <= mean {
        return Err(SizingError::QuantileBelowMean);
    }
    let ratio = p99.as_secs_f64() / mean.as_secs_f64();
    let inner = Z * Z - 2.0 * ratio.ln();
    if inner < 0.0 {
        return Err(SizingError::QuantileTooFar);
    }
    let sigma = Z - inner.sqrt();
    Ok((sigma * sigma).exp() - 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_deadlock_floor_is_the_one_of_the_wiki() {
        // "Tn = 3, Cm = 4": 3 x (4 - 1) + 1.
        assert_eq!(Tasks { tasks: 3, connections_each: 4 }.floor(), Ok(10));
        assert_eq!(Tasks { tasks: 8, connections_each: 3 }.floor(), Ok(17));
        assert_eq!(Tasks { tasks: 1_000, connections_each: 1 }.floor(), Ok(1));
        assert_eq!(Tasks { tasks: 0, connections_each: 9 }.floor(), Ok(0));
        let huge = Tasks { tasks: u32::MAX, connections_each: u32::MAX };
        assert!(matches!(huge.floor(), Err(SizingError::TooMany(_))));
    }

    /// Whether tasks that take one connection after the other, in the worst order, all come to their end.
    fn ends(size: u32, tasks: Tasks) -> bool {
        // The worst order is round-robin: everybody takes the next one before anybody takes the one after that.
        let mut free = size;
        let mut held = vec![0; tasks.tasks as usize];
        for _ in 0..tasks.connections_each {
            for held in held.iter_mut().filter(|held| **held < tasks.connections_each) {
                if free > 0 {
                    free -= 1;
                    *held += 1;
                }
                if *held == tasks.connections_each {
                    return true; // It ends and gives all back; the rest is easier.
                }
            }
        }
        false
    }

    #[test]
    fn a_burst_is_served_in_rounds() {
        let quiet = Load::new(0.001, MS * 10).unwrap();
        let needs = |requests, within| Burst { requests, within }.needs(&quiet);
        assert_eq!(needs(50, MS * 100), Ok(5));
        assert_eq!(needs(50, MS * 10), Ok(50));
        assert_eq!(needs(50, MS * 19), Ok(50)); // a second round would end at 20
        assert_eq!(needs(50, MS * 9), Err(SizingError::BurstWithin { within: MS * 9, hold: MS * 10 }));
        let loaded = Load::new(1_000.0, MS * 10).unwrap();
        assert_eq!(Burst { requests: 50, within: MS * 100 }.needs(&loaded), Ok(6));
        assert_eq!(Burst { requests: 90, within: MS * 50 }.needs(&loaded), Ok(20));
        let huge = Burst { requests: u32::MAX, within: MS * 10 };
        assert!(matches!(huge.needs(&loaded), Err(SizingError::TooMany(_))));
    }

    #[test]
    fn hints_and_shares() {
        assert_eq!(Server { cores: 4, spindles: 1 }.hint(), 9);
        let sharing = Sharing { max_connections: 100, reserved: 3 };
        assert_eq!((sharing.usable(), sharing.each(4), sharing.each(0)), (97, 24, 97));
        assert_eq!(Sharing { max_connections: 3, reserved: 5 }.each(1), 0);
    }

    #[test]
    fn variation_from_a_p99() {
        // σ = 1: mean e^½, p99 e^2.326, scv e − 1.
        let mean = Duration::from_secs_f64(0.5_f64.exp());
        let p99 = Duration::from_secs_f64(2.326_347_874_040_841_f64.exp());
        let scv = scv_of_log_normal(mean, p99).unwrap();
        assert!((scv - 1.718_28).abs() < 1e-4, "{scv}");
        assert_eq!(scv_of_log_normal(MS * 10, MS * 10), Err(SizingError::QuantileBelowMean));
        assert_eq!(scv_of_log_normal(MS * 10, MS * 150), Err(SizingError::QuantileTooFar));
        assert_eq!(scv_of_log_normal(Duration::ZERO, MS), Err(SizingError::Hold));
        assert!(scv_of_log_normal(MS * 10, MS * 149).unwrap() > 100.0);
    }

    proptest! {
        #[test]
        fn at_the_floor_somebody_ends_and_below_it_nobody_may(tasks in 1_u32..20, connections_each in 1_u32..6) {
            let tasks = Tasks { tasks, connections_each };
            let floor = tasks.floor().unwrap();
            prop_assert!(ends(floor, tasks));
            prop_assert!(!ends(floor - 1, tasks));
        }

        /// Equal holds, all connections free, in rounds: the last answer comes in time, and with one connection less it does not.
        #[test]
        fn a_burst_ends_in_time(requests in 1_u32..2_000, hold_us in 1_u64..1_000, within_us in 1_u64..100_000) {
            let (hold, within) = (Duration::from_micros(hold_us), Duration::from_micros(within_us));
            let quiet = Load::new(1e-9, hold).unwrap();
            let Ok(size) = Burst { requests, within }.needs(&quiet) else {
                prop_assert!(within < hold);
                return Ok(());
            };
            let ends = |size: u32| hold * requests.div_ceil(size);
            prop_assert!(ends(size) <= within, "{size}");
            if size > 1 {
                prop_assert!(ends(size - 1) > within, "{size}");
            }
        }
    }
}
