//! Element-wise arithmetic with broadcasting, scaling and sums.

use vitrine_tensor::Tensor;

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// `a ∘ b`, broadcast. Products and quotients save both operands.
pub(crate) enum Binary {
    Add { a: Vec<usize>, b: Vec<usize> },
    Sub { a: Vec<usize>, b: Vec<usize> },
    Mul { a: Tensor, b: Tensor },
    Div { a: Tensor, b: Tensor },
}

impl Var {
    /// `a + b`, broadcast.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let value = self.value().add(other.value())?;
        Self::record("add", value, &[self, other], || {
            Op::Binary(Binary::Add { a: self.shape().to_vec(), b: other.shape().to_vec() })
        })
    }

    /// `a − b`, broadcast.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        let value = self.value().sub(other.value())?;
        Self::record("sub", value, &[self, other], || {
            Op::Binary(Binary::Sub { a: self.shape().to_vec(), b: other.shape().to_vec() })
        })
    }

    /// `a · b`, broadcast.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        let value = self.value().mul(other.value())?;
        Self::record("mul", value, &[self, other], || {
            Op::Binary(Binary::Mul { a: self.value().clone(), b: other.value().clone() })
        })
    }

    /// `a / b`, broadcast.
    pub fn div(&self, other: &Self) -> Result<Self> {
        let value = self.value().div(other.value())?;
        Self::record("div", value, &[self, other], || {
            Op::Binary(Binary::Div { a: self.value().clone(), b: other.value().clone() })
        })
    }
}

impl Binary {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        match self {
            Self::Add { a, b } => {
                if inputs[0].is_some() {
                    flow.add(inputs[0], dy.sum_to(&a)?)?;
                }
                if inputs[1].is_some() {
                    flow.add(inputs[1], dy.sum_to(&b)?)?;
                }
            }
            Self::Sub { a, b } => {
                if inputs[0].is_some() {
                    flow.add(inputs[0], dy.sum_to(&a)?)?;
                }
                if inputs[1].is_some() {
                    flow.add(inputs[1], dy.scale(-1.0)?.sum_to(&b)?)?;
                }
            }
            Self::Mul { a, b } => {
                if inputs[0].is_some() {
                    flow.add(inputs[0], dy.mul(&b)?.sum_to(a.shape())?)?;
                }
                if inputs[1].is_some() {
                    flow.add(inputs[1], dy.mul(&a)?.sum_to(b.shape())?)?;
                }
            }
            Self::Div { a, b } => {
                let da = dy.div(&b)?;
                if inputs[1].is_some() {
                    let db = da.mul(&a)?.div(&b)?.scale(-1.0)?;
                    flow.add(inputs[1], db.sum_to(b.shape())?)?;
                }
                if inputs[0].is_some() {
                    flow.add(inputs[0], da.sum_to(a.shape())?)?;
                }
            }
        }
        Ok(())
    }
}

/// `factor · x`
pub(crate) struct Scale(f64);

impl Var {
    /// `factor · x`
    pub fn scale(&self, factor: f64) -> Result<Self> {
        let value = self.value().scale(factor)?;
        Self::record("scale", value, &[self], || Op::Scale(Scale(factor)))
    }
}

impl Scale {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], dy.scale(self.0)?)
    }
}

/// A sum over one axis: saves the input's shape.
pub(crate) struct SumAxis {
    axis: usize,
    shape: Vec<usize>,
}

impl Var {
    /// The sum over one axis, which is dropped.
    pub fn sum_axis(&self, axis: usize) -> Result<Self> {
        let value = self.value().sum_axis(axis)?;
        let shape = self.shape().to_vec();
        Self::record("sum_axis", value, &[self], || Op::SumAxis(SumAxis { axis, shape }))
    }

    /// The mean over one axis, which is dropped.
    pub fn mean_axis(&self, axis: usize) -> Result<Self> {
        let count = self.shape().get(axis).copied().unwrap_or(1);
        self.sum_axis(axis)?.scale(1.0 / count as f64)
    }

    /// The sum of all elements, a scalar.
    pub fn sum(&self) -> Result<Self> {
        self.reshape(&[self.value().elements()])?.sum_axis(0)
    }
}

impl SumAxis {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let mut kept = self.shape.clone();
        kept[self.axis] = 1;
        flow.add(inputs[0], dy.reshape(&kept)?.broadcast_to(&self.shape)?.copy()?)
    }
}
