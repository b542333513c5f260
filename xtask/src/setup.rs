//! `cargo xtask setup`: what this machine has, what it lacks, and the command that mends it.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::kernels::compiler::{Environment, Lacking};
use crate::kernels::wheels;
use crate::{openblas, process};

/// Room for the builds of all tasks (debug, release, benchmarks), the data and some runs.
const DISK_GIB: u64 = 8;

/// What a check found.
enum State {
    Present(String),
    Missing { detail: String, mend: Mend },
}

/// How to get what is missing.
enum Mend {
    /// These Debian packages, which `--install` also installs.
    Packages(&'static [&'static str]),
    Command(String),
}

/// One line of the report.
struct Check {
    name: &'static str,
    /// Nothing can be built or run without it.
    necessary: bool,
    state: State,
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
    let lacking = checks.iter().any(|check| check.necessary && is_missing(check));
    Ok(if lacking { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn checks() -> Vec<Check> {
    let check = |name, necessary, state| Check { name, necessary, state };
    vec![
        check("rust", true, rust()),
        check("rustfmt", false, component("fmt", "rustup component add rustfmt")),
        check("clippy", false, component("clippy", "rustup component add clippy")),
        check("C compiler", true, program("cc", &["gcc", "libc6-dev"], "Rust links with it")),
        check("OpenBLAS", false, openblas()),
        check("Python", false, program("python3", &["python3"], "it writes the golden files")),
        check(
            "pip",
            false,
            program("pip", &["python3-pip"], "it fetches PyTorch for them, and nvcc"),
        ),
        check("g++", false, program("g++", &["g++"], "nvcc, which compiles for CUDA, starts it")),
        check("nvcc", false, nvcc(&Environment::of_this_process())),
        check("disk", true, disk()),
        check("data set", false, data_set()),
    ]
}

fn rust() -> State {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let printed = process::output_of(Command::new("rustc").arg("--version")).unwrap_or_default();
    let version = printed.split_whitespace().nth(1).unwrap_or("no rustc").to_owned();
    if at_least(&version, needed) {
        return State::Present(version);
    }
    let detail = format!("{version} here, {needed} needed");
    State::Missing { detail, mend: Mend::Command("rustup update stable".to_owned()) }
}

/// Compares the major and minor numbers of two versions.
fn at_least(version: &str, needed: &str) -> bool {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    matches!((numbers(version), numbers(needed)), (Some(v), Some(n)) if v >= n)
}

fn component(subcommand: &str, mend: &'static str) -> State {
    match process::output_of(process::cargo().args([subcommand, "--version"])) {
        Some(version) => State::Present(version),
        None => State::Missing {
            detail: "`cargo xtask test` leaves its check out".to_owned(),
            mend: Mend::Command(mend.to_owned()),
        },
    }
}

fn program(name: &str, packages: &'static [&'static str], purpose: &str) -> State {
    match process::output_of(Command::new(name).arg("--version")) {
        Some(version) => State::Present(version.lines().next().unwrap_or(name).to_owned()),
        None => State::Missing {
            detail: format!("no `{name}`; {purpose}"),
            mend: Mend::Packages(packages),
        },
    }
}

fn openblas() -> State {
    if openblas::found() {
        return State::Present("a program links with it and starts".to_owned());
    }
    let detail = "the feature `linalg` is left out".to_owned();
    State::Missing { detail, mend: Mend::Packages(&["libopenblas-dev"]) }
}

/// The CUDA compiler, which is fetched when it is first needed.
fn nvcc(environment: &Environment) -> State {
    let missing = |lacking: Lacking| State::Missing {
        detail: lacking.what,
        mend: Mend::Command(lacking.mend),
    };
    let search = match environment.search() {
        Ok(search) => search,
        Err(lacking) => return missing(lacking),
    };
    let notes: String = search.notes.iter().map(|note| format!("; {note}")).collect();
    if let Some(compiler) = search.compiler {
        return State::Present(format!("{compiler}{notes}"));
    }
    match wheels::check_pip(&environment.python) {
        Err(lacking) => missing(lacking),
        Ok(()) => State::Missing {
            detail: format!("fetched from PyPI when CUDA is first asked for (270 MB){notes}"),
            mend: Mend::Command("cargo xtask kernels".to_owned()),
        },
    }
}

fn disk() -> State {
    let table = process::output_of(Command::new("df").arg("-Pk").arg(process::root()));
    let Some(free) = table.as_deref().and_then(free_gib) else {
        return State::Present("free space unknown: `df` gave no figure".to_owned());
    };
    let detail = format!("{free} GiB free, about {DISK_GIB} GiB needed for everything");
    if free >= DISK_GIB {
        State::Present(detail)
    } else {
        State::Missing { detail, mend: Mend::Command("cargo clean".to_owned()) }
    }
}

/// The free space in the output of `df -Pk`: the fourth column of its second line.
fn free_gib(table: &str) -> Option<u64> {
    let kib: u64 = table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib >> 20)
}

fn data_set() -> State {
    let fetch = || Mend::Command("cargo xtask data".to_owned());
    let Some(vitrine) = built_vitrine() else {
        let detail = "not looked for: `vitrine` is not built yet".to_owned();
        return State::Missing { detail, mend: fetch() };
    };
    match process::output_of(Command::new(vitrine).args(["data", "--check"])) {
        Some(folder) => State::Present(folder.lines().last().unwrap_or_default().to_owned()),
        None => State::Missing { detail: "not found on this machine".to_owned(), mend: fetch() },
    }
}

/// The release build of `vitrine`, if there is one: this program's neighbour in the build folder.
fn built_vitrine() -> Option<PathBuf> {
    let this = env::current_exe().ok()?;
    let name = format!("vitrine{}", env::consts::EXE_SUFFIX);
    let path = this.parent()?.parent()?.join("release").join(name);
    path.is_file().then_some(path)
}

fn is_missing(check: &Check) -> bool {
    matches!(check.state, State::Missing { .. })
}

fn missing_packages(checks: &[Check]) -> Vec<&'static str> {
    let packages = checks.iter().filter_map(|check| match check.state {
        State::Missing { mend: Mend::Packages(packages), .. } => Some(packages),
        _ => None,
    });
    packages.flatten().copied().collect()
}

fn line(check: &Check) -> String {
    let name = check.name;
    match &check.state {
        State::Present(detail) => format!("present   {name:<12}{detail}"),
        State::Missing { detail, mend } => {
            let word = if check.necessary { "MISSING" } else { "optional" };
            let mend = match mend {
                Mend::Packages(packages) => format!("sudo apt-get install {}", packages.join(" ")),
                Mend::Command(command) => command.clone(),
            };
            format!("{word:<10}{name:<12}{detail}; to mend it: {mend}")
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
        let state = program("no-such-program-vitrine", &["gcc", "libc6-dev"], "Rust links with it");
        let check = Check { name: "C compiler", necessary: true, state };
        assert!(is_missing(&check));
        let line = line(&check);
        assert!(line.starts_with("MISSING"), "{line}");
        assert!(line.ends_with("to mend it: sudo apt-get install gcc libc6-dev"), "{line}");
        assert_eq!(missing_packages(&[check]), ["gcc", "libc6-dev"]);
    }
}
