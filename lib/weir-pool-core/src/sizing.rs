//! How many connections a pool needs, by the theory of waiting lines.
//!
//! A pool of `c` connections whose callers wait first come, first served, is a queue with `c` servers. Known are the rate λ of
//! acquires and the mean hold time h:
//!
//! ```text
//! a = λ h                    connections busy on average (Little 1961); c must be above it, or the line never ends
//! ρ = a / c                  utilisation
//! Ca², Cs²                   squared coefficients of variation of the times between arrivals and of the holds
//! z = (Ca² + Cs²) / (1 + Cs²)   peakedness; 1 with independent arrivals
//! P(W > 0) = C(c / z, a / z) share that waits (Erlang C, see `erlang`)
//! v = (Ca² + Cs²) / 2        variability
//! P(W > t) = C e^(−t / w),   w = v h / (c − a)
//! E W = C w                  mean wait, over all
//! ```
//!
//! With Poisson arrivals and exponential holds (v = z = 1) this is exact. Elsewhere it is an approximation. With Poisson arrivals
//! the mean is that of Allen and Cunneen (A. O. Allen, "Probability, Statistics, and Queueing Theory", 1978 and 1990); with others,
//! who waits at all follows the peakedness (W. Whitt, "Approximations for the GI/G/m queue", 1993), without which bursts
//! would look harmless. The tail is exponential, as it is near saturation (Kingman 1961, Köllerström 1974). The tests hold all of it
//! against a simulation.
//!
//! What the theory does not know: h is taken as given, but a database that gets more requests at once than it has cores serves
//! each of them more slowly. Above that knee more connections only move the wait from the pool into the database.
//! [`Question::answer`] says when the size is in that region.
//!
//! Pure arithmetic; the dearest call is O(size × 60).

mod answer;
mod erlang;
mod rules;

use std::fmt;
use std::time::Duration;

pub use answer::{Answer, Asked, Capacity, Fit, Need, Question, Row, Warning};
pub use erlang::{erlang_b, erlang_c};
pub use rules::{Burst, Server, Sharing, Tasks, scv_of_log_normal};

use crate::HumanTime;
use erlang::ErlangC;

/// No answer is above this many connections.
pub const CONNECTIONS_MAX: u32 = 100_000;
/// Largest squared coefficient of variation.
pub const SCV_MAX: f64 = 1_000.0;
/// The quantile that "p99" means.
pub const P99: f64 = 0.99;

/// Why a question has no answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SizingError {
    /// The rate is not a positive number of acquires per second.
    Rate,
    /// The hold time is zero.
    Hold,
    /// A squared coefficient of variation is negative, not a number or above [`SCV_MAX`].
    Variation,
    /// So many would be busy on average, or needed: more than [`CONNECTIONS_MAX`].
    TooMany(f64),
    /// A burst is to be served in less time than one request takes.
    BurstWithin {
        /// The time asked for.
        within: Duration,
        /// What one request takes.
        hold: Duration,
    },
    /// The p99 is not above the mean.
    QuantileBelowMean,
    /// The p99 is so far above the mean that no log-normal distribution has both.
    QuantileTooFar,
}

impl fmt::Display for SizingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate => f.write_str("the rate must be above zero"),
            Self::Hold => f.write_str("the hold time must be above zero"),
            Self::Variation => {
                write!(f, "a squared coefficient of variation is a number from 0 to {SCV_MAX}")
            }
            Self::TooMany(busy) => write!(
                f,
                "{busy:.0} connections are more than the {CONNECTIONS_MAX} that this reckons with; check the units of rate and hold"
            ),
            Self::BurstWithin { within, hold } => {
                write!(f, "one request alone takes {}: no size serves a burst within {}", HumanTime(*hold), HumanTime(*within))
            }
            Self::QuantileBelowMean => f.write_str("the p99 must be above the mean"),
            Self::QuantileTooFar => f.write_str(
                "a p99 of more than 14.9 times the mean is two kinds of work: give the variation itself, or the long ones a pool of their own",
            ),
        }
    }
}

