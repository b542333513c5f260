//! Windows of images, and convolution.

use vitrine_tensor::{Tensor, Windows};

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// Saves the windows and the images' shape.
pub(crate) struct Unfold {
    windows: Windows,
    images: Vec<usize>,
}

impl Var {
    /// Cuts images `[B, C, H, W]` into windows `[B, M, C·p·q]`; see [`Tensor::unfold`].
    pub fn unfold(&self, windows: &Windows) -> Result<Self> {
        let value = self.value().unfold(windows)?;
        Self::record("unfold", value, &[self], || {
            Op::Unfold(Unfold { windows: *windows, images: self.shape().to_vec() })
        })
    }
}

impl Unfold {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], dy.fold(&self.windows, &self.images)?)
    }
}

/// Saves input and weight.
pub(crate) struct Convolution {
    x: Tensor,
    weight: Tensor,
    windows: Windows,
}

impl Var {
    /// `[B, C, H, W]` to `[B, O, H', W']` with a weight `[O, C, p, q]` and a bias `[O]`; see [`Tensor::convolution`].
    pub fn convolution(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        windows: &Windows,
    ) -> Result<Self> {
        let value = self.value().convolution(weight.value(), bias.map(Self::value), windows)?;
        let mut inputs = vec![self, weight];
        inputs.extend(bias);
        Self::record("convolution", value, &inputs, || {
            let (x, weight) = (self.value().clone(), weight.value().clone());
            Op::Convolution(Convolution { x, weight, windows: *windows })
        })
    }
}

impl Convolution {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let bias = inputs.get(2).copied().flatten();
        let db = match bias {
            Some(_) => flow.accumulator(bias, &self.weight.shape()[..1], &self.weight)?,
            None => None,
        };
        if let Some(dw) = flow.accumulator(inputs[1], self.weight.shape(), &self.weight)? {
            dy.convolution_grad_weight_(&self.x, &self.windows, &dw, db.as_ref())?;
        } else if let Some(db) = db {
            let [batch, outputs] = [dy.shape()[0], dy.shape()[1]];
            let pixels = dy.shape()[2] * dy.shape()[3];
            let sums = dy.reshape(&[batch, outputs, pixels])?.sum_axis(2)?.sum_axis(0)?;
            db.add_scaled_(&sums, 1.0)?;
        }
        if inputs[0].is_none() {
            return Ok(());
        }
        let dx = dy.convolution_grad_input(&self.weight, &self.windows, self.x.shape())?;
        flow.add(inputs[0], dx)
    }
}
