//! Processes that share the connections of one role, while their loads shift.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use weir_pool::managers::postgres::Postgres;
use weir_pool::{Pool, RemoteBudget};

use crate::overload::exponential;
use crate::words::SLOW_ECHO;

/// Loads of the two processes, of the sum of both: before the shift, and then the other way round.
pub const LOADS: [f64; 2] = [0.25, 0.75];

/// Parts of a run, one after the other. Callers of the first are not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Connections are opened, shares settle.
    Settle,
    /// The first load.
    Before,
    /// The loads have shifted: shares follow.
    Follow,
    /// The second load.
    After,
}

impl Phase {
    /// Those that are counted.
    pub const COUNTED: [Self; 3] = [Self::Before, Self::Follow, Self::After];

    /// How long it lasts.
    pub const fn lasts(self) -> Duration {
        match self {
            Self::Settle | Self::Before | Self::After => Duration::from_secs(20),
            Self::Follow => Duration::from_secs(10),
        }
    }

    /// From the start of a run until the loads shift.
    pub const fn shift() -> Duration {
        Duration::from_secs(Self::Settle.lasts().as_secs() + Self::Before.lasts().as_secs())
    }

    /// From the start of a run until its end.
    pub const fn end() -> Duration {
        Duration::from_secs(Self::shift().as_secs() + Self::Follow.lasts().as_secs() + Self::After.lasts().as_secs())
    }

    /// The part in which this time from the start of a run is.
    pub fn at(time: Duration) -> Self {
        match time {
            _ if time < Self::Settle.lasts() => Self::Settle,
            _ if time < Self::shift() => Self::Before,
            _ if time < Self::shift() + Self::Follow.lasts() => Self::Follow,
            _ => Self::After,
        }
    }
}

/// How the connections are parted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Split {
    /// By the grantor on this port.
    Budget(u16),
    /// The one with less load has so many of them; told of the shift at once.
    Told(u32),
    /// Half and half, whatever the load.
    Even,
}

/// One process: what it is told when it is started.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// 0 or 1.
    pub which: usize,
    /// How the server is reached.
    pub url: String,
    /// When the run starts.
    pub start: SystemTime,
    /// Connections of both.
    pub total: u32,
    /// How they are parted.
    pub split: Split,
    /// Connections that are in use on average, of both.
    pub busy: f64,
    /// Milliseconds that the server takes for a query on average, waiting and not computing.
    pub hold_millis: u64,
    /// These times differ as those of independent events do (exponential); otherwise all are the same.
    pub varies: bool,
    /// Of the arrivals.
    pub seed: u64,
    /// Where its waits are written.
    pub file: PathBuf,
}

/// What callers waited, in microseconds, in each counted phase.
#[derive(Clone, Debug)]
pub struct Waits {
    /// In the order of [`Phase::COUNTED`].
    pub phases: [Histogram<u64>; 3],
    /// What went wrong.
    pub troubles: Vec<String>,
}

impl Default for Waits {
    #[expect(clippy::unwrap_used, reason = "the bounds of the histogram are right")]
    fn default() -> Self {
        let waits = || Histogram::new_with_bounds(1, 600_000_000, 3).unwrap();
        Self { phases: [waits(), waits(), waits()], troubles: Vec::new() }
    }
}

impl Waits {
    /// Adds what a member has written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add(&mut self, file: &Path) -> io::Result<()> {
        let text = std::fs::read_to_string(file)?;
        for line in text.lines() {
            let known = line.split_once(' ').and_then(|(phase, wait)| {
                let waits = self.phases.get_mut(phase.parse::<usize>().ok()?)?;
                Some((waits, wait.parse().ok()?))
            });
            match known {
                Some((waits, wait)) => waits.saturating_record(wait),
                None => self.troubles.push(line.to_owned()),
            }
        }
        Ok(())
    }

    /// Those of another run.
    pub fn merge(&mut self, other: &Self) {
        for (waits, more) in self.phases.iter_mut().zip(&other.phases) {
            waits.add(more).unwrap_or_else(|_| unreachable!("all have the same bounds"));
        }
        self.troubles.extend(other.troubles.iter().cloned());
    }

    /// Milliseconds that this share of the callers waited at most, in each phase.
    pub fn at(&self, quantile: f64) -> [f64; 3] {
        [0, 1, 2].map(|phase: usize| self.phases[phase].value_at_quantile(quantile) as f64 / 1e3)
    }
}

