//! What goes in and out of a sizer.

use std::fmt;
use std::time::Duration;

/// Within what bounds a size is looked for, and how much is asked of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SizerParams {
    /// Smallest size; at least 1.
    pub min: u32,
    /// Largest size; at least `min`.
    pub max: u32,
    /// The knee is the smallest size with this share of the best throughput. 0.9 to 0.99.
    pub keep: f64,
    /// How long what is known of an earlier time is held against the present: a database that has become slower is
    /// taken to be saturated for about this long, then it is learnt anew.
    pub memory: Duration,
}

impl SizerParams {
    /// The bounds, and for the rest what suits most: 97 % of the best throughput, a memory of 3 min.
    pub const fn new(min: u32, max: u32) -> Self {
        Self { min, max, keep: 0.97, memory: Duration::from_mins(3) }
    }
}

/// What happened in one interval.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Interval {
    /// How long it was.
    pub lasted: Duration,
    /// Callers who asked for a connection.
    pub arrivals: u64,
    /// Uses that ended.
    pub uses: u64,
    /// How long all of them took together.
    pub held: Duration,
    /// How long those who were served or gave up in it had waited, together.
    pub waited: Duration,
    /// Callers whose time ended while they waited, or who were refused for want of a connection.
    pub timeouts: u64,
    /// Connects that failed.
    pub connect_failures: u64,
    /// Connections in use on average over the interval.
    pub busy: f64,
    /// Callers in line at its end.
    pub line: u32,
    /// The pool's size while it lasted.
    pub size: u32,
}

/// A size, and why.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Proposal {
    /// The size that the pool ought to have now. It is tried out at times: a neighbour of `settled`.
    pub size: u32,
    /// The size around which it is tried out: the best one known.
    pub settled: u32,
    /// Why.
    pub reason: SizeReason,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "size {}: {}", self.size, self.reason)
    }
}

/// Why a size is proposed. `Display` says it in a sentence.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SizeReason {
    /// Not enough has happened yet.
    Learning,
    /// Nobody has to wait; arrivals × usage time ask for this much.
    Demand {
        /// Uses a second.
        rate: f64,
        /// How long one takes.
        hold: Duration,
        /// What they need, with headroom.
        needed: u32,
    },
    /// More would be needed, but the database does no more with more.
    Capped {
        /// What arrivals × usage time ask for.
        needed: u32,
        /// The size from which on the throughput does not grow.
        knee: u32,
    },
    /// Callers wait, and sizes are compared.
    Searching {
        /// What is being tried out.
        tried: u32,
        /// The best size so far.
        best: u32,
    },
    /// Callers wait, and this is the smallest size that has nearly the best throughput.
    Knee {
        /// Uses a second there.
        rate: f64,
        /// How long one takes there.
        hold: Duration,
    },
    /// The database has become slower than it was at the same size: it is saturated, and more connections would only wait in it.
    Saturated {
        /// How long a use takes now.
        hold: Duration,
        /// How long it took before.
        usual: Duration,
    },
    /// All connections are in use, and no use ends.
    Stalled,
    /// Connects fail: the server gives no more connections.
    ConnectsFail,
}

impl fmt::Display for SizeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        match *self {
            Self::Learning => write!(f, "not enough uses yet to judge"),
            Self::Demand { rate, hold, needed } => write!(
                f,
                "{rate:.1} uses a second of {:.2} ms keep {:.1} connections busy; {needed} are enough, with headroom",
                ms(hold),
                rate * hold.as_secs_f64()
            ),
            Self::Capped { needed, knee } => {
                write!(f, "{needed} would be needed, but beyond {knee} connections the database does no more work")
            }
            Self::Searching { tried, best } => {
                write!(f, "callers wait; trying {tried}, the best so far is {best}")
            }
            Self::Knee { rate, hold } => write!(
                f,
                "callers wait, but more connections do not get more done: {rate:.1} uses a second of {:.2} ms",
                ms(hold)
            ),
            Self::Saturated { hold, usual } => write!(
                f,
                "the database is saturated: a use takes {:.2} ms instead of {:.2} ms, so the pool does not grow",
                ms(hold),
                ms(usual)
            ),
            Self::Stalled => write!(f, "all connections are in use and no use ends, so the pool does not grow"),
            Self::ConnectsFail => write!(f, "connects fail, so the pool does not grow"),
        }
    }
}
