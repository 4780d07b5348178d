//! The findings in plain English.

use std::fmt;

use super::{Explanation, Finding, Grantor};
use crate::HumanTime as Time;

/// `1 caller waits`, `3 callers wait`.
fn callers_wait(count: u32) -> String {
    match count {
        0 => "nobody waits".to_owned(),
        1 => "1 caller waits".to_owned(),
        _ => format!("{count} callers wait"),
    }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspended { waiting } => write!(f, "the pool is suspended; {}", callers_wait(*waiting)),
            Self::ConnectsFail { since, live, waiting, refused, error, next_attempt } => {
                write!(f, "no connection can be opened for {} now", Time(*since))?;
                if let Some(error) = error {
                    write!(f, " (last: {error})")?;
                }
                match live {
                    0 => write!(f, "; none is left, {}", callers_wait(*waiting))?,
                    live => write!(f, "; {live} in use are all that is left, {}", callers_wait(*waiting))?,
                }
                if *refused > 0 {
                    write!(f, ", {} of late", plural(*refused, "was refused", "were refused"))?;
                }
                match next_attempt {
                    Some(next) => write!(f, "; next attempt in {}", Time(*next)),
                    None => Ok(()),
                }
            }
            Self::ConnectsHang { hung, opening, connect_time, waiting } => {
                write!(f, "{hung} of {opening} connects in flight get no answer")?;
                if let Some(usual) = connect_time {
                    write!(f, " (usual: {})", Time(*usual))?;
                }
                write!(f, "; {}", callers_wait(*waiting))
            }
            Self::LeakSuspected { suspects, oldest, hold, busy, size } => {
                let have = plural(u64::from(*suspects), "connection seems", "connections seem");
                write!(f, "{have} never to come back: in use for up to {}", Time(*oldest))?;
                if let Some(hold) = hold {
                    write!(f, ", where {} is usual", Time(*hold))?;
                }
                write!(f, " ({busy} of {size} in use)")
            }
            Self::LongUse { busy, age, oldest, hold, waiting } => {
                write!(f, "all {busy} connections are in use, and for {} on average already", Time(*age))?;
                write!(f, " (the longest for {})", Time(*oldest))?;
                match hold {
                    Some(hold) => write!(f, ", where {} is usual", Time(*hold))?,
                    None => write!(f, ", and no use has ended of late")?,
                }
                write!(f, "; {}", callers_wait(*waiting))
            }
            Self::Saturated { hold, baseline, served, served_baseline } => write!(
                f,
                "the database is saturated: a connection is held for {}, {:.1} times the {} of calmer times, and {served:.0} uses \
                 per second are served, where {served_baseline:.0} were then",
                Time(*hold),
                hold.as_secs_f64() / baseline.as_secs_f64(),
                Time(*baseline),
            ),
            Self::LineFull { waiting, waiting_max, refused } => {
                write!(f, "the line is full: {waiting} of {waiting_max} callers wait")?;
                match refused {
                    0 => Ok(()),
                    _ => write!(f, ", {} of late", plural(*refused, "was refused", "were refused")),
                }
            }
            Self::Limited { granted, max_size, grantor, needs, waiting } => {
                let who = match grantor {
                    Grantor::Quota => "the quota of this process",
                    Grantor::Budget => "the shared budget",
                };
                write!(f, "{who} grants {granted} of {max_size} connections, and all are in use")?;
                if let Some(needs) = needs {
                    write!(f, "; the load needs {needs:.1} on average")?;
                }
                write!(f, "; {}", callers_wait(*waiting))
            }
            Self::BeyondSize { rate, hold, needs, size, waiting, wait_p99, .. } => {
                let verb = if *needs >= f64::from(*size) { "more than" } else { "nearly all of" };
                write!(
                    f,
                    "the load needs {verb} the pool: {rate:.0} acquires per second x {} each = {needs:.1} connections on average, it \
                     has {size}; {}, p99 of the wait {}",
                    Time(*hold),
                    callers_wait(*waiting),
                    Time(*wait_p99),
                )
            }
            Self::ConnectsSlow { connect_time, hold, opening, waiting } => {
                write!(f, "opening is slow: a connect takes {}", Time(*connect_time))?;
                if let Some(hold) = hold {
                    write!(f, ", a use {}", Time(*hold))?;
                }
                write!(f, "; {opening} in flight, {}", callers_wait(*waiting))
            }
            Self::Burst { waiting, needs, size, over_in, wait_p99, refused } => {
                write!(f, "a burst: {}", callers_wait(*waiting))?;
                match needs {
                    Some(needs) => write!(f, " though the load needs {needs:.1} of {size} connections on average")?,
                    None => write!(f, " for {size} connections, and no use has ended of late")?,
                }
                write!(f, "; p99 of the wait {}", Time(*wait_p99))?;
                if *refused > 0 {
                    write!(f, ", {} of late", plural(*refused, "was refused", "were refused"))?;
                }
                match over_in.filter(|_| *waiting > 0) {
                    Some(over_in) => write!(f, "; the line is served in about {}", Time(over_in)),
                    None => Ok(()),
                }
            }
            Self::Healthy { busy, size, needs, wait_p99 } => {
                write!(f, "nothing limits the pool: {busy} of {size} in use")?;
                if let Some(needs) = needs {
                    write!(f, ", the load needs {needs:.1} on average")?;
                    let room = f64::from(*size) / needs.max(f64::MIN_POSITIVE);
                    if room < 1_000.0 {
                        write!(f, " and could be {room:.1} times as large before the line grows without end")?;
                    }
                }
                write!(f, "; p99 of the wait {}", Time(*wait_p99))
            }
        }
    }
}

