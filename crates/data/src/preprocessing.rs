//! From a picture to a model's input: channels, size, scale. Loader and single pictures share it.

use std::array;

use crate::DataError;
use crate::resize::check_size;
use crate::samples::Image;
use crate::transform::{SampleAddress, Scratch, Transform};

/// What a model expects of a picture, and the [`Transform`] that does it and nothing else.
///
/// The picture is resized with Pillow's bilinear filter, its bytes are scaled to [0, 1], and of each channel the mean
/// is subtracted before it is divided by the standard deviation: torchvision's `Resize`, `ToTensor` and `Normalize`, in
/// that order and in `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// The input's channels. A grey picture becomes as many equal channels, and a coloured one grey for a single
    /// channel; else the number is that of the pictures.
    pub channels: usize,
    /// The input's size, (height, width).
    pub size: (usize, usize),
    /// The mean of each channel of pictures in [0, 1], `[C]`.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel of pictures in [0, 1], `[C]`.
    pub std: Vec<f32>,
    /// A picture file of more pixels is not decoded: a small file can hold a picture that fills the memory.
    pub max_pixels: u64,
}

impl Preprocessing {
    /// The most pixels if nobody states another number: where Pillow begins to warn of a "decompression bomb".
    pub const MAX_PIXELS: u64 = 89_478_485;

    /// Inputs in [0, 1]: mean 0 and standard deviation 1.
    pub fn new(channels: usize, size: (usize, usize)) -> Self {
        let (mean, std) = (vec![0.0; channels], vec![1.0; channels]);
        Self { channels, size, mean, std, max_pixels: Self::MAX_PIXELS }
    }

    pub(crate) fn check(&self) -> Result<(), DataError> {
        check_size("image size", self.size)?;
        let Self { channels, mean, std, .. } = self;
        let each = |values: &[f32], least: f32| {
            values.len() == *channels && values.iter().all(|v| (least..=f32::MAX).contains(v))
        };
        if *channels > 0 && each(mean, f32::MIN) && each(std, f32::MIN_POSITIVE) {
            return Ok(());
        }
        let reason = format!(
            "channels {channels}, mean {mean:?}, std {std:?}: at least one channel, for each a \
             finite mean and a finite std above 0"
        );
        Err(DataError::BadSetting { setting: "preprocessing", reason })
    }
}

impl Transform for Preprocessing {
    fn output_shape(&self) -> [usize; 3] {
        [self.channels, self.size.0, self.size.1]
    }

    fn apply(
        &self,
        _: SampleAddress,
        image: &mut Image,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        self.check()?;
        match (image.shape[0], self.channels) {
            (1, _) => {}
            (from, to) if from == to => {}
            (3, 1) => image.turn_grey(),
            (from, to) => {
                let reason = format!(
                    "a picture of {from} does not become one of {to}: the number stays the same, \
                     one is repeated, and three become one"
                );
                return Err(DataError::BadSetting { setting: "channels", reason });
            }
        }
        let [_, height, width] = image.shape;
        let mut sources = image.pixels.chunks_exact(height * width);
        let mut plane: &[u8] = &[];
        let statistics = self.mean.iter().zip(&self.std);
        for (out, (&mean, &std)) in out.chunks_exact_mut(self.size.0 * self.size.1).zip(statistics)
        {
            // A grey picture's one plane serves all channels.
            if let Some(source) = sources.next() {
                plane = scratch.resize(source, (height, width), self.size)?;
            }
            let values: [f32; 256] = array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
            for (value, &byte) in out.iter_mut().zip(plane) {
                *value = values[usize::from(byte)];
            }
        }
        Ok(())
    }
}
