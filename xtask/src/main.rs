//! The development tasks behind `cargo xtask`: reads the command line and starts the task.
//!
//! Tasks start other programs (cargo, the `vitrine` program, nvcc, apt-get). Nothing here depends
//! on a crate of this workspace, so a broken crate never breaks the tool that reports it.

mod bench;
mod cuda_bench;
mod files;
mod generated;
mod kernels;
mod lacking;
mod openblas;
mod process;
mod setup;
mod test;
mod vitrine;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Development tasks of Vitrine.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the program and train: `vitrine train ARGS`
    Train(Rest),
    /// Build the program and evaluate a run: `vitrine eval ARGS`
    Eval(Rest),
    /// Build the program and classify image files: `vitrine predict ARGS`
    Predict(Rest),
    /// Find, fetch and verify a data set: `vitrine data ARGS`
    Data(Rest),
    /// Build the program and run it: `vitrine ARGS`
    Vitrine(Rest),
    /// Compile the CUDA kernels and show what each takes of the processor
    Kernels(kernels::Arguments),
    /// Run every check: formatting, lints, tests, documentation, and the CUDA tests on an emulated
    /// device; with --cuda, those alone
    Test(test::Arguments),
    /// Run the criterion benchmarks; ARGS go to criterion, for instance a name to filter by. With
    /// --peers: time the same work in other frameworks, in turn with ours. With --cuda: count or time
    /// the CUDA kernels of a training step
    Bench(Rest),
    /// Report what this machine has, and the command that mends what is missing
    Setup {
        /// Install the missing system packages with apt-get (needs root)
        #[arg(long)]
        install: bool,
    },
}

/// Arguments that belong to the program started, `--help` included.
#[derive(Args)]
#[command(disable_help_flag = true)]
struct Rest {
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Train(rest) => vitrine::run(Some("train"), rest.args),
        Task::Eval(rest) => vitrine::run(Some("eval"), rest.args),
        Task::Predict(rest) => vitrine::run(Some("predict"), rest.args),
        Task::Data(rest) => vitrine::run(Some("data"), rest.args),
        Task::Vitrine(rest) => vitrine::run(None, rest.args),
        Task::Kernels(arguments) => kernels::run(arguments),
        Task::Test(arguments) => test::run(arguments),
        Task::Bench(rest) if cuda_bench::asked_for(&rest.args) => cuda_bench::run(rest.args),
        Task::Bench(rest) => bench::run(rest.args),
        Task::Setup { install } => setup::run(install),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
