//! `cargo xtask bench --cuda`: what each kernel does in a training step, counted on the emulated device or timed on a
//! real one, beside PyTorch there. The figures go into docs/cuda.md; the table itself is made by `vitrine bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::generated::Generated;
use crate::{kernels, process, vitrine};

/// The page with the figures.
const PAGE: &str = "docs/cuda.md";
/// The number types that are measured.
const PRECISIONS: [&str; 2] = ["bf16", "f32"];

/// Count or time the CUDA kernels of a training step, and write the figures into docs/cuda.md.
#[derive(Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// Where: counted on the emulated device, or timed on the first GPU
    #[arg(long, value_enum)]
    cuda: Driver,
    /// Images in a step
    #[arg(long, value_name = "N", default_value = "128")]
    batch_size: u32,
    /// The Python with a PyTorch for the GPU; $VITRINE_PEERS_PYTHON sets the default
    #[arg(long, value_name = "PATH", default_value_os_t = peers_python())]
    python: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Driver {
    Emulated,
    Device,
}

fn peers_python() -> PathBuf {
    std::env::var_os("VITRINE_PEERS_PYTHON").map_or("python3".into(), PathBuf::from)
}

/// Whether these arguments of `cargo xtask bench` ask for CUDA.
pub fn asked_for(args: &[OsString]) -> bool {
    args.iter().any(|word| word == "--cuda" || word.to_string_lossy().starts_with("--cuda="))
}

/// Builds kernels and program, runs it, and writes down what it prints.
pub fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let program = OsString::from("cargo xtask bench");
    let arguments = match Arguments::try_parse_from(std::iter::once(program).chain(args)) {
        Ok(arguments) => arguments,
        Err(message) => message.exit(),
    };
    let (name, how) = match arguments.cuda {
        Driver::Emulated => ("floors", "counted"),
        Driver::Device => ("device", "timed"),
    };
    let page = Generated::open(PAGE, name)?;
    kernels::prepare()?;
    let vitrine = vitrine::build(&["cuda-emulator"])?;
    let mut text = String::new();
    for precision in PRECISIONS {
        let table = arguments.vitrine(&vitrine, precision, &["--kernels", how])?;
        text += &format!("\n### Train step, `{precision}`, batch {}\n\n", arguments.batch_size);
        if arguments.cuda == Driver::Device {
            text += &format!("```text\n{}", arguments.vitrine(&vitrine, precision, &[])?);
            text += &match arguments.torch(precision) {
                Ok(line) => line,
                Err(why) => format!("PyTorch: not available ({why:#})\n"),
            };
            text += "```\n\n";
        }
        text += &table;
    }
    page.write(&text)?;
    println!("{text}\nwrote {PAGE}");
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    /// What `vitrine bench train-step` prints.
    fn vitrine(&self, vitrine: &PathBuf, precision: &str, more: &[&str]) -> Result<String> {
        let mut command = Command::new(vitrine);
        command.args(["bench", "train-step", "--device", "cuda:0", "--precision", precision]);
        command.args(["--batch-size", &self.batch_size.to_string()]).args(more);
        let driver = if self.cuda == Driver::Emulated { "emulated" } else { "system" };
        process::printed(command.env("VITRINE_CUDA_DRIVER", driver))
    }

    /// The line of the same step in PyTorch, on the same GPU.
    fn torch(&self, precision: &str) -> Result<String> {
        let mut command = Command::new(&self.python);
        command.arg(process::root().join("benches/peers/torch_step.py"));
        command.args(["--cuda", "--precision", precision]);
        process::printed(command.args(["--batch-size", &self.batch_size.to_string()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read() {
        let parsed =
            |line: &str| Arguments::try_parse_from(std::iter::once("bench").chain(line.split(' ')));
        let arguments = parsed("--cuda emulated --batch-size 8").unwrap();
        assert_eq!((arguments.cuda, arguments.batch_size), (Driver::Emulated, 8));
        assert_eq!(parsed("--cuda=device").unwrap().cuda, Driver::Device);
        assert!(parsed("--cuda none").is_err());
        assert!(asked_for(&["--cuda=device".into()]) && asked_for(&["--cuda".into()]));
        assert!(!asked_for(&["products".into()]));
    }

    #[test]
    fn the_page_has_places_for_the_figures() {
        for name in ["floors", "device"] {
            assert!(Generated::open(PAGE, name).is_ok(), "{name}");
        }
    }
}
