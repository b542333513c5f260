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
    /// `[G, H, Q, K]`, where G divides B: added to the scores, to those of image b the part b mod G.
    pub bias: Option<Var>,
    /// Dropout on the attention weights.
    pub dropout: Option<Dropout>,
}

impl SelfAttention {
    fn with<'a>(&'a self, bias: Option<&'a Tensor>) -> Attention<'a> {
        let (valid_lens, dropout) = (self.valid_lens.as_ref(), self.dropout);
        Attention { heads: self.heads, valid_lens, bias, dropout }
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
    let bias = options.bias.as_ref().map(|bias| bias.value().contiguous()).transpose()?;
    let output = AttentionInputs { query: &query, key: &key, value: &value }
        .attend(&options.with(bias.as_ref()))?;
    let packed = inputs.len() == 1;
    // Queries, keys and values are views of what they came from.
    let mut saved = vec![&query, &key, &value, &output.y, &output.log_sums];
    saved.extend(&bias);
    let saved: Vec<Tensor> = saved.into_iter().cloned().collect();
    let saved: Vec<&Tensor> = saved.iter().collect();
    let all: Vec<&Var> = inputs.iter().copied().chain(&options.bias).collect();
    // Without the variable: what the tape holds must not hold the tape.
    let options = SelfAttention { bias: None, ..options.clone() };
    Var::record("attention", output.y.clone(), &all, &saved, move |dy, inputs, flow| {
        let views = AttentionInputs { query: &query, key: &key, value: &value };
        let options = options.with(bias.as_ref());
        let mut grads = views.attend_grad(&options, &output, &dy, packed)?;
        if let Some(bias) = &bias
            && let Some(last) = grads.pop()
        {
            grads.push(last.to_dtype(bias.dtype())?);
        }
        inputs.iter().zip(grads).try_for_each(|(&input, grad)| flow.add(input, grad))
    })
}
