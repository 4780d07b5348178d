//! Tables out of figures: medians with minimum and maximum, ratios to the yardstick of the same round.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cell::Figures;
use crate::mode::{Kind, Mode};
use crate::peer::YARDSTICK;
use crate::{Outcome, root};

/// All figures of a run: (mode, balancer) → one entry per round.
#[derive(Default, Debug)]
pub struct Results {
    cells: BTreeMap<(&'static str, &'static str), Vec<(u32, Figures)>>,
}

/// A column: heading, figure, digits after the point.
type Column = (&'static str, &'static str, usize);

const LOAD: &[Column] = &[
    ("CPU µs/req", "cpu_us", 1),
    ("user", "user_us", 1),
    ("sys", "sys_us", 1),
    ("norm µs", "norm_us", 1),
    ("req/s", "req_per_sec", 0),
    ("p50 ms", "p50_ms", 2),
    ("p99 ms", "p99_ms", 2),
    ("errors", "errors", 0),
    ("RSS MiB end", "rss_mib", 1),
    ("peak", "peak_rss_mib", 1),
    ("switches/req", "switches", 2),
    ("others %", "others_percent", 0),
];
const LARGE: &[Column] = &[
    ("CPU s/GiB", "cpu_secs_per_gib", 3),
    ("MB/s", "mb_per_sec", 0),
    ("p50 ms", "p50_ms", 1),
    ("p99 ms", "p99_ms", 1),
    ("errors", "errors", 0),
    ("peak RSS MiB", "peak_rss_mib", 1),
    ("others %", "others_percent", 0),
];
const OPEN: &[Column] = &[
    ("CPU µs/req", "cpu_us", 1),
    ("% of a core", "cpu_percent_of_core", 0),
    ("norm µs", "norm_us", 1),
    ("achieved/s", "achieved_per_sec", 0),
    ("p50 ms", "p50_ms", 2),
    ("p99 calm ms", "p99_calm_ms", 2),
    ("p99 ms", "p99_ms", 2),
    ("p99.9 ms", "p999_ms", 1),
    ("max ms", "max_ms", 0),
    ("errors", "errors", 0),
    ("RSS MiB end", "rss_mib", 1),
    ("peak", "peak_rss_mib", 1),
    ("switches/req", "switches", 2),
    ("others %", "others_percent", 0),
];
const IDLE: &[Column] = &[
    ("KiB per connection", "kib_per_connection", 2),
    ("RSS MiB before", "rss_before_mib", 1),
    ("RSS MiB idle", "rss_mib", 1),
    ("idle CPU %", "cpu_percent_of_core", 1),
];
const SYSCALLS: &[Column] = &[("system calls/req", "syscalls", 2)];
const CALLGRIND: &[Column] = &[("user instructions/req", "instructions", 0)];

fn columns(mode: &Mode) -> &'static [Column] {
    match mode.kind {
        Kind::Closed { .. } if mode.is_large() => LARGE,
        Kind::Closed { .. } => LOAD,
        Kind::Open { .. } => OPEN,
        Kind::Idle { .. } => IDLE,
        Kind::Syscalls { .. } => SYSCALLS,
        Kind::Callgrind => CALLGRIND,
    }
}

impl Results {
    /// Adds the figures of a cell.
    pub fn add(&mut self, mode: &'static str, peer: &'static str, round: u32, figures: Figures) {
        self.cells.entry((mode, peer)).or_default().push((round, figures));
    }

