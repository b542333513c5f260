//! What one operation does to a picture of bytes: what Pillow does, to one grey level at the most. Turns and shifts are
//! in `geometry`, blurs in `blur`.

use super::{blur, geometry};
use crate::picture::brightness;
use crate::resize::Interpolation;
use crate::samples::Image;
use crate::transform::Scratch;

/// An operation with its numbers. A factor is Pillow's, of `ImageEnhance`: 1 changes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation {
    /// Left and right exchanged.
    HorizontalFlip,
    /// Top and bottom exchanged.
    VerticalFlip,
    /// Black pixels on each side, then as large a picture as before from this place on.
    PadCrop {
        /// Pixels on each side.
        padding: usize,
        /// Rows left out above.
        top: usize,
        /// Columns left out on the left.
        left: usize,
    },
    /// Each channel stretched from black to white.
    AutoContrast,
    /// Each channel's values spread evenly.
    Equalize,
    /// The negative.
    Invert,
    /// So many upper bits kept of each value; 8 and more keep all.
    Posterize(i32),
    /// The negative of values from this one on.
    Solarize(i32),
    /// So much added to values below 128.
    SolarizeAdd(i32),
    /// Between grey, at 0, and the picture; beyond it over 1.
    Color(f64),
    /// Between the mean brightness, at 0, and the picture.
    Contrast(f64),
    /// Between black, at 0, and the picture.
    Brightness(f64),
    /// Between a smoothed picture, at 0, and the picture.
    Sharpness(f64),
    /// The hue turned; 1 is all the way round.
    Hue(f64),
    /// A blur of this standard deviation, in pixels.
    GaussianBlur(f64),
    /// Turned against the clock, in degrees.
    Rotate(f64),
    /// Rows shifted to the left, by this share of their distance from the top.
    ShearX(f64),
    /// Columns shifted upwards, by this share of their distance from the left.
    ShearY(f64),
    /// Shifted to the left, in pixels.
    TranslateX(f64),
    /// Shifted upwards, in pixels.
    TranslateY(f64),
}

