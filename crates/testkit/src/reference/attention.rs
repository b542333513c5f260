//! Scaled dot-product attention over many heads, one score at a time.

use vitrine_tensor::Dropout;

use super::{Array, Sum, philox, softmax, zeros};

/// What attention is to do.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Number of heads.
    pub heads: usize,
    /// For each sequence, how many keys count. A negative length counts as 0, one beyond K as K.
    pub valid_lens: Option<&'a [i64]>,
    /// Dropout on the weights.
    pub dropout: Option<&'a Dropout>,
}

/// One vector a token.
type Rows = Vec<Vec<f64>>;

/// The weights of one head of one sequence, what dropout multiplies them with, and the logarithms of the denominators.
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
fn weights(q: &Rows, k: &Rows, d: usize, attention: &Attention<'_>, b: usize, h: usize) -> Weights {
    let (queries, keys) = (q.len(), k.len());
    let valid = attention.valid_lens.map_or(keys as i64, |lens| lens[b].clamp(0, keys as i64));
    let mut out = Weights { plain: Vec::new(), factor: Vec::new(), log_sums: Vec::new() };
    for (i, q) in q.iter().enumerate() {
        let scores: Vec<f64> =
            k[..valid as usize].iter().map(|k| dot(q, k) / (d as f64).sqrt()).collect();
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

/// Gradients of queries, keys and values. `y` is the result that was saved (rounded to its element type).
pub fn attend_grad(
    q: &Array,
    k: &Array,
    v: &Array,
    attention: &Attention<'_>,
    y: &Array,
    dy: &Array,
) -> [Sum; 3] {
    let (batch, d) = (q.shape()[0], q.shape()[2] / attention.heads);
    let scale = 1.0 / (d as f64).sqrt();
    let mut grads = [q, k, v].map(|x| Sum::zeros(x.shape()));
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
                    let terms = plain * (factor * dot_terms(&dy[i], &v[j]) + mean_terms) * scale;
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
    grads
}

/// The roots of the sums of squared terms, for the result and the gradients of queries, keys and values.
///
/// Each term of such a sum has a factor, a weight or the gradient of a score, that may be rounded to the inputs' type
/// before it is multiplied. As the roundings are independent of each other, the error of the sum grows as this root
/// does.
pub struct Spread {
    /// Of the result `[B, Q, D]`.
    pub y: Array,
    /// Of the gradients of queries `[B, Q, D]`, keys and values `[B, K, D]`.
    pub grads: [Array; 3],
}

/// The spread of [`attend`] and, for a saved result `y`, of [`attend_grad`].
pub fn spread([q, k, v]: [&Array; 3], attention: &Attention<'_>, y: &Array, dy: &Array) -> Spread {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::{key, random};

    #[test]
    fn gradients_are_those_of_central_differences() {
        let inputs = [random(1, &[3, 4, 6]), random(2, &[3, 5, 6]), random(3, &[3, 5, 6])];
        let dy = random(4, &[3, 4, 6]);
        let mask = Dropout::new(0.3, key(5));
        for dropout in [None, Some(&mask)] {
            for valid_lens in [None, Some([0, 2, 9].as_slice())] {
                let attention = Attention { heads: 2, valid_lens, dropout };
                let f = |v: &[Array]| (attend(&v[0], &v[1], &v[2], &attention).0 * &dy).sum();
                let [q, k, v] = &inputs;
                let y = attend(q, k, v, &attention).0;
                let exact = attend_grad(q, k, v, &attention, &y, &dy).map(|sum| sum.value);
                compare(&central(f, &inputs), &exact).unwrap();
            }
        }
    }
}
