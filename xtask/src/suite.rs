//! `cargo xtask test`: everything that is a test, with one closing summary.

use crate::process::{Call, stage};
use crate::{Outcome, install, tree};

/// Limits in seconds; a stage that needs longer is broken.
const BUILD_SECS: u32 = 2_400;
const NEXTEST_SECS: u32 = 2_400;
/// The data path is tested once more with this number of workers, however few cores there are.
const MANY_WORKERS: &str = "8";
const DOC_SECS: u32 = 1_200;
const LOOM_SECS: u32 = 1_200;

/// Models for loom, in a target folder of their own, because a `--cfg` changes every crate.
struct Models {
    package: &'static str,
    file: &'static str,
    /// `loom` changes tokio, too: what stands on tokio has a name of its own for it.
    cfg: &'static str,
    /// Which tests they are.
    target: &'static [&'static str],
}

const LOOM: &[Models] = &[
    Models { package: "weir-limit", file: "lib/weir-limit/tests/loom.rs", cfg: "loom", target: &["--test", "loom"] },
    Models {
        package: "weir-pool",
        file: "crates/weir-pool/src/models.rs",
        cfg: "weir_loom",
        target: &["--lib", "models"],
    },
];

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

/// One stage that counts tests.
struct Counting {
    name: String,
    call: Call,
    read: fn(&str) -> Option<Tally>,
    /// Whether it is a fault if nothing ran: a filter or a file name that no longer fits.
    must_run: bool,
}

/// Runs the suite; the closing summary is the last line in every case.
pub(crate) fn run(args: &[String]) -> Outcome {
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let mut total = Tally::default();
    let mut failures = Vec::new();
    if let Err(message) = prepare(!has("--no-install")) {
        total.failed = 1;
        failures.push(message);
    } else {
        // All stages run even if an earlier one fails.
        for stage in stages(!has("--no-loom")) {
            total.add(count(stage, &mut failures));
        }
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    // Everything has been said, and nothing may follow the summary.
    if total.failed == 0 { Ok(()) } else { Err(String::new()) }
}

fn prepare(install: bool) -> Outcome {
    if install {
        stage("install", install::for_tests)?;
    }
    stage("build", || Call::new("cargo", &["build", "--workspace", "--bins"], BUILD_SECS).run())
}

fn stages(loom: bool) -> Vec<Counting> {
    let nextest = ["nextest", "run", "--workspace", "--no-fail-fast"];
    // The heavy ones measure memory; more workers do not change what they show.
    let http = ["nextest", "run", "-p", "weir", "--no-fail-fast", "-E", "binary(=http) & not test(/(^|::)heavy_/)"];
    let doc = ["test", "--workspace", "--doc", "--no-fail-fast"];
    let mut stages = vec![
        Counting {
            name: "tests".to_owned(),
            call: Call::new("cargo", &nextest, NEXTEST_SECS),
            read: nextest_line,
            must_run: true,
        },
        Counting {
            name: format!("HTTP tests with {MANY_WORKERS} workers"),
            call: Call::new("cargo", &http, NEXTEST_SECS).env("WEIR_TEST_WORKERS", MANY_WORKERS),
            read: nextest_line,
            must_run: true,
        },
        Counting {
            name: "doc examples".to_owned(),
            call: Call::new("cargo", &doc, DOC_SECS),
            read: libtest_line,
            must_run: false,
        },
    ];
    for Models { package, file, cfg, target } in LOOM {
        if loom && tree::root().join(file).is_file() {
            let mut args = vec!["test", "--package", package, "--release", "--target-dir", "target/loom"];
            args.extend(*target);
            // Optimised, but without the fat linking of a release.
            let call = Call::new("cargo", &args, LOOM_SECS)
                .env("RUSTFLAGS", &format!("--cfg {cfg}"))
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            stages.push(Counting {
                name: format!("loom models of {package}"),
                call,
                read: libtest_line,
                must_run: true,
            });
        }
    }
    stages
}

fn count(counting: Counting, failures: &mut Vec<String>) -> Tally {
    let Counting { name, call, read, must_run } = counting;
    let mut tally = Tally::default();
    let result = stage(&name, || {
        call.watch(|line| tally.add(read(line).unwrap_or_default()))?;
        if must_run && tally.passed == 0 { Err(format!("{name}: no test ran")) } else { Ok(()) }
    });
    if let Err(message) = result {
        failures.push(message);
        // A stage that dies before it counts anything has failed all the same.
        tally.failed = tally.failed.max(1);
    }
    tally
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
        counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some(Tally { passed: number(" passed")?, failed: number(" failed")?, skipped: number(" ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let line = "     Summary [   0.286s] 26 tests run: 20 passed (1 slow), 3 failed, 1 timed out, 2 exec failed, 4 skipped";
        assert_eq!(nextest_line(line), Some(Tally { passed: 20, failed: 6, skipped: 4 }));
        assert_eq!(
            nextest_line("     Summary [   0.1s] 1 test run: 1 passed, 0 skipped"),
            Some(Tally { passed: 1, failed: 0, skipped: 0 })
        );
        assert_eq!(nextest_line("something run: 1 passed"), None);
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(libtest_line(line), Some(Tally { passed: 3, failed: 2, skipped: 1 }));
        assert_eq!(libtest_line("running 3 tests"), None);
    }
}
