//! Builds the `vitrine` program and becomes it. What its arguments mean is its own business.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{openblas, process};

/// Runs `vitrine [SUBCOMMAND] ARGS`, built in release.
pub fn run(subcommand: Option<&str>, args: Vec<OsString>) -> Result<ExitCode> {
    let linalg = openblas::found();
    if !linalg {
        eprintln!("linalg left out: OpenBLAS was not found ({})", openblas::MEND);
    }
    process::hand_over_to(command(subcommand, args, linalg))
}

/// `cargo run` builds, then hands its process over in turn: Ctrl-C reaches `vitrine` itself.
fn command(subcommand: Option<&str>, args: Vec<OsString>, linalg: bool) -> Command {
    let mut command = process::cargo();
    command.arg("run").arg("--manifest-path").arg(process::root().join("Cargo.toml"));
    command.args(["--release", "--package", "vitrine-train", "--bin", "vitrine"]);
    if linalg {
        command.args(["--features", "linalg"]);
    }
    command.arg("--").args(subcommand).args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        command.get_args().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn arguments_follow_the_subcommand_untouched() {
        let args = vec!["--device".into(), "cuda:0".into(), "--".into(), "-x.png".into()];
        let words = words(&command(Some("train"), args, false));
        assert!(
            words.ends_with(&["--", "train", "--device", "cuda:0", "--", "-x.png"].map(Into::into))
        );
    }

    #[test]
    fn linalg_is_switched_on_only_where_openblas_is() {
        let on = words(&command(None, vec![], true));
        let off = words(&command(None, vec![], false));
        assert!(on.windows(2).any(|pair| pair == ["--features", "linalg"]));
        assert!(!off.contains(&"--features".to_owned()));
    }
}
