//! Scaled dot-product attention over many heads (Vaswani et al. 2017, section 3.2), with its gradients.

use super::{check_dropout, expect_accumulator, expect_shape, same_device, same_float};
use crate::error::{Error, Result};
use crate::{DType, Device, Dropout, Shape, Tensor};

/// How the heads of an attention lie in memory, and what it is to do.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Number of heads H; the width D of queries is H times the head's.
    pub heads: usize,
    /// `[B]` of `i64`: keys at and past this position get no weight. `None`: all count.
    pub valid_lens: Option<&'a Tensor>,
    /// `[G, H, Q, K]`, dense, where G divides B: added to the scores, to those of image b the part b mod G.
    pub bias: Option<&'a Tensor>,
    /// Dropout on the attention weights. Weight `(b, h, i, j)` has the index `((b·H + h)·max(Q, K) + i)·K + j`, so
    /// that a run over the first queries alone draws the masks of the full one.
    pub dropout: Option<Dropout>,
}

/// Where queries, keys and values (or their gradients) are. The last axis is dense in each.
#[derive(Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// `[B, Q, D]`, strided.
    pub query: &'a Tensor,
    /// `[B, K, D]`, strided.
    pub key: &'a Tensor,
    /// `[B, K, D]`, strided.
    pub value: &'a Tensor,
}

/// Where attention writes gradients.
#[derive(Clone, Copy)]
pub struct AttentionGrads<'a> {
    /// Those of queries, keys and values.
    pub inputs: InputGrads<'a>,
    /// `[B, H, Q, K]`, of the accumulator's type, if there is a bias: those of the scores, bias included.
    pub scores: Option<&'a Tensor>,
}

/// Where attention writes the gradients of queries, keys and values.
#[derive(Clone, Copy)]
pub enum InputGrads<'a> {
    /// One tensor `[B, N, 3D]`: queries, keys, values side by side.
    Packed(&'a Tensor),
    /// Queries `[B, Q, D]`, and keys beside values `[B, K, 2D]`.
    Split(&'a Tensor, &'a Tensor),
}

/// Scaled dot-product attention.
pub trait Attentions {
    /// Scaled dot-product attention; `y [B, Q, D]`, `log_sums [B, H, Q]` (of the accumulator's type) receives the
    /// logarithm of each softmax's denominator.
    fn attention(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
    ) -> Result<()>;
    /// The gradients of attention. The weights are computed again from `log_sums`, so memory stays linear in the
    /// number of tokens.
    fn attention_grad(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
        dy: &Tensor,
        grads: &AttentionGrads<'_>,
    ) -> Result<()>;
}

/// What attention gives: the result, and what its gradient needs.
pub struct AttentionOutput {
    /// `[B, Q, D]`
    pub y: Tensor,
    /// `[B, H, Q]`, of the accumulator's type: the logarithm of each softmax's denominator.
    pub log_sums: Tensor,
}

