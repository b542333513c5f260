//! Batch norm beyond the table of cases: so many rows that a part of them has more than a block of threads takes at
//! once, of values far from 0. Expected values are the testkit's, in `f64` from the same inputs.

use vitrine_cuda::{Allocator, CudaBackend, Options};
use vitrine_tensor::{Activation, BatchNorm, DType, Device, Result};
use vitrine_testkit::inputs::{Layout, Setup, random};
use vitrine_testkit::operations::batch_norm::reference;
use vitrine_testkit::{Case, Comparison, run_cases};

const ROWS: usize = 32_800;
const CHANNELS: usize = 3;

fn statistics_and_gradients(s: &Setup) -> Result<Vec<Comparison>> {
    let shape = [ROWS, CHANNELS];
    let x = s.placed(&(random(1, &shape) + 1000.0), Layout::Dense)?;
    let (scale, shift) = (s.normal(2, &[CHANNELS])?, s.normal(3, &[CHANNELS])?);
    let dy = s.normal(4, &shape)?;
    let (dscale, dshift) = (s.destination(5, &[CHANNELS])?, s.destination(6, &[CHANNELS])?);
    let expected = reference::batch_statistics(&x.values);
    let statistics = s.placed_as(&expected, Layout::Dense, s.dtype.accumulator())?;
    let (epsilon, activation) = (1e-5, Some(Activation::Silu));
    let norm = BatchNorm {
        scale: &scale.tensor,
        shift: &shift.tensor,
        epsilon,
        residual: None,
        activation,
    };
    let (dx, _) = x.tensor.batch_norm_grad(
        &statistics.tensor,
        &norm,
        false,
        &dy.tensor,
        &dscale.tensor,
        &dshift.tensor,
    )?;
    let norm = reference::BatchNorm {
        scale: &scale.values,
        shift: &shift.values,
        epsilon,
        residual: None,
        activation,
    };
    let grads = reference::batch_norm_grad(&x.values, &statistics.values, &norm, false, &dy.values);
    Ok(vec![
        Comparison::new("statistics", &x.tensor.batch_statistics()?, &expected)?,
        Comparison::of_sum("dx", &dx, &grads.x)?.loosened(s.dtype, &grads.x.terms),
        dscale.compare_added("dscale", &grads.scale)?,
        dshift.compare_added("dshift", &grads.shift)?,
    ])
}

#[test]
fn many_rows_of_values_far_from_0() {
    let options = Options { allocator: Allocator::Exact, ..Options::default() };
    let device = Device::new(CudaBackend::new(0, &options).unwrap());
    for dtype in [DType::F32, DType::BF16] {
        let case = Case::new("batch_norm_grad", "many rows", statistics_and_gradients);
        let report = run_cases(&device, dtype, [case]);
        println!("{report}");
        assert!(report.failures.is_empty(), "{report}");
    }
}
