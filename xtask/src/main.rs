//! The project's own commands: `cargo xtask COMMAND`.
//!
//! Plain Rust instead of shell scripts, so that the same command does the same thing on every machine.
//! One file per command; the table [`COMMANDS`] is the whole interface.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "the names of this project are lower case")]

mod arrows;
mod fuzz;
mod gen_files;
mod install;
mod instructions;
mod process;
mod suite;
mod tidy;
mod tree;

use std::process::ExitCode;

/// What a command returns: an error is shown as one message.
type Outcome = Result<(), String>;

/// A row of the interface: name, arguments, what it does, the function.
struct Command {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        usage: "[--no-install] [--no-loom]",
        about: "install what the tests need, build, run every test; the last line is the closing summary",
        run: suite::run,
    },
    Command {
        name: "install",
        usage: "",
        about: "install what the tests need, each only if it is missing",
        run: |_| install::for_tests(),
    },
    Command {
        name: "arrows",
        usage: "",
        about: "compare the dependencies between crates with the table in ARCHITECTURE.md",
        run: |_| arrows::run(),
    },
    Command {
        name: "tidy",
        usage: "",
        about: "check what compilers do not: unfinished work, paths of a machine, file sizes, links, names",
        run: |_| tidy::run(),
    },
    Command {
        name: "gen",
        usage: "[--check]",
        about: "write the generated files anew; with --check only compare them",
        run: gen_files::run,
    },
    Command {
        name: "instructions",
        usage: "",
        about: "count user instructions per request under callgrind and fail above the gate",
        run: |_| instructions::run(),
    },
    Command {
        name: "fuzz",
        usage: "[--minutes N] [--jobs N] [TARGET...]",
        about: "run the fuzz targets, 10 minutes each unless told, and fail on a finding",
        run: fuzz::run,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        return usage("which command?");
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return usage(&format!("there is no command {name:?}"));
    };
    // A command that takes more than flags reads its arguments itself.
    let only_flags = !command.usage.contains("...");
    if let Some(unknown) = rest.iter().find(|arg| only_flags && !command.usage.contains(&format!("[{arg}]"))) {
        return usage(&format!("`{name}` does not know {unknown:?}"));
    }
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // An empty one: the command has said everything itself.
            if !message.is_empty() {
                eprintln!("xtask {name}: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("xtask: {problem}\n\nusage: cargo xtask COMMAND");
    for Command { name, usage, about, .. } in COMMANDS {
        eprintln!("  {:<44} {about}", format!("{name} {usage}"));
    }
    ExitCode::from(2)
}
