//! The CPU backend computes what the table of cases says, for each float type.

use vitrine_tensor::{CpuBackend, DType, Device};
use vitrine_testkit::run_nonfinite;
use vitrine_testkit::sweep::{Reach, cases};

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

#[test]
fn nan_and_infinities_come_out_where_they_should() {
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let device = Device::new(CpuBackend::default());
        let report = run_nonfinite(&device, dtype, cases(Reach::Few));
        assert!(report.failures.is_empty(), "{report}");
        assert!(report.cases > 5_000, "{report}");
    }
}
