//! The command line: the runs for people, and the cells that a run starts as processes of their own.

use std::process::ExitCode;

use crate::cell::{Spec, USES, Use};
use crate::options::{self, HELP, Options};
use crate::peers::{self, PEERS, Peer, Runs};
use crate::{Outcome, run, stub};

/// Runs it.
pub fn run(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if words.iter().any(|word| matches!(*word, "--help" | "-h")) {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match words.as_slice() {
        ["--list"] => {
            list();
            ExitCode::SUCCESS
        }
        ["stub", "--delay", delay] => finish(options::time(delay).and_then(stub::serve)),
        ["cell", peer, rest @ ..] => finish(cell(peer, rest)),
        ["spike-of", peer, query] => finish(spike(peer, query)),
        ["down-of", peer] => finish(down(peer)),
        _ => match Options::parse(args) {
            Ok(options) => finish(run::run(&options, args)),
            Err(message) => {
                eprintln!("{message}\n\n{HELP}");
                ExitCode::from(2)
            }
        },
    }
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    println!("peers:");
    for peer in PEERS {
        println!("  {} {}", peer.name, run::version(peer).unwrap_or_else(|| "(not installed)".to_owned()));
    }
    println!("uses:");
    for (name, _, title) in USES {
        println!("  {name}: {title}");
    }
}

fn here(name: &str) -> Outcome<&'static Peer> {
    let peer = peers::peer(name)?;
    match peer.runs {
        Runs::Rust { .. } => Ok(peer),
        Runs::Java => Err(format!("{name} runs in a Java virtual machine of its own")),
    }
}

fn print(seen: &impl serde::Serialize) -> Outcome {
    println!("{}", serde_json::to_string(seen).map_err(|e| e.to_string())?);
    Ok(())
}

fn cell(peer: &str, args: &[&str]) -> Outcome {
    let [use_of, tasks, size, warm_up, window, server] = args else {
        return Err("usage: bench-pool cell PEER USE TASKS CONNECTIONS WARM-UP WINDOW SERVER|-".to_owned());
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number"));
    let server = match *server {
        "-" => None,
        address => Some(address.parse().map_err(|_| format!("{address:?} is no address"))?),
    };
    let spec = Spec {
        use_of: Use::parse(use_of)?,
        tasks: number(tasks)? as usize,
        size: number(size)?,
        warm_up: options::time(warm_up)?,
        window: options::time(window)?,
        server,
    };
    match here(peer)?.runs {
        Runs::Rust { cell, .. } => print(&cell(&spec)?),
        Runs::Java => Ok(()),
    }
}

fn spike(peer: &str, query: &str) -> Outcome {
    match here(peer)?.runs {
        Runs::Rust { spike, .. } => print(&spike(options::time(query)?)?),
        Runs::Java => Ok(()),
    }
}

fn down(peer: &str) -> Outcome {
    match here(peer)?.runs {
        Runs::Rust { down, .. } => print(&down()?),
        Runs::Java => Ok(()),
    }
}
