//! The xtask program as a whole, with a script in cargo's place: arguments, exit codes, Ctrl-C.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// Stands in for cargo and runs `$SCRIPT`. Written once, before anything is started: Linux does
/// not start a file that another thread's child may still hold open for writing.
static CARGO: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cargo");
    fs::write(&path, "#!/bin/sh\neval \"$SCRIPT\"\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
});

/// xtask as `cargo xtask` starts it, but with `script` for cargo.
fn xtask(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).env("CARGO", &*CARGO).env("SCRIPT", script).stdin(Stdio::null());
    command
}

fn run(script: &str, args: &[&str]) -> Output {
    xtask(script, args).output().unwrap()
}

/// What the script was given after cargo's own `--`, one argument a line.
fn passed_through(args: &[&str]) -> String {
    let output = run("while [ \"$1\" != -- ]; do shift; done; shift; printf '%s\\n' \"$@\"", args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn arguments_reach_the_program_untouched() {
    let args = ["train", "--device", "cpu", "--set", "name=a b", "--help"];
    assert_eq!(passed_through(&args), "train\n--device\ncpu\n--set\nname=a b\n--help\n");
    assert_eq!(passed_through(&["train"]), "train\n");
    assert_eq!(passed_through(&["eval", "--json"]), "eval\n--json\n");
    assert_eq!(passed_through(&["predict", "-", "--", "-x.png"]), "predict\n-\n--\n-x.png\n");
    assert_eq!(passed_through(&["data", "--dataset", "mnist"]), "data\n--dataset\nmnist\n");
    assert_eq!(passed_through(&["vitrine", "bench", "forward"]), "bench\nforward\n");
    assert_eq!(passed_through(&["bench", "matmul", "--quick"]), "matmul\n--quick\n");
}

#[test]
fn the_exit_code_is_the_programs_own() {
    assert_eq!(run("exit 7", &["train"]).status.code(), Some(7));
    assert_eq!(run("exit 3", &["bench"]).status.code(), Some(3));
}

#[test]
fn the_comparison_gets_its_options_once_vitrine_is_built() {
    let peers = |script, more: &[&str]| {
        let output = run(script, &[&["bench", "--peers"], more].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, complaint) = peers("exit 101", &["--quick"]);
    assert_eq!(code, Some(1));
    assert!(complaint.contains("--bin vitrine") && complaint.contains("failed"), "{complaint}");
    let (_, complaint) = peers("echo '{\"executable\":null}'", &["--quick"]);
    assert!(complaint.contains("cargo built no program"), "{complaint}");
    // An option that the comparison refuses shows that it was started, with that option.
    let (code, complaint) = peers("echo '{\"executable\":\"/nowhere\"}'", &["--rounds", "0"]);
    assert!(code == Some(2) && complaint.contains("--rounds"), "{complaint}");
}

#[test]
fn ctrl_c_reaches_the_program_which_ends_in_its_own_time() {
    if interrupts_are_ignored() {
        eprintln!(
            "LEFT OUT: this process was started with SIGINT ignored, and a shell cannot undo that"
        );
        return;
    }
    let script = "trap 'echo saved; exit 42' INT; echo started; while :; do sleep 0.05; done";
    let mut child = xtask(script, &["train"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");

    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(lines.next().unwrap().unwrap(), "saved");
    assert_eq!(child.wait().unwrap().code(), Some(42));
}

/// Whether SIGINT (number 2) was ignored when this process started, as a background job of a script is.
fn interrupts_are_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 2 != 0)
}

#[test]
fn test_stops_at_the_first_failure_and_counts() {
    let script = "[ \"$1 $2\" = 'clippy --workspace' ] && exit 101; exit 0";
    let output = run(script, &["test", "--cuda", "none"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("FAILED: lints"), "{printed}");
    assert!(!printed.contains("cargo doc"), "{printed}");
    assert!(printed.lines().last().unwrap().starts_with("2 steps passed, 1 failed"), "{printed}");

    let output = run("exit 0", &["test", "--cuda", "none"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    assert!(printed.lines().last().unwrap().starts_with("11 steps passed, 0 failed"), "{printed}");
}

#[test]
fn a_toolchain_without_clippy_is_said_plainly() {
    let output = run("[ \"$1\" = clippy ] && exit 101; exit 0", &["test", "--cuda", "none"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("left out: the check by clippy"), "{printed}");
    assert!(printed.contains("rustup component add clippy"), "{printed}");
    assert!(printed.contains("9 steps passed, 0 failed, "), "{printed}");
}

#[test]
fn an_unknown_task_is_an_error() {
    let output = run("exit 0", &["trian"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("train"));
}

#[test]
fn setup_reports_every_thing_on_one_line() {
    let output = run("echo version 1", &["setup"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    for name in [
        "rust ",
        "rustfmt",
        "clippy",
        "C compiler",
        "OpenBLAS",
        "Python",
        "g++",
        "nvcc",
        "disk",
        "data",
    ] {
        assert!(printed.contains(name), "{name}: {printed}");
    }
    for line in printed.lines().filter(|line| !line.starts_with("present")) {
        assert!(line.contains("to mend it: "), "{line}");
    }
}
