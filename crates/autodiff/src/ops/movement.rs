//! Operations that move elements without arithmetic: reshape, permute, narrow, concat, cast.

use vitrine_tensor::{DType, Tensor};

use crate::Var;
use crate::error::Result;

impl Var {
    /// The same elements under another shape.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        let (value, shape) = (self.value().reshape(shape)?, self.shape().to_vec());
        self.record_one("reshape", value, &[], move |dy| dy.reshape(&shape))
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]` of `self`.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        let value = self.value().permute(order)?;
        let mut inverse = vec![0; order.len()];
        for (to, &from) in order.iter().enumerate() {
            inverse[from] = to;
        }
        self.record_one("permute", value, &[], move |dy| dy.permute(&inverse))
    }

    /// `length` entries along `axis`, from `start` on.
    pub fn narrow(&self, axis: usize, start: usize, length: usize) -> Result<Self> {
        let value = self.value().narrow(axis, start, length)?;
        let whole = self.shape().to_vec();
        Self::record("narrow", value, &[self], &[], move |dy, inputs, flow| {
            if let Some(sum) = flow.accumulator(inputs[0], &whole, &dy)? {
                let part = sum.narrow(axis, start, length)?;
                part.copy_(&part.add(&dy)?)?;
            }
            Ok(())
        })
    }

    /// Joins variables along `axis`. At least one must be given.
    pub fn concat(parts: &[&Self], axis: usize) -> Result<Self> {
        let values: Vec<&Tensor> = parts.iter().map(|part| part.value()).collect();
        let value = Tensor::concat(&values, axis)?;
        let lengths: Vec<usize> = parts.iter().map(|part| part.shape()[axis]).collect();
        Self::record("concat", value, parts, &[], move |dy, inputs, flow| {
            let mut start = 0;
            for (&input, length) in inputs.iter().zip(lengths) {
                flow.add_with(input, || dy.narrow(axis, start, length)?.copy())?;
                start += length;
            }
            Ok(())
        })
    }

    /// The values in another element type; the gradient comes back in the input's. Integers are constants.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let (value, from) = (self.value().to_dtype(dtype)?, self.value().dtype());
        if !dtype.is_float() {
            return Ok(self.tape().constant(value));
        }
        self.record_one("to_dtype", value, &[], move |dy| dy.to_dtype(from))
    }
}
