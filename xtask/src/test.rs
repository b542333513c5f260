//! `cargo xtask test`: every check of the repository, one after the other, cheapest first.
//!
//! What the checks look for is not here: tidy lives in `xtask/tests/tidy`, the lints in the
//! root manifest, the tests in their crates.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::kernels::compiler::Environment;
use crate::lacking::Lacking;
use crate::{openblas, process};

/// The features that need OpenBLAS. One set for all steps, so that they share their builds.
const LINALG: [&str; 2] = ["--features", "vitrine-nn/linalg,vitrine-train/linalg"];

/// Which checks to run.
#[derive(Args)]
pub struct Arguments {
    /// What to do about CUDA [default: all checks, and the CUDA tests on the emulated device
    /// unless the compiler is not here and cannot be fetched]
    #[arg(long, value_name = "WHERE", value_enum)]
    cuda: Option<Cuda>,
    /// Only the operations on the CPU, at every size from 1 to 300 on each axis, with each set of
    /// vector instructions
    #[arg(long, conflicts_with = "cuda")]
    sweep: bool,
}

/// The features that put an emulated device behind the CUDA backend: code that no other step compiles.
const CUDA: &str = "vitrine-cuda/emulator,vitrine-train/cuda-emulator";

/// What the CUDA tests run on.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Cuda {
    /// Only the CUDA tests, on a device that is emulated on the CPU
    Emulated,
    /// Only the CUDA tests, on this machine's GPU
    Device,
    /// All checks but the CUDA tests
    None,
}

/// One named check.
struct Step {
    name: &'static str,
    command: Command,
}

/// What the machine has beside cargo.
struct Tools {
    rustfmt: bool,
    clippy: bool,
    openblas: bool,
}

/// Runs the checks and stops at the first failure.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let nvcc = || Environment::of_this_process().provide();
    let (steps, left_out) = match arguments.cuda {
        _ if arguments.sweep => (vec![whole_sweep()], Vec::new()),
        Some(Cuda::None) => all_but_cuda(),
        Some(cuda) => {
            nvcc()?;
            (cuda_steps(cuda), Vec::new())
        }
        None => {
            // Fetched before the first check: a network that is down then is no failed check.
            let nvcc = nvcc();
            let (mut steps, mut left_out) = all_but_cuda();
            match nvcc {
                Ok(_) => steps.extend(cuda_steps(Cuda::Emulated)),
                Err(Lacking { what, mend }) => {
                    left_out.push(Lacking::new(format!("the CUDA tests ({what})"), mend));
                }
            }
            (steps, left_out)
        }
    };
    let passed = run_steps(steps);
    for lacking in &left_out {
        println!("left out: {lacking}");
    }
    let (passed, failed) = match passed {
        Ok(passed) => (passed, 0),
        Err(passed) => (passed, 1),
    };
    println!("{}", summary(passed, failed, left_out.len()));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What this machine can check beside CUDA, and what it cannot.
fn all_but_cuda() -> (Vec<Step>, Vec<Lacking>) {
    let has = |task| process::output_of(process::cargo().args([task, "--version"])).is_some();
    let tools = Tools { rustfmt: has("fmt"), clippy: has("clippy"), openblas: openblas::found() };
    (steps(&tools), left_out(&tools))
}

/// The vector instructions that the tests of whole models are forced to use, one after the other. Those that a machine
/// lacks become the best that it has.
const INSTRUCTION_SETS: [(&str, &str); 4] = [
    ("golden files and gradients, portable", "portable"),
    ("golden files and gradients, AVX2", "avx2"),
    ("golden files and gradients, AVX-512", "avx512"),
    ("golden files and gradients, AVX-512 with BF16", "avx512bf16"),
];

fn steps(tools: &Tools) -> Vec<Step> {
    let linalg: &[&str] = if tools.openblas { &LINALG } else { &[] };
    let others = ["test", "--workspace", "--exclude", "xtask"];
    let mut steps = Vec::new();
    if tools.rustfmt {
        steps.push(step("formatting", &["fmt", "--all", "--check"], &[], &[]));
    }
    steps.push(step("tidy and xtask", &["test", "--package", "xtask"], &[], &[]));
    if tools.clippy {
        let deny = ["--", "-D", "warnings"];
        let clippy = ["clippy", "--workspace", "--all-targets"];
        steps.push(step("lints", &clippy, linalg, &deny));
        let features = &["--features", CUDA];
        steps.push(step("lints of CUDA's features", &clippy, features, &deny));
    }
    steps.push(step("tests", &others, linalg, &["--tests"]));
    let whole_models = ["--test", "golden", "--test", "gradients", "--test", "saving"];
    for (name, set) in INSTRUCTION_SETS {
        let mut forced = step(name, &others, linalg, &whole_models);
        forced.command.env("VITRINE_SIMD", set);
        steps.push(forced);
    }
    steps.push(step("documentation examples", &others, linalg, &["--doc"]));
    let mut pages = step("documentation", &["doc", "--workspace", "--no-deps"], linalg, &[]);
    pages.command.env("RUSTDOCFLAGS", "-Dwarnings");
    steps.push(pages);
    steps
}

