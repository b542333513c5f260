//! Prefix tokens and positions, added and as rotations.

use vitrine_tensor::backend::Embeddings;
use vitrine_tensor::{Dropout, Result, Rotation, Tensor};

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Input, Layout, Setup, random};
use crate::sweep::{Axis, ROWS, Reach, WIDTH, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use vitrine_tensor::Dropout;

    use crate::reference::{Array, philox, zeros};

    fn indices3(shape: &[usize]) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let [b, m, e] = [shape[0], shape[1], shape[2]];
        (0..b).flat_map(move |i| (0..m).flat_map(move |j| (0..e).map(move |k| (i, j, k))))
    }

    fn indexed3(array: &mut Array) -> impl Iterator<Item = ((usize, usize, usize), &mut f64)> {
        indices3(array.shape()).zip(array.iter_mut())
    }

    /// `(prefix ++ patches + positions) · mask`: patches `[B, M, D]`, each part of the prefix `[1, P, D]`, positions of
    /// all tokens, of the last ones, or none `[1, .., D]`.
    pub fn embed_tokens(
        patches: &Array,
        prefix: &[&Array],
        positions: Option<&Array>,
        dropout: Option<&Dropout>,
    ) -> Array {
        let &[batch, count, width] = patches.shape() else { panic!("patches have 3 axes") };
        let front: Vec<(&Array, usize)> =
            prefix.iter().flat_map(|&part| (0..part.shape()[1]).map(move |n| (part, n))).collect();
        let tokens = front.len() + count;
        let bare = tokens - positions.map_or(0, |positions| positions.shape()[1]);
        let mut y = zeros(&[batch, tokens, width]);
        for ((b, n, c), value) in indexed3(&mut y) {
            *value = match front.get(n) {
                Some(&(part, n)) => part[[0, n, c]],
                None => patches[[b, n - front.len(), c]],
            };
            if let Some(positions) = positions.filter(|_| n >= bare) {
                *value += positions[[0, n - bare, c]];
            }
        }
        let mask = philox::mask(dropout, y.shape());
        philox::dropped(&y, &mask)
    }

    /// `x` with the first `heads` groups of columns turned, in the last tokens: cos and sin `[M, d/2]`.
    pub fn rotate(x: &Array, cos: &Array, sin: &Array, heads: usize, inverse: bool) -> Array {
        let (turned, half) = (cos.shape()[0], cos.shape()[1]);
        let still = x.shape()[1] - turned;
        let mut y = x.clone();
        for ((b, n, c), value) in indexed3(&mut y) {
            if n < still || c >= heads * 2 * half {
                continue;
            }
            let (cos, sin) = (cos[[n - still, c % half]], sin[[n - still, c % half]]);
            let sin = if inverse { -sin } else { sin };
            *value = match c % (2 * half) < half {
                true => x[[b, n, c]] * cos - x[[b, n, c + half]] * sin,
                false => x[[b, n, c]] * cos + x[[b, n, c - half]] * sin,
            };
        }
        y
    }
}

/// Batch, patches, width.
const TOKENS: [[usize; 3]; 6] =
    [[1, 1, 1], [2, 4, 3], [0, 4, 3], [3, 0, 5], [5, 36, 65], [130, 9, 7]];

/// Which tokens have positions.
#[derive(Clone, Copy, Debug)]
enum Positioned {
    All,
    Patches,
    Nothing,
}

/// What there is beside patches.
#[derive(Clone, Copy, Debug)]
struct Options {
    /// The prefix tokens, part by part.
    prefix: &'static [usize],
    positions: Positioned,
    dropout: bool,
}

const fn options(prefix: &'static [usize], positions: Positioned, dropout: bool) -> Options {
    Options { prefix, positions, dropout }
}

const OPTIONS: [Options; 9] = [
    options(&[], Positioned::All, false),
    options(&[], Positioned::All, true),
    options(&[], Positioned::Nothing, true),
    options(&[1], Positioned::All, false),
    options(&[1], Positioned::All, true),
    options(&[1], Positioned::Patches, false),
    options(&[4], Positioned::Patches, true),
    options(&[1, 2, 1], Positioned::All, true),
    options(&[1, 4], Positioned::Nothing, false),
];

/// What a rotation turns: `[B, N, T·d]`, d/2, and of the N tokens and T groups so many.
#[derive(Clone, Copy, Debug)]
struct Turn {
    shape: [usize; 3],
    half: usize,
    tokens: usize,
    heads: usize,
}

const fn turn(shape: [usize; 3], half: usize, tokens: usize, heads: usize) -> Turn {
    Turn { shape, half, tokens, heads }
}

