//! Attention and its gradients: packed and apart, with `valid_lens` and dropout.

use vitrine_tensor::{Attention, AttentionInputs, AttentionOutput, DType, Dropout, Result, Tensor};

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Input, Layout, Setup};
use crate::reference::attention as reference;
use crate::reference::{Array, Sum, flat};

/// How queries, keys and values lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// Side by side in one tensor.
    Packed,
    /// The queries of the first tokens of one tensor that holds all three.
    FirstQueries,
    /// Queries alone, keys beside values.
    Split,
    /// Three tensors, each a part of a wider one.
    Apart,
}

/// Sequences, queries, keys, width, heads.
pub(crate) type Extents = [usize; 5];

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) extents: Extents,
    pub(crate) form: Form,
    pub(crate) valid_lens: Option<&'static [i64]>,
    pub(crate) dropout: Option<Dropout>,
}

/// Heads narrower than this are multiplied in the accumulator's type. For wider ones a backend may round weights and
/// the gradients of scores to `bf16`.
const ROUNDED_FROM: usize = 16;

/// More than the 64 queries that are worked on at a time, and heads of each kind.
const PLANS: [(Extents, Form); 16] = [
    ([1, 1, 1, 1, 1], Form::Packed),
    ([2, 5, 5, 6, 2], Form::Packed),
    ([2, 5, 5, 6, 6], Form::Packed),
    ([0, 5, 5, 6, 2], Form::Packed),
    ([5, 65, 65, 6, 2], Form::Packed),
    ([2, 130, 130, 24, 3], Form::Packed),
    ([5, 3, 7, 8, 4], Form::Split),
    ([2, 7, 3, 8, 1], Form::Apart),
    ([3, 130, 70, 10, 2], Form::Split),
    ([5, 1, 37, 64, 8], Form::FirstQueries),
    ([2, 3, 9, 6, 2], Form::FirstQueries),
    ([2, 4, 1, 6, 2], Form::Apart),
    ([2, 37, 37, 64, 2], Form::Packed),
    ([1, 65, 131, 64, 1], Form::Split),
    ([1, 130, 66, 48, 3], Form::Apart),
    ([2, 1, 7, 34, 2], Form::FirstQueries),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (extents, form) in PLANS {
        for valid_lens in [None, Some([0, 1, 3, 1000, -4].as_slice()), Some(&[5, 70, 2, 0, 33])] {
            for dropout in [None, Some(mask(0.3, 7))] {
                let plan = Plan { extents, form, valid_lens, dropout };
                let name = format!(
                    "{extents:?} {form:?}, valid_lens {valid_lens:?}, dropout {}",
                    dropout.is_some()
                );
                cases.push(Case::new("attention", name.clone(), move |s| forward(s, &plan)));
                cases.push(Case::new("attention_grad", name, move |s| gradient(s, &plan)));
            }
        }
    }
    let empty = |extents, form| Plan { extents, form, valid_lens: None, dropout: None };
    for (name, plan) in [
        ("no keys", empty([2, 3, 0, 4, 2], Form::Split)),
        ("no queries", empty([2, 0, 3, 4, 2], Form::Split)),
    ] {
        cases.push(Case::new("attention", name, move |s| forward(s, &plan)));
        cases.push(Case::new("attention_grad", name, move |s| gradient(s, &plan)));
    }
    cases
}

/// Queries, keys and values as tensors and as values.
struct Operands {
    tensors: [Tensor; 3],
    values: [Array; 3],
}

fn operands(s: &Setup, plan: &Plan) -> Result<Operands> {
    let [batch, queries, keys, width, _] = plan.extents;
    let part = |input: &Input, at: usize| input.tensor.narrow(2, at * width, width);
    let part_values = |input: &Input, at: usize| {
        let columns = at * width..(at + 1) * width;
        input.values.slice(ndarray::s![.., .., columns]).to_owned().into_dyn()
    };
    Ok(match plan.form {
        Form::Packed | Form::FirstQueries => {
            let qkv = s.normal(1, &[batch, keys, 3 * width])?;
            let [q, k, v] = AttentionInputs::packed(&qkv.tensor)?;
            let [q_values, k_values, v_values] = [0, 1, 2].map(|at| part_values(&qkv, at));
            let q_values = q_values.slice(ndarray::s![.., ..queries, ..]).to_owned().into_dyn();
            Operands {
                tensors: [q.narrow(1, 0, queries)?, k, v],
                values: [q_values, k_values, v_values],
            }
        }
        Form::Split => {
            let q = s.normal(1, &[batch, queries, width])?;
            let kv = s.normal(2, &[batch, keys, 2 * width])?;
            Operands {
                tensors: [q.tensor.clone(), part(&kv, 0)?, part(&kv, 1)?],
                values: [q.values.clone(), part_values(&kv, 0), part_values(&kv, 1)],
            }
        }
        Form::Apart => {
            let q = s.laid_out(1, &[batch, queries, width], Layout::Narrowed)?;
            let k = s.laid_out(2, &[batch, keys, width], Layout::Offset)?;
            let v = s.laid_out(3, &[batch, keys, width], Layout::Narrowed)?;
            Operands {
                tensors: [q.tensor, k.tensor, v.tensor],
                values: [q.values, k.values, v.values],
            }
        }
    })
}

