//! Patches, class token and positions.

use vitrine_tensor::{DType, Result};

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup, random};
use crate::reference::embed as reference;

/// Images and patches.
const IMAGES: [([usize; 4], (usize, usize)); 7] = [
    ([1, 1, 1, 1], (1, 1)),
    ([2, 3, 4, 6], (2, 3)),
    ([2, 3, 4, 6], (4, 1)),
    ([0, 1, 4, 4], (2, 2)),
    ([3, 1, 6, 6], (6, 6)),
    ([2, 2, 10, 15], (5, 5)),
    ([130, 1, 28, 28], (7, 4)),
];

/// Batch, patches, width.
const TOKENS: [[usize; 3]; 6] =
    [[1, 1, 1], [2, 4, 3], [0, 4, 3], [3, 0, 5], [5, 36, 65], [130, 9, 7]];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, patch) in IMAGES {
        for layout in Layout::ALL {
            let name = format!("{shape:?} in {patch:?}, {layout:?}");
            cases.push(Case::new("patchify", name.clone(), move |s| {
                patchify(s, shape, patch, layout)
            }));
            cases.push(Case::new("unpatchify", name, move |s| unpatchify(s, shape, patch, layout)));
        }
    }
    cases.push(Case::new("patchify", "of bytes", |s| {
        let values = random(1, &[2, 3, 4, 6]).mapv(|v| (v.abs() * 60.0).floor().min(255.0));
        let images = s.placed_as(&values, Layout::Dense, DType::U8)?;
        let expected = reference::patchify(&values, (2, 2));
        Ok(vec![Comparison::new("patches", &images.tensor.patchify((2, 2))?, &expected)?.exact()])
    }));
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

pub(crate) fn patchify(
    s: &Setup,
    shape: [usize; 4],
    patch: (usize, usize),
    layout: Layout,
) -> Result<Vec<Comparison>> {
    let images = s.laid_out(1, &shape, layout)?;
    let expected = reference::patchify(&images.values, patch);
    let patches = images.tensor.patchify(patch)?;
    Ok(vec![Comparison::new("patches", &patches, &expected)?.exact()])
}

pub(crate) fn unpatchify(
    s: &Setup,
    shape: [usize; 4],
    patch: (usize, usize),
    layout: Layout,
) -> Result<Vec<Comparison>> {
    let patches = s.placed(&reference::patchify(&random(1, &shape), patch), layout)?;
    let expected = reference::unpatchify(&patches.values, patch, &shape);
    let images = patches.tensor.unpatchify(patch, &shape)?;
    Ok(vec![Comparison::new("images", &images, &expected)?.exact()])
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
