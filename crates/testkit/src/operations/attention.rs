//! Attention and its gradients: packed and apart, with `valid_lens` and dropout.

use vitrine_tensor::backend::{AttentionGrads, Attentions, InputGrads};
use vitrine_tensor::{Attention, AttentionInputs, AttentionOutput, DType, Dropout, Result, Tensor};

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Input, Layout, Setup};
use crate::reference::{Array, Sum, flat, zeros};
use crate::sweep::{Axis, Reach, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use vitrine_tensor::Dropout;

    use crate::operations::norms::reference as softmax;
    use crate::reference::{Array, Sum, philox, zeros};

    /// What attention is to do.
    #[derive(Clone, Copy)]
    pub struct Attention<'a> {
        /// Number of heads.
        pub heads: usize,
        /// For each sequence, how many keys count. A negative length counts as 0, one beyond K as K.
        pub valid_lens: Option<&'a [i64]>,
        /// `[G, H, Q, K]`: added to the scores of sequence b is part b mod G.
        pub bias: Option<&'a Array>,
        /// Dropout on the weights.
        pub dropout: Option<&'a Dropout>,
    }

    /// One vector a token.
    type Rows = Vec<Vec<f64>>;

    /// The weights of one head of one sequence, what dropout multiplies them with, and the logarithms of the
    /// denominators.
    struct Weights {
        plain: Rows,
        factor: Rows,
        log_sums: Vec<f64>,
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// `Σ |a·b|`
    fn dot_terms(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
    }

    /// The part of a head: columns `h·d..(h + 1)·d` of sequence `b`.
    fn head(x: &Array, b: usize, h: usize, d: usize) -> Rows {
        (0..x.shape()[1]).map(|t| (h * d..(h + 1) * d).map(|c| x[[b, t, c]]).collect()).collect()
    }

    /// Puts the part of a head back.
    fn put(rows: &Rows, to: &mut Array, b: usize, h: usize, d: usize) {
        for (t, row) in rows.iter().enumerate() {
            for (c, &value) in row.iter().enumerate() {
                to[[b, t, h * d + c]] = value;
            }
        }
    }

    /// The weights for the queries and keys of head `h` of sequence `b`.
    fn weights(
        q: &Rows,
        k: &Rows,
        d: usize,
        attention: &Attention<'_>,
        b: usize,
        h: usize,
    ) -> Weights {
        let (queries, keys) = (q.len(), k.len());
        let valid = attention.valid_lens.map_or(keys as i64, |lens| lens[b].clamp(0, keys as i64));
        let mut out = Weights { plain: Vec::new(), factor: Vec::new(), log_sums: Vec::new() };
        for (i, q) in q.iter().enumerate() {
            let bias =
                |j: usize| attention.bias.map_or(0.0, |bias| bias[[b % bias.shape()[0], h, i, j]]);
            let keys_of = k[..valid as usize].iter().enumerate();
            let scores: Vec<f64> =
                keys_of.map(|(j, k)| dot(q, k) / (d as f64).sqrt() + bias(j)).collect();
            let (mut row, log_sum) = softmax::row(&scores);
            row.resize(keys, 0.0);
            let index = |j: usize| ((b * attention.heads + h) * queries.max(keys) + i) * keys + j;
            let factor = |j| attention.dropout.map_or(1.0, |d| philox::factor(d, index(j) as u64));
            out.plain.push(row);
            out.factor.push((0..keys).map(factor).collect());
            out.log_sums.push(log_sum);
        }
        out
    }

    /// `y [B, Q, D]` for `q [B, Q, D]`, `k` and `v [B, K, D]`; and `log_sums [B, H, Q]`.
    pub fn attend(q: &Array, k: &Array, v: &Array, attention: &Attention<'_>) -> (Array, Array) {
        let (batch, queries, d) = (q.shape()[0], q.shape()[1], q.shape()[2] / attention.heads);
        let mut y = zeros(q.shape());
        let mut log_sums = zeros(&[batch, attention.heads, queries]);
        for b in 0..batch {
            for h in 0..attention.heads {
                let [q, k, v] = [q, k, v].map(|x| head(x, b, h, d));
                let weights = weights(&q, &k, d, attention, b, h);
                let mut rows = vec![vec![0.0; d]; queries];
                for i in 0..queries {
                    log_sums[[b, h, i]] = weights.log_sums[i];
                    for (j, v) in v.iter().enumerate() {
                        let weight = weights.plain[i][j] * weights.factor[i][j];
                        (0..d).for_each(|c| rows[i][c] += weight * v[c]);
                    }
                }
                put(&rows, &mut y, b, h, d);
            }
        }
        (y, log_sums)
    }

    /// Gradients of queries, keys and values, and of the scores `[B, H, Q, K]`. `y` is the result that was saved
    /// (rounded to its element type).
    pub fn attend_grad(
        q: &Array,
        k: &Array,
        v: &Array,
        attention: &Attention<'_>,
        y: &Array,
        dy: &Array,
    ) -> ([Sum; 3], Sum) {
        let (batch, d) = (q.shape()[0], q.shape()[2] / attention.heads);
        let scale = 1.0 / (d as f64).sqrt();
        let mut grads = [q, k, v].map(|x| Sum::zeros(x.shape()));
        let mut scores = Sum::zeros(&[batch, attention.heads, q.shape()[1], k.shape()[1]]);
        for b in 0..batch {
            for h in 0..attention.heads {
                let [q, k, v, y, dy] = [q, k, v, y, dy].map(|x| head(x, b, h, d));
                let weights = weights(&q, &k, d, attention, b, h);
                // The gradients of queries, keys and values of this head, and their terms.
                let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| vec![vec![0.0; d]; x.len()]);
                let [mut tq, mut tk, mut tv] = [dq.clone(), dk.clone(), dv.clone()];
                for i in 0..q.len() {
                    let (mean, mean_terms) = (dot(&dy[i], &y[i]), dot_terms(&dy[i], &y[i]));
                    for j in 0..k.len() {
                        let (plain, factor) = (weights.plain[i][j], weights.factor[i][j]);
                        let dscore = plain * (factor * dot(&dy[i], &v[j]) - mean) * scale;
                        let terms =
                            plain * (factor * dot_terms(&dy[i], &v[j]) + mean_terms) * scale;
                        scores.value[[b, h, i, j]] = dscore / scale;
                        scores.terms[[b, h, i, j]] = terms / scale;
                        for c in 0..d {
                            dq[i][c] += dscore * k[j][c];
                            tq[i][c] += terms * k[j][c].abs();
                            dk[j][c] += dscore * q[i][c];
                            tk[j][c] += terms * q[i][c].abs();
                            dv[j][c] += plain * factor * dy[i][c];
                            tv[j][c] += plain * factor * dy[i][c].abs();
                        }
                    }
                }
                for (grad, (value, terms)) in grads.iter_mut().zip([(dq, tq), (dk, tk), (dv, tv)]) {
                    put(&value, &mut grad.value, b, h, d);
                    put(&terms, &mut grad.terms, b, h, d);
                }
            }
        }
        (grads, scores)
    }

    /// The roots of the sums of squared terms, for the result and the gradients of queries, keys and values.
    ///
    /// Each term of such a sum has a factor, a weight or the gradient of a score, that may be rounded to the inputs'
    /// type before it is multiplied. As the roundings are independent of each other, the error of the sum grows as this
    /// root does.
    pub struct Spread {
        /// Of the result `[B, Q, D]`.
        pub y: Array,
        /// Of the gradients of queries `[B, Q, D]`, keys and values `[B, K, D]`.
        pub grads: [Array; 3],
    }

    /// The spread of [`attend`] and, for a saved result `y`, of [`attend_grad`].
    pub fn spread(
        [q, k, v]: [&Array; 3],
        attention: &Attention<'_>,
        y: &Array,
        dy: &Array,
    ) -> Spread {
        let (batch, d) = (q.shape()[0], q.shape()[2] / attention.heads);
        let scale = 1.0 / (d as f64).sqrt();
        let mut sums = [q, q, k, k].map(|x| zeros(x.shape()));
        for b in 0..batch {
            for h in 0..attention.heads {
                let [q, k, v, y, dy] = [q, k, v, y, dy].map(|x| head(x, b, h, d));
                let weights = weights(&q, &k, d, attention, b, h);
                let mut squares = [&q, &q, &k, &k].map(|x| vec![vec![0.0; d]; x.len()]);
                for i in 0..q.len() {
                    let mean = dot(&dy[i], &y[i]);
                    for j in 0..k.len() {
                        let weight = weights.plain[i][j] * weights.factor[i][j];
                        let product = weights.factor[i][j] * dot(&dy[i], &v[j]);
                        let dscore = weights.plain[i][j] * (product - mean) * scale;
                        for c in 0..d {
                            squares[0][i][c] += (weight * v[j][c]).powi(2);
                            squares[1][i][c] += (dscore * k[j][c]).powi(2);
                            squares[2][j][c] += (dscore * q[i][c]).powi(2);
                            squares[3][j][c] += (weight * dy[i][c]).powi(2);
                        }
                    }
                }
                for (sum, squares) in sums.iter_mut().zip(&squares) {
                    put(squares, sum, b, h, d);
                }
            }
        }
        let [y, dq, dk, dv] = sums.map(|sum| sum.mapv(f64::sqrt));
        Spread { y, grads: [dq, dk, dv] }
    }
}

