//! `weir completions` and `weir man`: made from the definition of the command line.

use std::process::ExitCode;

use clap::CommandFactory as _;

use super::{Cli, CompletionsOptions, ManOptions, fail, print};

/// `weir completions`
pub(crate) fn completions(options: &CompletionsOptions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "weir", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// `weir man`
pub(crate) fn man(options: &ManOptions) -> ExitCode {
    let result = match &options.out {
        None => page(Cli::command()).map(|page| print(&page)),
        Some(folder) => clap_mangen::generate_to(Cli::command(), folder)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| format!("{}: {error}", folder.display())),
    };
    result.unwrap_or_else(|error| fail(&error))
}

fn page(command: clap::Command) -> Result<String, String> {
    let mut out = Vec::new();
    // Without a date, so that the same version always gives the same page.
    clap_mangen::Man::new(command).render(&mut out).map_err(|error| error.to_string())?;
    String::from_utf8(out).map_err(|error| error.to_string())
}
