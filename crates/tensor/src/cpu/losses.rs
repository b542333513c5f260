//! Mean cross-entropy with smoothed labels or with shares of classes, with its gradient.

use num_traits::{Float, Zero};
use rayon::prelude::*;

use super::CpuBackend;
use super::dispatch::with_float;
use super::memory::{read, write};
use super::number::{Acc, Number, Real};
use crate::Tensor;
use crate::backend::Losses;
use crate::error::{Error, Result};

/// Labels that were checked against the number of classes.
struct Labels {
    labels: Vec<usize>,
    classes: usize,
    smoothing: f64,
}

impl Labels {
    fn new(labels: &[i64], classes: usize, smoothing: f64) -> Result<Self> {
        let check = |(sample, &label): (usize, &i64)| {
            usize::try_from(label).ok().filter(|&l| l < classes).ok_or(Error::Label {
                sample,
                label,
                classes,
            })
        };
        let labels = labels.iter().enumerate().map(check).collect::<Result<_>>()?;
        Ok(Self { labels, classes, smoothing })
    }

    /// The target of each class for a label: `(1 − s)·onehot + s/K`.
    fn targets(&self) -> (f64, f64) {
        let spread = self.smoothing / self.classes as f64;
        (1.0 - self.smoothing + spread, spread)
    }
}

/// The largest logit, and the logarithm of `Σ exp(logit − largest)`.
fn log_sum<T: Number>(row: &[T]) -> (T::Acc, T::Acc) {
    let start = T::Acc::neg_infinity();
    let top =
        row.iter().map(|x| x.widen()).fold(start, |a, b| if b > a || b.is_nan() { b } else { a });
    let sum: T::Acc = row.iter().map(|x| (x.widen() - top).exponential()).sum();
    (top, Float::ln(sum))
}

/// `−1/B · Σ_b Σ_k target·(logit − top − log_sum)`
fn forward<T: Number>(logits: &[T], labels: &Labels) -> T::Acc {
    let (hit, spread) = labels.targets();
    let (hit, spread) = (T::Acc::of(hit - spread), T::Acc::of(spread));
    let mut total = T::Acc::zero();
    for (row, &label) in logits.chunks_exact(labels.classes).zip(&labels.labels) {
        let (top, log_sum) = log_sum(row);
        let log_probability = |x: &T| x.widen() - top - log_sum;
        let all: T::Acc = row.iter().map(log_probability).sum();
        total = total - hit * log_probability(&row[label]);
        if !spread.is_zero() {
            total = total - spread * all;
        }
    }
    total / T::Acc::of(labels.labels.len() as f64)
}

/// `dlogits = dloss/B · (softmax(logits) − target)`
fn grad<T: Number>(logits: &[T], labels: &Labels, dloss: T::Acc, dlogits: &mut [T]) {
    let (hit, spread) = labels.targets();
    let factor = dloss / T::Acc::of(labels.labels.len() as f64);
    let rows = logits.chunks_exact(labels.classes).zip(dlogits.chunks_exact_mut(labels.classes));
    for ((row, drow), &label) in rows.zip(&labels.labels) {
        let (top, log_sum) = log_sum(row);
        for (class, (x, dx)) in row.iter().zip(drow).enumerate() {
            let target = T::Acc::of(if class == label { hit } else { spread });
            let probability = (x.widen() - top - log_sum).exponential();
            *dx = T::narrow(factor * (probability - target));
        }
    }
}

/// `−1/B · Σ_b Σ_k target·(logit − top − log_sum)`: the losses of the rows are added in order.
fn soft_forward<T: Number>(logits: &[T], targets: &[T::Acc], classes: usize) -> T::Acc {
    let rows = logits.par_chunks_exact(classes).zip(targets.par_chunks_exact(classes));
    let losses = rows.map(|(row, targets)| {
        let (top, log_sum) = log_sum(row);
        let terms = row.iter().zip(targets);
        terms.map(|(x, &target)| target * (log_sum - (x.widen() - top))).sum()
    });
    let losses: Vec<T::Acc> = losses.collect();
    let count = T::Acc::of(losses.len() as f64);
    losses.into_iter().sum::<T::Acc>() / count
}

/// `dlogits = dloss/B · (Σtarget·softmax(logits) − target)`
fn soft_grad<T: Number>(
    logits: &[T],
    targets: &[T::Acc],
    classes: usize,
    dloss: T::Acc,
    dlogits: &mut [T],
) {
    let factor = dloss / T::Acc::of((logits.len() / classes) as f64);
    let rows = logits.par_chunks_exact(classes).zip(targets.par_chunks_exact(classes));
    rows.zip(dlogits.par_chunks_exact_mut(classes)).for_each(|((row, targets), drow)| {
        let (top, log_sum) = log_sum(row);
        let total: T::Acc = targets.iter().copied().sum();
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
        labels: &Tensor,
        smoothing: f64,
        loss: &Tensor,
    ) -> Result<()> {
        let classes = logits.dims().last();
        let labels = Labels::new(&read(labels), classes, smoothing)?;
        with_float!(logits.dtype(), T => {
            write::<Acc<T>>(loss)[0] = forward::<T>(&read(logits), &labels);
        });
        Ok(())
    }

    fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()> {
        let classes = logits.dims().last();
        let labels = Labels::new(&read(labels), classes, smoothing)?;
        with_float!(logits.dtype(), T => {
            let dloss = read::<Acc<T>>(dloss)[0];
            grad::<T>(&read(logits), &labels, dloss, &mut write(dlogits));
        });
        Ok(())
    }

    fn soft_target_cross_entropy(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        loss: &Tensor,
    ) -> Result<()> {
        with_float!(logits.dtype(), T => {
            let value = soft_forward::<T>(&read(logits), &read(targets), logits.dims().last());
            write::<Acc<T>>(loss)[0] = value;
        });
        Ok(())
    }

    fn soft_target_cross_entropy_grad(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()> {
        let classes = logits.dims().last();
        with_float!(logits.dtype(), T => {
            let dloss = read::<Acc<T>>(dloss)[0];
            soft_grad::<T>(&read(logits), &read(targets), classes, dloss, &mut write(dlogits));
        });
        Ok(())
    }
}
