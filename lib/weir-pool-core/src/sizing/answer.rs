//! All rules together: the size, why, what the sizes beside it do, and where the rules do not hold.

use std::fmt;
use std::time::Duration;

use super::{Burst, Forecast, Load, P99, Server, Sharing, SizingError, Tasks};

/// Sizes shown below the answer.
const ROWS_BELOW: u32 = 2;
/// Sizes shown above it.
const ROWS_ABOVE: u32 = 4;

/// What is known, and what is wanted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Question {
    /// The load of one instance.
    pub load: Load,
    /// 99 of 100 callers wait no longer than this.
    pub wait_p99: Duration,
    /// Requests at once that must be served in time.
    pub burst: Option<Burst>,
    /// Tasks that hold several connections.
    pub tasks: Option<Tasks>,
    /// The database's machine.
    pub server: Option<Server>,
    /// Instances with a pool each; zero counts as one.
    pub instances: u32,
    /// What the database allows.
    pub sharing: Option<Sharing>,
}

/// A demand that a size has to meet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Asked {
    /// More connections than are busy on average.
    KeepUp {
        /// Busy on average.
        busy: f64,
    },
    /// The wait at p99.
    Wait {
        /// The target.
        p99: Duration,
    },
    /// A burst.
    Burst(Burst),
    /// No deadlock.
    Deadlock(Tasks),
}

impl Asked {
    /// A word for machines; it stays the same over versions.
    pub fn name(&self) -> &'static str {
        match self {
            Self::KeepUp { .. } => "keep_up",
            Self::Wait { .. } => "wait",
            Self::Burst(_) => "burst",
            Self::Deadlock(_) => "deadlock",
        }
    }
}

/// A demand with the size that meets it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Need {
    /// What is asked.
    pub asked: Asked,
    /// The smallest size that does it.
    pub size: u32,
}

/// A size and what callers meet there; `None` where it cannot keep up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Connections.
    pub size: u32,
    /// What callers meet.
    pub forecast: Option<Forecast>,
}

/// A bound from above beside the answer: of the database's machine, or of its `max_connections`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Capacity {
    /// Connections over all instances.
    pub total: u32,
    /// Of these, what each instance may have.
    pub each: u32,
    /// What callers meet at `each`.
    pub forecast: Option<Forecast>,
}

/// Whether the answer fits into what the database allows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fit {
    /// What the database allows.
    pub sharing: Sharing,
    /// What that makes for each instance.
    pub capacity: Capacity,
    /// Whether all instances have their size at once.
    pub fits: bool,
}

/// Where the answer is not to be trusted, or not to be followed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Warning {
    /// All instances together have more connections than the database has use for.
    BeyondServer {
        /// Connections over all instances.
        total: u32,
        /// The hint.
        hint: u32,
    },
    /// Already those busy on average are more than the database works on at once.
    ServerTooSmall {
        /// Busy on average, over all instances.
        busy: f64,
        /// The hint.
        hint: u32,
    },
    /// The pools do not fit into `max_connections`.
    DoesNotFit {
        /// Connections over all instances.
        total: u32,
        /// What instances may have.
        usable: u32,
    },
    /// Another demand than the wait makes the pool much larger than the load needs: most connections will be idle.
    MostlyIdle {
        /// The share in use on average.
        utilisation: f64,
    },
    /// Holds vary so much that a few long ones fill the pool.
    TwoKindsOfWork {
        /// Squared coefficient of variation of the holds.
        scv: f64,
    },
}

impl Warning {
    /// A word for machines; it stays the same over versions.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BeyondServer { .. } => "beyond_server",
            Self::ServerTooSmall { .. } => "server_too_small",
            Self::DoesNotFit { .. } => "does_not_fit",
            Self::MostlyIdle { .. } => "mostly_idle",
            Self::TwoKindsOfWork { .. } => "two_kinds_of_work",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondServer { total, hint } => write!(
                f,
                "{total} connections are more than the {hint} that the database is likely to work on at once. Beyond its knee \
                 the hold time grows with the size, which this reckoning takes as fixed, and a larger pool makes it worse. \
                 Measure the hold time at both sizes, or let the size adapt"
            ),
            Self::ServerTooSmall { busy, hint } => write!(
                f,
                "{busy:.1} connections are busy on average, and the database is likely to work on {hint} at once: unless they mostly \
                 wait for something else (locks, the application between two statements), no pool size carries this load. Make the \
                 holds shorter or the database larger"
            ),
            Self::DoesNotFit { total, usable } => write!(
                f,
                "{total} in all are more than the {usable} that the instances may have: the last one would be refused. Make pools \
                 smaller, raise max_connections, or share one budget"
            ),
            Self::MostlyIdle { utilisation } => write!(
                f,
                "At this size {:.0} % of the connections are idle on average. A minimum of idle connections below the \
                 maximum costs the database less",
                (1.0 - utilisation) * 100.0
            ),
            Self::TwoKindsOfWork { scv } => write!(
                f,
                "Hold times vary much (squared coefficient of variation {scv:.1}): a few long uses fill the pool for all. A small \
                 pool of their own for the long ones serves both better"
            ),
        }
    }
}

