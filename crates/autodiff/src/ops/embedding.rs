//! Adding the class token and the positions.

use vitrine_tensor::{Dropout, Tensor};

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// Saves the mask's address, and whether there is a class token.
pub(crate) struct EmbedTokens {
    dropout: Option<Dropout>,
    has_class: bool,
}

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
        Self::record("embed_tokens", value, &inputs, || {
            Op::EmbedTokens(EmbedTokens { dropout, has_class: class.is_some() })
        })
    }
}

impl EmbedTokens {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let dsum = match self.dropout {
            Some(dropout) => dy.dropout(dropout)?,
            None => dy,
        };
        let &[_, tokens, width] = dsum.shape() else { unreachable!("recorded with three axes") };
        let first = usize::from(self.has_class);
        let over_batch = dsum.sum_axis(0)?.reshape(&[1, tokens, width])?;
        if self.has_class {
            flow.add(inputs[2], over_batch.narrow(1, 0, 1)?.copy()?)?;
        }
        flow.add(inputs[1], over_batch)?;
        if inputs[0].is_some() {
            flow.add(inputs[0], dsum.narrow(1, first, tokens - first)?.contiguous()?)?;
        }
        Ok(())
    }
}
