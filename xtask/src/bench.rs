//! `cargo xtask bench`: starts the criterion benchmarks of `benches/`, or the comparison with other frameworks.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{process, vitrine};

/// Runs every benchmark target; `args` go to criterion. With `--peers`, they go to the comparison.
pub fn run(mut args: Vec<OsString>) -> Result<ExitCode> {
    let all = args.len();
    args.retain(|word| word != "--peers");
    if args.len() < all {
        return compare(args);
    }
    // Only the package with the benchmarks is built: `--workspace` would also build the unit tests
    // of every crate in release, and hand them criterion's arguments, which they refuse.
    let mut command = process::cargo();
    command.arg("bench").arg("--manifest-path").arg(process::root().join("Cargo.toml"));
    command.args(["--package", "vitrine-benches", "--bench", "*", "--"]).args(args);
    process::hand_over_to(command)
}

/// Builds Vitrine, and becomes the program that times it and its peers in turn.
fn compare(args: Vec<OsString>) -> Result<ExitCode> {
    let mut command = Command::new("python3");
    command.arg("-B").arg(process::root().join("benches/peers/compare.py"));
    command.arg(vitrine::build(&vitrine::linalg())?).args(args);
    process::hand_over_to(command)
}