impl Member {
    /// Its part of the load in a phase.
    fn load(&self, shifted: bool) -> f64 {
        LOADS[self.which ^ usize::from(shifted)]
    }

    /// Its connections, if nobody grants them.
    fn size(&self, shifted: bool) -> u32 {
        match self.split {
            Split::Budget(_) => self.total,
            Split::Even => self.total / 2,
            Split::Told(few) if self.which == usize::from(shifted) => few,
            Split::Told(few) => self.total - few,
        }
    }

    fn pool(&self) -> Result<Pool<Postgres>, Box<dyn std::error::Error>> {
        let builder = Pool::<Postgres>::builder()
            .name("shared")
            .max_size(self.size(false))
            .min_idle(0)
            .acquire_timeout(Duration::from_mins(1));
        let builder = match self.split {
            Split::Budget(port) => {
                let budget = RemoteBudget::new(format!("127.0.0.1:{port}"), "db")?;
                builder.budget(&budget.member(format!("member-{}", self.which))?.into())
            }
            _ => builder,
        };
        Ok(builder.build(Postgres::new(self.url.parse()?))?)
    }

    /// Runs until all callers have been served, and writes what they waited.
    ///
    /// # Errors
    /// If it was started too late, the pool cannot be had or the file not be written.
    pub async fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        let pool = self.pool()?;
        let start = Instant::now() + self.start.duration_since(SystemTime::now())?;
        let (mut callers, mut lines) = (JoinSet::new(), Vec::new());
        let mut random = self.seed * 2 + self.which as u64;
        let (mut due, mut told) = (Duration::ZERO, false);
        while due < Phase::end() {
            sleep_until(start + due).await;
            let shifted = due >= Phase::shift();
            if shifted && !std::mem::replace(&mut told, true) {
                tokio::spawn(tell(pool.clone(), self.split, self.size(false), self.size(true)));
            }
            let hold = self.hold_millis as f64 / 1e3;
            let rate = self.busy * self.load(shifted) / hold;
            let hold = if self.varies { hold * exponential(&mut random) } else { hold };
            callers.spawn(call(pool.clone(), Phase::at(due), hold));
            while let Some(line) = callers.try_join_next() {
                lines.extend(line?);
            }
            due += Duration::from_secs_f64(exponential(&mut random) / rate);
        }
        while let Some(line) = callers.join_next().await {
            lines.extend(line?);
        }
        if let Err(left) = pool.close(Duration::from_secs(5)).await {
            lines.push(format!("not closed within 5 s: {left}"));
        }
        let mut file = io::BufWriter::new(std::fs::File::create(&self.file)?);
        for line in lines {
            writeln!(file, "{line}")?;
        }
        Ok(file.flush()?)
    }
}

/// Who gets more waits until the other has closed some.
async fn tell(pool: Pool<Postgres>, split: Split, before: u32, after: u32) {
    if matches!(split, Split::Told(_)) {
        sleep(Duration::from_millis(if after > before { 100 } else { 0 })).await;
        pool.resize(after).unwrap_or_else(|error| unreachable!("{error}"));
    }
}

/// Phase and microseconds waited; or what went wrong. `None` if it does not count.
async fn call(pool: Pool<Postgres>, phase: Phase, hold: f64) -> Option<String> {
    let asked = Instant::now();
    let guard = match pool.acquire().await {
        Ok(guard) => guard,
        Err(error) => return Some(error.to_string()),
    };
    let waited = asked.elapsed().as_micros();
    let answered = async {
        let statement = guard.prepare_cached(SLOW_ECHO).await?;
        guard.query_one(&statement, &[&1_i64, &hold]).await
    };
    if let Err(error) = answered.await {
        return Some(format!("a query failed: {error}"));
    }
    let counted = Phase::COUNTED.iter().position(|counted| *counted == phase)?;
    Some(format!("{counted} {waited}"))
}