/// How queries, keys and values lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
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
struct Plan {
    extents: Extents,
    form: Form,
    valid_lens: Option<&'static [i64]>,
    /// Whether there is a bias, one for every second sequence where that goes.
    bias: bool,
    dropout: Option<Dropout>,
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
            for (dropout, bias) in [
                (None, false),
                (Some(mask(0.3, 7)), false),
                (None, true),
                (Some(mask(0.3, 7)), true),
            ] {
                let plan = Plan { extents, form, valid_lens, bias, dropout };
                let name = format!(
                    "{extents:?} {form:?}, valid_lens {valid_lens:?}, bias {bias}, dropout {}",
                    dropout.is_some()
                );
                cases.push(Case::new("attention", name.clone(), move |s| forward(s, &plan)));
                cases.push(Case::new("attention_grad", name, move |s| gradient(s, &plan)));
            }
        }
    }
    let empty =
        |extents, form| Plan { extents, form, valid_lens: None, bias: false, dropout: None };
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
    /// What a key holds that gets no weight, a backend may multiply by 0 or never read.
    fn setup(&self, s: &Setup) -> Setup {
        if self.valid_lens.is_some() { s.unspoiled() } else { s.clone() }
    }

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
        bias: Option<&Input>,
        y: &Array,
        dy: &Array,
    ) -> reference::Spread {
        let mut spread = reference::spread(inputs, &self.reference(bias), y, dy);
        if dtype != DType::BF16 || self.extents[3] / self.heads() < ROUNDED_FROM {
            spread.y.fill(0.0);
            spread.grads.iter_mut().for_each(|grad| grad.fill(0.0));
        }
        spread
    }

    fn bias(&self, s: &Setup) -> Result<Option<Input>> {
        let [batch, queries, keys, _, heads] = self.extents;
        let groups = if batch > 0 && batch.is_multiple_of(2) { batch / 2 } else { batch.max(1) };
        let bias = self.bias.then(|| s.normal(9, &[groups, heads, queries, keys]));
        bias.transpose()
    }

    fn reference<'a>(&'a self, bias: Option<&'a Input>) -> reference::Attention<'a> {
        reference::Attention {
            heads: self.heads(),
            valid_lens: self.valid_lens,
            bias: bias.map(|bias| &bias.values),
            dropout: self.dropout.as_ref(),
        }
    }
}

