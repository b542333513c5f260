//! Resize with antialiasing that gives the bytes that Pillow gives, and so torchvision's `Resize` on PIL images. One
//! plane of bytes in, one out, or a part of either; colour, scaling to floats and files are elsewhere.
//!
//! The width of a filter grows with the factor of a reduction. Both passes work in fixed point with 22 fractional bits
//! and round to a byte in between. The columns come first where the height shrinks far more than the width, as in
//! Pillow from version 13 on; those before it may differ there by a grey level or two.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};
use vitrine_tensor::simd;

use crate::samples::Rect;
use crate::{DataError, Result};

const PRECISION_BITS: u32 = 22;
pub(crate) const MAX_SIDE: usize = 65_535;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// How pixels are weighed in a resize: Pillow's filters of the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// A triangle over 2 pixels.
    #[default]
    Bilinear,
    /// The cubic of Keys 1981 with a = -1/2, over 4 pixels.
    Bicubic,
    /// A sinc, windowed by a wider one, over 6 pixels.
    Lanczos,
}

impl Interpolation {
    /// The names in files and on the command line.
    pub const NAMES: &[&str] = &["bilinear", "bicubic", "lanczos"];

    /// How far the filter reaches, in pixels.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// What an output position on an axis is made of, where `from` positions become `to`: the first input position, and
    /// in `weights` those of it and the ones after it, which add up to 1 (Pillow's `precompute_coeffs`).
    pub fn taps(self, position: usize, from: usize, to: usize, weights: &mut Vec<f64>) -> usize {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = self.support() * stretch;
        let center = (position as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(from);
        weights.clear();
        // Multiplying by the reciprocal, not dividing, rounds as Pillow does.
        let weight = |i| self.weight((i as f64 - center + 0.5) * (1.0 / stretch));
        weights.extend((first..last).map(weight));
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        first
    }

    /// The filter's value `x` pixels from its centre.
    pub(crate) fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// A resize from one size to another, its filter weights computed once.
#[derive(Debug, Clone)]
pub struct Resizer {
    pub(crate) from: (usize, usize),
    pub(crate) to: (usize, usize),
    pub(crate) part: Rect,
    pub(crate) interpolation: Interpolation,
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
    /// Prepares a resize between two sizes (height, width), of which only a part of the result is made, the same bytes
    /// as in the whole. A side has 1 to 65,535 pixels.
    pub fn new(
        from: (usize, usize),
        to: (usize, usize),
        part: Rect,
        interpolation: Interpolation,
    ) -> Result<Self> {
        check_size("source image size", from)?;
        check_size("image size", (part.height, part.width))?;
        part.check(to)?;
        let axis = |from, to, first, length| {
            (from != to || length != to).then(|| Axis::new(from, to, first, length, interpolation))
        };
        let rows = axis(from.0, to.0, part.top, part.height);
        let columns = axis(from.1, to.1, part.left, part.width);
        Ok(Self { from, to, part, interpolation, rows, columns })
    }

    /// Resizes one plane, whose rows begin `stride` bytes apart. `scratch` is working memory: pass the same one
    /// again.
    ///
    /// # Panics
    /// If `source` has fewer bytes than its size and stride say, or `target` not as many as the part that is made.
    pub fn resize(&self, source: &[u8], stride: usize, target: &mut [u8], scratch: &mut Vec<u8>) {
        let (height, width) = self.from;
        let out = self.part.width;
        assert!(
            stride >= width && source.len() >= (height - 1) * stride + width,
            "source of a resize from {height} x {width}, {stride} bytes a row"
        );
        assert_eq!(target.len(), self.part.height * out, "target of a resize");
        match (&self.columns, &self.rows) {
            (None, None) => {
                for (row, out) in source.chunks(stride).zip(target.chunks_exact_mut(width)) {
                    out.copy_from_slice(&row[..width]);
                }
            }
            (Some(columns), None) => along_rows(columns, source, stride, 0, target, out),
            (None, Some(rows)) => across_rows(rows, source, stride, 0, target, out),
            // What no part of the result is made from is left out of the first pass.
            (Some(columns), Some(rows)) if self.columns_first() => {
                let (first, end) = columns.reach();
                scratch.resize(self.part.height * (end - first), 0);
                across_rows(rows, &source[first..], stride, 0, scratch, end - first);
                along_rows(columns, scratch, end - first, first, target, out);
            }
            (Some(columns), Some(rows)) => {
                let (first, end) = rows.reach();
                scratch.resize((end - first) * out, 0);
                along_rows(columns, &source[first * stride..], stride, 0, scratch, out);
                across_rows(rows, scratch, out, first, target, out);
            }
        }
    }

    fn columns_first(&self) -> bool {
        let less = |from: usize, to: usize| from as i64 - to as i64;
        let (height, width) = (less(self.from.0, self.to.0), less(self.from.1, self.to.1));
        height > 0 && height > 2 * width
    }
}

/// Refuses a size (height, width) that a resize cannot have.
pub(crate) fn check_size(setting: &'static str, size: (usize, usize)) -> Result<()> {
    let sides = 1..=MAX_SIDE;
    if sides.contains(&size.0) && sides.contains(&size.1) {
        return Ok(());
    }
    let reason = format!("{} x {}: a side has 1 to {MAX_SIDE} pixels", size.0, size.1);
    Err(DataError::BadSetting { setting, reason })
}

impl Axis {
    /// The taps of so many output positions from `skip` on, with the weights in fixed point.
    fn new(from: usize, to: usize, skip: usize, length: usize, filter: Interpolation) -> Self {
        let mut axis = Self { taps: Vec::with_capacity(length), weights: Vec::new() };
        let mut exact = Vec::new();
        for position in skip..skip + length {
            let first = filter.taps(position, from, to, &mut exact);
            let start = axis.weights.len();
            let one = f64::from(1u32 << PRECISION_BITS);
            axis.weights.extend(exact.iter().map(|weight| (weight * one).round() as i32));
            axis.taps.push(Taps { first, start, end: axis.weights.len() });
        }
        axis
    }

    /// The input positions that are read: the first, and the one after the last.
    fn reach(&self) -> (usize, usize) {
        let ends = self.taps.iter().map(|taps| taps.first + taps.end - taps.start);
        (self.taps.first().map_or(0, |taps| taps.first), ends.max().unwrap_or(0))
    }
}

/// Sums that stay in registers.
const BLOCK: usize = 16;

simd! {
    /// Filters each row, changing its width. Rows of `source` begin with column `skipped`.
    fn along_rows(
        axis: &Axis,
        source: &[u8],
        stride: usize,
        skipped: usize,
        target: &mut [u8],
        to: usize,
    ) {
        // Rows side by side make vectors: a block of them is turned, filtered, and turned back.
        let (first, end) = axis.reach();
        let mut turned = vec![[0u8; BLOCK]; end - first];
        for (source, target) in source.chunks(BLOCK * stride).zip(target.chunks_mut(BLOCK * to)) {
            let rows = target.len() / to;
            for row in 0..rows {
                let pixels = &source[row * stride + first - skipped..][..end - first];
                for (column, &pixel) in turned.iter_mut().zip(pixels) {
                    column[row] = pixel;
                }
            }
            for (x, taps) in axis.taps.iter().enumerate() {
                let mut sums = [HALF; BLOCK];
                let weights = &axis.weights[taps.start..taps.end];
                for (column, &weight) in turned[taps.first - first..].iter().zip(weights) {
                    for (sum, &pixel) in sums.iter_mut().zip(column) {
                        *sum += i32::from(pixel) * weight;
                    }
                }
                let pixels = sums.map(round);
                for row in 0..rows {
                    target[row * to + x] = pixels[row];
                }
            }
        }
    }
}

simd! {
    /// Filters each column, changing the number of rows. `source` begins with row `skipped`.
    fn across_rows(
        axis: &Axis,
        source: &[u8],
        stride: usize,
        skipped: usize,
        target: &mut [u8],
        width: usize,
    ) {
        for (out, taps) in target.chunks_exact_mut(width).zip(&axis.taps) {
            let weights = &axis.weights[taps.start..taps.end];
            let rows = &source[(taps.first - skipped) * stride..];
            let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
            let tail = blocks.len() * BLOCK;
            for (i, block) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; BLOCK];
                for (row, &weight) in rows.chunks(stride).zip(weights) {
                    let pixels = &row[i * BLOCK..(i + 1) * BLOCK];
                    for (sum, &pixel) in sums.iter_mut().zip(pixels) {
                        *sum += i32::from(pixel) * weight;
                    }
                }
                *block = sums.map(round);
            }
            for (x, pixel) in rest.iter_mut().enumerate() {
                let column = rows.chunks(stride).map(|row| i32::from(row[tail + x]));
                *pixel = round(HALF + column.zip(weights).map(|(p, &w)| p * w).sum::<i32>());
            }
        }
    }
}

/// From fixed point to a byte. Some weights of the wider filters are negative.
#[inline(always)]
fn round(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