impl Plan {
    fn heads(&self) -> usize {
        self.extents[4]
    }

    fn lens(&self, s: &Setup) -> Result<Option<Tensor>> {
        let batch = self.extents[0];
        let lens = self.valid_lens.map(|lens| &lens[..batch]);
        lens.map(|lens| Tensor::from_slice(lens, &[batch], &s.device)).transpose()
    }

    /// What the rounding of weights and gradients of scores, where it is allowed, adds to.
    fn spread(
        &self,
        dtype: DType,
        inputs: [&Array; 3],
        y: &Array,
        dy: &Array,
    ) -> reference::Spread {
        let mut spread = reference::spread(inputs, &self.reference(), y, dy);
        if dtype != DType::BF16 || self.extents[3] / self.heads() < ROUNDED_FROM {
            spread.y.fill(0.0);
            spread.grads.iter_mut().for_each(|grad| grad.fill(0.0));
        }
        spread
    }

    fn reference(&self) -> reference::Attention<'_> {
        reference::Attention {
            heads: self.heads(),
            valid_lens: self.valid_lens,
            dropout: self.dropout.as_ref(),
        }
    }
}

pub(crate) fn forward(s: &Setup, plan: &Plan) -> Result<Vec<Comparison>> {
    let Operands { tensors: [query, key, value], values: [q, k, v] } = &operands(s, plan)?;
    let lens = plan.lens(s)?;
    let attention =
        Attention { heads: plan.heads(), valid_lens: lens.as_ref(), dropout: plan.dropout };
    let output = AttentionInputs { query, key, value }.attend(&attention)?;
    let (y, log_sums) = reference::attend(q, k, v, &plan.reference());
    let spread = plan.spread(s.dtype, [q, k, v], &y, &y.mapv(|_| 0.0)).y;
    Ok(vec![
        Comparison::new("y", &output.y, &y)?
            .loosened(s.dtype.accumulator(), &weighted(v, &y))
            .loosened(s.dtype, &spread),
        Comparison::new("log_sums", &output.log_sums, &log_sums)?,
    ])
}

/// A bound of the terms in each weighted mean of values: the largest value.
fn weighted(v: &Array, y: &Array) -> Array {
    let largest = v.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
    y.mapv(|y| if y == 0.0 { 0.0 } else { 4.0 * largest })
}

pub(crate) fn gradient(s: &Setup, plan: &Plan) -> Result<Vec<Comparison>> {
    let Operands { tensors: [query, key, value], values: [q, k, v] } = &operands(s, plan)?;
    let lens = plan.lens(s)?;
    let attention =
        Attention { heads: plan.heads(), valid_lens: lens.as_ref(), dropout: plan.dropout };
    // What forward saved is an input here: the reference's, rounded as it is stored.
    let (y, log_sums) = reference::attend(q, k, v, &plan.reference());
    let y = s.placed(&y, Layout::Dense)?;
    let log_sums = s.placed_as(&log_sums, Layout::Dense, s.dtype.accumulator())?.tensor;
    let output = AttentionOutput { y: y.tensor, log_sums };
    let dy = s.laid_out(4, y.values.shape(), Layout::Transposed)?;
    let [dq, dk, dv] = reference::attend_grad(q, k, v, &plan.reference(), &y.values, &dy.values);
    let [q_spread, k_spread, v_spread] =
        plan.spread(s.dtype, [q, k, v], &y.values, &dy.values).grads;
    let inputs = AttentionInputs { query, key, value };
    let split = inputs.attend_grad(&attention, &output, &dy.tensor, false)?;
    let dkv = sums_beside(&[&dk, &dv]);
    let mut comparisons = vec![
        Comparison::of_sum("dq", &split[0], &dq)?.loosened(s.dtype, &q_spread),
        Comparison::of_sum("dk and dv", &split[1], &dkv)?
            .loosened(s.dtype, &beside(&[&k_spread, &v_spread])),
    ];
    if plan.form == Form::Packed {
        let packed = inputs.attend_grad(&attention, &output, &dy.tensor, true)?;
        let dqkv = sums_beside(&[&dq, &dk, &dv]);
        comparisons.push(
            Comparison::of_sum("dqkv", &packed[0], &dqkv)?
                .loosened(s.dtype, &beside(&[&q_spread, &k_spread, &v_spread])),
        );
    }
    Ok(comparisons)
}

/// Arrays side by side along the last axis.
fn beside(parts: &[&Array]) -> Array {
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    let joined = ndarray::concatenate(ndarray::Axis(2), &views).expect("the shapes fit");
    crate::reference::array(joined.shape(), flat(&joined))
}

/// Sums side by side along the last axis.
fn sums_beside(parts: &[&Sum]) -> Sum {
    let join =
        |pick: fn(&Sum) -> &Array| beside(&parts.iter().map(|sum| pick(sum)).collect::<Vec<_>>());
    Sum { value: join(|sum| &sum.value), terms: join(|sum| &sum.terms) }
}
