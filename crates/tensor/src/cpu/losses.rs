//! Mean cross-entropy with smoothed labels or with shares of classes, with its gradient.

use num_traits::{Float, Zero};

use super::CpuBackend;
use super::dispatch::with_float;
use super::memory::{read, write};
use super::number::{Acc, Number, Real};
use super::parallel::{each, map};
use crate::backend::Losses;
use crate::error::{Error, Result};
use crate::{DType, Tensor};

/// Classes whose terms are added one after the other: with a thousand in one run, their rounding errors would add up.
const RUN: usize = 64;

/// The targets `[B, K]`: shares as they are; labels, once checked, as `(1 − s)·onehot + s/K`.
fn shares<A: Real>(targets: &Tensor, classes: usize, smoothing: f64) -> Result<Vec<A>> {
    if targets.dtype() != DType::I64 {
        return Ok(read(targets).to_vec());
    }
    let spread = smoothing / classes as f64;
    let mut shares = vec![A::of(spread); targets.elements() * classes];
    let labels = read::<i64>(targets);
    for (sample, (row, &label)) in shares.chunks_exact_mut(classes).zip(&*labels).enumerate() {
        let hit = usize::try_from(label).ok().and_then(|label| row.get_mut(label));
        *hit.ok_or(Error::Label { sample, label, classes })? = A::of(1.0 - smoothing + spread);
    }
    Ok(shares)
}

/// The largest logit, and the logarithm of `Σ exp(logit − largest)`.
fn log_sum<T: Number>(row: &[T]) -> (T::Acc, T::Acc) {
    let start = T::Acc::neg_infinity();
    let top =
        row.iter().map(|x| x.widen()).fold(start, |a, b| if b > a || b.is_nan() { b } else { a });
    let run = |run: &[T]| run.iter().map(|x| (x.widen() - top).exponential()).sum::<T::Acc>();
    (top, Float::ln(row.chunks(RUN).map(run).sum()))
}

/// `−1/B · Σ_b Σ_k target·(logit − top − log_sum)`: the losses of the rows are added in order. A class without a
/// share adds nothing, however unlikely it is.
fn forward<T: Number>(logits: &[T], targets: &[T::Acc], classes: usize) -> T::Acc {
    let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
    let losses = map(rows, |(row, targets)| {
        let (top, log_sum) = log_sum(row);
        let run = |(row, targets): (&[T], &[T::Acc])| {
            let terms = row.iter().zip(targets).filter(|(_, target)| !target.is_zero());
            terms.map(|(x, &target)| target * (log_sum - (x.widen() - top))).sum::<T::Acc>()
        };
        row.chunks(RUN).zip(targets.chunks(RUN)).map(run).sum::<T::Acc>()
    });
    let count = T::Acc::of(losses.len() as f64);
    losses.into_iter().sum::<T::Acc>() / count
}

/// `dlogits = dloss/B · (Σtarget·softmax(logits) − target)`
fn grad<T: Number>(
    logits: &[T],
    targets: &[T::Acc],
    classes: usize,
    dloss: T::Acc,
    dlogits: &mut [T],
) {
    let factor = dloss / T::Acc::of((logits.len() / classes) as f64);
    let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
    each(rows.zip(dlogits.chunks_exact_mut(classes)), |((row, targets), drow)| {
        let (top, log_sum) = log_sum(row);
        let total: T::Acc = targets.chunks(RUN).map(|run| run.iter().copied().sum()).sum();
        for ((x, &target), dx) in row.iter().zip(targets).zip(drow) {
            let probability = (x.widen() - top - log_sum).exponential();
            *dx = T::narrow(factor * (total * probability - target));
        }
    });
}

impl Losses for CpuBackend {
    fn cross_entropy(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        smoothing: f64,
        loss: &Tensor,
    ) -> Result<()> {
        let classes = logits.dims().last();
        with_float!(logits.dtype(), T => {
            let targets = shares(targets, classes, smoothing)?;
            write::<Acc<T>>(loss)[0] = forward::<T>(&read(logits), &targets, classes);
        });
        Ok(())
    }

    fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        smoothing: f64,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()> {
        let classes = logits.dims().last();
        with_float!(logits.dtype(), T => {
            let targets = shares(targets, classes, smoothing)?;
            let dloss = read::<Acc<T>>(dloss)[0];
            grad::<T>(&read(logits), &targets, classes, dloss, &mut write(dlogits));
        });
        Ok(())
    }
}
