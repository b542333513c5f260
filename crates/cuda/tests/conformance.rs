//! The CUDA backend computes what the table of cases says, on the device that `VITRINE_CUDA_DRIVER` chooses.

use vitrine_cuda::{Allocator, CudaBackend, Options};
use vitrine_tensor::{DType, Device};

fn conforms(dtype: DType) {
    let options = Options { allocator: Allocator::Exact, ..Options::default() };
    let device = Device::new(CudaBackend::new(0, &options).unwrap());
    let report = vitrine_testkit::run_all(&device, dtype);
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
