//! Who is let into the line: callers are refused early instead of timing out late.
//!
//! # Rules
//! 1. **Deadlines.** A caller whose turn would come too late for a use of the usual length, judged by how fast the line moves, is
//!    refused at once. Uses are of random length, so that the wait counts as two standard deviations longer than expected:
//!    `ahead × hold / serving + 2 × √ahead × hold / serving + hold`. One whose turn has come and whose remaining time is shorter than a use is
//!    refused, too.
//! 2. **A standing line.** When the waits of those served have been `target` or longer for `interval`, and no fewer callers come than are
//!    served, the pool is *overloaded*: a line then serves nobody, it only makes everybody late. From then on nobody waits longer
//!    than the *patience* `2 × hold`, at least `2 × target` and at most `3 × target`: newcomers who would have to are refused at once, and
//!    those in line when they have, unless that is more than `4 × target`: who has waited so long is served. It ends with the first who
//!    waited less than `target`, or when fewer come than are served; within a second after that it begins again without the interval.
//! 3. **A line that ran empty.** If it did within a second after somebody was refused for want of patience, connections have been idle that
//!    could have served them: what comes in bursts needs a longer line. The patience is then half as long again, up to eight times;
//!    half of that is forgotten in 10 s. Deadlines hold all the same.
//! 4. The order stays: first come, first served.
//!
//! A burst is no overload: if nobody comes behind it, its line is served as far as deadlines allow. How fast the line moves is the number
//! of those served over the last one or two windows (an `interval` or a use, and 8 served, at least); before that is known, connections in use
//! over the usual length of a use.
//!
//! With the defaults (50 ms, 100 ms) and uses of up to 50 ms, refusals come at once or within 200 ms, whatever the load, and at twice the
//! capacity more than 95 % of it is answered in time. With longer uses (up to 0.3 s, a deadline of 1 s) one refusal in thirty may come
//! later, from the deadline; with uses of exponential length some of them are longer than what the deadline leaves, whoever is refused.
//! Cost: some additions per caller in line.
//!
//! # Sources
//! Nichols and Jacobson, "Controlling queue delay", 2012 (the minimum of the wait over an interval tells a standing queue from a burst);
//! Elixir's `DBConnection` (the same on a pool's line, `queue_target` and `queue_interval`); Maurer, "Fail at scale", 2015 (short time-outs
//! in a line that has been standing). Other than there, the line stays first in, first out, and the drop rate follows from the wait at
//! once, not by a square root over time: those refused do not come again slower, as TCP does.

use std::time::Duration;

use weir_core::Instant;

/// Served ones that a window has at least.
const SERVED_MIN: u64 = 8;
/// An overload that begins again within this begins without delay.
const RELAPSE: Duration = Duration::from_secs(1);
/// Who has waited for more targets than this is not refused any more because the line stands: that would come too late to help.
const KEEPS: u32 = 4;
/// The patience grows by this when the line ran empty, to so much at most, and half of that is forgotten in this time.
const STRETCH_GROWS: f64 = 1.5;
const STRETCH_MAX: f64 = 8.0;
const STRETCH_HALVES: Duration = Duration::from_secs(10);

/// How long callers may stand in line in the long run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdmissionParams {
    /// Waits below this are no overload.
    pub target: Duration,
    /// Waits above it are one after this time.
    pub interval: Duration,
}

impl Default for AdmissionParams {
    /// 50 ms and 100 ms.
    fn default() -> Self {
        Self { target: Duration::from_millis(50), interval: Duration::from_millis(100) }
    }
}

/// The line at one moment, as its owner knows it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Line {
    /// Callers in it.
    pub waiting: usize,
    /// Connections that serve it.
    pub serving: u32,
    /// How long a use usually takes; zero if unknown.
    pub hold: Duration,
}

