//! The program that compares with other frameworks: its own tests, and what it refuses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/peers")
}

fn python(args: &[&str]) -> Option<Output> {
    let mut command = Command::new("python3");
    command.arg("-B").args(args).current_dir(peers()).stdin(Stdio::null());
    let output = command.output().ok();
    if output.is_none() {
        eprintln!("LEFT OUT: no python3 here, which runs the comparison");
    }
    output
}

#[test]
fn the_programs_own_tests_pass() {
    let Some(output) = python(&["-m", "unittest"]) else { return };
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("\nOK"), "{printed}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for args in [&["--rounds", "0"][..], &["--only", "tensorflow"], &["matmul"]] {
        let Some(output) = python(&[&["compare.py", "vitrine"], args].concat()) else { return };
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{printed}");
        assert!(printed.contains("usage: cargo xtask bench --peers"), "{printed}");
    }
}
