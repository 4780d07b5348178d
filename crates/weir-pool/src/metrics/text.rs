//! The text format of Prometheus, and the names that dashboards of `HikariCP` read.

use std::fmt::{self, Display, Write as _};

use weir_pool_core::Histogram;

use super::Reading;
use super::family::{FAMILIES, POOL, Values, buckets};

/// The media type of an [`Exposition`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics under the names that `HikariCP` has for them, with the label `pool`: which of its two exporters a dashboard was made for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hikari {
    /// `HikariCP`'s own Prometheus tracker: `hikaricp_active_connections`, `hikaricp_connection_acquired_nanos` …
    Prometheus,
    /// Micrometer, as in Spring Boot: `hikaricp_connections_active`, `hikaricp_connections_acquire_seconds` … Its `…_seconds_max`, a
    /// maximum that decays, is not there; the histograms are.
    Micrometer,
}

/// All metrics of pools at one moment; `Display` is the text that Prometheus scrapes. See [the module](super).
pub struct Exposition {
    pools: Vec<Reading>,
    hikari: Vec<Hikari>,
}

impl Exposition {
    pub(super) fn of(pools: Vec<Reading>) -> Self {
        Self { pools, hikari: Vec::new() }
    }

    /// Also under these names. May be called for both kinds.
    #[must_use]
    pub fn hikari(mut self, names: Hikari) -> Self {
        if !self.hikari.contains(&names) {
            self.hikari.push(names);
        }
        self
    }

    fn own(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = prometheus_name(POOL);
        for family in FAMILIES {
            let mut name = prometheus_name(family.name);
            if family.unit == "s" {
                name.push_str("_seconds");
            }
            match family.values {
                Values::Level(of) => {
                    self.points(f, &name, family.help, "gauge", &label, of)?;
                }
                Values::Count(of) => {
                    name.push_str("_total");
                    self.points(f, &name, family.help, "counter", &label, of)?;
                }
                Values::Time(of) => {
                    name.push_str("_total");
                    header(f, &name, family.help, "counter")?;
                    for pool in &self.pools {
                        writeln!(f, "{name}{{{label}=\"{}\"}} {}", Escaped(&pool.name), of(pool).as_secs_f64())?;
                    }
                }
                Values::Times(of) => self.times(f, &name, family.help, &label, 1e9, of)?,
            }
        }
        Ok(())
    }

    /// Nothing, not even the header, if no pool has a value.
    fn points(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        help: &str,
        kind: &str,
        label: &str,
        of: fn(&Reading) -> Vec<super::family::Point>,
    ) -> fmt::Result {
        let mut first = true;
        for pool in &self.pools {
            for (attribute, value) in of(pool) {
                if std::mem::take(&mut first) {
                    header(f, name, help, kind)?;
                }
                write!(f, "{name}{{{label}=\"{}\"", Escaped(&pool.name))?;
                if let Some((attribute, word)) = attribute {
                    write!(f, ",{}=\"{word}\"", prometheus_name(attribute))?;
                }
                writeln!(f, "}} {value}")?;
            }
        }
        Ok(())
    }

    /// `unit`: nanoseconds in the unit of the metric.
    fn times(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        help: &str,
        label: &str,
        unit: f64,
        of: fn(&Reading) -> &Histogram,
    ) -> fmt::Result {
        header(f, name, help, "histogram")?;
        for pool in &self.pools {
            let (times, pool) = (of(pool), Escaped(&pool.name));
            for (bound, count) in buckets(times) {
                writeln!(f, "{name}_bucket{{{label}=\"{pool}\",le=\"{}\"}} {count}", bound as f64 / unit)?;
            }
            let (count, sum) = (times.count(), times.sum().as_nanos() as f64 / unit);
            writeln!(f, "{name}_bucket{{{label}=\"{pool}\",le=\"+Inf\"}} {count}")?;
            writeln!(f, "{name}_sum{{{label}=\"{pool}\"}} {sum}")?;
            writeln!(f, "{name}_count{{{label}=\"{pool}\"}} {count}")?;
        }
        Ok(())
    }

