//! This test program again, with another set of vector instructions: a process chooses its set once.

use std::process::{Command, Stdio};

const REQUEST: &str = "VITRINE_TEST_AGAIN";

/// Whether [`run_with`] started this process.
pub fn is_requested() -> bool {
    std::env::var_os(REQUEST).is_some()
}

/// What the test of this name prints with a set; it must pass.
pub fn run_with(set: &str, test: &str) -> String {
    let output = Command::new(std::env::current_exe().expect("a test knows its program"))
        .args(["--exact", test, "--nocapture"])
        .env(REQUEST, "1")
        .env("VITRINE_SIMD", set)
        .stderr(Stdio::inherit())
        .output()
        .expect("the test program starts again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "with {set}:\n{text}");
    text
}
