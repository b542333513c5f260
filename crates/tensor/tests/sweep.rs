//! Every operation at the edges of its blocks and at random sizes, on each set of vector instructions.
//!
//! The set is chosen once in a process, so each runs in a process of its own, as in `simd.rs`. `VITRINE_SWEEP=whole`
//! asks for every size from 1 to 300 on each axis (`cargo xtask test --sweep`).

mod again;

use vitrine_tensor::{CpuBackend, DType, Device};
use vitrine_testkit::run_cases;
use vitrine_testkit::sweep::{Reach, cases};

/// Does nothing but in the processes that the tests below start.
#[test]
fn sweep_on_request() {
    if !again::is_requested() {
        return;
    }
    const FLOATS: [DType; 3] = [DType::F32, DType::BF16, DType::F64];
    let asked = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let reach = if asked("VITRINE_SWEEP", "whole") { Reach::Whole } else { Reach::Edges };
    // f64 has the same bits with every set.
    let dtypes = if asked("VITRINE_SIMD", "portable") { &FLOATS[..] } else { &FLOATS[..2] };
    for &dtype in dtypes {
        let report = run_cases(&Device::new(CpuBackend::default()), dtype, cases(reach));
        // The whole of it takes long: how far it is, is seen at once.
        let (set, text) = (std::env::var("VITRINE_SIMD").unwrap_or_default(), report.to_string());
        eprintln!("{set}, {}", text.lines().next().unwrap_or_default());
        assert!(report.failures.is_empty() && report.cases > 5000, "{text}");
    }
    println!("swept");
}

fn sweep_with(set: &str) {
    let text = again::run_with(set, "sweep_on_request");
    assert!(text.contains("swept"), "with {set}:\n{text}");
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
