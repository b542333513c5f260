//! Finding and building the programs, and the command that makes one of them do a work.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::plan::{Contender, Model, Workload, WorkloadKind};
use crate::{openblas, process};

/// How the peers are installed.
pub const INSTALL: &str = "docs/performance.md says how to install the peers";

/// The programs that are there.
pub struct Programs {
    vitrine: PathBuf,
    python: PathBuf,
    /// The peers, each with its executable if it was built here.
    peers: Vec<(Contender, Option<PathBuf>)>,
    found: Vec<Contender>,
}

impl Programs {
    /// Builds Vitrine and finds the peers: those in `only`, or all that start quickly.
    pub fn find(python: Option<PathBuf>, only: &[Contender]) -> Result<Self> {
        let python = python.or_else(|| env::var_os("VITRINE_PEERS_PYTHON").map(PathBuf::from));
        let python = python.unwrap_or_else(|| "python3".into());
        let vitrine = build(&mut vitrine_command()).context("cannot build vitrine")?;
        let mut peers = Vec::new();
        for &peer in Contender::value_variants() {
            if !is_wanted(peer, only) {
                continue;
            }
            let outcome = match crate_folder(peer) {
                Some(folder) => build(&mut crate_command(&folder)).map(Some),
                None => imports(&python, peer).map(|()| None),
            };
            match outcome {
                Ok(executable) => peers.push((peer, executable)),
                Err(why) => eprintln!("left out: {}: {why:#} ({INSTALL})", name(peer)),
            }
        }
        let found = peers.iter().map(|(peer, _)| *peer).collect();
        Ok(Self { vitrine, python, peers, found })
    }

    /// The peers that are there, in the order of the tables.
    pub fn found(&self) -> &[Contender] {
        &self.found
    }

    /// The command that makes `program` do `work`.
    pub fn command(&self, work: &Workload, program: Contender, quick: bool) -> Result<Command> {
        let mut command = if program.is_ours() {
            let mut command = Command::new(&self.vitrine);
            command.args(["bench", work.task.name(), "--recipe", "d2l", "--json"]);
            command.args(our_settings(work.model, program));
            command
        } else {
            let mut command = self.peer(program)?;
            command.args(["--model", model_name(work.model)]);
            command.args((work.task == WorkloadKind::Forward).then_some("--forward"));
            command.args((program == Contender::TorchCompile).then_some("--compile"));
            command
        };
        let (warmup, steps) = if quick { (1, 1) } else { (work.warmup, work.steps) };
        command.args(["--precision", work.precision]);
        for (flag, number) in [
            ("--batch-size", work.batch_size),
            ("--threads", program.threads()),
            ("--warmup", warmup),
            ("--steps", steps),
        ] {
            command.arg(flag).arg(number.to_string());
        }
        Ok(command)
    }

    fn peer(&self, program: Contender) -> Result<Command> {
        if let Some(script) = script(program) {
            let mut command = Command::new(&self.python);
            command.arg("-B").arg(peers_folder().join(script));
            return Ok(command);
        }
        let executable = self.peers.iter().find(|(peer, _)| *peer == program);
        let executable = executable.and_then(|(_, executable)| executable.as_ref());
        Ok(Command::new(executable.context("it was not built")?))
    }
}

/// `torch.compile` takes a minute or so before each measurement, so it has to be asked for.
fn is_wanted(peer: Contender, only: &[Contender]) -> bool {
    if only.is_empty() { peer != Contender::TorchCompile } else { only.contains(&peer) }
}

fn peers_folder() -> PathBuf {
    process::root().join("benches").join("peers")
}

/// The name that `--only` takes.
fn name(program: Contender) -> String {
    program.to_possible_value().map_or("vitrine".into(), |value| value.get_name().to_owned())
}

fn model_name(model: Model) -> &'static str {
    match model {
        Model::D2l => "d2l",
        Model::VitS16 => "vit_s16",
    }
}

fn our_settings(model: Model, program: Contender) -> Vec<&'static str> {
    let mut settings = match model {
        Model::D2l => vec![],
        Model::VitS16 => {
            vec!["--set", "model.preset=vit-s-16", "--set", "model.channels=3", "--classes=1000"]
        }
    };
    if program == Contender::VitrineWithoutSaving {
        settings.extend(["--set", "model.last_block_saving=false"]);
    }
    settings
}

/// The script of a peer in Python.
fn script(program: Contender) -> Option<&'static str> {
    match program {
        Contender::Torch | Contender::TorchCompile => Some("torch_step.py"),
        Contender::Jax => Some("jax_step.py"),
        Contender::Onnxruntime => Some("ort_step.py"),
        _ => None,
    }
}