impl AttentionInputs<'_> {
    /// Queries, keys and values side by side in `[B, N, 3D]`.
    pub fn packed(qkv: &Tensor) -> Result<[Tensor; 3]> {
        let width = third(qkv)?;
        Ok([
            qkv.narrow(2, 0, width)?,
            qkv.narrow(2, width, width)?,
            qkv.narrow(2, 2 * width, width)?,
        ])
    }

    /// `softmax(q·kᵀ/√d + bias)·v` for each head, `d` being a head's width D/H.
    pub fn attend(&self, attention: &Attention<'_>) -> Result<AttentionOutput> {
        const OP: &str = "attention";
        let device = check(OP, self, attention)?;
        let [batch, queries, width] = extents(self.query);
        let dtype = self.query.dtype();
        let shape = Shape::from_valid(&[batch, queries, width]);
        let y = Tensor::uninitialised(shape, dtype, device)?;
        let heads = Shape::from_valid(&[batch, attention.heads, queries]);
        let log_sums = Tensor::uninitialised(heads, dtype.accumulator(), device)?;
        device.backend().attention(self, attention, &y, &log_sums)?;
        Ok(AttentionOutput { y, log_sums })
    }

    /// The gradients of [`AttentionInputs::attend`] for `dy [B, Q, D]`, side by side: `[B, N, 3D]` if `packed` (as
    /// many queries as keys), else one tensor for the queries `[B, Q, D]` and one for keys and values `[B, K, 2D]`;
    /// and, last, that of the bias `[G, H, Q, K]`, in the accumulator's type, if there is one.
    pub fn attend_grad(
        &self,
        attention: &Attention<'_>,
        output: &AttentionOutput,
        dy: &Tensor,
        packed: bool,
    ) -> Result<Vec<Tensor>> {
        const OP: &str = "attention_grad";
        let device = check(OP, self, attention)?;
        let [batch, queries, width] = extents(self.query);
        let keys = self.key.shape()[1];
        same_float(OP, self.query, &[dy, &output.y])?;
        expect_shape(OP, dy, output.y.shape(), "dy must have the result's shape")?;
        expect_shape(OP, &output.y, self.query.shape(), "y must have the queries' shape")?;
        let log_sums = &output.log_sums;
        let heads = [batch, attention.heads, queries];
        expect_shape(OP, log_sums, &heads, "log_sums must be [B, H, Q]")?;
        expect_accumulator(OP, log_sums, self.query)?;
        let dtype = self.query.dtype();
        let make = |dims: [usize; 3]| Tensor::uninitialised(Shape::new(&dims)?, dtype, device);
        let mut made = if packed {
            expect_shape(OP, self.key, self.query.shape(), "packed: as many queries as keys")?;
            vec![make([batch, keys, 3 * width])?]
        } else {
            vec![make([batch, queries, width])?, make([batch, keys, 2 * width])?]
        };
        let inputs = match made.as_slice() {
            [qkv] => InputGrads::Packed(qkv),
            [q, kv] => InputGrads::Split(q, kv),
            _ => unreachable!("one or two tensors were made above"),
        };
        let (y, log_sums, dy) = (output.y.contiguous()?, log_sums.contiguous()?, dy.contiguous()?);
        let scores = [batch, attention.heads, queries, keys];
        let dscores = attention.bias.map(|bias| {
            let dscores = Tensor::uninitialised(Shape::new(&scores)?, dtype.accumulator(), device);
            Ok::<_, Error>((bias.shape()[0], dscores?))
        });
        let dscores = dscores.transpose()?;
        let grads = AttentionGrads { inputs, scores: dscores.as_ref().map(|(_, dscores)| dscores) };
        device.backend().attention_grad(self, attention, &y, &log_sums, &dy, &grads)?;
        if let Some((groups, dscores)) = dscores {
            let [_, heads, queries, keys] = scores;
            let shape = [batch / groups.max(1), groups, heads, queries, keys];
            made.push(dscores.reshape(&shape)?.sum_axis(0)?);
        }
        Ok(made)
    }
}

fn third(qkv: &Tensor) -> Result<usize> {
    match qkv.shape() {
        [_, _, width] if width % 3 == 0 => Ok(width / 3),
        _ => Err(qkv.shape_error("attention", "packed queries, keys, values must be [B, N, 3D]")),
    }
}

fn extents(t: &Tensor) -> [usize; 3] {
    [t.shape()[0], t.shape()[1], t.shape()[2]]
}

fn check<'a>(
    op: &'static str,
    inputs: &AttentionInputs<'a>,
    attention: &Attention<'_>,
) -> Result<&'a Device> {
    let AttentionInputs { query, key, value } = inputs;
    let device = same_float(op, query, &[key, value])?;
    expect_shape(op, value, key.shape(), "keys and values must have one shape [B, K, D]")?;
    let fits = query.rank() == 3
        && key.rank() == 3
        && query.shape()[0] == key.shape()[0]
        && query.shape()[2] == key.shape()[2];
    if !fits {
        return Err(Error::ShapeMismatch {
            op,
            lhs: query.shape().to_vec(),
            rhs: key.shape().to_vec(),
            rule: "queries must be [B, Q, D] and keys [B, K, D]",
        });
    }
    if [query, key, value].iter().any(|t| t.strides()[2] != 1 && t.shape()[2] > 1) {
        return Err(query.shape_error(op, "the last axis must be dense"));
    }
    let [batch, _, width] = extents(query);
    if attention.heads == 0 || !width.is_multiple_of(attention.heads) {
        return Err(Error::Argument {
            op,
            name: "number of heads",
            value: attention.heads.to_string(),
            rule: "it must divide the width of the queries",
        });
    }
    check_dropout(op, attention.dropout.as_ref())?;
    if let Some(bias) = attention.bias {
        same_float(op, query, &[bias])?;
        let groups = bias.shape().first().copied().unwrap_or(0);
        let expected = [groups, attention.heads, query.shape()[1], key.shape()[1]];
        expect_shape(op, bias, &expected, "the bias must be [G, H, Q, K]")?;
        if groups == 0 || !batch.is_multiple_of(groups) || !bias.is_contiguous() {
            return Err(bias
                .shape_error(op, "the bias' first axis must divide the batch, and all be dense"));
        }
    }
    if let Some(lens) = attention.valid_lens {
        same_device(op, query, &[lens])?;
        if lens.dtype() != DType::I64 {
            return Err(Error::DType { op, dtype: lens.dtype(), expected: "i64 valid_lens" });
        }
        expect_shape(op, lens, &[batch], "valid_lens must be [B]")?;
        if !lens.is_contiguous() {
            return Err(lens.shape_error(op, "valid_lens must be dense"));
        }
    }
    Ok(device)
}
