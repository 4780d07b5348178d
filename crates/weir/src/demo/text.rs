//! The demonstration as plain lines: what was set up, one line a second, and a summary.

use std::fmt::Write as _;
use std::time::Duration;

use super::Fall;
use super::reading::{Span, ms};
use super::stage::Stage;

/// What runs where, with which configuration, and what to try.
pub(crate) fn introduction(stage: &Stage) -> String {
    let mut out = format!("{}\n\n", headline(stage));
    for (character, address) in &stage.servers {
        let _ = writeln!(out, "  {:<6} {address}  {}", character.name, character.nature);
    }
    out.push_str("\nThe configuration that Weir runs:\n\n");
    for line in stage.config.lines() {
        let _ = writeln!(out, "  {line}");
    }
    out.push_str("\nTry meanwhile, in another terminal:\n\n");
    for (command, what) in addresses(stage) {
        let _ = writeln!(out, "  {command:<44} {what}");
    }
    out.push('\n');
    out
}

/// What the demonstration is.
pub(crate) fn headline(stage: &Stage) -> String {
    format!(
        "weir demo: {} requests a second over {} connections, Weir, and three servers of different reliability",
        stage.rate,
        super::load::CONNECTIONS.min(stage.rate)
    )
}

/// Commands to try, and what they show.
pub(crate) fn addresses(stage: &Stage) -> Vec<(String, &'static str)> {
    let (proxy, metrics) = (stage.proxy, stage.metrics);
    vec![
        (format!("curl -i http://{proxy}/"), "a request through Weir; X-Server tells who answered"),
        (format!("curl http://{metrics}/clusters"), "health, pools and latency of each server"),
        (format!("curl http://{metrics}/metrics"), "everything, for Prometheus"),
        (format!("curl -i http://{metrics}/ready"), "whether new traffic is welcome"),
    ]
}

/// One line for one second.
pub(crate) fn line(second: u32, span: &Span) -> String {
    let mut out = format!(
        "{second:>4} s {:>6.0}/s  p50 {:>6}  p99 {:>6}  in flight {:>3}  errors {}  retries {}",
        span.rate,
        ms(span.p50_ms),
        ms(span.p99_ms),
        span.in_flight,
        span.errors,
        span.retries
    );
    for endpoint in &span.endpoints {
        let _ = write!(out, "  | {} {} {:.0}/s", endpoint.name, endpoint.health.as_str(), endpoint.rate);
    }
    out.push('\n');
    out
}

/// The last line.
pub(crate) fn summary(ran: Duration, span: &Span, falls: &[Fall]) -> String {
    let mut out =
        format!("{} s: {} requests answered, {} errors seen by clients", ran.as_secs(), span.answered, span.errors);
    let _ = write!(out, ", {} tried again on another server", span.retries);
    for Fall { name, down, up, .. } in falls.iter().filter(|fall| fall.down > 0) {
        let _ = write!(out, "; {name} went down {}", times(*down));
        let _ = match up {
            0 => write!(out, " and was not back yet"),
            up => write!(out, " and came back {}", times(*up)),
        };
    }
    out.push_str(".\n");
    out
}

fn times(n: u32) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}
