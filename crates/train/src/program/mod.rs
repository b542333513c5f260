//! The commands of `vitrine`: raw arguments, checked arguments, and a file for each command.

mod arguments;
mod bench;
mod convert;
mod data;
mod eval;
mod explain;
mod model;
mod predict;
mod report;
mod sweep;
mod train;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use arguments::{Command, CompletionsArguments, Program};
use clap::{CommandFactory, Parser};
use serde::Serialize;

/// Runs the command that the arguments name. 0: done; 1: failed; 2: arguments that make no sense; 130: interrupted.
pub fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Program::parse().command {
        Command::Train(arguments) => train::run(arguments),
        Command::Sweep(arguments) => sweep::run(arguments),
        Command::Eval(arguments) => eval::run(arguments).map(done),
        Command::Predict(arguments) => predict::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Runs(arguments) => report::list(arguments).map(done),
        Command::Report(arguments) => report::run(arguments).map(done),
        Command::Completions(arguments) => completions(arguments).map(done),
        Command::Convert(arguments) => convert::run(arguments).map(done),
        Command::Bench(arguments) => bench::run(arguments).map(done),
        Command::Data(arguments) => data::run(arguments).map(done),
    };
    result.unwrap_or_else(|error| {
        tell(&format!("error: {}", message(&error)));
        ExitCode::FAILURE
    })
}

/// Prints completions for a shell, or the manual page.
fn completions(CompletionsArguments { shell }: CompletionsArguments) -> anyhow::Result<()> {
    let (mut command, mut text) = (Program::command(), Vec::new());
    match shell {
        Some(shell) => clap_complete::generate(shell, &mut command, "vitrine", &mut text),
        None => clap_mangen::Man::new(command).render(&mut text)?,
    }
    print(&String::from_utf8_lossy(&text))
}

/// An error with its causes. Most of our errors name their cause in their own words, and it is not said twice.
fn message(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Tells a person something on the standard error. One that is closed, or full, stops nothing.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Tells which images were passed over.
fn warn_of(broken: &[String]) {
    if !broken.is_empty() {
        let (count, list) = (broken.len(), broken.join("\n  "));
        tell(&format!("passed over, as they cannot be read ({count}):\n  {list}"));
    }
}

/// Writes a command's result to the standard output as one JSON object, on one line.
fn print_json(result: &impl Serialize) -> anyhow::Result<()> {
    let object = serde_json::to_string(result).context("cannot write the result as JSON")?;
    print(&format!("{object}\n"))
}

/// Writes a command's result to the standard output. A reader that went away, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to the standard output"),
    }
}
