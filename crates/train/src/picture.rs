//! Images of batches as pictures for people.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use vitrine_data::{Batch, Image, Preprocessing, SampleAddress, Samples, Scratch, Transform};
use vitrine_nn::InputSpec;

/// Images in a row of a grid.
const COLUMNS: usize = 8;
/// Pixels between them.
const GAP: usize = 2;

/// A picture and its height, width and channels.
pub(crate) struct Picture {
    pub(crate) png: Vec<u8>,
    pub(crate) size: (usize, usize),
    pub(crate) channels: usize,
}

/// A sample `[C, H, W]` as the model sees it in evaluation; `None` if it cannot be read, or is no image.
pub(crate) fn pixels(
    samples: &dyn Samples,
    sample: usize,
    preprocessing: &Preprocessing,
) -> Option<Vec<f32>> {
    let (mut image, shape) = (Image::default(), preprocessing.output_shape());
    samples.read(sample, &mut image).ok()?;
    let mut pixels = vec![0.0; shape.iter().product()];
    let address = SampleAddress { seed: 0, epoch: 0, sample };
    preprocessing.apply(address, &mut image, &mut Scratch::default(), &mut pixels).ok()?;
    (shape[1] * shape[2] > 1).then_some(pixels)
}

/// A sample's pixels as a PNG file; `None` if they cannot be shown.
pub(crate) fn of_pixels(pixels: &[f32], input: &InputSpec) -> Option<Vec<u8>> {
    let shape = [1, input.channels, input.size.0, input.size.1];
    let batch = Batch { images: pixels.to_vec(), shape, ..Batch::default() };
    grid(&batch, input, 1).map(|picture| picture.png)
}

/// The first `most` images of a batch in a grid, their pixels as they were before mean and standard deviation were
/// applied. Of two channels, or more than three, the first is shown. `None` if there is none, or if they are too large.
pub(crate) fn grid(batch: &Batch, input: &InputSpec, most: usize) -> Option<Picture> {
    let [count, channels, height, width] = batch.shape;
    let shown = if channels == 3 { 3 } else { 1 };
    let count = count.min(most);
    let (columns, rows) = (count.min(COLUMNS), count.div_ceil(COLUMNS));
    let along = |count: usize, side: usize| count * (side + GAP) - GAP;
    // One pixel is a feature that is kept in the place of an image.
    if count == 0 || height * width <= 1 {
        return None;
    }
    let size = (along(rows, height), along(columns, width));
    let mut pixels = vec![255; size.0 * size.1 * shown];
    for (i, image) in batch.images.chunks_exact(channels * height * width).take(count).enumerate() {
        let (top, left) = (i / COLUMNS * (height + GAP), i % COLUMNS * (width + GAP));
        for (c, plane) in image.chunks_exact(height * width).take(shown).enumerate() {
            let (mean, std) = (input.mean[c], input.std[c]);
            for (at, &value) in plane.iter().enumerate() {
                let (y, x) = (top + at / width, left + at % width);
                let level = 255.0 * (f64::from(value) * std + mean);
                pixels[(y * size.1 + x) * shown + c] = level.round().clamp(0.0, 255.0) as u8;
            }
        }
    }
    let (tall, wide) = (u32::try_from(size.0).ok()?, u32::try_from(size.1).ok()?);
    let picture = match shown {
        3 => DynamicImage::ImageRgb8(RgbImage::from_raw(wide, tall, pixels)?),
        _ => DynamicImage::ImageLuma8(GrayImage::from_raw(wide, tall, pixels)?),
    };
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).ok()?;
    Some(Picture { png: png.into_inner(), size, channels: shown })
}