/// The machine. See the module.
///
/// ```
/// use std::time::Duration;
/// use weir_core::Instant;
/// use weir_pool_core::{Admission, AdmissionParams, Line};
///
/// let mut admission = Admission::new(AdmissionParams::default());
/// let line = Line { waiting: 100, serving: 10, hold: Duration::from_millis(50) };
/// // 10 connections serve 200 a second: the turn of the next comes in half a second, or a little later.
/// let now = Instant::from_millis(1_000);
/// assert!(admission.ask(&line, now + Duration::from_millis(700), now));
/// assert!(!admission.ask(&line, now + Duration::from_millis(600), now));
/// ```
#[derive(Debug)]
pub struct Admission {
    params: AdmissionParams,
    /// How long a use usually takes.
    hold: Duration,
    /// How many times the usual patience it takes to keep the connections busy, and when that was worked out.
    stretch: f64,
    stretched: Instant,
    /// When somebody was refused last because of the patience.
    refused: Option<Instant>,
    /// Waits have been long since then.
    long_since: Option<Marks>,
    overloaded: bool,
    ended: Option<Instant>,
    /// When the line was looked at last.
    looked: Instant,
    now: Marks,
    /// At the beginning of this window, and of the one before.
    marks: [Marks; 2],
}

/// Sums at a moment.
#[derive(Clone, Copy, Debug)]
struct Marks {
    at: Instant,
    asked: u64,
    served: u64,
}

impl Admission {
    /// A machine that knows nothing yet.
    pub fn new(params: AdmissionParams) -> Self {
        let none = Marks { at: Instant::ZERO, asked: 0, served: 0 };
        Self {
            params,
            hold: Duration::ZERO,
            stretch: 1.0,
            stretched: Instant::ZERO,
            refused: None,
            long_since: None,
            overloaded: false,
            ended: None,
            looked: Instant::ZERO,
            now: none,
            marks: [none; 2],
        }
    }

    /// The settings.
    pub fn params(&self) -> AdmissionParams {
        self.params
    }

    /// The line was empty and is not any more: how fast it moves is measured from here.
    pub fn line_began(&mut self, now: Instant) {
        self.now.at = now;
        self.marks = [self.now; 2];
        self.long_since = None;
        // Those who were refused a moment ago are missing now.
        if self.refused.take().is_some_and(|refused| now.since(refused) < RELAPSE) {
            self.relax(now);
            self.stretch = (self.stretch * STRETCH_GROWS).min(STRETCH_MAX);
        }
    }

    /// The pool was suspended and is not any more: the line stood because nobody was served. All is measured from here.
    pub fn resumed(&mut self, now: Instant) {
        self.now.at = now;
        self.marks = [self.now; 2];
        (self.long_since, self.refused, self.ended, self.overloaded) = (None, None, None, false);
    }

    /// A caller wants to stand in line, and is to be done with its connection at `until`. Whether it may.
    pub fn ask(&mut self, line: &Line, until: Instant, now: Instant) -> bool {
        self.now.asked += 1;
        self.hold = line.hold;
        self.roll(now);
        let Some(wait) = self.wait(line, now) else { return true };
        if now + wait + Self::doubt(line) + line.hold > until {
            return false;
        }
        if self.overloaded && wait > self.patience(line.hold) {
            self.refused = Some(now);
            return false;
        }
        true
    }

    /// One is served after it had waited.
    pub fn served(&mut self, waited: Duration, now: Instant) {
        self.now.served += 1;
        self.roll(now);
        self.judge(waited, now, now);
    }

    /// The first in line, who asked at `asked`, is not served yet.
    pub fn look(&mut self, asked: Instant, now: Instant) {
        let waited = now.since(asked);
        self.roll(now);
        self.looked = now;
        // That it has not waited long yet says nothing.
        if waited >= self.params.target {
            self.judge(waited, asked + self.params.target, now);
        }
    }