    /// The table of a mode, balancers in the order given.
    pub fn table(&self, mode: &Mode, peers: &[&'static str]) -> String {
        let columns = columns(mode);
        // The first column is what the mode is about; the ratio is of that.
        let key = columns[0].1;
        let has_notes = mode.name == "syscalls";
        let mut out = format!("| balancer | ratio to {YARDSTICK} |");
        for (heading, ..) in columns {
            let _ = write!(out, " {heading} |");
        }
        out.push_str(if has_notes { " most frequent |\n" } else { "\n" });
        out.push_str(&"|---".repeat(columns.len() + 2 + usize::from(has_notes)));
        out.push_str("|\n");
        for peer in peers {
            let Some(rounds) = self.cells.get(&(mode.name, peer)) else {
                continue;
            };
            let _ = write!(out, "| {peer} | {} |", self.ratio(mode.name, rounds, key));
            for (_, figure, digits) in columns {
                let _ = write!(out, " {} |", spread(&values(rounds, figure), *digits));
            }
            if has_notes {
                let note =
                    rounds.last().and_then(|(_, figures)| figures.get("breakdown")?.as_str()).unwrap_or_default();
                let _ = write!(out, " {note} |");
            }
            out.push('\n');
        }
        out
    }

    /// The median over the rounds of this balancer's figure by the yardstick's of the same round.
    fn ratio(&self, mode: &'static str, rounds: &[(u32, Figures)], key: &str) -> String {
        let Some(yardstick) = self.cells.get(&(mode, YARDSTICK)) else {
            return "–".to_owned();
        };
        let ratios: Vec<f64> = rounds
            .iter()
            .filter_map(|(round, figures)| {
                let other = yardstick.iter().find(|(other, _)| other == round)?.1.get(key)?.as_f64()?;
                let own = figures.get(key)?.as_f64()?;
                (other > 0.0).then_some(own / other)
            })
            .collect();
        spread(&ratios, 2)
    }

    /// Everything, for later reading.
    pub fn json(&self, about: &serde_json::Value) -> serde_json::Value {
        let cells: Vec<_> = self
            .cells
            .iter()
            .flat_map(|((mode, peer), rounds)| {
                rounds.iter().map(move |(round, figures)| serde_json::json!({"mode": mode, "peer": peer, "round": round, "figures": figures}))
            })
            .collect();
        serde_json::json!({"about": about, "cells": cells})
    }
}

fn values(rounds: &[(u32, Figures)], figure: &str) -> Vec<f64> {
    rounds.iter().filter_map(|(_, figures)| figures.get(figure)?.as_f64()).collect()
}

/// `median (min–max)`, or the value alone where there is one.
fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
        return "–".to_owned();
    };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    if sorted.len() == 1 {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

/// Puts a mode's table into docs/performance.md, between its two marks.
///
/// # Errors
/// If the page or its marks are missing.
pub fn write_page(mode: &Mode, about: &str, table: &str) -> Outcome {
    let path = root().join("docs/performance.md");
    let page = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let page = replace_between(&page, mode.name, &format!("{about}\n\n{table}"))?;
    std::fs::write(&path, page).map_err(|e| format!("{}: {e}", path.display()))
}

fn replace_between(page: &str, name: &str, text: &str) -> Outcome<String> {
    let (begin, end) = (format!("<!-- bench-lb {name}: begin -->"), format!("<!-- bench-lb {name}: end -->"));
    let missing = |mark: &str| format!("docs/performance.md has no line {mark}");
    let (before, rest) = page.split_once(&begin).ok_or_else(|| missing(&begin))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| missing(&end))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mode::MODES;

    fn figures(value: f64) -> Figures {
        let mut figures = Figures::new();
        figures.insert("cpu_us".to_owned(), json!(value));
        figures
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut results = Results::default();
        for (round, own, yardstick) in [(1, 20.0, 40.0), (2, 40.0, 80.0), (3, 30.0, 40.0)] {
            results.add("keepalive-64", "weir", round, figures(own));
            results.add("keepalive-64", YARDSTICK, round, figures(yardstick));
        }
        let table = results.table(&MODES[0], &["weir", YARDSTICK]);
        assert!(table.contains("| weir | 0.50 (0.50–0.75) | 30.0 (20.0–40.0) |"), "{table}");
    }

    #[test]
    fn medians_of_even_counts_are_midpoints() {
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0], 1), "2.5 (1.0–4.0)");
        assert_eq!(spread(&[], 1), "–");
    }

    #[test]
    fn only_the_marked_part_of_a_page_is_replaced() {
        let page = "a\n<!-- bench-lb x: begin -->\nold\n<!-- bench-lb x: end -->\nb\n";
        assert_eq!(
            replace_between(page, "x", "new").unwrap(),
            "a\n<!-- bench-lb x: begin -->\nnew\n<!-- bench-lb x: end -->\nb\n"
        );
        assert!(replace_between(page, "y", "new").is_err());
    }

    #[test]
    fn the_page_has_a_place_for_every_mode() {
        let page = std::fs::read_to_string(root().join("docs/performance.md")).unwrap();
        for mode in MODES {
            replace_between(&page, mode.name, "").unwrap();
        }
    }
}
