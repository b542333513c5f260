//! Class token and positions.

use vitrine_tensor::Result;

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup};
use crate::reference::embed as reference;

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

pub(crate) fn embed_tokens(
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