/// The sweep over sizes with nothing left out.
fn whole_sweep() -> Step {
    let package = ["test", "--package", "vitrine-tensor"];
    let mut whole = step("every size", &package, &[], &["--test", "sweep"]);
    whole.command.env("VITRINE_SWEEP", "whole");
    whole
}

/// The kernels, then the tests of what runs them, on the driver that is asked for.
fn cuda_steps(cuda: Cuda) -> Vec<Step> {
    let driver = if cuda == Cuda::Device { "system" } else { "emulated" };
    let tests = |name, package, feature, which: &[&str]| {
        let mut step = step(name, &["test", "--package", package], &["--features", feature], which);
        step.command.env("VITRINE_CUDA_DRIVER", driver);
        if cuda == Cuda::Emulated {
            // Nothing is done before it is waited for: what nobody waited for then gives wrong numbers.
            step.command.env("VITRINE_CUDA_EMULATED_STREAMS", "deferred");
        }
        step
    };
    let mut steps = vec![
        step("CUDA kernels", &["xtask", "kernels"], &[], &[]),
        tests("CUDA backend", "vitrine-cuda", "emulator", &["--tests"]),
    ];
    if cuda == Cuda::Emulated {
        let which = ["conformance", "products", "attention", "sweep"];
        let which = which.map(|test| ["--test", test]);
        let name = "CUDA backend, another order and other approximations";
        let mut drawn = tests(name, "vitrine-cuda", "emulator", which.as_flattened());
        drawn.command.env("VITRINE_CUDA_EMULATED_CHECKS", "all,approximate=1,schedule=1");
        drawn.command.env("VITRINE_CUDA_EMULATED_STREAMS", "shuffled=1");
        steps.push(drawn);
    }
    let which = ["--test", "cuda", "--test", "cuda_memory"];
    steps.push(tests("training on CUDA", "vitrine-train", "cuda-emulator", &which));
    steps
}

fn step(name: &'static str, args: &[&str], features: &[&str], last: &[&str]) -> Step {
    let mut command = process::cargo();
    command.current_dir(process::root()).args(args).args(features).args(last);
    Step { name, command }
}

/// What the machine cannot check without the tools that it lacks.
fn left_out(tools: &Tools) -> Vec<Lacking> {
    let component = |name| {
        let what = format!("the check by {name}, which this toolchain does not have");
        Lacking::new(what, format!("rustup component add {name}"))
    };
    let linalg = "the code and tests behind the feature `linalg` (OpenBLAS was not found)";
    [
        (tools.rustfmt, component("rustfmt")),
        (tools.clippy, component("clippy")),
        (tools.openblas, Lacking::packages(linalg, openblas::PACKAGE)),
    ]
    .into_iter()
    .filter_map(|(here, lacking)| (!here).then_some(lacking))
    .collect()
}

/// Runs the steps in order. The number that passed: `Ok` if all did, `Err` at the first failure.
fn run_steps(steps: Vec<Step>) -> Result<usize, usize> {
    let count = steps.len();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (passed, Step { name, mut command }) in steps.into_iter().enumerate() {
        let shown = process::shown(&command);
        println!("==> {} of {count}, {name}: {shown}", passed + 1);
        let start = Instant::now();
        let status = command.stdin(Stdio::null()).status();
        let seconds = start.elapsed().as_secs_f64();
        let failure = match status {
            Ok(status) if status.success() => None,
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(format!("it did not start: {error}")),
        };
        if let Some(failure) = failure {
            println!("\nFAILED: {name}, after {seconds:.1} s ({failure}). Again with: {shown}");
            return Err(passed);
        }
        println!("    {name} passed in {seconds:.1} s");
        times.push((name, start.elapsed()));
    }
    println!("\n   seconds  step");
    for (name, time) in times {
        println!("{:10.1}  {name}", time.as_secs_f64());
    }
    Ok(count)
}