/// The answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Connections of each instance.
    pub size: u32,
    /// The demand that decided.
    pub decided_by: Need,
    /// Every demand, with the size that meets it.
    pub needs: Vec<Need>,
    /// What callers meet at this size.
    pub forecast: Forecast,
    /// The highest rate of one instance at which this size keeps the wait.
    pub rate_max: f64,
    /// This size and some around it, the smallest first.
    pub around: Vec<Row>,
    /// Connections over all instances.
    pub total: u32,
    /// What one pool shared by all instances would need for the wait; `None` with a single instance.
    pub shared: Option<u32>,
    /// The bound of the database's machine, if known.
    pub server: Option<Capacity>,
    /// The bound of the database's settings, if known.
    pub fit: Option<Fit>,
    /// What to beware of.
    pub warnings: Vec<Warning>,
}

/// Below this utilisation, demands other than the wait are warned about.
const IDLE_UTILISATION: f64 = 0.25;
/// From this squared coefficient of variation on, work of two kinds is suspected.
const MIXED_SCV: f64 = 10.0;

impl Question {
    /// The answer.
    ///
    /// # Errors
    /// What cannot be met by any size within [`CONNECTIONS_MAX`](super::CONNECTIONS_MAX).
    pub fn answer(&self) -> Result<Answer, SizingError> {
        let Self { load, wait_p99, .. } = *self;
        let busy = load.busy();
        let instances = self.instances.max(1);
        let mut needs = vec![
            Need { asked: Asked::KeepUp { busy }, size: busy as u32 + 1 },
            Need { asked: Asked::Wait { p99: wait_p99 }, size: load.smallest(P99, wait_p99)?.size() },
        ];
        if let Some(burst) = self.burst {
            needs.push(Need { asked: Asked::Burst(burst), size: burst.needs(&load)? });
        }
        if let Some(tasks) = self.tasks {
            needs.push(Need { asked: Asked::Deadlock(tasks), size: tasks.floor()? });
        }
        // Of equal needs the later one is the rarer, except that the wait goes before keeping up.
        let mut decided_by = needs[0];
        for need in needs.iter().skip(1) {
            if need.size > decided_by.size || matches!(decided_by.asked, Asked::KeepUp { .. }) {
                decided_by = *need;
            }
        }
        let size = decided_by.size;
        // The wait's need is above `busy`, so the largest is.
        let forecast = load.at(size).ok_or(SizingError::TooMany(busy))?;
        let total = size.saturating_mul(instances);
        let capacity = |total: u32| {
            let each = total / instances;
            Capacity { total, each, forecast: load.at(each) }
        };
        let shared = (instances > 1)
            .then(|| load.with_rate(load.rate() * f64::from(instances)))
            .transpose()?
            .map(|load| load.smallest(P99, wait_p99))
            .transpose()?
            .map(|forecast| forecast.size());
        let server = self.server.map(|server| capacity(server.hint()));
        let fit = self.sharing.map(|sharing| Fit {
            sharing,
            capacity: capacity(sharing.usable()),
            fits: total <= sharing.usable(),
        });
        let mut answer = Answer {
            size,
            decided_by,
            needs,
            forecast,
            rate_max: load.highest_rate(size, P99, wait_p99),
            around: (size.saturating_sub(ROWS_BELOW).max(1)..=size.saturating_add(ROWS_ABOVE))
                .map(|size| Row { size, forecast: load.at(size) })
                .collect(),
            total,
            shared,
            server,
            fit,
            warnings: Vec::new(),
        };
        answer.warnings = self.warnings(&answer);
        Ok(answer)
    }

