//! The metrics, each once: name, unit, what it says, and where its values are. Both ways of telling them read this table.

use std::time::Duration;

use weir_pool_core::{Histogram, Standing};

use super::Reading;

/// The smallest bound of a histogram, as a power of two of nanoseconds.
const SMALLEST: u32 = 10;
/// The largest.
const LARGEST: u32 = 36;

/// The attribute that all have.
pub(crate) const POOL: &str = "db.client.connection.pool.name";
const STATE: &str = "db.client.connection.state";

/// A value with what sets it apart from its siblings: attribute and word.
pub(crate) type Point = (Option<(&'static str, &'static str)>, u64);

/// A metric.
pub(crate) struct Family {
    /// As OpenTelemetry writes it.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) help: &'static str,
    pub(crate) values: Values,
}

/// Where the values are. Not every pool has each of them.
pub(crate) enum Values {
    /// Goes up and down.
    Level(fn(&Reading) -> Vec<Point>),
    /// Only grows.
    Count(fn(&Reading) -> Vec<Point>),
    /// A time that only grows.
    Time(fn(&Reading) -> Duration),
    Times(fn(&Reading) -> &Histogram),
}

fn one(value: impl Into<u64>) -> Vec<Point> {
    vec![(None, value.into())]
}

/// All of them.
pub(crate) const FAMILIES: &[Family] = &[
    Family {
        name: "db.client.connection.count",
        unit: "{connection}",
        help: "Connections that are open, by state",
        values: Values::Level(|pool| {
            vec![(Some((STATE, "idle")), pool.now.idle.into()), (Some((STATE, "used")), pool.now.active.into())]
        }),
    },
    Family {
        name: "db.client.connection.idle.max",
        unit: "{connection}",
        help: "Idle connections at most",
        values: Values::Level(|pool| one(pool.now.max_size)),
    },
    Family {
        name: "db.client.connection.idle.min",
        unit: "{connection}",
        help: "Idle connections that are kept open ahead of demand",
        values: Values::Level(|pool| one(pool.min_idle)),
    },
    Family {
        name: "db.client.connection.max",
        unit: "{connection}",
        help: "Connections at most",
        values: Values::Level(|pool| one(pool.now.max_size)),
    },
    Family {
        name: "db.client.connection.pending_requests",
        unit: "{request}",
        help: "Callers that wait for a connection",
        values: Values::Level(|pool| one(pool.now.pending)),
    },
    Family {
        name: "db.client.connection.timeouts",
        unit: "{timeout}",
        help: "Callers whose time ended before they got a connection",
        values: Values::Count(|pool| one(pool.stats.timed_out)),
    },
    Family {
        name: "db.client.connection.create_time",
        unit: "s",
        help: "How long it took to open a connection",
        values: Values::Times(|pool| &pool.stats.connects),
    },
    Family {
        name: "db.client.connection.wait_time",
        unit: "s",
        help: "How long callers waited for the connection that they got",
        values: Values::Times(|pool| &pool.stats.waits),
    },
    Family {
        name: "db.client.connection.use_time",
        unit: "s",
        help: "How long connections were held",
        values: Values::Times(|pool| &pool.stats.holds),
    },
    Family {
        name: "weir.client_pool.busy_time",
        unit: "s",
        help: "How long connections were held together, uses in progress included: its rate is the mean number in use",
        values: Values::Time(|pool| pool.stats.busy),
    },
    Family {
        name: "weir.client_pool.closed",
        unit: "{connection}",
        help: "Connections closed, by reason",
        values: Values::Count(|pool| {
            let by_reason = pool.stats.closed_by_reason();
            by_reason.map(|(reason, closed)| (Some(("reason", reason.as_str())), closed)).collect()
        }),
    },
    Family {
        name: "weir.client_pool.connects_failed",
        unit: "{connect}",
        help: "Connects that failed or were given up",
        values: Values::Count(|pool| one(pool.stats.connects_failed)),
    },
    Family {
        name: "weir.client_pool.refused",
        unit: "{caller}",
        help: "Callers refused: the pool was closed, the server down, the line full, or by admission",
        values: Values::Count(|pool| one(pool.stats.refused)),
    },
    Family {
        name: "weir.client_pool.shed",
        unit: "{caller}",
        help: "Those refused because the wait was too long to be worth it",
        values: Values::Count(|pool| one(pool.stats.shed)),
    },
    Family {
        name: "weir.client_pool.leaks",
        unit: "{use}",
        help: "Uses reported as possible leaks",
        values: Values::Count(|pool| one(pool.stats.leaks)),
    },
    Family {
        name: "weir.client_pool.opening",
        unit: "{connect}",
        help: "Connects in flight",
        values: Values::Level(|pool| one(pool.now.opening)),
    },
    Family {
        name: "weir.client_pool.hung",
        unit: "{connect}",
        help: "Connects in flight that take much longer than usual",
        values: Values::Level(|pool| one(pool.now.hung)),
    },
    Family {
        name: "weir.client_pool.closing",
        unit: "{connection}",
        help: "Connections being closed",
        values: Values::Level(|pool| one(pool.now.closing)),
    },
    Family {
        name: "weir.client_pool.suspended",
        unit: "1",
        help: "1 while callers are kept waiting",
        values: Values::Level(|pool| one(pool.now.suspended)),
    },
    Family {
        name: "weir.client_pool.standing",
        unit: "1",
        help: "1 at what has become of the endpoint: warming up, up, down, or out (ejected, of weight 0, leaving)",
        values: Values::Level(|pool| {
            let Some(seat) = &pool.seat else { return Vec::new() };
            Standing::ALL.map(|each| (Some(("standing", each.as_str())), u64::from(each == seat.standing))).into()
        }),
    },
    Family {
        name: "weir.client_pool.ejections",
        unit: "{ejection}",
        help: "How often the endpoint was left out because of its failures",
        values: Values::Count(|pool| pool.seat.as_ref().map_or_else(Vec::new, |seat| one(seat.outlier_ejections))),
    },
];

/// The bounds of a histogram in nanoseconds, and how many were not longer.
pub(crate) fn buckets(times: &Histogram) -> impl Iterator<Item = (u64, u64)> + '_ {
    (SMALLEST..=LARGEST).map(|power| (1 << power, times.below_power(power)))
}
