//! The tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::cell::{USES, Use};
use crate::figures::Figures;
use crate::peers::{OURS, PEERS};
use crate::rank::{self, Rounds, Verdict, median};
use crate::{Outcome, root};

/// What a row of the matrix is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Row {
    /// What the tasks do.
    pub use_of: Use,
    /// How many.
    pub tasks: usize,
    /// Over how many connections.
    pub size: u32,
}

impl Row {
    /// Waits are ranked where callers outnumber connections.
    pub fn ranks_waits(&self) -> bool {
        self.tasks > self.size as usize
    }
}

/// A figure of the tables: heading, how it is read, how it is written.
struct Column {
    heading: &'static str,
    read: fn(&Figures) -> Option<f64>,
    write: fn(f64) -> String,
}

const COLUMNS: &[Column] = &[
    Column { heading: "uses/s", read: |figures| Some(figures.per_second), write: rate },
    Column { heading: "wait p50", read: |figures| Some(figures.p50), write: time },
    Column { heading: "p99", read: |figures| Some(figures.p99), write: time },
    Column { heading: "p99.9", read: |figures| Some(figures.p999), write: time },
    Column { heading: "p99 even", read: |figures| Some(figures.p99_even), write: time },
    Column { heading: "least per task", read: |figures| Some(figures.least), write: whole },
    Column { heading: "most", read: |figures| Some(figures.most), write: whole },
    Column { heading: "Jain", read: |figures| Some(figures.jain), write: |value| format!("{value:.3}") },
    Column { heading: "CPU ns/use", read: |figures| Some(figures.cpu), write: whole },
    Column { heading: "allocations/use", read: |figures| figures.allocations, write: |value| format!("{value:.2}") },
    Column { heading: "errors", read: |figures| Some(figures.errors), write: whole },
];

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn rate(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e3 => format!("{:.0} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// Nanoseconds, for people.
pub fn time(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 1e3 => format!("{nanos:.0} ns"),
        nanos if nanos < 1e4 => format!("{:.1} µs", nanos / 1e3),
        nanos if nanos < 1e6 => format!("{:.0} µs", nanos / 1e3),
        nanos if nanos < 1e7 => format!("{:.1} ms", nanos / 1e6),
        nanos if nanos < 1e9 => format!("{:.0} ms", nanos / 1e6),
        nanos => format!("{:.2} s", nanos / 1e9),
    }
}

/// What is ranked: its name, how it is read, whether more is better, and in which rows it counts.
struct Ranked {
    name: &'static str,
    read: fn(&Figures) -> f64,
    more_is_better: bool,
    counts: fn(&Row) -> bool,
}

const RANKED: &[Ranked] = &[
    Ranked { name: "uses/s", read: |figures| figures.per_second, more_is_better: true, counts: |_| true },
    Ranked { name: "p99", read: |figures| figures.p99, more_is_better: false, counts: Row::ranks_waits },
    Ranked { name: "p99 even", read: |figures| figures.p99_even, more_is_better: false, counts: Row::ranks_waits },
];

/// Everything that was measured.
#[derive(Default)]
pub struct Results {
    cells: BTreeMap<(Row, &'static str), Vec<(u32, Figures)>>,
    missing: BTreeMap<(Row, &'static str), String>,
}

impl Results {
    /// Adds the figures of a cell.
    pub fn add(&mut self, row: Row, peer: &'static str, round: u32, figures: Figures) {
        self.cells.entry((row, peer)).or_default().push((round, figures));
    }

    /// Notes why there are none.
    pub fn miss(&mut self, row: Row, peer: &'static str, why: String) {
        self.missing.insert((row, peer), why);
    }

    /// The cells that were not run, or failed, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&Row, &'static str, &str)> {
        self.missing.iter().map(|((row, peer), why)| (row, *peer, why.as_str()))
    }

    fn rows(&self, use_of: Option<Use>) -> Vec<Row> {
        let mut rows: Vec<Row> = self.cells.keys().chain(self.missing.keys()).map(|(row, _)| *row).collect();
        rows.sort_unstable();
        rows.dedup();
        rows.retain(|row| use_of.is_none_or(|wanted| row.use_of == wanted));
        rows
    }

    fn peers(&self) -> Vec<&'static str> {
        let present = |name: &str| self.cells.keys().chain(self.missing.keys()).any(|(_, peer)| *peer == name);
        PEERS.iter().map(|peer| peer.name).filter(|name| present(name)).collect()
    }

    fn rounds(&self, row: Row, peer: &'static str, read: fn(&Figures) -> f64) -> Rounds {
        let cells = self.cells.get(&(row, peer)).map(Vec::as_slice).unwrap_or_default();
        cells.iter().map(|(round, figures)| (*round, read(figures))).collect()
    }

    fn verdict(&self, row: Row, ranked: &Ranked) -> Option<Verdict> {
        if !(ranked.counts)(&row) {
            return None;
        }
        let others: Vec<(&'static str, Rounds)> = self
            .peers()
            .into_iter()
            .filter(|peer| *peer != OURS)
            .map(|peer| (peer, self.rounds(row, peer, ranked.read)))
            .collect();
        Some(rank::verdict(&self.rounds(row, OURS, ranked.read), &others, ranked.more_is_better))
    }

    /// How weir-pool stands in each row: ratios above 1 are in its favour.
    pub fn verdicts(&self) -> String {
        let mut out = String::from("| use | tasks | connections |");
        for ranked in RANKED {
            let _ = write!(out, " {} |", ranked.name);
        }
        let _ = writeln!(out, "\n{}|", "|---".repeat(3 + RANKED.len()));
        for row in self.rows(None) {
            let _ = write!(out, "| {} | {} | {} |", row.use_of.name(), row.tasks, row.size);
            for ranked in RANKED {
                let verdict = self.verdict(row, ranked).map_or_else(String::new, |verdict| verdict.to_string());
                let _ = write!(out, " {verdict} |");
            }
            out.push('\n');
        }
        out
    }

    /// In how many rows weir-pool is behind, by figure: name, rows behind, rows ranked.
    pub fn behind(&self) -> Vec<(&'static str, usize, usize)> {
        let count = |ranked: &Ranked| {
            let verdicts: Vec<Verdict> =
                self.rows(None).into_iter().filter_map(|row| self.verdict(row, ranked)).collect();
            let behind = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Behind(_))).count();
            (ranked.name, behind, verdicts.len())
        };
        RANKED.iter().map(count).collect()
    }

    /// All figures of a row, one line a peer.
    pub fn table(&self, row: Row) -> String {
        let mut out = String::from("| pool |");
        for column in COLUMNS {
            let _ = write!(out, " {} |", column.heading);
        }
        let _ = writeln!(out, "\n{}|", "|---".repeat(COLUMNS.len() + 1));
        for peer in self.peers() {
            if let Some(why) = self.missing.get(&(row, peer)) {
                let why = why.lines().next().unwrap_or_default();
                let _ = writeln!(out, "| {peer} | {why} {}|", "|".repeat(COLUMNS.len() - 1));
                continue;
            }
            let Some(cells) = self.cells.get(&(row, peer)) else { continue };
            let _ = write!(out, "| {peer} |");
            for column in COLUMNS {
                let values: Vec<f64> = cells.iter().filter_map(|(_, figures)| (column.read)(figures)).collect();
                let _ = write!(out, " {} |", spread(values, column.write));
            }
            out.push('\n');
        }
        out
    }

    /// Uses per second and p99 of all rows of a use, one column a peer.
    pub fn overview(&self, use_of: Use) -> String {
        let peers = self.peers();
        let mut out = format!("| tasks | connections | {} |\n", peers.join(" | "));
        let _ = writeln!(out, "{}|", "|---".repeat(peers.len() + 2));
        for row in self.rows(Some(use_of)) {
            let _ = write!(out, "| {} | {} |", row.tasks, row.size);
            for peer in &peers {
                let middle = |read| {
                    let mut values: Vec<f64> =
                        self.rounds(row, peer, read).into_iter().map(|(_, value)| value).collect();
                    values.sort_unstable_by(f64::total_cmp);
                    median(&values)
                };
                let (uses, p99) = (middle(|figures| figures.per_second), middle(|figures| figures.p99));
                let even = middle(|figures| figures.p99_even);
                let cell = match (uses, p99, even) {
                    // Where it is unfair, the one without the other would deceive.
                    (Some(uses), Some(p99), Some(even)) if even > 2.0 * p99 => {
                        format!("{}, {} ({})", rate(uses), time(p99), time(even))
                    }
                    (Some(uses), Some(p99), _) => format!("{}, {}", rate(uses), time(p99)),
                    _ => "–".to_owned(),
                };
                let _ = write!(out, " {cell} |");
            }
            out.push('\n');
        }
        out
    }

    /// All tables, with headings.
    pub fn page(&self, about: &str) -> String {
        let mut out = format!("# Pools\n\n{about}\n\n## How weir-pool stands\n\n{}", self.verdicts());
        for (_, use_of, title) in USES {
            let rows = self.rows(Some(*use_of));
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(out, "\n## {title}\n\n{}", self.overview(*use_of));
            for row in rows {
                let _ = writeln!(out, "### {} tasks, {} connections\n\n{}", row.tasks, row.size, self.table(row));
            }
        }
        out
    }

    /// All figures of all rounds.
    pub fn json(&self, about: &str) -> serde_json::Value {
        let cell = |row: &Row, peer: &str| json!({"use": row.use_of.name(), "tasks": row.tasks, "size": row.size, "peer": peer});
        let mut cells = Vec::new();
        for ((row, peer), rounds) in &self.cells {
            for (round, figures) in rounds {
                let mut one = cell(row, peer);
                one["round"] = json!(round);
                for column in COLUMNS {
                    one[column.heading] = json!((column.read)(figures));
                }
                one["open waits"] = json!(figures.open_waits);
                cells.push(one);
            }
        }
        for ((row, peer), why) in &self.missing {
            let mut one = cell(row, peer);
            one["missing"] = json!(why);
            cells.push(one);
        }
        json!({"about": about, "cells": cells})
    }

    /// Puts what was measured into docs/performance.md: the verdicts, and the table of each use.
    ///
    /// # Errors
    /// If the page or its marks are missing.
    pub fn write_docs(&self, about: &str) -> Outcome {
        write_docs("verdicts", about, &self.verdicts())?;
        for (name, use_of, _) in USES {
            let rows = self.rows(Some(*use_of));
            let table = match *use_of {
                _ if rows.is_empty() => continue,
                // It has one row or few, and its point is the cost.
                Use::Alone => rows.into_iter().map(|row| self.table(row)).collect::<Vec<_>>().join("\n"),
                _ => self.overview(*use_of),
            };
            write_docs(name, about, &table)?;
        }
        Ok(())
    }
}