    fn aliases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written: Vec<&str> = Vec::new();
        for kind in &self.hikari {
            let names = match kind {
                Hikari::Prometheus => &OF_PROMETHEUS,
                Hikari::Micrometer => &OF_MICROMETER,
            };
            for (name, (help, of)) in names.levels.iter().zip(LEVELS) {
                // One name stands in both.
                if written.contains(name) {
                    continue;
                }
                written.push(name);
                header(f, name, help, "gauge")?;
                for pool in &self.pools {
                    writeln!(f, "{name}{{pool=\"{}\"}} {}", Escaped(&pool.name), of(pool))?;
                }
            }
            let name = names.timeouts;
            header(f, name, "Callers whose time ended before they got a connection", "counter")?;
            for pool in &self.pools {
                writeln!(f, "{name}{{pool=\"{}\"}} {}", Escaped(&pool.name), pool.stats.timed_out)?;
            }
            for ((name, unit), (help, of)) in names.times.iter().zip(TIMES) {
                self.times(f, name, help, "pool", *unit, of)?;
            }
        }
        Ok(())
    }
}

impl Display for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.own(f)?;
        self.aliases(f)
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.pools.iter().map(|pool| &pool.name).collect();
        f.debug_struct("Exposition").field("pools", &names).field("hikari", &self.hikari).finish()
    }
}

/// The names of one exporter for what stands in [`LEVELS`] and [`TIMES`].
struct Names {
    levels: [&'static str; 6],
    timeouts: &'static str,
    /// With their unit, in nanoseconds.
    times: [(&'static str, f64); 3],
}

const OF_PROMETHEUS: Names = Names {
    levels: [
        "hikaricp_connections",
        "hikaricp_active_connections",
        "hikaricp_idle_connections",
        "hikaricp_pending_threads",
        "hikaricp_max_connections",
        "hikaricp_min_connections",
    ],
    timeouts: "hikaricp_connection_timeout_total",
    times: [
        ("hikaricp_connection_acquired_nanos", 1.0),
        ("hikaricp_connection_usage_millis", 1e6),
        ("hikaricp_connection_creation_millis", 1e6),
    ],
};

const OF_MICROMETER: Names = Names {
    levels: [
        "hikaricp_connections",
        "hikaricp_connections_active",
        "hikaricp_connections_idle",
        "hikaricp_connections_pending",
        "hikaricp_connections_max",
        "hikaricp_connections_min",
    ],
    timeouts: "hikaricp_connections_timeout_total",
    times: [
        ("hikaricp_connections_acquire_seconds", 1e9),
        ("hikaricp_connections_usage_seconds", 1e9),
        ("hikaricp_connections_creation_seconds", 1e9),
    ],
};

type Level = (&'static str, fn(&Reading) -> u32);
type Times = (&'static str, fn(&Reading) -> &Histogram);

const LEVELS: [Level; 6] = [
    ("Connections that are open", |pool| pool.now.idle + pool.now.active),
    ("Connections in use", |pool| pool.now.active),
    ("Connections that are idle", |pool| pool.now.idle),
    ("Callers that wait for a connection", |pool| pool.now.pending),
    ("Connections at most", |pool| pool.now.max_size),
    ("Idle connections that are kept open ahead of demand", |pool| pool.min_idle),
];

const TIMES: [Times; 3] = [
    ("How long callers waited for the connection that they got", |pool| &pool.stats.waits),
    ("How long connections were held", |pool| &pool.stats.holds),
    ("How long it took to open a connection", |pool| &pool.stats.connects),
];

fn header(f: &mut fmt::Formatter<'_>, name: &str, help: &str, kind: &str) -> fmt::Result {
    writeln!(f, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn prometheus_name(name: &str) -> String {
    name.replace('.', "_")
}

/// A label's value.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
