//! Element-wise arithmetic with broadcasting, scaling and sums. Products and quotients save what their gradients need.

use vitrine_tensor::Tensor;

use crate::Var;
use crate::error::Result;

impl Var {
    /// `a + b`, broadcast.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let value = self.value().add(other.value())?;
        let (a, b) = (self.shape().to_vec(), other.shape().to_vec());
        Self::record("add", value, &[self, other], &[], move |dy, inputs, flow| {
            flow.add_with(inputs[0], || dy.sum_to(&a))?;
            flow.add_with(inputs[1], || dy.sum_to(&b))
        })
    }

    /// `a − b`, broadcast.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        let value = self.value().sub(other.value())?;
        let (a, b) = (self.shape().to_vec(), other.shape().to_vec());
        Self::record("sub", value, &[self, other], &[], move |dy, inputs, flow| {
            flow.add_with(inputs[0], || dy.sum_to(&a))?;
            flow.add_with(inputs[1], || dy.scale(-1.0)?.sum_to(&b))
        })
    }

    /// `a · b`, broadcast.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        let value = self.value().mul(other.value())?;
        // Each is kept for the other's gradient, if that is wanted.
        let kept = [(other, self), (self, other)]
            .map(|(x, for_other)| for_other.needs_grad().then_some(x.value()));
        let saved: Vec<&Tensor> = kept.into_iter().flatten().collect();
        let kept = kept.map(Option::<&Tensor>::cloned);
        let shapes = [self, other].map(|x| x.shape().to_vec());
        Self::record("mul", value, &[self, other], &saved, move |dy, inputs, flow| {
            for ((input, kept), shape) in inputs.iter().zip(&kept).zip(&shapes) {
                if let Some(kept) = kept {
                    flow.add_with(*input, || dy.mul(kept)?.sum_to(shape))?;
                }
            }
            Ok(())
        })
    }

    /// `a / b`, broadcast.
    pub fn div(&self, other: &Self) -> Result<Self> {
        let (a, b) = (self.value().clone(), other.value().clone());
        let (value, saved) = (a.div(&b)?, [self.value(), other.value()]);
        Self::record("div", value, &[self, other], &saved, move |dy, inputs, flow| {
            let da = dy.div(&b)?;
            flow.add_with(inputs[1], || da.mul(&a)?.div(&b)?.scale(-1.0)?.sum_to(b.shape()))?;
            flow.add_with(inputs[0], || da.sum_to(a.shape()))
        })
    }

    /// `factor · x`
    pub fn scale(&self, factor: f64) -> Result<Self> {
        let value = self.value().scale(factor)?;
        self.record_one("scale", value, &[], move |dy| dy.scale(factor))
    }

    /// The sum over one axis, which is dropped.
    pub fn sum_axis(&self, axis: usize) -> Result<Self> {
        let value = self.value().sum_axis(axis)?;
        let shape = self.shape().to_vec();
        self.record_one("sum_axis", value, &[], move |dy| {
            let mut kept = shape.clone();
            kept[axis] = 1;
            dy.reshape(&kept)?.broadcast_to(&shape)?.copy()
        })
    }

    /// The mean over one axis, which is dropped.
    pub fn mean_axis(&self, axis: usize) -> Result<Self> {
        let count = self.shape().get(axis).copied().unwrap_or(1);
        self.sum_axis(axis)?.scale(1.0 / count as f64)
    }

    /// The sum of all elements, a scalar.
    pub fn sum(&self) -> Result<Self> {
        let (value, shape) = (self.value().sum()?, self.shape().to_vec());
        self.record_one("sum", value, &[], move |dy| dy.broadcast_to(&shape)?.copy())
    }
}
