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

/// The weights of one head of one sequence, before and after dropout, and the logarithms of the denominators.
struct Weights {
    plain: Vec<Vec<f64>>,
    factor: Vec<Vec<f64>>,
    log_sums: Vec<f64>,
}

/// Extents: sequences, queries, keys, a head's width.
fn extents(q: &Array, k: &Array, heads: usize) -> [usize; 4] {
    [q.shape()[0], q.shape()[1], k.shape()[1], q.shape()[2] / heads]
}

fn weights(q: &Array, k: &Array, attention: &Attention<'_>, b: usize, h: usize) -> Weights {
    let [_, queries, keys, d] = extents(q, k, attention.heads);
    let valid = attention.valid_lens.map_or(keys as i64, |lens| lens[b].clamp(0, keys as i64));
    let mut out = Weights { plain: Vec::new(), factor: Vec::new(), log_sums: Vec::new() };
    for i in 0..queries {
        let score = |j: usize| {
            let dot: f64 = (h * d..(h + 1) * d).map(|c| q[[b, i, c]] * k[[b, j, c]]).sum();
            dot / (d as f64).sqrt()
        };
        let scores: Vec<f64> = (0..valid as usize).map(score).collect();
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
    let [batch, queries, keys, d] = extents(q, k, attention.heads);
    let mut y = zeros(q.shape());
    let mut log_sums = zeros(&[batch, attention.heads, queries]);
    for b in 0..batch {
        for h in 0..attention.heads {
            let weights = weights(q, k, attention, b, h);
            for i in 0..queries {
                log_sums[[b, h, i]] = weights.log_sums[i];
                for c in h * d..(h + 1) * d {
                    for j in 0..keys {
                        y[[b, i, c]] += weights.plain[i][j] * weights.factor[i][j] * v[[b, j, c]];
                    }
                }
            }
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
    let [batch, queries, keys, d] = extents(q, k, attention.heads);
    let scale = 1.0 / (d as f64).sqrt();
    let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| Sum::zeros(x.shape()));
    let add = |to: &mut Sum, at: [usize; 3], value: f64, terms: f64| {
        to.value[at] += value;
        to.terms[at] += terms;
    };
    for b in 0..batch {
        for h in 0..attention.heads {
            let weights = weights(q, k, attention, b, h);
            let columns = h * d..(h + 1) * d;
            for i in 0..queries {
                let dot = |x: &dyn Fn(usize) -> f64| -> (f64, f64) {
                    columns.clone().fold((0.0, 0.0), |(value, terms), c| {
                        let term = dy[[b, i, c]] * x(c);
                        (value + term, terms + term.abs())
                    })
                };
                let (mean, mean_terms) = dot(&|c| y[[b, i, c]]);
                for j in 0..keys {
                    let (plain, factor) = (weights.plain[i][j], weights.factor[i][j]);
                    let (dweight, dweight_terms) = dot(&|c| v[[b, j, c]]);
                    let dscore = plain * (factor * dweight - mean) * scale;
                    let dscore_terms = plain * (factor * dweight_terms + mean_terms) * scale;
                    for c in columns.clone() {
                        let (q, k, dy) = (q[[b, i, c]], k[[b, j, c]], dy[[b, i, c]]);
                        add(&mut dq, [b, i, c], dscore * k, dscore_terms * k.abs());
                        add(&mut dk, [b, j, c], dscore * q, dscore_terms * q.abs());
                        let weight = plain * factor;
                        add(&mut dv, [b, j, c], weight * dy, weight * dy.abs());
                    }
                }
            }
        }
    }
    [dq, dk, dv]
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
