//! `weir demo`: sample servers, Weir in front of them, steady load, and a live view of it all, in one process.
//!
//! Nothing is simulated: the servers listen on real ports, one of them is really killed, and Weir runs a configuration
//! text as `weir run` would. The view reads what `/clusters` and `/metrics` read.

mod events;
mod load;
mod ports;
mod reading;
mod sample;
mod screen;
mod stage;
mod text;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use weir_control::View;
use weir_core::Health;
use weir_telemetry::init_logging_into;

use crate::cli::{DemoOptions, LogOptions, fail, print, signals, terminal_can_draw, wants_colour};
use crate::server::Stopped;
use events::Events;
use load::Seen;
use reading::{Reading, Span};
use screen::{Screen, Wish};
use stage::Stage;

/// Between two readings.
const SECOND: Duration = Duration::from_secs(1);
/// Between two looks at the keyboard and the signals.
const LOOK: Duration = Duration::from_millis(100);

/// `weir demo`
pub(crate) fn run(options: &DemoOptions, log: &LogOptions) -> ExitCode {
    let on_screen = !options.plain && std::io::stdout().is_terminal() && terminal_can_draw();
    let events = Events::default();
    let logging = if on_screen { init_logging_into(&log.log, events.clone()) } else { log.init() };
    if let Err(error) = logging {
        return fail(&error.to_string());
    }
    // Before any thread is started, so that no signal is lost.
    let signals = match signals() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signal handlers: {error}")),
    };
    let stage = match Stage::set(options.rate, options.port) {
        Ok(stage) => stage,
        Err(error) => return fail(&error.to_string()),
    };
    let mut show = Show::new(&stage, options.duration);
    let played = if on_screen {
        Screen::open(events, wants_colour(&std::io::stdout()))
            .and_then(|mut screen| show.on_screen(&stage, &mut screen, &signals))
    } else {
        show.as_lines(&stage, &signals)
    };
    let ran = show.begun.elapsed();
    let stopped = stage.end();
    let totals = show.read();
    let printed = print(&text::summary(ran, &totals, &show.falls));
    match played {
        // `weir demo | head`: nobody is left to be told.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the view: {error}")),
        Ok(End::Failed) => fail("Weir ended by itself; the log says why"),
        Ok(End::Wished) if stopped == Stopped::ByForce => fail("requests were cut at the end"),
        // A run of a set length is a check: it fails if clients saw an error.
        Ok(End::Wished) if options.duration.is_some() && totals.errors > 0 => ExitCode::FAILURE,
        Ok(End::Wished) => printed,
    }
}

/// How a show ended.
enum End {
    /// The user or the clock asked for it.
    Wished,
    /// Weir stopped without being asked.
    Failed,
}

/// What is watched, and until when.
struct Show {
    view: Arc<dyn View>,
    seen: Arc<Seen>,
    begun: Instant,
    duration: Option<Duration>,
    last: Reading,
    /// For each server: how often it went down and came back.
    falls: Vec<Fall>,
}

/// How often a server went down and came back.
#[derive(Debug)]
struct Fall {
    name: String,
    usable: bool,
    down: u32,
    up: u32,
}

impl Show {
    fn new(stage: &Stage, duration: Option<Duration>) -> Self {
        let (view, seen) = (stage.running.view(), Arc::clone(stage.load.seen()));
        let last = Reading::take(&*view, &seen);
        Self { view, seen, begun: Instant::now(), duration, last, falls: Vec::new() }
    }

    /// What happened since the last call.
    fn read(&mut self) -> Span {
        let now = Reading::take(&*self.view, &self.seen);
        let span = now.since(&self.last);
        self.last = now;
        for endpoint in &span.endpoints {
            self.notice(&endpoint.name, matches!(endpoint.health, Health::Up | Health::Unknown));
        }
        span
    }

    fn notice(&mut self, name: &str, usable: bool) {
        let Some(fall) = self.falls.iter_mut().find(|fall| fall.name == name) else {
            self.falls.push(Fall { name: name.to_owned(), usable, down: 0, up: 0 });
            return;
        };
        fall.down += u32::from(fall.usable && !usable);
        fall.up += u32::from(!fall.usable && usable);
        fall.usable = usable;
    }

    fn is_over(&self) -> bool {
        self.duration.is_some_and(|duration| self.begun.elapsed() >= duration)
    }

    fn as_lines(&mut self, stage: &Stage, signals: &Receiver<i32>) -> std::io::Result<End> {
        write(&text::introduction(stage))?;
        for second in 1.. {
            let next = self.begun + SECOND * second;
            while let Some(left) = next.checked_duration_since(Instant::now()) {
                if wants_end(signals, left) || self.is_over() {
                    return Ok(End::Wished);
                }
            }
            write(&text::line(second, &self.read()))?;
            if self.is_over() {
                return Ok(End::Wished);
            }
            if stage.running.is_finished() {
                return Ok(End::Failed);
            }
        }
        Ok(End::Wished)
    }

    fn on_screen(&mut self, stage: &Stage, screen: &mut Screen, signals: &Receiver<i32>) -> std::io::Result<End> {
        let mut span = self.read();
        let mut next = self.begun + SECOND;
        loop {
            screen.draw(stage, &span, self.begun.elapsed())?;
            if screen.wait(LOOK)? == Wish::End || wants_end(signals, Duration::ZERO) || self.is_over() {
                return Ok(End::Wished);
            }
            if stage.running.is_finished() {
                return Ok(End::Failed);
            }
            if Instant::now() >= next {
                span = self.read();
                screen.push(&span);
                next += SECOND;
            }
        }
    }
}

/// Waits for a signal for at most `timeout`.
fn wants_end(signals: &Receiver<i32>, timeout: Duration) -> bool {
    match signals.recv_timeout(timeout) {
        // HUP: the terminal is gone.
        Ok(signal) => matches!(signal, SIGINT | SIGTERM | SIGHUP),
        Err(RecvTimeoutError::Timeout) => false,
        Err(RecvTimeoutError::Disconnected) => true,
    }
}

/// Writes to standard output. A closed pipe (`| head`) is an error: nobody watches any more.
fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}
