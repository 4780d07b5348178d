//! `cargo xtask test`: everything that is a test, with one closing summary.

use crate::process::{Call, stage};
use crate::{Outcome, install, tree};

/// Limits in seconds; a stage that needs longer is broken.
const BUILD_SECS: u32 = 2_400;
const NEXTEST_SECS: u32 = 2_400;
const DOC_SECS: u32 = 1_200;
const LOOM_SECS: u32 = 1_200;

/// The loom models; each has a target folder of its own, because `--cfg loom` changes every crate.
const LOOM: &[(&str, &str)] = &[("weir-limit", "lib/weir-limit/tests/loom.rs")];

/// What was counted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the suite. All stages run even if an earlier one fails, but for a failing build.
pub(crate) fn run(args: &[String]) -> Outcome {
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let mut total = Tally::default();
    let mut failures = Vec::new();
    if !has("--no-install") {
        stage("install", install::for_tests)?;
    }
    stage("build", || {
        Call::new("cargo", &["build", "--workspace", "--bins"], BUILD_SECS).run()
    })?;

    let mut counted = |name: &str, call: Call, read: fn(&str) -> Option<Tally>| {
        let mut tally = Tally::default();
        let result = stage(name, || {
            call.watch(|line| tally.add(read(line).unwrap_or_default()))
        });
        if let Err(message) = result {
            // A stage that dies before it counts anything has failed all the same.
            tally.failed = tally.failed.max(1);
            failures.push(message);
        } else if tally.passed == 0 {
            failures.push(format!("{name}: no test ran"));
        }
        total.add(tally);
    };
    counted(
        "tests",
        Call::new(
            "cargo",
            &["nextest", "run", "--workspace", "--no-fail-fast"],
            NEXTEST_SECS,
        ),
        nextest_line,
    );
    counted(
        "doc examples",
        Call::new(
            "cargo",
            &["test", "--workspace", "--doc", "--no-fail-fast"],
            DOC_SECS,
        ),
        libtest_line,
    );
    for (package, file) in LOOM {
        if !has("--no-loom") && tree::root().join(file).is_file() {
            let args = [
                "test",
                "--package",
                package,
                "--release",
                "--test",
                "loom",
                "--target-dir",
                "target/loom",
            ];
            // Optimised, but without the fat linking of a release.
            let call = Call::new("cargo", &args, LOOM_SECS)
                .env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            counted(&format!("loom models of {package}"), call, libtest_line);
        }
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    if failures.is_empty() && total.failed == 0 {
        Ok(())
    } else {
        Err("the suite failed".to_owned())
    }
}

/// `Summary [   0.286s] 23 tests run: 20 passed (1 slow), 2 failed, 1 timed out, 0 skipped`
fn nextest_line(line: &str) -> Option<Tally> {
    let (before, counts) = line.split_once(" run: ")?;
    if !before.trim_start().starts_with("Summary [") {
        return None;
    }
    let mut tally = Tally::default();
    for part in counts.split(", ") {
        let (number, word) = part.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match word.split(" (").next()? {
            "passed" => tally.passed += number,
            "skipped" => tally.skipped += number,
            // "failed", "timed out", "exec failed", "flaky": none of them is a success.
            _ => tally.failed += number,
        }
    }
    Some(tally)
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn libtest_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?;
    let number = |word: &str| -> Option<u64> {
        counts
            .split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some(Tally {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: number(" ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let line = "     Summary [   0.286s] 26 tests run: 20 passed (1 slow), 3 failed, 1 timed out, 2 exec failed, 4 skipped";
        assert_eq!(
            nextest_line(line),
            Some(Tally {
                passed: 20,
                failed: 6,
                skipped: 4
            })
        );
        assert_eq!(
            nextest_line("     Summary [   0.1s] 1 test run: 1 passed, 0 skipped"),
            Some(Tally {
                passed: 1,
                failed: 0,
                skipped: 0
            })
        );
        assert_eq!(nextest_line("something run: 1 passed"), None);
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            libtest_line(line),
            Some(Tally {
                passed: 3,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(libtest_line("running 3 tests"), None);
    }
}