impl std::error::Error for SizingError {}

/// What is asked of a pool: how often, how long, how irregularly. Valid by construction.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Load {
    rate: f64,
    hold: Duration,
    arrival_scv: f64,
    hold_scv: f64,
}

impl Load {
    /// `rate` acquires per second, each holding its connection for `hold` on average; both as irregular as independent
    /// users make them (squared coefficients of variation of 1).
    pub fn new(rate: f64, hold: Duration) -> Result<Self, SizingError> {
        if !rate.is_finite() || rate <= 0.0 {
            return Err(SizingError::Rate);
        }
        if hold.is_zero() {
            return Err(SizingError::Hold);
        }
        let load = Self { rate, hold, arrival_scv: 1.0, hold_scv: 1.0 };
        if load.busy() >= f64::from(CONNECTIONS_MAX) {
            return Err(SizingError::TooMany(load.busy()));
        }
        Ok(load)
    }

    /// The same with other squared coefficients of variation (variance / mean²): of the times between arrivals (0 a metronome,
    /// 1 independent users, above 1 bursts) and of the hold times (0 all equal, 1 exponential, 5 and more a few very long).
    pub fn with_scv(self, arrival: f64, hold: f64) -> Result<Self, SizingError> {
        let good = |scv: f64| (0.0..=SCV_MAX).contains(&scv);
        if good(arrival) && good(hold) {
            Ok(Self { arrival_scv: arrival, hold_scv: hold, ..self })
        } else {
            Err(SizingError::Variation)
        }
    }

    /// The same at another rate.
    pub fn with_rate(self, rate: f64) -> Result<Self, SizingError> {
        Self::new(rate, self.hold)?.with_scv(self.arrival_scv, self.hold_scv)
    }

    /// λ, acquires per second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// h, the mean hold time.
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// a = λ h: how many connections are busy on average, whatever the size.
    pub fn busy(&self) -> f64 {
        self.rate * self.hold.as_secs_f64()
    }

    /// Cs²: the squared coefficient of variation of the holds.
    pub fn hold_scv(&self) -> f64 {
        self.hold_scv
    }

    /// Ca²: the squared coefficient of variation of the times between arrivals.
    pub fn arrival_scv(&self) -> f64 {
        self.arrival_scv
    }

    /// v: the mean of the two squared coefficients of variation.
    pub fn variability(&self) -> f64 {
        f64::midpoint(self.arrival_scv, self.hold_scv)
    }

    /// What callers of a pool of `size` connections meet; `None` if it cannot keep up.
    pub fn at(&self, size: u32) -> Option<Forecast> {
        (f64::from(size) > self.busy()).then(|| self.forecast(size, &mut self.erlang()))
    }

    fn erlang(&self) -> ErlangC {
        ErlangC::new(self.busy(), (self.arrival_scv + self.hold_scv) / (1.0 + self.hold_scv))
    }

    fn forecast(&self, size: u32, erlang: &mut ErlangC) -> Forecast {
        let (servers, busy, variability) = (f64::from(size), self.busy(), self.variability());
        Forecast {
            size,
            utilisation: busy / servers,
            // Metronomes that keep up never meet.
            waiting: if variability > 0.0 { erlang.waiting(size) } else { 0.0 },
            scale: variability * self.hold.as_secs_f64() / (servers - busy),
        }
    }

    /// The smallest size at which the share `quantile` of the callers waits no longer than `wait`.
    ///
    /// # Errors
    /// [`SizingError::TooMany`] if [`CONNECTIONS_MAX`] are too few.
    pub fn smallest(&self, quantile: f64, wait: Duration) -> Result<Forecast, SizingError> {
        let mut erlang = self.erlang();
        (self.busy() as u32 + 1..=CONNECTIONS_MAX)
            .map(|size| self.forecast(size, &mut erlang))
            .find(|forecast| forecast.keeps(quantile, wait))
            .ok_or(SizingError::TooMany(f64::from(CONNECTIONS_MAX) + 1.0))
    }

