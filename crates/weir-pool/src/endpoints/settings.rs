//! The settings of pools over several endpoints.

use std::time::Duration;

use weir_balance::Algorithm;
use weir_core::Endpoint;
use weir_pool_core::RosterParams;
use weir_resilience::OutlierParams;

use crate::manager::Manager;
use crate::settings::{Builder, SettingsError, TIMEOUT_MIN};

use super::EndpointPools;
use super::control::Core;

/// The settings of pools to be. Nothing is repaired: what contradicts itself is an error of [`EndpointsBuilder::build`].
///
/// | setting | default |
/// |---|---|
/// | `balance` | least connections |
/// | `max_per_endpoint` | none but `max_size` |
/// | `warm_up_max` | 5 s |
/// | `panic_threshold` | 0.01: when none is left |
/// | `outliers` | 5 failures in a row; 1 s, at most 30 s; at most half of the endpoints |
#[derive(Clone, Debug)]
#[must_use]
pub struct EndpointsBuilder {
    pool: Builder,
    balance: weir_balance::Params,
    max_per_endpoint: Option<u32>,
    warm_up_max: Duration,
    panic_threshold: f64,
    outliers: OutlierParams,
}

impl EndpointsBuilder {
    pub(super) fn new(pool: Builder) -> Self {
        Self {
            pool,
            balance: weir_balance::Params { algorithm: Algorithm::LeastConnections, ..weir_balance::Params::default() },
            max_per_endpoint: None,
            warm_up_max: Duration::from_secs(5),
            panic_threshold: 0.01,
            outliers: OutlierParams {
                // Nobody is sent there before it has answered: it need not be long.
                base_ejection: Duration::from_secs(1),
                max_ejection: Duration::from_secs(30),
                ..OutlierParams::default()
            },
        }
    }

    /// How endpoints are picked, by any row of [`weir_balance::ALGORITHMS`]. An endpoint's load is the callers that use or await
    /// a connection of it. The `key` setting is not used here: [`EndpointPools::acquire_for`] takes the key.
    pub fn balance(mut self, balance: weir_balance::Params) -> Self {
        self.balance = balance;
        self
    }

    /// Most connections to one endpoint, whatever its share of `max_size` would be.
    pub fn max_per_endpoint(mut self, max: u32) -> Self {
        self.max_per_endpoint = Some(max);
        self
    }

    /// A newcomer that has a connection, but not `min_idle` of them, gets callers after this.
    pub fn warm_up_max(mut self, time: Duration) -> Self {
        self.warm_up_max = time;
        self
    }

    /// Part of the endpoints (0.0 to 1.0) that must be neither ejected nor unreachable; below it ejections are ignored, since
    /// doubtful endpoints are better than none. 0.0 = never.
    pub fn panic_threshold(mut self, threshold: f64) -> Self {
        self.panic_threshold = threshold;
        self
    }

    /// When an endpoint is left out because of its failures: those in a row, for how long (the n-th time in a row n times as long),
    /// and how much of the endpoints at most. It is the machine that the proxy has for its endpoints. When the time is over, the
    /// endpoint warms up as a newcomer: its connections are checked before anybody gets one, and as long as that fails it stays
    /// out.
    ///
    /// A failure is
    /// - a use that is reported ([`EndpointGuard::report_failure`](super::EndpointGuard::report_failure)) or whose connection is
    ///   discarded ([`EndpointGuard::discard`](super::EndpointGuard::discard));
    /// - a connection that is not what it should be when it is checked, reset or prepared, before a use or while it is idle;
    /// - a caller whose time ends in line after a second or more in which no use there has ended well.
    ///
    /// A use that ends well ends the row, and so does a reset. Connects that fail are not counted: an endpoint without connections is left out for that
    /// anyway.
    pub fn outliers(mut self, outliers: OutlierParams) -> Self {
        self.outliers = outliers;
        self
    }

    /// Pools without endpoints; [`EndpointPools::set_endpoints`] follows. `factory` makes the manager of an endpoint, which opens
    /// connections to its address. They belong to the tokio runtime in which this is called.
    ///
    /// With fewer connections than endpoints (`max_size`), some get none and no callers: those that can be used already
    /// come first, then those of more weight.
    ///
    /// # Errors
    /// If settings contradict each other.
    ///
    /// # Panics
    /// Outside a tokio runtime with its timers enabled.
    pub fn build<M: Manager>(
        self,
        factory: impl Fn(&Endpoint) -> M + Send + Sync + 'static,
    ) -> Result<EndpointPools<M>, SettingsError> {
        let settings = self.pool.check_or(1)?;
        if settings.adaptive.is_some() {
            let problem = "is for a pool of one endpoint: here the sizes follow the total and the weights".to_owned();
            return Err(SettingsError::new("adaptive", problem));
        }
        let refuse = |setting, problem| Err(SettingsError::new(setting, problem));
        if settings.min_idle == 0 {
            let problem = "0: an endpoint shows by its idle connections that it can be reached; at least 1".to_owned();
            return refuse("min_idle", problem);
        }
        let max_each = self.max_per_endpoint.unwrap_or(settings.max_size);
        if max_each < settings.min_idle {
            let problem = format!("{max_each} is less than min_idle ({})", settings.min_idle);
            return refuse("max_per_endpoint", problem);
        }
        if self.warm_up_max < TIMEOUT_MIN {
            return refuse("warm_up_max", format!("{:?} is shorter than {TIMEOUT_MIN:?}", self.warm_up_max));
        }
        if !(0.0..=1.0).contains(&self.panic_threshold) {
            return refuse("panic_threshold", format!("{} is not within 0 and 1", self.panic_threshold));
        }
        let OutlierParams { consecutive_failures, base_ejection, max_ejected, .. } = self.outliers;
        if consecutive_failures == 0 {
            return refuse("outliers", "consecutive_failures: 0; at least 1".to_owned());
        }
        if base_ejection < TIMEOUT_MIN {
            return refuse("outliers", format!("base_ejection: {base_ejection:?} is shorter than {TIMEOUT_MIN:?}"));
        }
        if !(0.0..=1.0).contains(&max_ejected) {
            return refuse("outliers", format!("max_ejected: {max_ejected} is not within 0 and 1"));
        }
        let params = RosterParams {
            total: settings.max_size,
            max_each,
            min_idle: settings.min_idle,
            warm_up_max: self.warm_up_max,
            down_after: settings.down_after,
            panic_threshold: self.panic_threshold,
        };
        Ok(EndpointPools::start(Core::start(settings, params, self.outliers, self.balance, Box::new(factory))))
    }
}
