//! Operations at the edges of blocks and at random sizes: some sixty shapes each.

use vitrine_cuda::{Allocator, CudaBackend, Options};
use vitrine_tensor::{DType, Device};
use vitrine_testkit::run_cases;
use vitrine_testkit::sweep::{Reach, cases};

fn swept(dtype: DType) {
    let options = Options { allocator: Allocator::Exact, ..Options::default() };
    let device = Device::new(CudaBackend::new(0, &options).unwrap());
    let report = run_cases(&device, dtype, cases(Reach::Few));
    println!("{report}");
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.cases > 500, "{report}");
}

#[test]
fn f32() {
    swept(DType::F32);
}

#[test]
fn bf16() {
    swept(DType::BF16);
}
