//! Operations that move elements without arithmetic: reshape, permute, narrow, concat, cast.

use vitrine_tensor::{DType, Tensor};

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// Saves the input's shape.
pub(crate) struct Reshape(Vec<usize>);

impl Var {
    /// The same elements under another shape.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        let value = self.value().reshape(shape)?;
        Self::record("reshape", value, &[self], || Op::Reshape(Reshape(self.shape().to_vec())))
    }
}

impl Reshape {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], dy.reshape(&self.0)?)
    }
}

/// Saves the order of the axes.
pub(crate) struct Permute(Vec<usize>);

impl Var {
    /// The axes in another order: axis `i` of the result is axis `order[i]` of `self`.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        let value = self.value().permute(order)?;
        Self::record("permute", value, &[self], || Op::Permute(Permute(order.to_vec())))
    }
}

impl Permute {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let mut inverse = vec![0; self.0.len()];
        for (to, &from) in self.0.iter().enumerate() {
            inverse[from] = to;
        }
        flow.add(inputs[0], dy.permute(&inverse)?)
    }
}

/// Saves where the part was, and the input's shape.
pub(crate) struct Narrow {
    axis: usize,
    start: usize,
    whole: Vec<usize>,
}

impl Var {
    /// `length` entries along `axis`, from `start` on.
    pub fn narrow(&self, axis: usize, start: usize, length: usize) -> Result<Self> {
        let value = self.value().narrow(axis, start, length)?;
        Self::record("narrow", value, &[self], || {
            Op::Narrow(Narrow { axis, start, whole: self.shape().to_vec() })
        })
    }
}

impl Narrow {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        if let Some(sum) = flow.accumulator(inputs[0], &self.whole, &dy)? {
            let part = sum.narrow(self.axis, self.start, dy.shape()[self.axis])?;
            part.copy_(&part.add(&dy)?)?;
        }
        Ok(())
    }
}

/// Saves the axis and each part's length.
pub(crate) struct Concat {
    axis: usize,
    lengths: Vec<usize>,
}

impl Var {
    /// Joins variables along `axis`. At least one must be given.
    pub fn concat(parts: &[&Self], axis: usize) -> Result<Self> {
        let values: Vec<&Tensor> = parts.iter().map(|part| part.value()).collect();
        let value = Tensor::concat(&values, axis)?;
        Self::record("concat", value, parts, || {
            let lengths = parts.iter().map(|part| part.shape()[axis]).collect();
            Op::Concat(Concat { axis, lengths })
        })
    }
}

impl Concat {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let mut start = 0;
        for (&input, length) in inputs.iter().zip(self.lengths) {
            if input.is_some() {
                flow.add(input, dy.narrow(self.axis, start, length)?.copy()?)?;
            }
            start += length;
        }
        Ok(())
    }
}

/// Saves the input's type.
pub(crate) struct Cast(DType);

impl Var {
    /// The values in another element type; the gradient comes back in the input's. Integers are constants.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let value = self.value().to_dtype(dtype)?;
        if !dtype.is_float() {
            return Ok(self.tape().constant(value));
        }
        Self::record("to_dtype", value, &[self], || Op::Cast(Cast(self.value().dtype())))
    }
}

impl Cast {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], dy.to_dtype(self.0)?)
    }
}