impl Operation {
    /// Changes a picture of one channel or three. What a turn or a shift leaves open gets the channels' values in
    /// `fill`; its pixels are weighed by `interpolation`.
    pub fn apply(
        self,
        image: &mut Image,
        interpolation: Interpolation,
        fill: &[u8],
        scratch: &mut Scratch,
    ) {
        let [_, height, width] = image.shape;
        let mut turned = |matrix| geometry::affine(image, matrix, interpolation, fill, scratch);
        match self {
            Self::Rotate(degrees) => turned(geometry::rotation(degrees, height, width)),
            Self::ShearX(factor) => turned([1.0, factor, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(factor) => turned([1.0, 0.0, 0.0, factor, 1.0, 0.0]),
            Self::TranslateX(pixels) => turned([1.0, 0.0, pixels, 0.0, 1.0, 0.0]),
            Self::TranslateY(pixels) => turned([1.0, 0.0, 0.0, 0.0, 1.0, pixels]),
            Self::HorizontalFlip => image.pixels.chunks_exact_mut(width).for_each(<[u8]>::reverse),
            Self::VerticalFlip => geometry::flip_rows(image),
            Self::PadCrop { padding, top, left } => {
                let shift = |from: usize| from as f64 - padding as f64;
                let matrix = [1.0, 0.0, shift(left), 0.0, 1.0, shift(top)];
                geometry::affine(image, matrix, Interpolation::Bilinear, &[0], scratch);
            }
            Self::GaussianBlur(radius) => blur::gaussian(image, radius, scratch),
            Self::Sharpness(factor) => {
                blur::smooth(image, scratch);
                for (value, &smooth) in image.pixels.iter_mut().zip(&scratch.other) {
                    *value = blend(smooth, *value, factor as f32);
                }
            }
            Self::AutoContrast => each_channel(image, stretched),
            Self::Equalize => each_channel(image, equalized),
            Self::Invert => each_value(image, |value| 255 - value),
            Self::Posterize(bits) => {
                let mask = if bits >= 8 { 255 } else { !(255 >> bits.max(0)) };
                each_value(image, |value| value & mask as u8);
            }
            Self::Solarize(from) => {
                each_value(image, |value| if i32::from(value) < from { value } else { 255 - value })
            }
            Self::SolarizeAdd(add) => each_value(image, |value| {
                if value < 128 { (i32::from(value) + add).clamp(0, 255) as u8 } else { value }
            }),
            Self::Brightness(factor) => each_value(image, |value| blend(0, value, factor as f32)),
            Self::Contrast(factor) => {
                let grey = mean_brightness(image);
                each_value(image, |value| blend(grey, value, factor as f32));
            }
            // A picture that is not of three channels has no colour to change.
            Self::Color(_) | Self::Hue(_) if image.shape[0] != 3 => {}
            Self::Color(factor) => image.change_pixels(|pixel| {
                let grey = brightness(pixel);
                pixel.map(|value| blend(grey, value, factor as f32))
            }),
            Self::Hue(turn) => {
                let turn = (turn * 255.0) as i32 as u8;
                image.change_pixels(|pixel| turned_hue(pixel, turn));
            }
        }
    }
}

/// Pillow's `blend`: from one value at 0 to the other at 1, in `f32`, rounded down.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let from = f32::from(from);
    // The conversion ends at 0 and at 255.
    (from + factor * (f32::from(to) - from)) as u8
}

/// Changes each value by itself.
fn each_value(image: &mut Image, change: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|value| change(value as u8));
    image.pixels.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

/// Changes each channel's values by what its histogram says.
fn each_channel(image: &mut Image, table: fn(&[u32; 256]) -> [u8; 256]) {
    let plane = image.shape[1] * image.shape[2];
    for channel in image.pixels.chunks_exact_mut(plane) {
        let mut counts = [0; 256];
        channel.iter().for_each(|&value| counts[usize::from(value)] += 1);
        let table = table(&counts);
        channel.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
    }
}

/// The mean of a picture, of a coloured one turned grey.
fn mean_brightness(image: &mut Image) -> u8 {
    let (mut sum, mut count) = (0, image.pixels.len());
    if image.shape[0] == 3 {
        count /= 3;
        image.change_pixels(|pixel| {
            sum += u64::from(brightness(pixel));
            pixel
        });
    } else {
        sum = image.pixels.iter().map(|&value| u64::from(value)).sum();
    }
    (sum as f64 / count as f64 + 0.5) as u8
}

/// Pillow's `autocontrast` without a cut-off.
fn stretched(counts: &[u32; 256]) -> [u8; 256] {
    let low = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let high = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    if high <= low {
        return std::array::from_fn(|value| value as u8);
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|value| (value as f64 * scale + offset) as u8)
}

/// Pillow's `equalize`.
fn equalized(counts: &[u32; 256]) -> [u8; 256] {
    let mut present = counts.iter().filter(|&&count| count > 0);
    let last = present.next_back().copied().unwrap_or(0);
    let step = (counts.iter().sum::<u32>() - last) / 255;
    if step == 0 {
        return std::array::from_fn(|value| value as u8);
    }
    let mut sum = step / 2;
    counts.map(|count| {
        let value = (sum / step).min(255) as u8;
        sum += count;
        value
    })
}

/// A pixel with its hue turned by so many 256ths, by way of Pillow's mode `HSV`.
fn turned_hue([red, green, blue]: [u8; 3], turn: u8) -> [u8; 3] {
    let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
    if high == low {
        return [red, green, blue];
    }
    let (value, span) = (f64::from(high), f32::from(high - low));
    let saturation = (f64::from(span / f32::from(high)) * 255.0) as u8;
    let [r, g, b] = [red, green, blue].map(|value| f32::from(high - value) / span);
    let sixth = if red == high {
        b - g
    } else if green == high {
        (2.0 + f64::from(r) - f64::from(b)) as f32
    } else {
        (4.0 + f64::from(g) - f64::from(r)) as f32
    };
    let hue = f64::from((f64::from(sixth) / 6.0 + 1.0).fract() as f32) * 255.0;
    let sixth = f64::from((hue as u8).wrapping_add(turn)) * 6.0 / 255.0;
    let (part, saturation) = (sixth.fract() as f32, (f64::from(saturation) / 255.0) as f32);
    let down =
        |share: f32| (value * (1.0 - f64::from(saturation) * f64::from(share))).round() as u8;
    let (p, q, t) = (down(1.0), down(part), down(1.0 - part));
    match sixth as u8 % 6 {
        0 => [high, t, p],
        1 => [q, high, p],
        2 => [p, high, t],
        3 => [p, q, high],
        4 => [t, p, high],
        _ => [high, p, q],
    }
}
