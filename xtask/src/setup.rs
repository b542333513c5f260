//! `cargo xtask setup`: what this machine has, what it lacks, and the command that mends it.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::kernels::compiler::Environment;
use crate::kernels::wheels;
use crate::lacking::{APT, Lacking};
use crate::{openblas, process};

/// Room for the builds of all tasks (debug, release, benchmarks), the data and some runs.
const DISK_GIB: u64 = 8;

/// One line of the report.
struct Check {
    name: &'static str,
    /// Nothing can be built or run without it.
    necessary: bool,
    /// What is here, in words.
    state: Result<String, Lacking>,
}

/// Prints the report; with `install`, installs the missing system packages first.
pub fn run(install: bool) -> Result<ExitCode> {
    let mut checks = checks();
    if install {
        let packages = missing_packages(&checks);
        if !packages.is_empty() {
            apt_install(&packages)?;
            checks = self::checks();
        }
    }
    for check in &checks {
        println!("{}", line(check));
    }
    let lacking = checks.iter().any(|check| check.necessary && check.state.is_err());
    Ok(if lacking { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn checks() -> Vec<Check> {
    let check = |name, necessary, state| Check { name, necessary, state };
    vec![
        check("rust", true, rust()),
        check("rustfmt", false, component("fmt", "rustfmt")),
        check("clippy", false, component("clippy", "clippy")),
        check("C compiler", true, program("cc", "gcc libc6-dev", "Rust links with it")),
        check("OpenBLAS", false, openblas()),
        check("Python", false, program("python3", "python3", "it writes the golden files")),
        check("pip", false, program("pip", "python3-pip", "it fetches PyTorch for them, and nvcc")),
        check("g++", false, program("g++", "g++", "nvcc, which compiles for CUDA, starts it")),
        check("nvcc", false, nvcc(&Environment::of_this_process())),
        check("disk", true, disk()),
        check("data set", false, data_set()),
    ]
}

fn rust() -> Result<String, Lacking> {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let printed = process::output_of(Command::new("rustc").arg("--version")).unwrap_or_default();
    let version = printed.split_whitespace().nth(1).unwrap_or("no rustc").to_owned();
    if at_least(&version, needed) {
        return Ok(version);
    }
    Err(Lacking::new(format!("{version} here, {needed} needed"), "rustup update stable"))
}

/// Compares the major and minor numbers of two versions.
fn at_least(version: &str, needed: &str) -> bool {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    matches!((numbers(version), numbers(needed)), (Some(v), Some(n)) if v >= n)
}

fn component(subcommand: &str, name: &str) -> Result<String, Lacking> {
    let version = process::output_of(process::cargo().args([subcommand, "--version"]));
    let what = "`cargo xtask test` leaves its check out";
    version.ok_or_else(|| Lacking::new(what, format!("rustup component add {name}")))
}

fn program(name: &str, packages: &str, purpose: &str) -> Result<String, Lacking> {
    let version = process::output_of(Command::new(name).arg("--version"));
    let version = version.map(|words| words.lines().next().unwrap_or(name).to_owned());
    version.ok_or_else(|| Lacking::packages(format!("no `{name}`; {purpose}"), packages))
}

fn openblas() -> Result<String, Lacking> {
    let here = openblas::found().then(|| "a program links with it and starts".to_owned());
    here.ok_or_else(|| Lacking::packages("the feature `linalg` is left out", openblas::PACKAGE))
}

/// The CUDA compiler, which is fetched when it is first needed.
fn nvcc(environment: &Environment) -> Result<String, Lacking> {
    let search = environment.search()?;
    let notes: String = search.notes.iter().map(|note| format!("; {note}")).collect();
    if let Some(compiler) = search.compiler {
        return Ok(format!("{compiler}{notes}"));
    }
    wheels::check_pip(&environment.python)?;
    let what = format!("fetched from PyPI when CUDA is first asked for (270 MB){notes}");
    Err(Lacking::new(what, "cargo xtask kernels"))
}

fn disk() -> Result<String, Lacking> {
    let table = process::output_of(Command::new("df").arg("-Pk").arg(process::root()));
    let Some(free) = table.as_deref().and_then(free_gib) else {
        return Ok("free space unknown: `df` gave no figure".to_owned());
    };
    let detail = format!("{free} GiB free, about {DISK_GIB} GiB needed for everything");
    if free >= DISK_GIB { Ok(detail) } else { Err(Lacking::new(detail, "cargo clean")) }
}

/// The free space in the output of `df -Pk`: the fourth column of its second line.
fn free_gib(table: &str) -> Option<u64> {
    let kib: u64 = table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib >> 20)
}

fn data_set() -> Result<String, Lacking> {
    let lacking = |what| Lacking::new(what, "cargo xtask data");
    let vitrine =
        built_vitrine().ok_or_else(|| lacking("not looked for: `vitrine` is not built yet"))?;
    let folder = process::output_of(Command::new(vitrine).args(["data", "--check"]));
    let folder = folder.ok_or_else(|| lacking("not found on this machine"))?;
    Ok(folder.lines().last().unwrap_or_default().to_owned())
}

/// The release build of `vitrine`, if there is one: this program's neighbour in the build folder.
fn built_vitrine() -> Option<PathBuf> {
    let this = env::current_exe().ok()?;
    let name = format!("vitrine{}", env::consts::EXE_SUFFIX);
    let path = this.parent()?.parent()?.join("release").join(name);
    path.is_file().then_some(path)
}

fn missing_packages(checks: &[Check]) -> Vec<&str> {
    let mends =
        checks.iter().filter_map(|check| check.state.as_ref().err()?.mend.strip_prefix(APT));
    mends.flat_map(|packages| packages.split(' ')).collect()
}

fn line(Check { name, necessary, state }: &Check) -> String {
    match state {
        Ok(detail) => format!("present   {name:<12}{detail}"),
        Err(lacking) => {
            let word = if *necessary { "MISSING" } else { "optional" };
            format!("{word:<10}{name:<12}{lacking}")
        }
    }
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if process::output_of(Command::new("id").arg("-u")).as_deref() != Some("0") {
        bail!("--install needs root; run instead: sudo apt-get install {names}");
    }
    let update = ["update"].as_slice();
    let install = [["install", "-y", "--no-install-recommends"].as_slice(), packages].concat();
    for args in [update, &install] {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        let shown = process::shown(&command);
        println!("{shown}");
        let status = command.status().with_context(|| {
            format!("cannot start apt-get; install by this system's own means: {names}")
        })?;
        ensure!(status.success(), "`{shown}` failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(at_least("1.95.0", "1.95"));
        assert!(at_least("1.100.0-nightly", "1.95"));
        assert!(!at_least("1.94.1", "1.95"));
        assert!(!at_least("no rustc", "1.95"));
    }

    #[test]
    fn free_space_is_read_from_df() {
        let table = "Filesystem 1024-blocks Used Available Capacity Mounted on\n\
                     /dev/vda 263174212 18874368 77594624 20% /";
        assert_eq!(free_gib(table), Some(74));
        assert_eq!(free_gib("df: no such file"), None);
    }

    #[test]
    fn a_missing_thing_names_its_one_command() {
        let state = program("no-such-program-vitrine", "gcc libc6-dev", "Rust links with it");
        let check = Check { name: "C compiler", necessary: true, state };
        let line = line(&check);
        assert!(line.starts_with("MISSING"), "{line}");
        assert!(line.ends_with("to mend it: sudo apt-get install gcc libc6-dev"), "{line}");
        assert_eq!(missing_packages(&[check]), ["gcc", "libc6-dev"]);
    }
}