fn summary(passed: usize, failed: usize, left_out: usize) -> String {
    let steps = if passed == 1 { "step" } else { "steps" };
    let left_out = if left_out == 0 { String::new() } else { format!(", {left_out} left out") };
    format!("{passed} {steps} passed, {failed} failed{left_out}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Tools = Tools { rustfmt: true, clippy: true, openblas: true };
    const NOTHING: Tools = Tools { rustfmt: false, clippy: false, openblas: false };

    fn lines(tools: &Tools) -> Vec<String> {
        steps(tools).iter().map(|step| process::shown(&step.command)).collect()
    }

    fn program(program: &'static str) -> Step {
        Step { name: program, command: Command::new(program) }
    }

    #[test]
    fn a_full_machine_leaves_nothing_out() {
        assert!(left_out(&EVERYTHING).is_empty());
        let with_linalg = lines(&EVERYTHING).iter().filter(|line| line.contains(LINALG[1])).count();
        assert_eq!(with_linalg, 4 + INSTRUCTION_SETS.len());
        assert!(lines(&EVERYTHING)[2..4].iter().all(|line| line.ends_with("-- -D warnings")));
        let last = lines(&EVERYTHING).pop().unwrap();
        assert!(last.starts_with("RUSTDOCFLAGS=-Dwarnings cargo doc"));
    }

    #[test]
    fn whole_models_are_tested_with_each_instruction_set() {
        let lines = lines(&NOTHING);
        for (_, set) in INSTRUCTION_SETS {
            let test = format!("VITRINE_SIMD={set} cargo test --workspace");
            let forced = lines.iter().filter(|line| line.starts_with(&test));
            assert_eq!(forced.filter(|line| line.ends_with("--test saving")).count(), 1, "{set}");
        }
    }

    #[test]
    fn a_bare_machine_says_what_it_leaves_out() {
        let mends: Vec<_> = left_out(&NOTHING).into_iter().map(|lacking| lacking.mend).collect();
        let openblas = "sudo apt-get install libopenblas-dev";
        assert_eq!(
            mends,
            ["rustup component add rustfmt", "rustup component add clippy", openblas]
        );
        let lines = lines(&NOTHING).join("\n");
        assert!(!lines.contains("linalg") && !lines.contains("clippy") && !lines.contains("fmt"));
        assert!(lines.contains("test --workspace"));
    }

    #[test]
    fn cuda_has_steps_of_its_own() {
        let lines = |cuda| {
            let steps = cuda_steps(cuda);
            steps.iter().map(|step| process::shown(&step.command)).collect::<Vec<_>>()
        };
        let tests = [
            "cargo test --package vitrine-cuda --features emulator --tests",
            "cargo test --package vitrine-train --features cuda-emulator --test cuda --test cuda_memory",
        ];
        let emulated = "emulated VITRINE_CUDA_EMULATED_STREAMS=deferred";
        let kernels = "cargo xtask kernels".to_owned();
        let under = |driver| tests.map(|line| format!("VITRINE_CUDA_DRIVER={driver} {line}"));
        let [backend, train] = under("system");
        assert_eq!(lines(Cuda::Device), [kernels.clone(), backend, train]);
        let drawn = "VITRINE_CUDA_DRIVER=emulated \
             VITRINE_CUDA_EMULATED_CHECKS=all,approximate=1,schedule=1 \
             VITRINE_CUDA_EMULATED_STREAMS=shuffled=1 cargo test --package vitrine-cuda \
             --features emulator --test conformance --test products --test attention --test sweep";
        let [backend, train] = under(emulated);
        assert_eq!(lines(Cuda::Emulated), [kernels, backend, drawn.to_owned(), train]);
    }

    #[test]
    fn the_whole_sweep_is_asked_for_by_a_variable() {
        let line = "VITRINE_SWEEP=whole cargo test --package vitrine-tensor --test sweep";
        assert_eq!(process::shown(&whole_sweep().command), line);
    }

    #[cfg(unix)]
    #[test]
    fn steps_stop_at_the_first_failure() {
        let steps = vec![program("true"), program("false"), program("true")];
        assert_eq!(run_steps(steps), Err(1));
        assert_eq!(run_steps(vec![program("true"), program("true")]), Ok(2));
        assert_eq!(run_steps(vec![program("no-such-program-vitrine")]), Err(0));
    }

    #[test]
    fn the_summary_counts() {
        assert_eq!(summary(6, 0, 0), "6 steps passed, 0 failed");
        assert_eq!(summary(1, 1, 2), "1 step passed, 1 failed, 2 left out");
    }
}
