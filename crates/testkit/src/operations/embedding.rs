//! Class token and positions.

use vitrine_tensor::backend::Embeddings;
use vitrine_tensor::{Dropout, Result, Tensor};

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Layout, Setup};
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

    /// `(class ++ patches + positions) · mask`
    pub fn embed_tokens(
        patches: &Array,
        class: Option<&Array>,
        positions: &Array,
        dropout: Option<&Dropout>,
    ) -> Array {
        let &[batch, _, width] = patches.shape() else { panic!("patches have 3 axes") };
        let tokens = positions.shape()[1];
        let mut y = zeros(&[batch, tokens, width]);
        for ((b, n, c), value) in indexed3(&mut y) {
            let token = match class {
                Some(class) if n == 0 => class[[0, 0, c]],
                Some(_) => patches[[b, n - 1, c]],
                None => patches[[b, n, c]],
            };
            *value = token + positions[[0, n, c]];
        }
        let mask = philox::mask(dropout, y.shape());
        philox::dropped(&y, &mask)
    }
}

/// Batch, patches, width.
const TOKENS: [[usize; 3]; 6] =
    [[1, 1, 1], [2, 4, 3], [0, 4, 3], [3, 0, 5], [5, 36, 65], [130, 9, 7]];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in TOKENS {
        for layout in Layout::ALL {
            for with_class in [false, true] {
                for dropout in [false, true] {
                    let name =
                        format!("{shape:?}, {layout:?}, class {with_class}, dropout {dropout}");
                    cases.push(Case::new("embed_tokens", name, move |s| {
                        embed_tokens(s, shape, layout, with_class, dropout, None)
                    }));
                }
            }
        }
    }
    cases.push(Case::new("embed_tokens", "the first rows of larger samples", |s| {
        embed_tokens(s, [3, 4, 70], Layout::Dense, true, true, Some(1000))
    }));
    cases
}

fn embed_tokens(
    s: &Setup,
    shape: [usize; 3],
    layout: Layout,
    with_class: bool,
    dropout: bool,
    sample_stride: Option<usize>,
) -> Result<Vec<Comparison>> {
    let [_, patches, width] = shape;
    let x = s.laid_out(1, &shape, layout)?;
    let class = s.laid_out(2, &[1, 1, width], layout)?;
    let positions = s.laid_out(3, &[1, patches + usize::from(with_class), width], layout)?;
    let mut mask = mask(0.2, 4);
    mask.sample_stride = sample_stride;
    let y = x.tensor.embed_tokens(
        with_class.then_some(&class.tensor),
        &positions.tensor,
        dropout.then_some(mask),
    )?;
    let expected = reference::embed_tokens(
        &x.values,
        with_class.then_some(&class.values),
        &positions.values,
        dropout.then_some(&mask),
    );
    Ok(vec![Comparison::new("y", &y, &expected)?])
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[5], ROWS), Axis::new(&[7], WIDTH)];
    over(reach, "embed_tokens", &axes, |s, shape, turn| {
        let (with_class, dropout) = (turn % 2 == 0, turn % 3 == 0);
        embed_tokens(s, shape, pick(turn / 2, &Layout::ALL), with_class, dropout, None)
    })
}

faults! {
    Embeddings {
        embed_tokens(
            patches: &Tensor, class: Option<&Tensor>, positions: &Tensor, dropout: Option<Dropout>,
            y: &Tensor
        ) writes [Some(y)];
    }
}
