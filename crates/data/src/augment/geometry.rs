//! Operations that move pixels: flips, crops, and Pillow's affine transforms.

use vitrine_tensor::simd;

use crate::resize::Interpolation;
use crate::samples::Image;
use crate::transform::Scratch;

/// Exchanges top and bottom.
pub(super) fn flip_rows(image: &mut Image) {
    let [_, height, width] = image.shape;
    for plane in image.pixels.chunks_exact_mut(height * width) {
        let (upper, lower) = plane.split_at_mut(height.div_ceil(2) * width);
        let pairs = upper.chunks_exact_mut(width).zip(lower.chunks_exact_mut(width).rev());
        pairs.for_each(|(above, below)| above.swap_with_slice(below));
    }
}

/// The matrix of Pillow's `rotate` about the middle.
pub(super) fn rotation(degrees: f64, height: usize, width: usize) -> [f64; 6] {
    let angle = -degrees.rem_euclid(360.0).to_radians();
    // Pillow's rounding makes quarter turns exact.
    let round = |x: f64| (x * 1e15).round() / 1e15;
    let (sin, cos) = (round(angle.sin()), round(angle.cos()));
    let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
    [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]
}

/// Pillow's affine transform: the pixel at (x, y) of the result is that at (a·x + b·y + c, d·x + e·y + f), by the
/// middles of pixels. Outside of the picture it is `fill`.
pub(super) fn affine(
    image: &mut Image,
    matrix: [f64; 6],
    interpolation: Interpolation,
    fill: &[u8],
    scratch: &mut Scratch,
) {
    let [_, height, width] = image.shape;
    scratch.other.resize(image.pixels.len(), 0);
    take_pixels(image, matrix, interpolation, fill, &mut scratch.other);
    scratch.exchange(image, (height, width));
}

simd! {
    fn take_pixels(
        image: &Image,
        matrix: [f64; 6],
        interpolation: Interpolation,
        fill: &[u8],
        target: &mut [u8],
    ) {
        let ([a, b, c, d, e, f], [_, height, width]) = (matrix, image.shape);
        let inside = |place: f64, side: usize| 0.0 <= place && place < side as f64;
        for y in 0..height {
            for x in 0..width {
                let (middle_x, middle_y) = (x as f64 + 0.5, y as f64 + 0.5);
                let from_x = a * middle_x + b * middle_y + c;
                let from_y = d * middle_x + e * middle_y + f;
                let outs = target[y * width + x..].iter_mut().step_by(height * width);
                if !(inside(from_x, width) && inside(from_y, height)) {
                    for (out, &fill) in outs.zip(fill.iter().cycle()) {
                        *out = fill;
                    }
                    continue;
                }
                let columns = Taps::new(from_x - 0.5, width, interpolation);
                let rows = Taps::new(from_y - 0.5, height, interpolation);
                for (out, plane) in outs.zip(image.pixels.chunks_exact(height * width)) {
                    let mut sums = [0.0; 4];
                    for (&row, weight) in rows.places.iter().zip(rows.weights) {
                        let pixels = columns.pixels(&plane[row * width..][..width]);
                        for (sum, pixel) in sums.iter_mut().zip(pixels) {
                            *sum += weight * f32::from(pixel);
                        }
                    }
                    let [p, q, r, s] = [0, 1, 2, 3].map(|i| sums[i] * columns.weights[i]);
                    // Rounded down; the conversion ends at 0 and at 255.
                    *out = ((p + q) + (r + s) + ROUNDING) as u8;
                }
            }
        }
    }
}

/// So much may be lost in `f32`, and must not make a whole number one less.
const ROUNDING: f32 = 1e-3;

/// The pixels that one position along an axis is made from, and their weights. Before the first and after the last
/// pixel these are repeated.
struct Taps {
    places: [usize; 4],
    weights: [f32; 4],
}

impl Taps {
    #[inline(always)]
    fn new(position: f64, side: usize, interpolation: Interpolation) -> Self {
        let first = position.floor();
        let t = (position - first) as f32;
        let weights = match interpolation {
            Interpolation::Bilinear => [0.0, 1.0 - t, t, 0.0],
            // The cubic of Keys 1981 with a = -1, where a resize has -1/2. Pillow has no Lanczos filter here.
            Interpolation::Bicubic | Interpolation::Lanczos => {
                let (t2, t3) = (t * t, t * t * t);
                [2.0 * t2 - t - t3, 1.0 - 2.0 * t2 + t3, t + t2 - t3, t3 - t2]
            }
        };
        let first = first as isize - 1;
        let places = [0, 1, 2, 3].map(|i| (first + i).clamp(0, side as isize - 1) as usize);
        Self { places, weights }
    }

    #[inline(always)]
    fn pixels(&self, row: &[u8]) -> [u8; 4] {
        let [first, .., last] = self.places;
        match row[first..].first_chunk() {
            // Side by side, but for the ends of a row.
            Some(pixels) if first + 3 == last => *pixels,
            _ => self.places.map(|place| row[place]),
        }
    }
}
