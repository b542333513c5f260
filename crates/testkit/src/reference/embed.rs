//! Class token and positions.

use vitrine_tensor::Dropout;

use super::{Array, philox, zeros};

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
    y * mask
}
