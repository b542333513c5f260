//! Every operation at the edges of its blocks and at random sizes, on each set of vector instructions.
//!
//! The set is chosen once in a process, so each runs in a process of its own, as in `simd.rs`. `VITRINE_SWEEP=whole`
//! asks for every size from 1 to 300 on each axis (`cargo xtask test --sweep`).

use std::process::Command;

use vitrine_tensor::{CpuBackend, DType, Device};
use vitrine_testkit::run_cases;
use vitrine_testkit::sweep::{Reach, cases};

/// What a started process is asked for, by this variable.
const REQUEST: &str = "VITRINE_TEST_SWEEP";

/// Does nothing unless [`REQUEST`] is set, as it is in the processes that the tests below start.
#[test]
fn sweep_on_request() {
    if std::env::var_os(REQUEST).is_none() {
        return;
    }
    const FLOATS: [DType; 3] = [DType::F32, DType::BF16, DType::F64];
    // The products of f64 are the same with every set.
    let (reach, dtypes) = match std::env::var("VITRINE_SWEEP").as_deref() {
        Ok("whole") => (Reach::Whole, &FLOATS[..2]),
        _ => (Reach::Edges, &FLOATS[..]),
    };
    let run = |&dtype| run_cases(&Device::new(CpuBackend::default()), dtype, cases(reach));
    let reports: Vec<_> = dtypes.iter().map(run).collect();
    for report in &reports {
        println!("{report}");
    }
    assert!(reports.iter().all(|report| report.failures.is_empty() && report.cases > 5000));
    println!("swept");
}

fn sweep_with(set: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sweep_on_request", "--nocapture"])
        .env(REQUEST, "1")
        .env("VITRINE_SIMD", set)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("swept"), "with {set}:\n{text}{errors}");
}

#[test]
fn portable() {
    sweep_with("portable");
}

#[test]
fn avx2() {
    sweep_with("avx2");
}

#[test]
fn avx512() {
    sweep_with("avx512");
}

#[test]
fn avx512bf16() {
    sweep_with("avx512bf16");
}
