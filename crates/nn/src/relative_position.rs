//! Relative position bias: what a head adds to the score of two tokens of a window for their distance.

use vitrine_autodiff::Var;
use vitrine_tensor::{Device, Partition, Tensor};

use crate::error::Result;
use crate::init::Init;
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;

/// A learned number for each distance of two tokens in a window of p by q, and each head (Liu et al. 2021, "Swin
/// Transformer", equation 4).
#[derive(Clone, Copy, Debug)]
pub struct RelativePositionBias {
    table: ParameterId,
    heads: usize,
    tokens: usize,
}

impl RelativePositionBias {
    /// Declares `relative_position_bias_table [(2p − 1)·(2q − 1), H]`.
    pub fn new(scope: &mut Scope<'_>, (p, q): (usize, usize), heads: usize) -> Self {
        let (name, distances) = ("relative_position_bias_table", (2 * p - 1) * (2 * q - 1));
        let table = scope.vector(name, &[distances, heads], &Init::Normal { std: 0.02 }, distances);
        Self { table, heads, tokens: p * q }
    }

    /// The bias `[1, H, N, N]` of the pairs, or `[M, H, N, N]` where windows differ.
    pub fn forward(&self, pass: &Pass<'_>, pairs: &WindowPairs) -> Result<Var> {
        let distances = pass.constant(pairs.distances.to_dtype(pass.dtype())?);
        let chosen = distances.matmul(&pass.parameter(self.table)?)?; // [N·N, H]
        let bias = chosen.permute(&[1, 0])?.reshape(&[1, self.heads, self.tokens, self.tokens])?;
        match &pairs.mask {
            None => Ok(bias),
            Some(mask) => Ok(bias.add(&pass.constant(mask.to_dtype(pass.dtype())?))?),
        }
    }
}

/// The pairs of tokens of windows, into which images are parted.
#[derive(Clone, Debug)]
pub struct WindowPairs {
    /// `[N·N, (2p − 1)·(2q − 1)]`: 1 at each pair's distance, down and across, else 0.
    distances: Tensor,
    /// `[M, 1, N, N]`: −100 for two that were no neighbours before the images were turned, else 0.
    mask: Option<Tensor>,
}

impl WindowPairs {
    /// Of images of a height and a width that the window divides.
    pub fn new(
        partition: &Partition,
        (height, width): (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let ((p, q), (down, right)) = (partition.window, partition.shift);
        let tokens = p * q;
        let pairs = || (0..tokens).flat_map(|i| (0..tokens).map(move |j| (i, j)));
        let count = (2 * p - 1) * (2 * q - 1);
        let mut distances = vec![0.0f32; tokens * tokens * count];
        for (pair, (i, j)) in pairs().enumerate() {
            let (y, x) = (i / q + p - 1 - j / q, i % q + q - 1 - j % q);
            distances[pair * count + y * (2 * q - 1) + x] = 1.0;
        }
        let distances = Tensor::from_slice(&distances, &[tokens * tokens, count], device)?;
        if (down, right) == (0, 0) {
            return Ok(Self { distances, mask: None });
        }
        // Of a turned axis: what was not turned past the edge, and what was. Windows but the last hold the first alone.
        let part = |at: usize, shift: usize, extent: usize| shift > 0 && at + shift >= extent;
        let mut mask = Vec::with_capacity(height * width * tokens);
        for (row, column) in
            (0..height / p).flat_map(|row| (0..width / q).map(move |column| (row, column)))
        {
            let parts = |token: usize| {
                let (y, x) = (row * p + token / q, column * q + token % q);
                (part(y, down, height), part(x, right, width))
            };
            mask.extend(pairs().map(|(i, j)| if parts(i) == parts(j) { 0.0 } else { -100.0f32 }));
        }
        let windows = height / p * (width / q);
        let mask = Tensor::from_slice(&mask, &[windows, 1, tokens, tokens], device)?;
        Ok(Self { distances, mask: Some(mask) })
    }
}
