//! Single image files (PNG, JPEG, …) as pictures in memory, and as a model's input.

use std::fs;
use std::path::Path;

use crate::DataError;
use crate::preprocessing::Preprocessing;
use crate::samples::Image;
use crate::transform::{SampleAddress, Scratch, Transform};

/// Reads an image file as a model's input, `[C, H, W]`, row-major.
///
/// A grey picture becomes three equal channels if the model takes three, and a coloured one grey if it takes one.
/// Transparency is ignored.
pub fn load_image(path: &Path, preprocessing: &Preprocessing) -> Result<Vec<f32>, DataError> {
    let bytes = fs::read(path).map_err(|e| DataError::io("read", path, e))?;
    decode_image(&path.display().to_string(), &bytes, preprocessing)
}

/// Does what [`load_image`] does for the contents of an image file. `name` is for error messages.
pub fn decode_image(
    name: &str,
    bytes: &[u8],
    preprocessing: &Preprocessing,
) -> Result<Vec<f32>, DataError> {
    preprocessing.check()?;
    let mut image = Image::default();
    image.decode(name, bytes)?;
    let mut out = vec![0.0; preprocessing.output_shape().iter().product()];
    let address = SampleAddress { seed: 0, epoch: 0, sample: 0 };
    preprocessing.apply(address, &mut image, &mut Scratch::default(), &mut out)?;
    Ok(out)
}

impl Image {
    /// Becomes the picture, of three channels, in the contents of an image file. Transparency is ignored. `name` is for
    /// error messages.
    pub fn decode(&mut self, name: &str, bytes: &[u8]) -> Result<(), DataError> {
        let rgb = image::load_from_memory(bytes)
            .map_err(|source| DataError::Decode { name: name.to_owned(), source })?
            .into_rgb8();
        self.shape = [3, rgb.height() as usize, rgb.width() as usize];
        self.pixels.clear();
        (0..3).for_each(|c| self.pixels.extend(rgb.pixels().map(|pixel| pixel.0[c])));
        Ok(())
    }

    /// Turns red, green and blue into brightness by ITU-R 601 in 16-bit fixed point, rounded as Pillow rounds it for
    /// its mode `L`. The picture must have three channels.
    pub(crate) fn turn_grey(&mut self) {
        let plane = self.pixels.len() / 3;
        let (red, others) = self.pixels.split_at_mut(plane);
        let (green, blue) = others.split_at(plane);
        for (red, (&green, &blue)) in red.iter_mut().zip(green.iter().zip(blue)) {
            let sum = u32::from(*red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
            *red = ((sum + 0x8000) >> 16) as u8;
        }
        self.pixels.truncate(plane);
        self.shape[0] = 1;
    }
}