const TURNS: [Turn; 9] = [
    turn([1, 1, 2], 1, 1, 1),
    turn([2, 5, 12], 2, 4, 2),
    turn([2, 5, 12], 2, 5, 3),
    turn([2, 5, 12], 2, 0, 2),
    turn([2, 5, 12], 2, 3, 0),
    turn([0, 5, 12], 2, 4, 2),
    turn([3, 0, 12], 2, 0, 2),
    turn([3, 37, 576], 32, 36, 6),
    turn([130, 9, 20], 5, 8, 1),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for layout in Layout::ALL {
        for shape in TOKENS {
            for chosen in OPTIONS {
                let name = format!("{shape:?}, {layout:?}, {chosen:?}");
                cases.push(Case::new("embed_tokens", name, move |s| {
                    embed_tokens(s, shape, layout, chosen, None)
                }));
            }
        }
        for turn in TURNS {
            for inverse in [false, true] {
                let name = format!("{turn:?}, {layout:?}, inverse {inverse}");
                cases.push(Case::new("rotate", name, move |s| rotate(s, turn, layout, inverse)));
            }
        }
    }
    cases.push(Case::new("embed_tokens", "the first rows of larger samples", |s| {
        embed_tokens(s, [3, 4, 70], Layout::Dense, OPTIONS[4], Some(1000))
    }));
    cases
}

fn embed_tokens(
    s: &Setup,
    shape: [usize; 3],
    layout: Layout,
    options: Options,
    sample_stride: Option<usize>,
) -> Result<Vec<Comparison>> {
    let [_, patches, width] = shape;
    let x = s.laid_out(1, &shape, layout)?;
    let front = (4..).zip(options.prefix);
    let front: Vec<Input> = front
        .map(|(i, &count)| s.laid_out(i, &[1, count, width], layout))
        .collect::<Result<_>>()?;
    let tokens = patches + options.prefix.iter().sum::<usize>();
    let positioned = match options.positions {
        Positioned::All => Some(tokens),
        Positioned::Patches => Some(patches),
        Positioned::Nothing => None,
    };
    let positions =
        positioned.map(|count| s.laid_out(3, &[1, count, width], layout)).transpose()?;
    let mut mask = mask(0.2, 4);
    mask.sample_stride = sample_stride;
    let dropout = options.dropout.then_some(mask);
    let tensors: Vec<&Tensor> = front.iter().map(|part| &part.tensor).collect();
    let values: Vec<_> = front.iter().map(|part| &part.values).collect();
    let y = x.tensor.embed_tokens(&tensors, positions.as_ref().map(|p| &p.tensor), dropout)?;
    let expected = reference::embed_tokens(
        &x.values,
        &values,
        positions.as_ref().map(|p| &p.values),
        dropout.as_ref(),
    );
    Ok(vec![Comparison::new("y", &y, &expected)?])
}

fn rotate(s: &Setup, turn: Turn, layout: Layout, inverse: bool) -> Result<Vec<Comparison>> {
    let Turn { shape, half, tokens, heads } = turn;
    let x = s.laid_out(1, &shape, layout)?;
    // Any numbers will do for cosines and sines.
    let [cos, sin] = [2, 3]
        .map(|stream| s.placed_as(&random(stream, &[tokens, half]), layout, s.dtype.accumulator()));
    let (cos, sin) = (cos?, sin?);
    let rotation = Rotation { cos: cos.tensor, sin: sin.tensor, heads };
    let y = x.tensor.rotate(&rotation, inverse)?;
    let expected = reference::rotate(&x.values, &cos.values, &sin.values, heads, inverse);
    Ok(vec![Comparison::new("y", &y, &expected)?])
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[5], ROWS), Axis::new(&[7], WIDTH)];
    let mut cases = over(reach, "embed_tokens", &axes, |s, shape, at| {
        let layout = pick(at / OPTIONS.len(), &Layout::ALL);
        embed_tokens(s, shape, layout, pick(at, &OPTIONS), None)
    });
    let axes = [Axis::new(&[5], ROWS), Axis::new(&[3], &[]), Axis::new(&[4], WIDTH)];
    cases.extend(over(reach, "rotate", &axes, |s, [tokens, groups, half], at| {
        let (still, shape) = (at % 3 % tokens, [2, tokens, groups * 2 * half]);
        let turn = turn(shape, half, tokens - still, groups - at % 2 % groups);
        rotate(s, turn, pick(at / 2, &Layout::ALL), at % 5 == 0)
    }));
    cases
}

faults! {
    Embeddings {
        embed_tokens(
            patches: &Tensor, prefix: Option<&Tensor>, positions: &Tensor, dropout: Option<Dropout>,
            y: &Tensor
        ) writes [Some(y)];
        rotate(x: &Tensor, rotation: &Rotation, inverse: bool, y: &Tensor) writes [Some(y)];
    }
}

#[cfg(test)]
mod tests {
    use super::reference::rotate;
    use crate::inputs::random;

    #[test]
    fn the_inverse_turns_back() {
        let x = random(1, &[2, 3, 8]);
        let angles = random(2, &[2, 2]);
        let (cos, sin) = (angles.mapv(f64::cos), angles.mapv(f64::sin));
        let there = rotate(&x, &cos, &sin, 1, false);
        let back = rotate(&there, &cos, &sin, 1, true);
        assert!((&there - &x).iter().any(|d| d.abs() > 0.1));
        assert!((&back - &x).iter().all(|d| d.abs() < 1e-12));
    }
}
