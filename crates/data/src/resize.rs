//! Bilinear resize with antialiasing that gives the bytes that Pillow gives, and so torchvision's `Resize` on PIL
//! images. One plane of bytes in, one out; colour, scaling to floats and files are elsewhere.
//!
//! The filter is a triangle whose width grows with the factor of a reduction. Both passes (first along the rows, then
//! along the columns) work in fixed point with 22 fractional bits and round to a byte in between, as Pillow does.
//! Pillow 13 takes the columns first where the height shrinks far more than the width; there the two may differ by one
//! grey level.

use crate::DataError;

const PRECISION_BITS: u32 = 22;
const MAX_SIDE: usize = 65_535;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// A resize from one size to another, its filter weights computed once.
#[derive(Debug, Clone)]
pub struct Resizer {
    from: (usize, usize),
    to: (usize, usize),
    rows: Option<Axis>,
    columns: Option<Axis>,
}

/// For each output position along an axis: the first input position, and its weights at `start..end` of `weights`.
#[derive(Debug, Clone)]
struct Axis {
    taps: Vec<Taps>,
    weights: Vec<i32>,
}

#[derive(Debug, Clone, Copy)]
struct Taps {
    first: usize,
    start: usize,
    end: usize,
}

impl Resizer {
    /// Prepares a resize between two sizes (height, width). A side has 1 to 65,535 pixels.
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Result<Self, DataError> {
        check_size("source image size", from)?;
        check_size("image size", to)?;
        Ok(Self {
            from,
            to,
            rows: (from.0 != to.0).then(|| Axis::new(from.0, to.0)),
            columns: (from.1 != to.1).then(|| Axis::new(from.1, to.1)),
        })
    }

    /// The size (height, width) that [`resize`](Self::resize) takes.
    pub fn from(&self) -> (usize, usize) {
        self.from
    }

    /// The size (height, width) that [`resize`](Self::resize) gives.
    pub fn to(&self) -> (usize, usize) {
        self.to
    }

    /// Resizes one row-major plane. `scratch` is working memory: pass the same one again to allocate nothing.
    ///
    /// # Panics
    /// If `source` or `target` has not as many bytes as the sizes say.
    pub fn resize(&self, source: &[u8], target: &mut [u8], scratch: &mut Vec<u8>) {
        assert_eq!(
            source.len(),
            self.from.0 * self.from.1,
            "source of a resize from {:?}",
            self.from
        );
        assert_eq!(target.len(), self.to.0 * self.to.1, "target of a resize to {:?}", self.to);
        match (&self.columns, &self.rows) {
            (None, None) => target.copy_from_slice(source),
            (Some(columns), None) => columns.along_rows(source, self.from.1, target, self.to.1),
            (None, Some(rows)) => rows.across_rows(source, target, self.to.1),
            (Some(columns), Some(rows)) => {
                scratch.resize(self.from.0 * self.to.1, 0);
                columns.along_rows(source, self.from.1, scratch, self.to.1);
                rows.across_rows(scratch, target, self.to.1);
            }
        }
    }
}

/// Refuses a size (height, width) that a resize cannot have.
pub(crate) fn check_size(setting: &'static str, size: (usize, usize)) -> Result<(), DataError> {
    let sides = 1..=MAX_SIDE;
    if sides.contains(&size.0) && sides.contains(&size.1) {
        return Ok(());
    }
    let reason = format!("{} x {}: a side has 1 to {MAX_SIDE} pixels", size.0, size.1);
    Err(DataError::BadSetting { setting, reason })
}

impl Axis {
    /// Pillow's `precompute_coeffs` for the bilinear filter, with the weights in fixed point.
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let mut axis = Self { taps: Vec::with_capacity(to), weights: Vec::new() };
        let mut exact = Vec::new();
        for position in 0..to {
            let center = (position as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(from);
            exact.clear();
            exact.extend((first..last).map(|i| {
                // Multiplying by the reciprocal, not dividing, rounds as Pillow does.
                let distance = (i as f64 - center + 0.5) * (1.0 / support);
                (1.0 - distance.abs()).max(0.0)
            }));
            let total: f64 = exact.iter().sum();
            let start = axis.weights.len();
            let one = f64::from(1u32 << PRECISION_BITS);
            axis.weights.extend(exact.iter().map(|w| (0.5 + w / total * one) as i32));
            axis.taps.push(Taps { first, start, end: axis.weights.len() });
        }
        axis
    }

    /// Filters each row, changing its width.
    fn along_rows(&self, source: &[u8], from: usize, target: &mut [u8], to: usize) {
        for (row, out) in source.chunks_exact(from).zip(target.chunks_exact_mut(to)) {
            for (pixel, taps) in out.iter_mut().zip(&self.taps) {
                let weights = &self.weights[taps.start..taps.end];
                let sum: i32 =
                    row[taps.first..].iter().zip(weights).map(|(&p, &w)| i32::from(p) * w).sum();
                *pixel = round(sum + HALF);
            }
        }
    }

    /// Filters each column, changing the number of rows.
    fn across_rows(&self, source: &[u8], target: &mut [u8], width: usize) {
        // A block of sums stays in registers, so the compiler turns the inner loops into vector code.
        const BLOCK: usize = 16;
        for (out, taps) in target.chunks_exact_mut(width).zip(&self.taps) {
            let weights = &self.weights[taps.start..taps.end];
            let rows = &source[taps.first * width..];
            let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
            let tail = blocks.len() * BLOCK;
            for (i, block) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; BLOCK];
                for (row, &weight) in rows.chunks_exact(width).zip(weights) {
                    let pixels = &row[i * BLOCK..(i + 1) * BLOCK];
                    for (sum, &pixel) in sums.iter_mut().zip(pixels) {
                        *sum += i32::from(pixel) * weight;
                    }
                }
                *block = sums.map(round);
            }
            for (x, pixel) in rest.iter_mut().enumerate() {
                let column = rows.chunks_exact(width).map(|row| i32::from(row[tail + x]));
                *pixel = round(HALF + column.zip(weights).map(|(p, &w)| p * w).sum::<i32>());
            }
        }
    }
}

/// From fixed point to a byte. Weights are positive and sum to 1, so only a rounding error can exceed 255.
fn round(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).min(255) as u8
}