/// `median (min–max)`, or the value alone where there is one.
fn spread(mut values: Vec<f64>, write: fn(f64) -> String) -> String {
    values.sort_unstable_by(f64::total_cmp);
    match (values.first(), median(&values), values.last()) {
        (Some(least), Some(median), Some(most)) if values.len() > 1 => {
            format!("{} ({}–{})", write(median), write(*least), write(*most))
        }
        (_, Some(median), _) => write(median),
        _ => "–".to_owned(),
    }
}

/// Writes a file.
///
/// # Errors
/// With its path.
pub fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Puts a table into docs/performance.md, between the marks of its name.
///
/// # Errors
/// If the page or its marks are missing.
pub fn write_docs(name: &str, about: &str, table: &str) -> Outcome {
    let path = root().join("docs/performance.md");
    let page = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    write(&path, &replace_between(&page, name, &format!("{about}\n\n{table}"))?)
}

fn replace_between(page: &str, name: &str, text: &str) -> Outcome<String> {
    let (begin, end) = (format!("<!-- bench-pool {name}: begin -->"), format!("<!-- bench-pool {name}: end -->"));
    let missing = |mark: &str| format!("docs/performance.md has no line {mark}");
    let (before, rest) = page.split_once(&begin).ok_or_else(|| missing(&begin))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| missing(&end))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = Row { use_of: Use::Hold, tasks: 64, size: 10 };

    fn figures(per_second: f64, p99: f64) -> Figures {
        Figures {
            per_second,
            p50: 100.0,
            p99,
            p999: p99,
            p99_even: p99,
            open_waits: 0.0,
            least: 1.0,
            most: 2.0,
            jain: 0.9,
            cpu: 300.0,
            allocations: None,
            errors: 0.0,
        }
    }

    #[test]
    fn rows_behind_are_counted_by_figure() {
        let mut results = Results::default();
        for round in 1..=3 {
            results.add(ROW, OURS, round, figures(1e6, 5_000.0));
            results.add(ROW, "bb8", round, figures(2e6, 50_000.0));
            // Waits are not ranked where there are connections for all.
            let few = Row { tasks: 8, ..ROW };
            results.add(few, OURS, round, figures(1e6, 900.0));
            results.add(few, "bb8", round, figures(1e6, 100.0));
        }
        results.miss(ROW, "r2d2", "hangs".to_owned());
        assert_eq!(results.behind(), [("uses/s", 1, 2), ("p99", 0, 1), ("p99 even", 0, 1)]);
        let verdicts = results.verdicts();
        assert!(verdicts.contains("| hold | 64 | 10 | **behind** bb8 0.50 | first; bb8 10.00 |"), "{verdicts}");
        assert!(verdicts.contains("| hold | 8 | 10 | tied; bb8 1.00 |  |  |"), "{verdicts}");
        assert!(results.table(ROW).contains("| r2d2 | hangs |"));
        let overview = results.overview(Use::Hold);
        assert!(overview.contains("| 64 | 10 | 1.00 M, 5.0 µs | 2.00 M, 50 µs | – |"), "{overview}");
    }

    #[test]
    fn all_lines_of_a_table_have_the_same_columns() {
        let mut results = Results::default();
        results.add(ROW, OURS, 1, figures(1e6, 5_000.0));
        results.miss(ROW, "r2d2", "not run".to_owned());
        for table in [results.table(ROW), results.verdicts(), results.overview(Use::Hold)] {
            let mut columns: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
            columns.dedup();
            assert_eq!(columns.len(), 1, "{table}");
        }
    }

    #[test]
    fn times_are_written_for_people() {
        let texts = [120.0, 1_230.0, 45_000.0, 1_200_000.0, 67_000_000.0, 1.5e9].map(time);
        assert_eq!(texts, ["120 ns", "1.2 µs", "45 µs", "1.2 ms", "67 ms", "1.50 s"]);
    }

    #[test]
    fn the_page_has_a_place_for_every_table() {
        let page = std::fs::read_to_string(root().join("docs/performance.md")).unwrap();
        let names = USES.iter().map(|(name, ..)| *name).chain(["verdicts", "spike", "down"]);
        for name in names {
            replace_between(&page, name, "").unwrap();
        }
        assert!(replace_between(&page, "nothing", "").is_err());
    }
}
