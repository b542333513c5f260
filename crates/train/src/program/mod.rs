//! The commands of `vitrine`: raw arguments, checked arguments, and a file for each command.

mod arguments;
mod train;

use std::process::ExitCode;

use arguments::{Command, Program};
use clap::Parser;

/// Runs the command that the arguments name. 0: done; 1: failed; 2: arguments that make no sense; 130: interrupted.
pub fn main() -> ExitCode {
    let result = match Program::parse().command {
        Command::Train(arguments) => train::run(arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
