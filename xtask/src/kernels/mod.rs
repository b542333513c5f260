//! `cargo xtask kernels`: compiles the CUDA kernels and says what they take of the processor.
//!
//! `compiler` finds nvcc, `wheels` fetches it; `sources` are the inputs, `build` makes the outputs,
//! `ptx` and `ptxas` read what the compiler wrote and said, `rules` says what a kernel may not do;
//! `index` is the file that the CUDA backend reads, `table` is for people.

mod build;
pub mod compiler;
mod index;
mod ptx;
mod ptxas;
mod rules;
mod sources;
mod table;
pub mod wheels;

use std::env;
use std::path::{self, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::generated::Generated;
use crate::process;
use build::{Build, BuildOutcome};
use compiler::Environment;
use rules::RULES;
use sources::Sources;

/// The page with the table.
const PAGE: &str = "docs/cuda.md";

/// What to write beside the outputs.
#[derive(Args)]
pub struct Arguments {
    /// Also write the table into docs/cuda.md
    #[arg(long)]
    table: bool,
}

/// Builds the kernels and prints what each takes.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let page = arguments.table.then(|| Generated::open(PAGE, "kernels")).transpose()?;
    let table = table::markdown(&build()?.index);
    print!("{table}");
    println!("\nbytes of shared memory, stack and spills; shared memory of a launch not counted");
    if let Some(page) = page {
        page.write(&table)?;
        println!("wrote {PAGE}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the kernels for a program that is started next. Nothing goes to standard output, which
/// is the program's.
pub fn prepare() -> Result<()> {
    build().map(|_| ())
}

fn build() -> Result<BuildOutcome> {
    let compiler = Environment::of_this_process().provide()?;
    eprintln!("{compiler}");
    let sources = Sources::read(&process::root().join("crates").join("cuda").join("kernels"))?;

    let start = Instant::now();
    let variable = env::var_os("VITRINE_KERNELS").filter(|value| !value.is_empty());
    let out = variable.map_or_else(|| process::target().join("kernels"), PathBuf::from);
    let out = path::absolute(&out).with_context(|| format!("no folder: {}", out.display()))?;
    let build = Build { sources: &sources, out: &out, compiler: &compiler, rules: &RULES };
    let outcome = build.run()?;
    report(&outcome);
    let (compiled, all) = (outcome.compiled.len(), outcome.index.modules.len());
    eprintln!(
        "kernels: {compiled} of {all} files compiled in {:.1} s, into {}",
        start.elapsed().as_secs_f64(),
        out.display()
    );
    Ok(outcome)
}

fn report(outcome: &BuildOutcome) {
    for warning in &outcome.warnings {
        eprintln!("{warning}");
    }
    for module in &outcome.removed {
        eprintln!("removed the outputs of {module}.cu, which is gone");
    }
    for target in &outcome.left_out {
        eprintln!("left out: sm_{target}, which this nvcc does not know");
    }
    for exception in RULES.exceptions() {
        eprintln!("let off: {exception}");
    }
}