fn forward(s: &Setup, plan: &Plan) -> Result<Vec<Comparison>> {
    let s = &plan.setup(s);
    let Operands { tensors: [query, key, value], values: [q, k, v] } = &operands(s, plan)?;
    let (lens, bias) = (plan.lens(s)?, plan.bias(s)?);
    let attention = Attention {
        heads: plan.heads(),
        valid_lens: lens.as_ref(),
        bias: bias.as_ref().map(|bias| &bias.tensor),
        dropout: plan.dropout,
    };
    let reference = plan.reference(bias.as_ref());
    let output = AttentionInputs { query, key, value }.attend(&attention)?;
    let (y, log_sums) = reference::attend(q, k, v, &reference);
    let spread = plan.spread(s.dtype, [q, k, v], bias.as_ref(), &y, &y.mapv(|_| 0.0)).y;
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

fn gradient(s: &Setup, plan: &Plan) -> Result<Vec<Comparison>> {
    let s = &plan.setup(s);
    let Operands { tensors: [query, key, value], values: [q, k, v] } = &operands(s, plan)?;
    let (lens, bias) = (plan.lens(s)?, plan.bias(s)?);
    let attention = Attention {
        heads: plan.heads(),
        valid_lens: lens.as_ref(),
        bias: bias.as_ref().map(|bias| &bias.tensor),
        dropout: plan.dropout,
    };
    let reference = plan.reference(bias.as_ref());
    // What forward saved is an input here: the reference's, rounded as it is stored.
    let (y, log_sums) = reference::attend(q, k, v, &reference);
    let y = s.placed(&y, Layout::Dense)?;
    // As it is: the reference has no use for it.
    let accumulator = s.dtype.accumulator();
    let log_sums = s.unspoiled().placed_as(&log_sums, Layout::Dense, accumulator)?.tensor;
    let output = AttentionOutput { y: y.tensor, log_sums };
    let dy = s.laid_out(4, y.values.shape(), Layout::Transposed)?;
    let ([dq, dk, dv], scores) = reference::attend_grad(q, k, v, &reference, &y.values, &dy.values);
    let [q_spread, k_spread, v_spread] =
        plan.spread(s.dtype, [q, k, v], bias.as_ref(), &y.values, &dy.values).grads;
    let inputs = AttentionInputs { query, key, value };
    let split = inputs.attend_grad(&attention, &output, &dy.tensor, false)?;
    let dkv = sums_beside(&[&dk, &dv]);
    let mut comparisons = vec![
        Comparison::of_sum("dq", &split[0], &dq)?.loosened(s.dtype, &q_spread),
        Comparison::of_sum("dk and dv", &split[1], &dkv)?
            .loosened(s.dtype, &beside(&[&k_spread, &v_spread])),
    ];
    if let Some(bias) = &bias {
        let by_group = |scores: &Array| {
            let mut sums = zeros(bias.values.shape());
            for (b, scores) in scores.outer_iter().enumerate() {
                let mut group = sums.index_axis_mut(ndarray::Axis(0), b % bias.values.shape()[0]);
                group += &scores;
            }
            sums
        };
        let dbias = Sum { value: by_group(&scores.value), terms: by_group(&scores.terms) };
        comparisons.push(Comparison::of_sum("dbias", &split[2], &dbias)?);
    }
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

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    const FORMS: [Form; 4] = [Form::Packed, Form::Split, Form::Packed, Form::Apart];
    const LENGTHS: [Option<&[i64]>; 5] =
        [None, Some(&[1000, 5]), None, Some(&[15, 70]), Some(&[0, 33])];
    let plan = |[queries, keys, head_width]: [usize; 3], turn| {
        let (form, heads) = (pick(turn, &FORMS), 1 + turn / 8 % 2);
        let queries = if form == Form::Packed { keys } else { queries };
        Plan {
            extents: [1 + turn / 4 % 2, queries, keys, heads * head_width, heads],
            form,
            valid_lens: pick(turn, &LENGTHS),
            bias: turn % 5 > 2,
            dropout: (turn % 7 < 3).then(|| mask(0.3, 7)),
        }
    };
    const TOKENS: &[usize] = &[32, 48, 64, 80, 96, 112, 128, 192];
    const HEAD: &[usize] = &[32, 48, 64, 80, 96, 128];
    let axes = [Axis::new(&[17], TOKENS), Axis::new(&[19], TOKENS), Axis::new(&[16, 48, 64], HEAD)];
    let mut cases =
        over(reach, "attention", &axes, move |s, shape, turn| forward(s, &plan(shape, turn)));
    cases.extend(over(reach, "attention_grad", &axes, move |s, shape, turn| {
        gradient(s, &plan(shape, turn))
    }));
    cases
}

/// What attention's gradient writes.
fn of_attention<'a>(grads: &AttentionGrads<'a>) -> [Option<&'a Tensor>; 2] {
    match grads.inputs {
        InputGrads::Packed(qkv) => [Some(qkv), None],
        InputGrads::Split(q, kv) => [Some(q), Some(kv)],
    }
}

