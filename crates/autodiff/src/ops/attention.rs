//! Scaled dot-product attention over many heads.

use vitrine_tensor::{Attention, AttentionInputs, Dropout, Tensor};

use crate::Var;
use crate::error::Result;

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

impl Var {
    /// Attention of `self [B, N, 3D]` (queries, keys, values side by side) on itself; `[B, N, D]`.
    pub fn self_attention(&self, options: &SelfAttention) -> Result<Self> {
        let [query, key, value] = AttentionInputs::packed(self.value())?;
        attend(&[self], [query, key, value], options)
    }

    /// Attention of queries `self [B, Q, D]` on keys and values side by side, `key_value [B, K, 2D]`; `[B, Q, D]`.
    pub fn attention(&self, key_value: &Self, options: &SelfAttention) -> Result<Self> {
        let width = self.shape().last().copied().unwrap_or(0);
        if key_value.shape().len() != 3 || key_value.shape()[2] != 2 * width {
            return Err(vitrine_tensor::Error::ShapeMismatch {
                op: "attention",
                lhs: self.shape().to_vec(),
                rhs: key_value.shape().to_vec(),
                rule: "queries must be [B, Q, D], keys and values side by side [B, K, 2D]",
            }
            .into());
        }
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
    let output =
        AttentionInputs { query: &query, key: &key, value: &value }.attend(&options.options())?;
    let (options, packed) = (options.clone(), inputs.len() == 1);
    // Queries, keys and values are views of what they came from.
    let saved = [&query, &key, &value, &output.y, &output.log_sums].map(Tensor::clone);
    Var::record(
        "attention",
        output.y.clone(),
        inputs,
        &saved.each_ref(),
        move |dy, inputs, flow| {
            let views = AttentionInputs { query: &query, key: &key, value: &value };
            let grads = views.attend_grad(&options.options(), &output, &dy, packed)?;
            inputs.iter().zip(grads).try_for_each(|(&input, grad)| flow.add(input, grad))
        },
    )
}
