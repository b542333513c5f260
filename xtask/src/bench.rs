//! Starts the criterion benchmarks of `benches/`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::process;

/// Runs every benchmark target; `args` go to criterion.
///
/// Only the package with the benchmarks is built: `--workspace` would also build the unit tests
/// of every crate in release, and hand them criterion's arguments, which they refuse.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let mut command = process::cargo();
    command.arg("bench").arg("--manifest-path").arg(process::root().join("Cargo.toml"));
    command.args(["--package", "vitrine-benches", "--bench", "*", "--"]).args(args);
    process::hand_over_to(command)
}
