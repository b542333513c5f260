//! Batch norm's statistics beyond the table of cases: so many rows that a part of them has more than a block of threads
//! takes at once, of values far from 0. Expected values are the testkit's, in `f64` from the same inputs.

use vitrine_cuda::{Allocator, CudaBackend, Options};
use vitrine_tensor::{DType, Device};
use vitrine_testkit::inputs::{Layout, random};
use vitrine_testkit::operations::batch_norm::reference;
use vitrine_testkit::{Case, Comparison, run_cases};

#[test]
fn many_rows_of_values_far_from_0() {
    let options = Options { allocator: Allocator::Exact, ..Options::default() };
    let device = Device::new(CudaBackend::new(0, &options).unwrap());
    let case = Case::new("batch_statistics", "many rows", |s| {
        let x = s.placed(&(random(1, &[32_800, 3]) + 1000.0), Layout::Dense)?;
        let expected = reference::batch_statistics(&x.values);
        Ok(vec![Comparison::new("statistics", &x.tensor.batch_statistics()?, &expected)?])
    });
    let report = run_cases(&device, DType::F32, [case]);
    assert!(report.failures.is_empty(), "{report}");
}