    /// Whether one in line who asked at `asked` is not to be served any more.
    pub fn is_late(&self, asked: Instant, until: Instant, hold: Duration, now: Instant) -> bool {
        let waited = now.since(asked);
        let stands = self.overloaded && waited > self.patience(hold) && waited <= KEEPS * self.params.target;
        stands || now + hold > until
    }

    /// When the first in line is to be looked at, which asked at `asked`: four times per interval at most.
    pub fn poll_timeout(&self, asked: Instant, hold: Duration) -> Instant {
        let due = if self.overloaded {
            asked + self.patience(hold) + Duration::from_millis(1)
        } else {
            let long = self.long_since.map_or(asked + self.params.target, |since| since.at);
            (long + self.params.interval).max(asked + self.params.target)
        };
        due.max(self.looked + self.params.interval / 4)
    }

    /// Whether callers are refused because the line stands.
    pub fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// When it is worth asking again: when as many as wait now have been served.
    pub fn retry_after(&self, line: &Line, now: Instant) -> Duration {
        self.wait(line, now).unwrap_or_default().max(self.params.target)
    }

    /// How long the next to come will wait; `None` if that is not known.
    fn wait(&self, line: &Line, now: Instant) -> Option<Duration> {
        let ahead = line.waiting as f64 + 1.0;
        let [_, before] = self.marks;
        let served = self.now.served - before.served;
        if served >= SERVED_MIN {
            let over = now.since(before.at).as_secs_f64();
            return Some(Duration::from_secs_f64((over * ahead / served as f64).min(1e6)));
        }
        if line.hold == Duration::ZERO || line.serving == 0 {
            return None;
        }
        Some(Duration::from_secs_f64((line.hold.as_secs_f64() * ahead / f64::from(line.serving)).min(1e6)))
    }

    fn patience(&self, hold: Duration) -> Duration {
        let target = self.params.target;
        (2 * hold).clamp(2 * target, 3 * target).mul_f64(self.stretch)
    }

    /// Forgets of the stretch what is to be forgotten by now.
    fn relax(&mut self, now: Instant) {
        let halves = now.since(self.stretched).as_secs_f64() / STRETCH_HALVES.as_secs_f64();
        self.stretch = 1.0 + (self.stretch - 1.0) * (-halves).exp2();
        self.stretched = now;
    }

    /// How much longer than expected a wait may well be: two standard deviations of the sum of uses of random length.
    fn doubt(line: &Line) -> Duration {
        let deviation = (line.waiting as f64 + 1.0).sqrt() / f64::from(line.serving.max(1));
        line.hold.mul_f64((2.0 * deviation).min(1e6))
    }

    /// Somebody has waited so long, and `since` is the earliest moment at which that can be said to have begun.
    fn judge(&mut self, waited: Duration, since: Instant, now: Instant) {
        if waited < self.params.target {
            self.long_since = None;
            self.set(false, now);
            return;
        }
        let since = *self.long_since.get_or_insert(Marks { at: since, ..self.now });
        let relapse = self.ended.is_some_and(|ended| now.since(ended) < RELAPSE);
        // Those who came before the waits were long may have been a burst.
        let from = if self.overloaded { self.marks[1] } else { since };
        let came = self.now.asked - from.asked;
        let comes = came > 0 && came >= self.now.served - from.served;
        let lasts = relapse || now.since(since.at) >= self.params.interval;
        self.set(comes && (self.overloaded || lasts), now);
    }

    fn set(&mut self, overloaded: bool, now: Instant) {
        if self.overloaded && !overloaded {
            self.ended = Some(now);
        }
        self.overloaded = overloaded;
    }

    fn roll(&mut self, now: Instant) {
        let [current, _] = self.marks;
        self.now.at = now;
        let whole = now.since(current.at) >= self.params.interval.max(self.hold);
        if whole
            && (self.now.served - current.served >= SERVED_MIN || now.since(current.at) >= 10 * self.params.interval)
        {
            self.marks = [self.now, current];
            self.relax(now);
        }
    }
}

#[cfg(test)]
mod tests;
