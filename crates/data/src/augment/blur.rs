//! Operations that look at a pixel's neighbours: Pillow's `SMOOTH` filter and its Gaussian blur.

use crate::samples::Image;
use crate::transform::Scratch;

/// Writes the picture under the kernel of ones with 5 in the middle, over 13, to `scratch.other`. Pixels at the border
/// stay.
pub(super) fn smooth(image: &Image, scratch: &mut Scratch) {
    let [_, height, width] = image.shape;
    scratch.other.clone_from(&image.pixels);
    if height < 3 || width < 3 {
        return;
    }
    let planes = image.pixels.chunks_exact(height * width);
    for (plane, out) in planes.zip(scratch.other.chunks_exact_mut(height * width)) {
        let rows: Vec<&[u8]> = plane.chunks_exact(width).collect();
        for (rows, out) in rows.windows(3).zip(out.chunks_exact_mut(width).skip(1)) {
            for x in 1..width - 1 {
                let three =
                    |row: &[u8]| row[x - 1..=x + 1].iter().map(|&v| u32::from(v)).sum::<u32>();
                let sum =
                    rows.iter().map(|row| three(row)).sum::<u32>() + 4 * u32::from(rows[1][x]);
                out[x] = ((2 * sum + 13) / 26) as u8;
            }
        }
    }
}

/// Pillow's Gaussian blur: three box filters along the rows, then three along the columns, each rounded to bytes.
pub(super) fn gaussian(image: &mut Image, radius: f64, scratch: &mut Scratch) {
    let Some(filter) = Box::of_gaussian(radius as f32) else { return };
    let [_, height, width] = image.shape;
    for plane in image.pixels.chunks_exact_mut(height * width) {
        for row in plane.chunks_exact_mut(width) {
            (0..3).for_each(|_| filter.pass(row, &mut scratch.other, 1));
        }
        (0..3).for_each(|_| filter.pass(plane, &mut scratch.other, width));
    }
}

/// A box filter whose first and last pixel count in part.
struct Box {
    /// Whole pixels on each side of the middle.
    reach: usize,
    /// The weight of whole pixels, in 2^-24.
    whole: u32,
    /// The weight of the pixels beyond them, in 2^-24.
    part: u32,
}

impl Box {
    const ONE: u32 = 1 << 24;

    /// The box of which three in a row come near to a Gaussian, as Pillow computes it in `f32`.
    fn of_gaussian(radius: f32) -> Option<Self> {
        if radius == 0.0 {
            return None;
        }
        let variance = radius * radius / 3.0;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let reach = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let part = (2.0 * reach + 1.0) * (reach * (reach + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (reach + 1.0) * (reach + 1.0)));
        let radius = reach + part;
        let whole = (Self::ONE as f32 / (radius * 2.0 + 1.0)) as u32;
        let reach = radius as usize;
        Some(Self { reach, whole, part: (Self::ONE - (2 * reach as u32 + 1) * whole) / 2 })
    }

    /// Filters lines of which neighbours are `step` bytes apart, side by side; pixels at the ends are repeated.
    fn pass(&self, lines: &mut [u8], before: &mut Vec<u8>, step: usize) {
        before.clear();
        before.extend_from_slice(lines);
        let last = lines.len() / step - 1;
        let line = |at: isize| &before[at.clamp(0, last as isize) as usize * step..][..step];
        let reach = self.reach as isize;
        // The sum of whole pixels moves along.
        let mut sums = vec![0u32; step];
        for at in -reach..=reach {
            sums.iter_mut().zip(line(at)).for_each(|(sum, &value)| *sum += u32::from(value));
        }
        for (at, out) in (0..).zip(lines.chunks_exact_mut(step)) {
            let ends = line(at - reach - 1).iter().zip(line(at + reach + 1));
            let leaving = line(at - reach);
            for (((out, sum), (&first, &next)), &leaving) in
                out.iter_mut().zip(&mut sums).zip(ends).zip(leaving)
            {
                let (first, next) = (u32::from(first), u32::from(next));
                *out = ((*sum * self.whole + (first + next) * self.part + (1 << 23)) >> 24) as u8;
                *sum = *sum + next - u32::from(leaving);
            }
        }
    }
}
