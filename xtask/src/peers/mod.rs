//! `cargo xtask bench --peers`: the same work in Vitrine and in the other frameworks of `benches/peers`, in turn.
//!
//! What is compared is in `plan`, the programs that do it in `programs`, what they print in `figures`; `table`,
//! `chart` and `page` write it down.

mod chart;
mod figures;
mod page;
mod plan;
mod programs;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;

use figures::{Figures, Results};
use plan::{Contender, WORKS, Workload};
use programs::Programs;

/// Time Vitrine and its peers in turn, and write the figures into docs/performance.md.
#[derive(Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench")]
pub struct Arguments {
    /// Compare with the peers; without this, ARGS go to criterion
    #[arg(long, required = true)]
    peers: bool,
    /// The Python that has torch, jax and onnxruntime [default: $VITRINE_PEERS_PYTHON, else python3]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// How often each program does each work, in turn with the others
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these peers, separated by commas [default: all but torch-compile]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    only: Vec<Contender>,
    /// One round of a step each, to see whether everything runs; prints the figures and writes no file
    #[arg(long)]
    quick: bool,
}

/// Whether these arguments of `cargo xtask bench` ask for the peers.
pub fn asked_for(args: &[OsString]) -> bool {
    args.iter().any(|word| word == "--peers")
}

/// Reads the arguments, measures, and writes the figures down.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let program = OsString::from("cargo xtask bench");
    let arguments = match Arguments::try_parse_from(std::iter::once(program).chain(args.clone())) {
        Ok(arguments) => arguments,
        Err(message) => message.exit(),
    };
    let page = page::Page::open()?;
    let programs = Programs::find(arguments.python, &arguments.only)?;
    let rounds = if arguments.quick { 1 } else { arguments.rounds };
    let results = measure(&programs, rounds, arguments.quick);
    ensure!(
        WORKS.iter().any(|work| results.of(work, Contender::Vitrine).is_ok()),
        "Vitrine did none of the work, so there is nothing to compare with"
    );
    let text = page::text(&results, rounds, &command(&args));
    if arguments.quick {
        println!("{text}");
        println!("These are from --quick, one step each: nothing was written.");
    } else {
        page.write(&text, &chart::svg(&results))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every program does every work once a round. A program that failed at a work is not asked again.
fn measure(programs: &Programs, rounds: u32, quick: bool) -> Results {
    let mut results = Results::default();
    for round in 1..=rounds {
        for work in &WORKS {
            eprintln!("round {round} of {rounds}: {}", work.title());
            for program in plan::in_turn(work, programs.found()) {
                if results.has_failed(work, program) {
                    continue;
                }
                let outcome = programs.command(work, program, quick).and_then(|mut command| {
                    Figures::from_command(&mut command)?.checked(work, program)
                });
                eprintln!("  {}", progress(work, program, &outcome));
                results.add(work, program, outcome);
            }
        }
    }
    results
}

fn progress(work: &Workload, program: Contender, outcome: &Result<Figures>) -> String {
    let name = program.title(work);
    match outcome {
        Ok(figures) => {
            format!("{name}: {:.1} ms, median {:.1} ms", figures.min_ms, figures.median_ms)
        }
        Err(why) => format!("{name}: not available ({why:#})"),
    }
}

/// The command as it was typed.
fn command(args: &[OsString]) -> String {
    let words = args.iter().map(|word| word.to_string_lossy().into_owned());
    std::iter::once("cargo xtask bench".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("bench").chain(line.split(' ')))
    }

    #[test]
    fn the_command_line_is_read() {
        let arguments = parsed("--peers --rounds 3 --only torch,jax --quick").unwrap();
        assert_eq!(arguments.rounds, 3);
        assert_eq!(arguments.only, [Contender::Torch, Contender::Jax]);
        assert!(arguments.quick && arguments.python.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["--peers --rounds 0", "--peers --only tensorflow", "--peers matmul", "--quick"]
        {
            assert!(parsed(line).is_err(), "{line}");
        }
        // Vitrine is always measured: it is no peer to choose.
        assert!(parsed("--peers --only vitrine").is_err());
    }

    #[test]
    fn criterion_keeps_its_arguments() {
        assert!(!asked_for(&["matmul".into(), "--quick".into()]));
        assert!(asked_for(&["--quick".into(), "--peers".into()]));
    }
}