faults! {
    Attentions {
        attention(
            inputs: &AttentionInputs<'_>, attention: &Attention<'_>, y: &Tensor, log_sums: &Tensor
        ) writes [Some(y), Some(log_sums)];
        attention_grad(
            inputs: &AttentionInputs<'_>, attention: &Attention<'_>, y: &Tensor, log_sums: &Tensor,
            dy: &Tensor, grads: &AttentionGrads<'_>
        ) writes [of_attention(grads)[0], of_attention(grads)[1], grads.scores];
    }
}

#[cfg(test)]
mod tests {
    use super::Dropout;
    use super::reference::*;
    use crate::gradcheck::{central, compare};
    use crate::reference::*;

    use crate::inputs::{key, random};

    #[test]
    fn gradients_are_those_of_central_differences() {
        let inputs = [random(1, &[3, 4, 6]), random(2, &[3, 5, 6]), random(3, &[3, 5, 6])];
        let dy = random(4, &[3, 4, 6]);
        let mask = Dropout::new(0.3, key(5));
        let bias = random(6, &[1, 2, 4, 5]);
        for dropout in [None, Some(&mask)] {
            for valid_lens in [None, Some([0, 2, 9].as_slice())] {
                let mut inputs = inputs.to_vec();
                inputs.push(bias.clone());
                fn of<'a>(
                    bias: &'a Array,
                    valid_lens: Option<&'a [i64]>,
                    dropout: Option<&'a Dropout>,
                ) -> Attention<'a> {
                    Attention { heads: 2, valid_lens, bias: Some(bias), dropout }
                }
                let f = |v: &[Array]| {
                    (attend(&v[0], &v[1], &v[2], &of(&v[3], valid_lens, dropout)).0 * &dy).sum()
                };
                let attention = of(&bias, valid_lens, dropout);
                let [q, k, v, _] = &inputs[..] else { unreachable!() };
                let y = attend(q, k, v, &attention).0;
                let (exact, scores) = attend_grad(q, k, v, &attention, &y, &dy);
                let mut exact = exact.map(|sum| sum.value).to_vec();
                let sum = scores.value.sum_axis(ndarray::Axis(0));
                exact.push(array(bias.shape(), flat(&sum.into_dyn()).to_vec()));
                compare(&central(f, &inputs), &exact).unwrap();
            }
        }
    }
}