/// The folder of a peer in Rust.
fn crate_folder(program: Contender) -> Option<PathBuf> {
    match program {
        Contender::Candle => Some(peers_folder().join("candle")),
        Contender::Burn => Some(peers_folder().join("burn")),
        _ => None,
    }
}

/// Whether Python has what the peer's script needs.
fn imports(python: &Path, peer: Contender) -> Result<()> {
    let modules = match peer {
        Contender::Torch | Contender::TorchCompile => "torch",
        Contender::Jax => "jax",
        _ => "onnxruntime, onnxscript, torch",
    };
    let mut command = Command::new(python);
    command.arg("-c").arg(format!("import {modules}"));
    match process::output_of(&mut command) {
        Some(_) => Ok(()),
        None => bail!("{} cannot import {modules}", python.display()),
    }
}

fn vitrine_command() -> Command {
    let mut command = process::cargo();
    command.arg("build").arg("--manifest-path").arg(process::root().join("Cargo.toml"));
    command.args(["--release", "--package", "vitrine-train", "--bin", "vitrine"]);
    if openblas::found() {
        command.args(["--features", "linalg"]);
    }
    command
}

/// A peer in Rust is built for this very processor: frameworks advise it, and Vitrine, which is not, chooses at run
/// time.
fn crate_command(folder: &Path) -> Command {
    let target = process::target().join("peers");
    let mut command = process::cargo();
    command.arg("build").arg("--manifest-path").arg(folder.join("Cargo.toml"));
    command.args(["--release", "--locked", "--target-dir"]).arg(target);
    command.env("RUSTFLAGS", "-Ctarget-cpu=native");
    command
}

/// Builds, with cargo's own messages on the terminal, and gives the path of the executable.
fn build(command: &mut Command) -> Result<PathBuf> {
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", process::shown(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", process::shown(command), output.status);
    }
    executable(&String::from_utf8_lossy(&output.stdout)).context("cargo names no executable")
}

/// The last executable in cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let paths = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(message.get("executable")?.as_str()?.to_owned())
    });
    paths.map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::super::plan::WORKS;
    use super::*;

    fn line(work: &Workload, program: Contender, quick: bool) -> String {
        let peers =
            vec![(Contender::Torch, None), (Contender::Candle, Some("/t/candle-step".into()))];
        let programs = Programs {
            vitrine: "/t/vitrine".into(),
            python: "python3".into(),
            peers,
            found: vec![],
        };
        process::shown(&programs.command(work, program, quick).unwrap())
    }

    #[test]
    fn ours_and_the_peers_are_asked_for_the_same() {
        let numbers = "--precision f32 --batch-size 128 --threads 2 --warmup 2 --steps 6";
        let ours = "vitrine bench train-step --recipe d2l --json";
        assert_eq!(line(&WORKS[0], Contender::Vitrine, false), format!("{ours} {numbers}"));
        let off = line(&WORKS[0], Contender::VitrineWithoutSaving, false);
        assert_eq!(off, format!("{ours} --set model.last_block_saving=false {numbers}"));
        let candle = line(&WORKS[0], Contender::Candle, false);
        assert_eq!(candle, format!("candle-step --model d2l {numbers}"));
        let torch = line(&WORKS[2], Contender::Torch, false);
        assert!(
            torch.ends_with(&format!("torch_step.py --model d2l --forward {numbers}")),
            "{torch}"
        );
    }

    #[test]
    fn exceptions_are_asked_for() {
        let one = line(&WORKS[0], Contender::VitrineOneThread, true);
        assert!(one.ends_with("--threads 1 --warmup 1 --steps 1"), "{one}");
        let small = line(&WORKS[5], Contender::Vitrine, false);
        assert!(
            small.contains("model.preset=vit-s-16") && small.contains("--classes=1000"),
            "{small}"
        );
        assert!(line(&WORKS[0], Contender::TorchCompile, false).contains("--compile"));
    }

    #[test]
    fn all_peers_are_wanted_but_the_slow_one() {
        assert!(is_wanted(Contender::Torch, &[]) && !is_wanted(Contender::TorchCompile, &[]));
        let only = [Contender::TorchCompile];
        assert!(is_wanted(Contender::TorchCompile, &only) && !is_wanted(Contender::Torch, &only));
    }

    #[test]
    fn the_executable_is_found_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
             {\"reason\":\"compiler-artifact\",\"executable\":\"/t/release/x\"}\n\
             {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some("/t/release/x".into()));
        assert_eq!(executable("not json\n"), None);
    }

    #[test]
    fn every_peer_has_its_program_in_the_repository() {
        for &peer in Contender::value_variants() {
            let script = script(peer).map(|script| peers_folder().join(script));
            let manifest = crate_folder(peer).map(|folder| folder.join("Cargo.lock"));
            let path = script.or(manifest).unwrap();
            assert!(path.is_file(), "{}", path.display());
        }
    }
}
