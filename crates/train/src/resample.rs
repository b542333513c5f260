//! Learned positions of one grid of patches made into those of another.

use vitrine_data::Interpolation;

/// Where positions are, and where they are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grids {
    /// Positions before those of the patches, which stay as they are.
    pub(crate) prefix: usize,
    /// Rows and columns of patches in the file.
    pub(crate) from: (usize, usize),
    /// Rows and columns of patches in the model.
    pub(crate) to: (usize, usize),
    /// The length of one, D.
    pub(crate) width: usize,
}

/// Positions `[P + H·W, D]` for the grid that is asked for, by the bicubic filter with antialiasing: timm's
/// `resample_abs_pos_embed`.
pub(crate) fn resample(values: &[f32], Grids { prefix, from, to, width }: Grids) -> Vec<f32> {
    let (kept, patches) = values.split_at(prefix * width);
    // Along the width, then along the height: both leave the last axis alone.
    let narrow = along(patches, from.0, (from.1, to.1), width);
    [kept, along(&narrow, 1, (from.0, to.0), to.1 * width).as_slice()].concat()
}

/// `[outer, from, inner]` to `[outer, to, inner]`.
fn along(values: &[f32], outer: usize, (from, to): (usize, usize), inner: usize) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let mut weights = Vec::new();
    let mut result = vec![0.0; outer * to * inner];
    for position in 0..to {
        let first = Interpolation::Bicubic.taps(position, from, to, &mut weights);
        for block in 0..outer {
            let out = &mut result[(block * to + position) * inner..][..inner];
            for (i, &weight) in (first..).zip(&weights) {
                let row = &values[(block * from + i) * inner..][..inner];
                out.iter_mut().zip(row).for_each(|(out, value)| *out += weight as f32 * value);
            }
        }
    }
    result
}