impl Finding {
    /// A word for logs and metrics; it stays the same over versions.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Suspended { .. } => "suspended",
            Self::ConnectsFail { .. } => "connects_fail",
            Self::ConnectsHang { .. } => "connects_hang",
            Self::LeakSuspected { .. } => "leak_suspected",
            Self::LongUse { .. } => "long_use",
            Self::Saturated { .. } => "saturated",
            Self::LineFull { .. } => "line_full",
            Self::Limited { .. } => "limited",
            Self::BeyondSize { .. } => "beyond_size",
            Self::ConnectsSlow { .. } => "connects_slow",
            Self::Burst { .. } => "burst",
            Self::Healthy { .. } => "healthy",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let text = match self {
            Self::Suspended { .. } => "resume the pool when the work on the database is done",
            Self::ConnectsFail { .. } => {
                "look at the error and at the database; callers that can wait are served as soon as it is back"
            }
            Self::ConnectsHang { .. } => {
                "look at the network and the database's accept queue: a firewall that drops, a server that is stuck"
            }
            Self::LeakSuspected { .. } => {
                "find who holds them (leak detection tells where each was acquired): a guard kept too long, a task that is stuck. \
                 A larger pool only takes longer to run dry"
            }
            Self::LongUse { .. } => {
                "find the slow statements or locks of these connections in the database, and bound them with a time-out. Do not \
                 enlarge the pool"
            }
            Self::Saturated { .. } => {
                "make the statements cheaper or the database larger. Do not enlarge the pool: more at once make each slower; \
                 a smaller one may serve more"
            }
            Self::LineFull { .. } => {
                "see the other findings for why the line stands; a longer line only makes callers wait longer for the same"
            }
            Self::Limited { grantor: Grantor::Quota, .. } => "raise the quota, or lower what other pools of it hold",
            Self::Limited { grantor: Grantor::Budget, .. } => {
                "raise the budget if the database bears it; its shares follow the load by themselves"
            }
            Self::BeyondSize { size, proposed: Some(proposed), .. } => {
                return format!(
                    "enlarge the pool from {size} to {proposed} if the database has room (processor, max_connections): then 99 of \
                     100 callers wait no longer than one use takes. Watch that the hold does not grow. Or make the holds shorter"
                );
            }
            Self::BeyondSize { .. } => {
                "make the holds shorter; if the arrivals come in bursts, see what starts them together"
            }
            Self::ConnectsSlow { .. } => {
                "keep more connections idle (minimum idle, warm-up), so that opening is not on the callers' way"
            }
            Self::Burst { .. } => {
                "nothing, if callers bear the wait. Else spread what starts them together, or size for the burst (`weir pool \
                 size --burst`)"
            }
            Self::Healthy { .. } => "nothing",
        };
        text.to_owned()
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
            if !matches!(finding, Finding::Healthy { .. }) {
                write!(f, "\n  remedy: {}", finding.remedy())?;
            }
        }
        Ok(())
    }
}
