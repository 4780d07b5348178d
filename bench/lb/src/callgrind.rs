//! User instructions per request: a balancer with one worker under callgrind serves 2,000 and then, started
//! afresh, 12,000 requests of one keep-alive connection; the difference by the 10,000 requests leaves
//! start and stop out.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::Outcome;
use crate::cell::{Figures, Stage, get, request};
use crate::mode::Mode;
use crate::peer::Peer;

/// The fewer and the more requests.
const REQUESTS: [u64; 2] = [2_000, 12_000];
/// Weir may not need more user instructions per request.
pub const GATE: f64 = 9_000.0;
/// Share of the gate above which a passing count is called close.
const CLOSE: f64 = 0.95;
/// Under callgrind everything is some fifty times slower.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// Counts.
///
/// # Errors
/// If the balancer does not stop by itself, or Weir is above [`GATE`].
pub fn run(peer: &Peer, mode: &Mode) -> Outcome<Figures> {
    let few = count(peer, mode, REQUESTS[0])?;
    let many = count(peer, mode, REQUESTS[1])?;
    let per_request = many.saturating_sub(few) as f64 / (REQUESTS[1] - REQUESTS[0]) as f64;
    let mut figures = Figures::new();
    figures.insert("instructions".to_owned(), json!(per_request));
    figures.insert("gate".to_owned(), json!(GATE));
    if peer.name == "weir" {
        verdict(per_request)?;
    }
    Ok(figures)
}

fn verdict(per_request: f64) -> Outcome {
    if per_request < 100.0 {
        return Err(format!("{per_request:.0} instructions per request: that cannot be true, nothing was counted"));
    }
    if per_request > GATE {
        return Err(format!("{per_request:.0} instructions per request, more than {GATE:.0}"));
    }
    if per_request > GATE * CLOSE {
        eprintln!("{per_request:.0} instructions per request: within 5 % of the gate of {GATE:.0}");
    }
    Ok(())
}

fn count(peer: &Peer, mode: &Mode, requests: u64) -> Outcome<u64> {
    let mut stage = Stage::start(peer, mode, 1, |inner| {
        let mut outer = Command::new("valgrind");
        outer
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(inner.get_program())
            .args(inner.get_args());
        outer
    })?;
    let mut client = get(stage.port)?;
    for _ in 1..requests {
        request(&mut client)?;
    }
    drop(client);
    let Some(balancer) = stage.balancer() else {
        return Err("nothing to count".to_owned());
    };
    balancer.signal(Signal::TERM);
    balancer.wait(STOP_LIMIT)?;
    collected(&balancer.output()).ok_or_else(|| format!("callgrind gave no count:\n{}", balancer.output()))
}

/// `==123== Collected : 4567`
fn collected(text: &str) -> Option<u64> {
    text.lines().filter_map(|line| line.split_once("Collected :")?.1.trim().parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_and_judged() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 12345\n"), Some(12_345));
        assert!(verdict(8_999.0).is_ok());
        assert!(verdict(9_001.0).is_err());
        assert!(verdict(0.0).is_err());
    }
}
