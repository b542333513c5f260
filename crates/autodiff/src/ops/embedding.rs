//! Prefix tokens and positions, added and as rotations.

use vitrine_tensor::{Dropout, Rotation, Tensor};

use crate::Var;
use crate::error::Result;

impl Var {
    /// `dropout(prefix ++ patches + positions)`: patches `[B, M, D]`, prefix any number of `[1, P, D]`, positions
    /// `[1, N, D]` with N all tokens, or `[1, M, D]` for patches alone, or none; the result is `[B, N, D]`.
    pub fn embed_tokens(
        &self,
        prefix: &[&Self],
        positions: Option<&Self>,
        dropout: Option<Dropout>,
    ) -> Result<Self> {
        if prefix.is_empty() && positions.is_none() && dropout.is_none() {
            return Ok(self.clone());
        }
        let front: Vec<&Tensor> = prefix.iter().map(|part| part.value()).collect();
        let value = self.value().embed_tokens(&front, positions.map(Self::value), dropout)?;
        let inputs: Vec<&Self> =
            [self].into_iter().chain(prefix.iter().copied()).chain(positions).collect();
        let (tokens, width, patches) = (value.shape()[1], value.shape()[2], self.shape()[1]);
        let counts: Vec<usize> = front.iter().map(|part| part.shape()[1]).collect();
        let positioned = positions.map(|positions| positions.shape()[1]);
        Self::record("embed_tokens", value, &inputs, &[], move |dy, inputs, flow| {
            let dsum = match dropout {
                Some(dropout) => dy.dropout(dropout)?,
                None => dy,
            };
            let before = tokens - patches;
            if inputs[1..].iter().any(Option::is_some) {
                let summed = if positioned.is_some() { tokens } else { before };
                let over_batch = dsum.narrow(1, 0, summed)?.sum_axis_wide(0)?;
                let over_batch = over_batch.reshape(&[1, summed, width])?;
                let part = |start, count| over_batch.narrow(1, start, count)?.copy();
                let mut start = 0;
                for (&input, &count) in inputs[1..].iter().zip(&counts) {
                    flow.add_wide(input, part(start, count)?, dsum.dtype())?;
                    start += count;
                }
                if let Some(positioned) = positioned {
                    let all = positioned == tokens;
                    let grad = if all { over_batch } else { part(before, patches)? };
                    flow.add_wide(inputs[1 + counts.len()], grad, dsum.dtype())?;
                }
            }
            flow.add_with(inputs[0], || dsum.narrow(1, before, patches)?.contiguous())
        })
    }

    /// Turns columns of the last tokens of `[B, N, W]`, by angles that get no gradient. Saves nothing of x.
    pub fn rotate(&self, rotation: &Rotation) -> Result<Self> {
        let value = self.value().rotate(rotation, false)?;
        let saved = [&rotation.cos, &rotation.sin];
        let rotation = rotation.clone();
        self.record_one("rotate", value, &saved, move |dy| dy.rotate(&rotation, true))
    }
}
