//! Which crate may depend on which: ARCHITECTURE.md says, this compares.
//!
//! The table there is the one place where an arrow is allowed; a new edge between crates of the
//! workspace that is not in it fails, and so does a row that no crate needs any more: the table is
//! always the true picture. Test dependencies are looser: a crate's tests may use anything that
//! does not depend on that crate (never upward).

use std::collections::{BTreeMap, BTreeSet};

use crate::process::Call;
use crate::{Outcome, tree};

const TABLE_FILE: &str = "ARCHITECTURE.md";
/// The table stands between these two lines.
const BEGIN: &str = "<!-- arrows: begin -->";
const END: &str = "<!-- arrows: end -->";

/// Crate → the crates it points at.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// The dependencies between the crates of the workspace.
#[derive(Default, Debug)]
struct Graph {
    normal: Edges,
    dev: Edges,
}

/// Compares.
pub(crate) fn run() -> Outcome {
    let text = tree::text(TABLE_FILE)?.ok_or(format!("{TABLE_FILE} is not UTF-8"))?;
    let allowed = parse_table(&text)?;
    let metadata = Call::new("cargo", &["metadata", "--format-version=1", "--no-deps"], 120).output()?;
    let graph = parse_metadata(&metadata)?;
    let problems = compare(&allowed, &graph);
    if problems.is_empty() {
        let edges: usize = graph.normal.values().map(BTreeSet::len).sum();
        println!("arrows: {} crates, {edges} edges, all allowed by {TABLE_FILE}", graph.normal.len());
        return Ok(());
    }
    Err(format!("{} problem(s)\n  {}", problems.len(), problems.join("\n  ")))
}

/// Rows `| `crate` | `a`, `b` |` between the marks; `–` stands for nothing.
fn parse_table(text: &str) -> Result<Edges, String> {
    let (_, rest) = text.split_once(BEGIN).ok_or(format!("{TABLE_FILE} has no line {BEGIN}"))?;
    let (table, _) = rest.split_once(END).ok_or(format!("{TABLE_FILE} has no line {END}"))?;
    let mut edges = Edges::new();
    for line in table.lines().map(str::trim).filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, targets, ..] = cells.as_slice() else {
            return Err(format!("{TABLE_FILE}: a row without two cells: {line}"));
        };
        let name = name.trim_matches('`').to_owned();
        let targets = match *targets {
            "–" => BTreeSet::new(),
            list => list.split(',').map(|target| target.trim().trim_matches('`').to_owned()).collect(),
        };
        if edges.insert(name.clone(), targets).is_some() {
            return Err(format!("{TABLE_FILE}: two rows for {name}"));
        }
    }
    if edges.is_empty() { Err(format!("{TABLE_FILE}: the table of arrows is empty")) } else { Ok(edges) }
}

fn parse_metadata(json: &str) -> Result<Graph, String> {
    let value: serde_json::Value = serde_json::from_str(json).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = value["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut graph = Graph::default();
    for package in packages {
        let name = package["name"].as_str().ok_or("a package without a name")?;
        graph.normal.entry(name.to_owned()).or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let Some(target) = dependency["name"].as_str().filter(|target| names.contains(target)) else {
                continue;
            };
            let edges = if dependency["kind"] == "dev" { &mut graph.dev } else { &mut graph.normal };
            edges.entry(name.to_owned()).or_default().insert(target.to_owned());
        }
    }
    Ok(graph)
}

fn compare(allowed: &Edges, graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for (from, targets) in &graph.normal {
        let Some(row) = allowed.get(from) else {
            problems.push(format!("{from} has no row in {TABLE_FILE}"));
            continue;
        };
        for to in targets.iter().filter(|to| !row.contains(*to)) {
            problems.push(format!("{from} -> {to} is not allowed by {TABLE_FILE}"));
        }
    }
    for (from, targets) in allowed {
        if !graph.normal.contains_key(from) {
            problems.push(format!("{TABLE_FILE} has a row for {from}, which is no crate of the workspace"));
        }
        for to in targets.iter().filter(|to| !graph.normal.contains_key(*to)) {
            problems.push(format!("{TABLE_FILE} lets {from} depend on {to}, which is no crate of the workspace"));
        }
    }
    for (from, targets) in &graph.dev {
        // A crate may ask its own features of itself.
        for to in targets.iter().filter(|to| *to != from && reaches(&graph.normal, to, from)) {
            problems.push(format!("the tests of {from} use {to}, which depends on {from}: move them up"));
        }
    }
    problems
}

/// Whether `from` depends on `to`, directly or through others.
fn reaches(edges: &Edges, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            open.extend(edges.get(at).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "x\n<!-- arrows: begin -->\n| crate | may depend on |\n|---|---|\n| `a` | – |\n| `b` | `a` |\n| `c` | `a`, `b` |\n<!-- arrows: end -->\n";

    fn graph(json: &str) -> Graph {
        parse_metadata(json).unwrap()
    }

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> serde_json::Value {
        let dependencies: Vec<_> =
            dependencies.iter().map(|(name, kind)| serde_json::json!({"name": name, "kind": kind})).collect();
        serde_json::json!({"name": name, "dependencies": dependencies})
    }

    fn problems(packages: &[serde_json::Value]) -> Vec<String> {
        compare(&parse_table(TABLE).unwrap(), &graph(&serde_json::json!({"packages": packages}).to_string()))
    }

    #[test]
    fn allowed_edges_pass_and_foreign_crates_do_not_matter() {
        let b = package("b", &[("a", None), ("serde", None)]);
        let c = package("c", &[("a", Some("build")), ("b", Some("dev"))]);
        assert_eq!(problems(&[package("a", &[]), b, c]), [""; 0]);
    }

    #[test]
    fn a_new_edge_a_missing_row_and_a_dead_row_fail() {
        let found = problems(&[package("a", &[("b", None)]), package("b", &[]), package("d", &[])]);
        assert_eq!(
            found,
            [
                "a -> b is not allowed by ARCHITECTURE.md",
                "d has no row in ARCHITECTURE.md",
                "ARCHITECTURE.md has a row for c, which is no crate of the workspace",
            ]
        );
    }

    #[test]
    fn a_test_dependency_must_not_point_upward() {
        let a = package("a", &[("c", Some("dev"))]);
        let found = problems(&[a, package("b", &[("a", None)]), package("c", &[("b", None)])]);
        assert_eq!(found, ["the tests of a use c, which depends on a: move them up"]);
    }
}
