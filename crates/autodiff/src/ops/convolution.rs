//! Windows of images, convolution, and max pooling.

use vitrine_tensor::{BatchNorm, Partition, Tensor, Windows};

use crate::Var;
use crate::error::Result;

impl Var {
    /// Cuts images `[B, C, H, W]` into windows `[B, M, C·p·q]`; see [`vitrine_tensor::Tensor::unfold`].
    pub fn unfold(&self, windows: &Windows) -> Result<Self> {
        let value = self.value().unfold(windows)?;
        let (windows, images) = (*windows, self.shape().to_vec());
        self.record_one("unfold", value, &[], move |dy| dy.fold(&windows, &images))
    }

    /// Images `[B, H, W, C]` parted into windows `[B·M, p·q, C]`; see [`vitrine_tensor::Tensor::window_partition`].
    pub fn window_partition(&self, partition: &Partition) -> Result<Self> {
        let value = self.value().window_partition(partition)?;
        let (partition, images) = (*partition, self.shape().to_vec());
        self.record_one("window_partition", value, &[], move |dy| {
            dy.window_reverse(&partition, &images)
        })
    }

    /// Windows `[B·M, p·q, C]` put together again to images `[B, H, W, C]`.
    pub fn window_reverse(&self, partition: &Partition, images: &[usize]) -> Result<Self> {
        let (value, partition) = (self.value().window_reverse(partition, images)?, *partition);
        self.record_one("window_reverse", value, &[], move |dy| dy.window_partition(&partition))
    }

    /// `[B, H, W, C]` to `[B, H', W', O]` with a weight `[O, C, p, q]` and a bias `[O]`; see
    /// [`vitrine_tensor::Tensor::convolution`].
    pub fn convolution(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        windows: &Windows,
    ) -> Result<Self> {
        let (x, w, windows) = (self.value().clone(), weight.value().clone(), *windows);
        let value = x.convolution(&w, bias.map(Self::value), &windows)?;
        let mut inputs = vec![self, weight];
        inputs.extend(bias);
        let saved = [self.value(), weight.value()];
        Self::record("convolution", value, &inputs, &saved, move |dy, inputs, flow| {
            let bias = inputs.get(2).copied().flatten();
            let db = flow.accumulator(bias, &w.shape()[..1], &w)?;
            if let Some(dw) = flow.accumulator(inputs[1], w.shape(), &w)? {
                dy.convolution_grad_weight_(&x, &windows, &dw, db.as_ref())?;
            } else if let Some(db) = db {
                let outputs = dy.shape()[3];
                let pixels = dy.shape()[..3].iter().product();
                db.add_scaled_(&dy.reshape(&[pixels, outputs])?.sum_axis(0)?, 1.0)?;
            }
            flow.add_with(inputs[0], || dy.convolution_grad_input(&w, &windows, x.shape()))
        })
    }

    /// [`Var::convolution`], then [`Var::batch_norm`] by `statistics [2, O]`: in one pass where no gradient is wanted.
    pub fn convolution_batch_norm(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        windows: &Windows,
        statistics: &Tensor,
        norm: &BatchNorm<'_, Self>,
    ) -> Result<Self> {
        let mut inputs = vec![self, weight, norm.scale, norm.shift];
        inputs.extend(bias.into_iter().chain(norm.residual));
        if inputs.iter().any(|input| input.needs_grad()) {
            return Ok(self
                .convolution(weight, bias, windows)?
                .batch_norm(Some(statistics), norm)?
                .0);
        }
        let (w, bias, of) = (weight.value(), bias.map(Self::value), norm.map(Self::value));
        let value = self.value().convolution_batch_norm(w, bias, windows, statistics, &of)?;
        Ok(self.tape().constant(value))
    }

    /// The largest of each window of images `[B, H, W, C]`, `[B, H', W', C]`; see
    /// [`vitrine_tensor::Tensor::max_pool`]. Saves where in each window it was.
    pub fn max_pool(&self, windows: &Windows) -> Result<Self> {
        let (value, places) = self.value().max_pool(windows)?;
        let (windows, images) = (*windows, self.shape().to_vec());
        self.record_one("max_pool", value, &[], move |dy| {
            dy.max_pool_grad(&places, &windows, &images)
        })
    }
}
