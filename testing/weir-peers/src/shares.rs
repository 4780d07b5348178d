//! Processes that share the connections of one role, while their loads shift.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
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
            Self::Settle => Duration::from_secs(6),
            Self::Before | Self::After => Duration::from_secs(20),
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

    fn at(time: Duration) -> Self {
        match time {
            _ if time < Self::Settle.lasts() => Self::Settle,
            _ if time < Self::shift() => Self::Before,
            _ if time < Self::shift() + Self::Follow.lasts() => Self::Follow,
            _ => Self::After,
        }
    }
}

/// How the connections are parted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Split {
    /// By the grantor on this port.
    Budget(u16),
    /// The one with less load has so many of them; told of the shift at once.
    Told(u32),
    /// Half and half, whatever the load.
    Even,
}

/// One process.
#[derive(Clone, PartialEq, Debug)]
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

/// As the arguments of the process.
impl Member {
    /// For the command line; [`Member::from_args`] reads it.
    pub fn args(&self) -> Vec<String> {
        let start = self.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        vec![
            self.which.to_string(),
            self.url.clone(),
            start.as_micros().to_string(),
            self.total.to_string(),
            self.split.to_string(),
            self.busy.to_string(),
            self.hold_millis.to_string(),
            self.varies.to_string(),
            self.seed.to_string(),
            self.file.display().to_string(),
        ]
    }

    /// Reads [`Member::args`].
    ///
    /// # Errors
    /// If they are not that.
    pub fn from_args(args: &[String]) -> Result<Self, Box<dyn std::error::Error>> {
        let [which, url, start, total, split, busy, hold_millis, varies, seed, file] = args else {
            return Err("not the arguments of a member".into());
        };
        Ok(Self {
            which: which.parse()?,
            url: url.clone(),
            start: UNIX_EPOCH + Duration::from_micros(start.parse()?),
            total: total.parse()?,
            split: split.parse()?,
            busy: busy.parse()?,
            hold_millis: hold_millis.parse()?,
            varies: varies.parse()?,
            seed: seed.parse()?,
            file: file.into(),
        })
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(port) => write!(f, "budget:{port}"),
            Self::Told(few) => write!(f, "told:{few}"),
            Self::Even => f.write_str("even:"),
        }
    }
}

impl FromStr for Split {
    type Err = Box<dyn std::error::Error>;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word.split_once(':') {
            Some(("budget", port)) => Ok(Self::Budget(port.parse()?)),
            Some(("told", few)) => Ok(Self::Told(few.parse()?)),
            Some(("even", "")) => Ok(Self::Even),
            _ => Err(format!("not a split: {word}").into()),
        }
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
    /// If the pool cannot be had or the file not be written.
    pub async fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        let pool = self.pool()?;
        let start = Instant::now() + self.start.duration_since(SystemTime::now()).unwrap_or_default();
        let lines = Arc::new(Mutex::new(Vec::<String>::new()));
        let mut random = self.seed * 2 + self.which as u64;
        let (mut due, mut told) = (Duration::ZERO, false);
        sleep_until(start).await;
        while due < Phase::end() {
            while due <= start.elapsed() {
                let shifted = due >= Phase::shift();
                if shifted && !told {
                    told = true;
                    // Who gets more waits until the other has closed some.
                    let later = Duration::from_millis(if self.size(true) > self.size(false) { 100 } else { 0 });
                    tokio::spawn(tell(pool.clone(), self.split, self.size(true), later));
                }
                let hold = self.hold_millis as f64 / 1e3;
                let rate = self.busy * self.load(shifted) / hold;
                let hold = if self.varies { hold * exponential(&mut random) } else { hold };
                tokio::spawn(call(pool.clone(), Phase::at(due), hold, Arc::clone(&lines)));
                due += Duration::from_secs_f64(exponential(&mut random) / rate);
            }
            sleep(Duration::from_millis(1)).await;
        }
        while Arc::strong_count(&lines) > 1 {
            sleep(Duration::from_millis(10)).await;
        }
        pool.close(Duration::from_secs(5)).await.ok();
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = io::BufWriter::new(std::fs::File::create(&self.file)?);
        for line in lines.iter() {
            writeln!(file, "{line}")?;
        }
        Ok(file.flush()?)
    }
}

async fn tell(pool: Pool<Postgres>, split: Split, size: u32, later: Duration) {
    if matches!(split, Split::Told(_)) {
        sleep(later).await;
        pool.resize(size).unwrap_or_else(|error| unreachable!("{error}"));
    }
}

async fn call(pool: Pool<Postgres>, phase: Phase, hold: f64, lines: Arc<Mutex<Vec<String>>>) {
    let asked = Instant::now();
    let got = pool.acquire().await;
    let waited = asked.elapsed().as_micros();
    let line = match got {
        Ok(guard) => {
            let asked = async {
                let statement = guard.prepare_cached(SLOW_ECHO).await?;
                guard.query_one(&statement, &[&1_i64, &hold]).await
            };
            match asked.await {
                Ok(_) => Phase::COUNTED.iter().position(|counted| *counted == phase).map(|at| format!("{at} {waited}")),
                Err(error) => Some(format!("a query failed: {error}")),
            }
        }
        Err(error) => Some(error.to_string()),
    };
    if let Some(line) = line {
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
