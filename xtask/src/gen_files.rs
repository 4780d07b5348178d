//! `cargo xtask gen`: files that are made from the code, so that they cannot disagree with it.
//!
//! Each is owned by a test that compares the committed file with what the code says, and writes it
//! instead when `UPDATE=1` is set. This table names those tests; all run in one go, on the same build as
//! the rest of the suite.

use crate::Outcome;
use crate::process::Call;

/// Limit in seconds (it may have to compile the workspace).
const LIMIT_SECS: u32 = 2_400;

/// Generated files and the test program (a file of the package's `tests/`) that owns them.
struct Generated {
    files: &'static str,
    package: &'static str,
    test: &'static str,
}

/// Every generated file.
const GENERATED: &[Generated] = &[
    Generated {
        files: "docs/reference/{configuration,diagnostics}.md, docs/reference/weir.schema.json, fuzz/config.dict",
        package: "weir-config",
        test: "generated",
    },
    Generated { files: "docs/reference/cli/ (help, manual pages, completions)", package: "weir", test: "generated" },
    Generated { files: "docs/guide/ (outputs of commands in console blocks)", package: "weir", test: "docs" },
    Generated { files: "docs/reference/metrics.md", package: "weir-telemetry", test: "reference" },
];

/// Writes all, or with `--check` compares all.
pub(crate) fn run(args: &[String]) -> Outcome {
    let check = args.iter().any(|arg| arg == "--check");
    let filters: Vec<String> = GENERATED
        .iter()
        .map(|Generated { files, package, test }| {
            println!("{} {files}", if check { "comparing" } else { "writing" });
            format!("(package(={package}) & binary(={test}))")
        })
        .collect();
    // nextest refuses a filter that names a package or program that does not exist: a row cannot go stale.
    let call = Call::new("cargo", &["nextest", "run", "--workspace", "-E", &filters.join(" | ")], LIMIT_SECS);
    let call = if check { call } else { call.env("UPDATE", "1") };
    let advice = if check { "; run `cargo xtask gen` and commit what it writes" } else { "" };
    call.run().map_err(|e| format!("{e}{advice}"))
}