    /// The highest rate at which `size` connections still keep the wait at `quantile` within `wait`, to a part in a million;
    /// zero without connections.
    pub fn highest_rate(&self, size: u32, quantile: f64, wait: Duration) -> f64 {
        let (mut low, mut high) = (0.0, f64::from(size) / self.hold.as_secs_f64());
        while high - low > high * 1e-6 {
            let middle = f64::midpoint(low, high);
            let load = Self { rate: middle, ..*self };
            if load.at(size).is_some_and(|forecast| forecast.keeps(quantile, wait)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// What callers of a pool of one size meet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Forecast {
    size: u32,
    utilisation: f64,
    waiting: f64,
    /// Mean wait of those that wait, in seconds.
    scale: f64,
}

impl Forecast {
    /// Connections.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The share of the connections that is in use on average, 0 to 1.
    pub fn utilisation(&self) -> f64 {
        self.utilisation
    }

    /// The share of the callers that has to wait at all, 0 to 1.
    pub fn waiting(&self) -> f64 {
        self.waiting
    }

    /// The share of the callers that waits for longer than `wait`.
    pub fn beyond(&self, wait: Duration) -> f64 {
        if self.waiting <= 0.0 { 0.0 } else { self.waiting * (-wait.as_secs_f64() / self.scale).exp() }
    }

    /// The mean wait, those included that do not wait.
    pub fn mean_wait(&self) -> Duration {
        seconds(self.waiting * self.scale)
    }

    /// The wait that the share `quantile` of the callers does not exceed.
    pub fn wait(&self, quantile: f64) -> Duration {
        let rest = 1.0 - quantile;
        if self.waiting <= rest { Duration::ZERO } else { seconds(self.scale * (self.waiting / rest).ln()) }
    }

    fn keeps(&self, quantile: f64, wait: Duration) -> bool {
        self.beyond(wait) <= 1.0 - quantile
    }
}

/// As a duration; what is too long for one is the longest.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(if seconds > 0.0 { Duration::MAX } else { Duration::ZERO })
}

#[cfg(test)]
mod simulated;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(rate: f64, hold_ms: u64) -> Load {
        Load::new(rate, Duration::from_millis(hold_ms)).unwrap()
    }

    #[test]
    fn one_connection_is_the_line_of_a_single_desk() {
        // M/M/1 in closed form: E W = ρ h / (1 − ρ), P(W > t) = ρ e^(−(1 − ρ) t / h).
        let forecast = load(80.0, 10).at(1).unwrap();
        assert!((forecast.waiting() - 0.8).abs() < 1e-12);
        assert!((forecast.mean_wait().as_secs_f64() - 0.040).abs() < 1e-9);
        let expected = 0.8 * (-0.2_f64 * 0.1 / 0.01).exp();
        assert!((forecast.beyond(Duration::from_millis(100)) - expected).abs() < 1e-12);
        // M/D/1 waits half as long (Pollaczek and Khinchine).
        let even = load(80.0, 10).with_scv(1.0, 0.0).unwrap().at(1).unwrap();
        assert!((even.mean_wait().as_secs_f64() - 0.020).abs() < 1e-9);
        let metronome = load(80.0, 10).with_scv(0.0, 0.0).unwrap().at(1).unwrap();
        assert_eq!((metronome.mean_wait(), metronome.wait(P99)), (Duration::ZERO, Duration::ZERO));
    }

    /// The worked example of call centres: 360 calls in half an hour, 4 minutes each, 55 agents. 24 of 100 callers wait, 8.2 s on
    /// average over all, and 84.6 % are answered within 15 s.
    #[test]
    fn a_call_centre() {
        let calls = Load::new(360.0 / 1_800.0, Duration::from_mins(4)).unwrap().at(55).unwrap();
        assert!((calls.utilisation() - 0.8727).abs() < 1e-4, "{calls:?}");
        assert!((calls.waiting() - 0.239).abs() < 5e-4, "{calls:?}");
        assert!((calls.mean_wait().as_secs_f64() - 8.18).abs() < 0.01, "{calls:?}");
        assert!((1.0 - calls.beyond(Duration::from_secs(15)) - 0.846).abs() < 5e-4, "{calls:?}");
    }

    #[test]
    fn a_size_that_cannot_keep_up_has_no_forecast() {
        assert_eq!(load(1_000.0, 10).at(10), None);
        assert_eq!(load(1_000.0, 10).at(0), None);
        assert!(load(1_000.0, 10).at(11).is_some());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let hold = Duration::from_millis(1);
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Load::new(rate, hold), Err(SizingError::Rate), "{rate}");
        }
        assert_eq!(Load::new(1.0, Duration::ZERO), Err(SizingError::Hold));
        assert_eq!(Load::new(1e9, hold), Err(SizingError::TooMany(1e6)));
        for scv in [-0.1, f64::NAN, 1_001.0] {
            assert_eq!(load(1.0, 1).with_scv(1.0, scv), Err(SizingError::Variation), "{scv}");
            assert_eq!(load(1.0, 1).with_scv(scv, 1.0), Err(SizingError::Variation), "{scv}");
        }
        let full = load(99_999.9, 1_000);
        assert!(matches!(full.smallest(P99, Duration::from_nanos(1)), Err(SizingError::TooMany(_))));
    }

    #[test]
    fn large_pools_are_reckoned_too() {
        let forecast = load(90_000.0, 1_000).smallest(P99, Duration::from_millis(100)).unwrap();
        assert!((90_000..91_000).contains(&forecast.size()), "{forecast:?}");
        assert!(forecast.utilisation() > 0.98, "{forecast:?}");
    }

    proptest! {
        #[test]
        fn the_smallest_keeps_the_wait_and_one_less_does_not(
            rate in 0.1_f64..5_000.0, hold_us in 10_u64..100_000, wait_us in 0_u64..1_000_000,
            arrival in 0.0_f64..5.0, holds in 0.0_f64..20.0, quantile in 0.5_f64..0.9999,
        ) {
            let load = Load::new(rate, Duration::from_micros(hold_us)).unwrap().with_scv(arrival, holds).unwrap();
            let wait = Duration::from_micros(wait_us);
            let found = load.smallest(quantile, wait).unwrap();
            prop_assert!(found.wait(quantile) <= wait + Duration::from_nanos(1));
            prop_assert!(f64::from(found.size()) > load.busy());
            if let Some(less) = load.at(found.size() - 1) {
                prop_assert!(less.wait(quantile) >= wait, "{less:?}");
            }
            prop_assert_eq!(load.at(found.size()), Some(found));
            let highest = load.highest_rate(found.size(), quantile, wait);
            prop_assert!(highest >= rate * 0.999_99, "{highest} {rate}");
        }

        #[test]
        fn every_figure_moves_the_right_way(
            rate in 0.1_f64..5_000.0, hold_us in 10_u64..100_000, more in 1_u32..50, holds in 0.1_f64..20.0,
        ) {
            let load = Load::new(rate, Duration::from_micros(hold_us)).unwrap().with_scv(1.0, holds).unwrap();
            let size = load.busy() as u32 + more;
            let (Some(here), Some(bigger)) = (load.at(size), load.at(size + 1)) else { return Ok(()) };
            prop_assert!(bigger.utilisation() < here.utilisation());
            prop_assert!(bigger.waiting() <= here.waiting());
            prop_assert!(bigger.mean_wait() <= here.mean_wait());
            prop_assert!(bigger.wait(P99) <= here.wait(P99));
            prop_assert!(here.wait(0.5) <= here.wait(P99));
            prop_assert!(here.beyond(Duration::from_millis(2)) <= here.beyond(Duration::from_millis(1)));
            let quieter = load.with_rate(rate * 0.9).unwrap().at(size).unwrap();
            prop_assert!(quieter.wait(P99) <= here.wait(P99));
            let steadier = load.with_scv(1.0, holds * 0.5).unwrap().at(size).unwrap();
            prop_assert!(steadier.wait(P99) <= here.wait(P99));
        }
    }
}
