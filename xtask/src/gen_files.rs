//! `cargo xtask gen`: files that are made from the code, so that they cannot disagree with it.
//!
//! Each is owned by a test that compares the committed file with what the code says, and writes it
//! instead when `UPDATE=1` is set. This table names those tests.

use crate::Outcome;
use crate::process::Call;

/// Limit for one row, in seconds (the first has to compile).
const ROW_SECS: u32 = 1_800;

/// A generated file (or several) and the test that owns it.
struct Generated {
    files: &'static str,
    package: &'static str,
    test: &'static str,
}

/// Every generated file.
const GENERATED: &[Generated] = &[];

/// Writes all, or with `--check` compares all.
pub(crate) fn run(args: &[String]) -> Outcome {
    let check = args.iter().any(|arg| arg == "--check");
    let mut stale = Vec::new();
    for Generated {
        files,
        package,
        test,
    } in GENERATED
    {
        println!("{} {files}", if check { "comparing" } else { "writing" });
        let filter = format!("test(={test}) | test(/::{test}$/)");
        let call = Call::new(
            "cargo",
            &["nextest", "run", "--package", package, "-E", &filter],
            ROW_SECS,
        );
        let call = if check { call } else { call.env("UPDATE", "1") };
        if let Err(e) = call.run() {
            stale.push(format!("{files}: {e}"));
        }
    }
    if stale.is_empty() {
        println!("gen: {} generated file(s)", GENERATED.len());
        return Ok(());
    }
    let advice = if check {
        "; run `cargo xtask gen` and commit what it writes"
    } else {
        ""
    };
    Err(format!("{}{advice}", stale.join("\n  ")))
}
