//! Adding the class token and the positions.

use vitrine_tensor::Dropout;

use crate::Var;
use crate::error::Result;

impl Var {
    /// `dropout(class ++ patches + positions)`: patches `[B, M, D]`, class `[1, 1, D]` or none, positions `[1, N, D]`
    /// with N = M + 1 (M without class); the result is `[B, N, D]`.
    pub fn embed_tokens(
        &self,
        class: Option<&Self>,
        positions: &Self,
        dropout: Option<Dropout>,
    ) -> Result<Self> {
        let value =
            self.value().embed_tokens(class.map(Self::value), positions.value(), dropout)?;
        let mut inputs = vec![self, positions];
        inputs.extend(class);
        let (tokens, width) = (value.shape()[1], value.shape()[2]);
        let first = usize::from(class.is_some());
        Self::record("embed_tokens", value, &inputs, &[], move |dy, inputs, flow| {
            let dsum = match dropout {
                Some(dropout) => dy.dropout(dropout)?,
                None => dy,
            };
            let over_batch = dsum.sum_axis_wide(0)?.reshape(&[1, tokens, width])?;
            if let Some(&class) = inputs.get(2) {
                flow.add_wide(class, over_batch.narrow(1, 0, 1)?.copy()?, dsum.dtype())?;
            }
            flow.add_wide(inputs[1], over_batch, dsum.dtype())?;
            flow.add_with(inputs[0], || dsum.narrow(1, first, tokens - first)?.contiguous())
        })
    }
}
