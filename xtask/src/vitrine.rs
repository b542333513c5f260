//! Builds the `vitrine` program and becomes it. What its arguments mean is its own business, but
//! for the device: that decides what it is built with.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::lacking::Lacking;
use crate::{kernels, openblas, process};

/// Runs `vitrine [SUBCOMMAND] ARGS`, built in release. If it is to run on a CUDA device, its
/// kernels are built first.
pub fn run(subcommand: Option<&str>, args: Vec<OsString>) -> Result<ExitCode> {
    let cuda = asks_for_cuda(&args);
    if cuda {
        kernels::prepare()?;
    }
    let mut features = linalg();
    if features.is_empty() {
        eprintln!("{}", Lacking::packages("linalg left out: no OpenBLAS", openblas::PACKAGE));
    }
    features.extend(cuda.then_some("cuda"));
    // `cargo run` builds, then hands its process over in turn: Ctrl-C reaches `vitrine` itself.
    let mut command = cargo("run", &features);
    command.arg("--").args(subcommand).args(args);
    process::hand_over_to(command)
}

/// Builds the program with these features; gives the path of the executable.
pub fn build(features: &[&str]) -> Result<PathBuf> {
    let mut command = cargo("build", features);
    let messages = process::printed(command.args(["--message-format", "json-render-diagnostics"]))?;
    // One message a line; the last with an executable is the program's.
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    });
    executable.context("cargo built no program")
}

/// The feature for what needs OpenBLAS, if that is here.
pub fn linalg() -> Vec<&'static str> {
    openblas::found().then_some("linalg").into_iter().collect()
}

fn cargo(task: &str, features: &[&str]) -> Command {
    let mut command = process::cargo();
    command.arg(task).arg("--manifest-path").arg(process::root().join("Cargo.toml"));
    command.args(["--release", "--package", "vitrine-train", "--bin", "vitrine"]);
    if !features.is_empty() {
        command.arg("--features").arg(features.join(","));
    }
    command
}

/// Whether the program will look for a CUDA device: because of `--device`; without that, of
/// `--set run.device=…`; without that, of the recipe's file or the run's that it starts from.
fn asks_for_cuda(args: &[OsString]) -> bool {
    let options = args.iter().take_while(|word| *word != "--");
    let options: Vec<_> = options.map(|word| word.to_string_lossy()).collect();
    let options: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
    let settings = values(&options, "--set").into_iter();
    let set = settings.filter_map(|setting| setting.strip_prefix("run.device=")).next_back();
    if let Some(device) = values(&options, "--device").last().copied().or(set) {
        return is_cuda(device);
    }
    let recipes = values(&options, "--recipe").into_iter().map(|file| Path::new(file).to_owned());
    let runs = ["--resume", "--run"].into_iter().flat_map(|flag| values(&options, flag));
    let mut files = recipes.chain(runs.map(|folder| Path::new(folder).join("config.toml")));
    // A recipe may also be a name, and a file may be absent: that is for the program to say.
    files.any(|file| fs::read_to_string(file).is_ok_and(|recipe| names_cuda(&recipe)))
}

/// What is given for an option, as `--flag value` or `--flag=value`.
fn values<'a>(options: &[&'a str], flag: &str) -> Vec<&'a str> {
    let value = |(next, word): (usize, &&'a str)| match word.strip_prefix(flag)? {
        "" => options.get(next).copied(),
        rest => rest.strip_prefix('='),
    };
    (1..).zip(options).filter_map(value).collect()
}

/// A device's name is "cuda:0"; one that is wrong behind that is for the program to refuse.
fn is_cuda(device: &str) -> bool {
    device.trim_matches(['"', '\'', ' ']).starts_with("cuda")
}

/// Whether a recipe has a line such as `device = "cuda:0"`.
fn names_cuda(recipe: &str) -> bool {
    let mut keys = recipe.lines().filter_map(|line| line.split_once('='));
    keys.any(|(key, value)| matches!(key.trim(), "device" | "run.device") && is_cuda(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{remove_folder, scratch};

    fn asks(line: &str) -> bool {
        asks_for_cuda(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn features_are_switched_on_where_they_are_wanted() {
        let shown = |features: &[&str]| process::shown(&cargo("run", features));
        assert!(shown(&["linalg", "cuda"]).ends_with(" --features linalg,cuda"));
        assert!(shown(&[]).ends_with(" --bin vitrine"));
    }

    #[test]
    fn a_cuda_device_is_recognised() {
        for line in [
            "--device cuda:0",
            "--epochs 1 --device=cuda:12 --seed 3",
            "bench forward --device cuda:1",
            "--device cuda",
            "--set run.device=cuda:0",
            "--set run.device=\"cuda:0\"",
            "--set=run.device=cuda:0",
            "--set run.device=cpu --set run.device=cuda:0",
            "--set=run.device=cpu --set run.device=cuda:0",
            "--set run.device=cpu --set=run.device=cuda:0",
            "--device cuda:0 --set run.device=cpu",
        ] {
            assert!(asks(line), "{line}");
        }
    }

    #[test]
    fn another_device_is_not() {
        for line in [
            "",
            "--device cpu",
            "--device=cpu --epochs 1",
            "--device",
            "--out cuda:0",
            "--data --device-list=cuda:0",
            "--device cpu --set run.device=cuda:0",
            "--set name=cuda:0",
            "--run r -- --device cuda:0",
        ] {
            assert!(!asks(line), "{line}");
        }
    }

    #[test]
    fn a_run_or_a_recipe_may_name_the_device() {
        let run = scratch("device-of-run");
        let config = run.join("config.toml");
        let path = run.display();
        fs::write(&config, "[run]\ndevice = \"cuda:0\"\n").unwrap();
        for line in [
            format!("--resume {path}"),
            format!("--run={path} image.png"),
            format!("--recipe {}", config.display()),
        ] {
            assert!(asks(&line), "{line}");
            assert!(!asks(&format!("{line} --device cpu")), "{line}");
        }
        fs::write(&config, "[run]\ndevice = \"cpu\"\nname = \"cuda\"\n").unwrap();
        assert!(!asks(&format!("--run {path}")));
        assert!(names_cuda("run.device='cuda:3'"));
        remove_folder(&run).unwrap();
    }
}
