//! The tasks about CUDA as a person starts them, with stand-ins for cargo, nvcc and g++.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// xtask with /bin/echo for cargo: each command that it would start is printed, and succeeds.
fn xtask(args: &[&str], nvcc: &str) -> Output {
    xtask_into(Path::new("/dev/null/kernels"), args, nvcc)
}

/// The same, with a folder for the kernels.
fn xtask_into(kernels: &Path, args: &[&str], nvcc: &str) -> Output {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stand-ins");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).env("CARGO", "/bin/echo").stdin(Stdio::null());
    command.env("NVCC", folder.join(nvcc)).env("NVCC_CCBIN", "true");
    command.env("VITRINE_KERNELS", kernels).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

const NVCC: &str = "cuda-13.0/bin/nvcc";
const ABSENT: &str = "absent/nvcc";
const BACKEND: &str = "test --package vitrine-cuda --features emulator --tests";

#[test]
fn all_checks_include_the_emulated_device() {
    let output = xtask(&["test"], NVCC);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.lines().any(|line| line == "xtask kernels"), "{text}");
    assert!(text.lines().any(|line| line == BACKEND), "{text}");
    assert!(text.lines().any(|line| line.starts_with("doc --workspace")), "{text}");
    assert!(text.contains("VITRINE_CUDA_DRIVER=emulated"), "{text}");
    assert!(text.contains("15 steps passed, 0 failed"), "{text}");
}

#[test]
fn all_checks_say_what_they_leave_out_without_a_compiler() {
    let output = xtask(&["test"], ABSENT);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("11 steps passed, 0 failed, "), "{text}");
    let left_out = text.lines().find(|line| line.starts_with("left out: the CUDA tests")).unwrap();
    assert!(left_out.ends_with("to mend it: unset NVCC"), "{left_out}");
    assert!(!text.contains("--package vitrine-cuda"), "{text}");
}

#[test]
fn the_cuda_tests_can_run_alone() {
    for (place, driver, steps) in [("emulated", "emulated", 4), ("device", "system", 3)] {
        let output = xtask(&["test", "--cuda", place], NVCC);
        let text = printed(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("VITRINE_CUDA_DRIVER={driver} ")), "{text}");
        assert!(text.contains(&format!("{steps} steps passed, 0 failed")), "{text}");
        // Asked for by name, they are not left out.
        let output = xtask(&["test", "--cuda", place], ABSENT);
        assert!(!output.status.success());
        assert!(printed(&output).contains("to mend it: unset NVCC"), "{}", printed(&output));
    }
    let none = printed(&xtask(&["test", "--cuda", "none"], ABSENT));
    assert!(none.contains("11 steps passed, 0 failed") && !none.contains("VITRINE_CUDA"), "{none}");
}

#[test]
fn help_says_what_each_choice_runs() {
    let text = printed(&xtask(&["test", "--help"], NVCC));
    for words in ["emulated", "device", "none", "Only the CUDA tests", "All checks but"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = printed(&xtask(&["kernels", "--help"], NVCC));
    assert!(text.contains("--table"), "{text}");
}

#[test]
fn nothing_is_started_for_a_cuda_device_without_its_kernels() {
    let commands: [&[&str]; 4] = [
        &["train", "--device", "cuda:0"],
        &["eval", "--run", "r", "--device=cuda:1"],
        &["vitrine", "bench", "forward", "--device", "cuda:0"],
        &["kernels"],
    ];
    for args in commands {
        let output = xtask(args, ABSENT);
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(output.stdout.is_empty(), "{text}");
        assert!(text.contains("does not start ($NVCC); to mend it: unset NVCC"), "{text}");
    }
    let output = xtask(&["train", "--device", "cpu"], ABSENT);
    assert!(printed(&output).contains("--bin vitrine"), "{}", printed(&output));
}

#[test]
fn a_cuda_device_has_its_kernels_built_and_the_feature_switched_on() {
    let kernels = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda-kernels");
    let _ = fs::remove_dir_all(&kernels);
    let args = ["eval", "--run", "r", "--device", "cuda:0"];
    let output = xtask_into(&kernels, &args, NVCC);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    assert!(kernels.join("kernels.json").is_file(), "{text}");
    // What the program prints is not mixed with what the task does.
    let started = String::from_utf8(output.stdout).unwrap();
    assert_eq!(started.lines().count(), 1, "{started}");
    let features = started.split(' ').skip_while(|word| *word != "--features").nth(1).unwrap();
    assert!(features.split(',').any(|feature| feature == "cuda"), "{started}");
    assert!(started.ends_with("-- eval --run r --device cuda:0\n"), "{started}");

    // A folder that cannot be written is told, and nothing is started.
    let output = xtask(&args, NVCC);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).contains("cannot work in /dev/null/kernels"), "{}", printed(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn setup_tells_where_nvcc_is() {
    let text = printed(&xtask(&["setup"], NVCC));
    let line = text.lines().find(|line| line.contains(" nvcc ")).unwrap();
    assert!(line.starts_with("present   nvcc        nvcc 13.0.88 ("), "{line}");
    let text = printed(&xtask(&["setup"], ABSENT));
    let line = text.lines().find(|line| line.contains(" nvcc ")).unwrap();
    assert!(line.starts_with("optional") && line.ends_with("to mend it: unset NVCC"), "{line}");
}
