//! Single image files (PNG, JPEG, …) as a model's input. Datasets are elsewhere.

use std::fs;
use std::path::Path;

use image::DynamicImage;

use crate::DataError;
use crate::dataset::ImageView;
use crate::transform::{ResizeToUnit, SampleAddress, Scratch, Transform};

/// Reads an image file, resizes it to `size` (height, width) and scales it to [0, 1].
///
/// The result is `[channels, height, width]`, row-major. `channels` is 1 (grayscale, with the
/// weights of ITU-R 601 as Pillow's mode `L`) or 3 (RGB). Transparency is ignored.
pub fn load_image(
    path: &Path,
    channels: usize,
    size: (usize, usize),
) -> Result<Vec<f32>, DataError> {
    let bytes = fs::read(path).map_err(|e| DataError::io("read", path, e))?;
    decode_image(&path.display().to_string(), &bytes, channels, size)
}

/// Does what [`load_image`] does for the contents of an image file. `name` is for error messages.
pub fn decode_image(
    name: &str,
    bytes: &[u8],
    channels: usize,
    size: (usize, usize),
) -> Result<Vec<f32>, DataError> {
    let picture = image::load_from_memory(bytes)
        .map_err(|source| DataError::Decode { name: name.to_owned(), source })?;
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    let pixels = planes(&picture, channels)?;
    let shape = [channels, height, width];
    let transform = ResizeToUnit::new(shape, [channels, size.0, size.1])?;
    let mut out = vec![0.0; channels * size.0 * size.1];
    let address = SampleAddress { seed: 0, epoch: 0, sample: 0 };
    let view = ImageView { pixels: &pixels, shape };
    transform.apply(address, view, &mut Scratch::default(), &mut out)?;
    Ok(out)
}

/// The picture as one plane of bytes per channel.
fn planes(picture: &DynamicImage, channels: usize) -> Result<Vec<u8>, DataError> {
    let rgb = picture.to_rgb8();
    match channels {
        1 => Ok(rgb.pixels().map(|pixel| luma(pixel.0)).collect()),
        3 => Ok((0..3).flat_map(|c| rgb.pixels().map(move |pixel| pixel.0[c])).collect()),
        _ => {
            let reason = format!("a picture gives 1 channel (gray) or 3 (RGB), not {channels}");
            Err(DataError::BadSetting { setting: "channels", reason })
        }
    }
}

/// Brightness by ITU-R 601 in 16-bit fixed point, as Pillow rounds it.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16)
        as u8
}
