//! The CUDA backend computes what the table of cases says, on the device that `VITRINE_CUDA_DRIVER` chooses.

use vitrine_cuda::{Allocator, CudaBackend, Options};
use vitrine_tensor::{DType, Device};
use vitrine_testkit::run_nonfinite;
use vitrine_testkit::sweep::{Reach, cases};

fn device() -> Device {
    let options = Options { allocator: Allocator::Exact, ..Options::default() };
    Device::new(CudaBackend::new(0, &options).unwrap())
}

fn conforms(dtype: DType) {
    let report = vitrine_testkit::run_all(&device(), dtype);
    println!("{report}");
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.cases > 500 && report.elements > 1_000_000, "{report}");
}

#[test]
fn f32() {
    conforms(DType::F32);
}

#[test]
fn bf16() {
    conforms(DType::BF16);
}

#[test]
fn nan_and_infinities_come_out_where_they_should() {
    for dtype in [DType::F32, DType::BF16] {
        let report = run_nonfinite(&device(), dtype, cases(Reach::Few).into_iter().step_by(11));
        assert!(report.failures.is_empty(), "{report}");
        assert!(report.cases > 500, "{report}");
    }
}
