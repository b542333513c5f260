//! The CPU backend computes what the table of cases says, for each float type.

use vitrine_tensor::{CpuBackend, DType, Device};

fn conforms(dtype: DType) {
    let report = vitrine_testkit::run_all(&Device::new(CpuBackend::default()), dtype);
    println!("{report}");
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.cases > 500 && report.elements > 1_000_000, "{report}");
}

#[test]
fn f32() {
    conforms(DType::F32);
}

#[test]
fn f64() {
    conforms(DType::F64);
}

#[test]
fn bf16() {
    conforms(DType::BF16);
}
