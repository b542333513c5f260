//! Learned positions of one grid of patches made into those of another, and biases of the distances in one window into
//! those of another.

/// Where positions are, and where they are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Grids {
    /// Positions before those of the patches, which stay as they are.
    pub prefix: usize,
    /// Rows and columns of patches that there are positions for.
    pub from: (usize, usize),
    /// Rows and columns of patches that are wanted.
    pub to: (usize, usize),
    /// The length of one, D.
    pub width: usize,
}

/// Positions `[P + H·W, D]` for the grid that is asked for, by the bicubic filter with antialiasing: timm's
/// `resample_abs_pos_embed`.
pub fn resample_positions(values: &[f32], Grids { prefix, from, to, width }: Grids) -> Vec<f32> {
    let (kept, patches) = values.split_at(prefix * width);
    // Along the width, then along the height: both leave the last axis alone.
    let narrow = along(patches, from.0, (from.1, to.1), width, bicubic(from.1, to.1));
    let all = along(&narrow, 1, (from.0, to.0), to.1 * width, bicubic(from.0, to.0));
    [kept, all.as_slice()].concat()
}

/// What position `position` of `to` is made of, of those of `from`: the first, and the weights from it on. The bicubic
/// filter (Keys 1981, with a = −0.5), as wide as a step of the coarser grid.
fn bicubic(from: usize, to: usize) -> impl Fn(usize, &mut Vec<f64>) -> usize {
    let step = from as f64 / to as f64;
    let stretch = step.max(1.0);
    let weight = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0,
        _ => 0.0,
    };
    move |position, weights| {
        let center = (position as f64 + 0.5) * step - 0.5;
        let first = (center - 2.0 * stretch).ceil().max(0.0) as usize;
        let last = ((center + 2.0 * stretch).floor() as usize).min(from - 1);
        weights.clear();
        weights.extend((first..=last).map(|i| weight((i as f64 - center) / stretch)));
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        first
    }
}

/// A table `[side·side, H]` of biases of distances, an odd number of them down and across, for other windows: timm's
/// `resize_rel_pos_bias_table`. Its own distances are thought of as growing from the middle out, by a factor that makes
/// the last as large as that of the new window; between them it is linear.
pub fn resample_distances(
    values: &[f32],
    side: usize,
    to: (usize, usize),
    heads: usize,
) -> Vec<f32> {
    let narrow = along(values, side, (side, to.1), heads, between(side, to.1));
    along(&narrow, 1, (side, to.0), to.1 * heads, between(side, to.0))
}

/// Where a distance of `to` lies among those of `from`: the first of the two around it, and their weights.
fn between(from: usize, to: usize) -> impl Fn(usize, &mut Vec<f64>) -> usize {
    let (half, reach) = (from / 2, (to / 2) as f64);
    let (mut low, mut high) = (1.01, 1.5);
    let mut factor = low;
    while high - low > 1e-6 {
        factor = (low + high) / 2.0;
        let last = (1.0 - f64::powi(factor, half as i32)) / (1.0 - factor);
        if last > reach { high = factor } else { low = factor }
    }
    let distance = move |steps: usize| (0..steps).map(|i| f64::powi(factor, i as i32)).sum::<f64>();
    let places: Vec<f64> = (0..from)
        .map(|i| if i < half { -distance(half - i) } else { distance(i - half) })
        .collect();
    move |position, weights| {
        let at = position as f64 - reach;
        let right = places.partition_point(|&place| place < at).clamp(1, places.len() - 1);
        let share = (at - places[right - 1]) / (places[right] - places[right - 1]);
        let share = share.clamp(0.0, 1.0);
        weights.clear();
        weights.extend([1.0 - share, share]);
        right - 1
    }
}

/// `[outer, from, inner]` to `[outer, to, inner]`: `taps` gives, for each position, the first that counts, and the
/// weights from it on.
fn along(
    values: &[f32],
    outer: usize,
    (from, to): (usize, usize),
    inner: usize,
    taps: impl Fn(usize, &mut Vec<f64>) -> usize,
) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let mut weights = Vec::new();
    let mut result = vec![0.0; outer * to * inner];
    for position in 0..to {
        let first = taps(position, &mut weights);
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
