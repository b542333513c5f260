//! Scaled dot-product attention over many heads.

use vitrine_tensor::{Attention, AttentionInputs, AttentionOutput, Dropout, Tensor};

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// The options of attention.
#[derive(Clone, Default)]
pub struct SelfAttention {
    /// The number of heads H.
    pub heads: usize,
    /// `[B]` of `i64`: keys at and past this position get no weight.
    pub valid_lens: Option<Tensor>,
    /// Dropout on the attention weights.
    pub dropout: Option<Dropout>,
}

impl SelfAttention {
    fn options(&self) -> Attention<'_> {
        Attention { heads: self.heads, valid_lens: self.valid_lens.as_ref(), dropout: self.dropout }
    }
}

/// Saves queries, keys and values (as views of what they came from), the result, and the softmax's denominators.
pub(crate) struct AttentionOp {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: AttentionOutput,
    options: SelfAttention,
    packed: bool,
}

impl Var {
    /// Attention of `self [B, N, 3D]` (queries, keys, values side by side) on itself; `[B, N, D]`.
    pub fn self_attention(&self, options: &SelfAttention) -> Result<Self> {
        let [query, key, value] = AttentionInputs::packed(self.value())?;
        attend(&[self], [query, key, value], options)
    }

    /// Attention of queries `self [B, Q, D]` on keys and values side by side, `key_value [B, K, 2D]`; `[B, Q, D]`.
    pub fn attention(&self, key_value: &Self, options: &SelfAttention) -> Result<Self> {
        let width = self.shape().last().copied().unwrap_or(0);
        let key = key_value.value().narrow(2, 0, width)?;
        let value = key_value.value().narrow(2, width, width)?;
        attend(&[self, key_value], [self.value().clone(), key, value], options)
    }
}

fn attend(
    inputs: &[&Var],
    [query, key, value]: [Tensor; 3],
    options: &SelfAttention,
) -> Result<Var> {
    let views = AttentionInputs { query: &query, key: &key, value: &value };
    let output = views.attend(&options.options())?;
    Var::record("attention", output.y.clone(), inputs, || {
        let (options, packed) = (options.clone(), inputs.len() == 1);
        Op::Attention(AttentionOp { query, key, value, output, options, packed })
    })
}

impl AttentionOp {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let views = AttentionInputs { query: &self.query, key: &self.key, value: &self.value };
        let options = self.options.options();
        let grads = views.attend_grad(&options, &self.output, &dy, self.packed)?;
        for (&input, grad) in inputs.iter().zip(grads) {
            flow.add(input, grad)?;
        }
        Ok(())
    }
}