    fn warnings(&self, answer: &Answer) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let busy = self.load.busy() * f64::from(self.instances.max(1));
        if let Some(Capacity { total: hint, .. }) = answer.server {
            if busy >= f64::from(hint) {
                warnings.push(Warning::ServerTooSmall { busy, hint });
            } else if answer.total > hint {
                warnings.push(Warning::BeyondServer { total: answer.total, hint });
            }
        }
        if let Some(fit) = answer.fit.filter(|fit| !fit.fits) {
            warnings.push(Warning::DoesNotFit { total: answer.total, usable: fit.sharing.usable() });
        }
        let utilisation = answer.forecast.utilisation();
        if matches!(answer.decided_by.asked, Asked::Burst(_) | Asked::Deadlock(_)) && utilisation < IDLE_UTILISATION {
            warnings.push(Warning::MostlyIdle { utilisation });
        }
        if self.load.hold_scv() >= MIXED_SCV {
            warnings.push(Warning::TwoKindsOfWork { scv: self.load.hold_scv() });
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn question() -> Question {
        Question {
            load: Load::new(1_000.0, MS * 10).unwrap(),
            wait_p99: MS,
            burst: None,
            tasks: None,
            server: None,
            instances: 1,
            sharing: None,
        }
    }

    #[test]
    fn the_largest_need_decides() {
        let wait = question().answer().unwrap();
        assert!(matches!(wait.decided_by.asked, Asked::Wait { .. }), "{wait:?}");
        assert_eq!(wait.needs[0].size, 11);
        assert_eq!(Some(wait.forecast), question().load.at(wait.size));
        assert!(wait.rate_max >= 1_000.0 && wait.rate_max < 1_200.0, "{}", wait.rate_max);
        assert_eq!((wait.total, wait.shared, wait.warnings), (wait.size, None, vec![]));
        let sizes: Vec<u32> = wait.around.iter().map(|row| row.size).collect();
        assert_eq!(sizes, (wait.size - 2..=wait.size + 4).collect::<Vec<_>>());

        let burst = Burst { requests: 400, within: MS * 100 };
        let bursty = Question { burst: Some(burst), ..question() }.answer().unwrap();
        assert_eq!((bursty.size, bursty.decided_by.asked), (41, Asked::Burst(burst)));
        assert!(matches!(bursty.warnings[..], [Warning::MostlyIdle { .. }]), "{:?}", bursty.warnings);

        let tasks = Tasks { tasks: 30, connections_each: 2 };
        let nested = Question { tasks: Some(tasks), ..question() }.answer().unwrap();
        assert_eq!((nested.size, nested.decided_by.asked), (31, Asked::Deadlock(tasks)));

        // A patient caller: what keeps up is enough, and the wait is named as the reason.
        let patient = Question { wait_p99: MS * 60_000, ..question() }.answer().unwrap();
        assert_eq!((patient.size, patient.decided_by.asked), (11, Asked::Wait { p99: MS * 60_000 }));
    }

    #[test]
    fn what_the_database_allows_is_held_against_it() {
        let sharing = Sharing { max_connections: 100, reserved: 3 };
        let server = Server { cores: 16, spindles: 0 };
        let four = Question { instances: 4, sharing: Some(sharing), server: Some(server), ..question() };
        let answer = four.answer().unwrap();
        let fit = answer.fit.unwrap();
        assert!(fit.fits);
        assert_eq!((answer.total, fit.capacity.each), (answer.size * 4, 24));
        // 40 busy on average, a machine for 32.
        assert!(matches!(answer.warnings[..], [Warning::ServerTooSmall { hint: 32, .. }]), "{:?}", answer.warnings);
        assert_eq!(answer.server.unwrap().forecast, None, "8 each cannot keep up with 10 busy");
        // One line for all needs less than four lines.
        assert!(answer.shared.unwrap() < answer.total);

        let eight = Question { instances: 8, ..four }.answer().unwrap();
        assert!(!eight.fit.unwrap().fits);
        assert!(matches!(eight.warnings[1], Warning::DoesNotFit { usable: 97, .. }), "{:?}", eight.warnings);

        let larger = Question { server: Some(Server { cores: 6, spindles: 2 }), ..question() }.answer().unwrap();
        assert!(matches!(larger.warnings[..], [Warning::BeyondServer { hint: 14, .. }]), "{:?}", larger.warnings);
        let fits = Question { server: Some(Server { cores: 64, spindles: 0 }), ..question() }.answer().unwrap();
        assert_eq!(fits.warnings, []);
    }

    #[test]
    fn two_kinds_of_work_are_suspected() {
        let load = question().load.with_scv(1.0, 25.0).unwrap();
        let answer = Question { load, ..question() }.answer().unwrap();
        assert_eq!(answer.warnings, [Warning::TwoKindsOfWork { scv: 25.0 }]);
        assert!(answer.warnings[0].to_string().contains("25.0"), "{}", answer.warnings[0]);
    }

    #[test]
    fn small_sizes_have_fewer_rows_below() {
        let load = Load::new(1.0, MS).unwrap();
        let answer = Question { load, ..question() }.answer().unwrap();
        assert_eq!((answer.size, answer.around[0].size), (1, 1));
    }
}
