//! What happens to an image between the dataset and the batch. Today: resize and scale to [0, 1].
//! The filter is in [`crate::resize`].

use crate::DataError;
use crate::dataset::ImageView;
use crate::resize::Resizer;

/// Which visit to which sample this is. A random transform takes its random numbers from here and
/// from nowhere else, so that a batch does not depend on who makes it, or when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SampleAddress {
    /// The loader's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The sample's index in the dataset.
    pub sample: usize,
}

/// Turns one image of bytes into one image of floats. Workers share it.
pub trait Transform: Send + Sync {
    /// The shape of what [`apply`](Self::apply) writes, `[C, H, W]`.
    fn output_shape(&self) -> [usize; 3];

    /// Writes the image for a batch to `out`, row-major, every element of it: `out` holds old
    /// values.
    ///
    /// `scratch` is working memory with old contents. It stays with its worker, so that nothing is
    /// allocated for each image.
    fn apply(
        &self,
        address: SampleAddress,
        image: ImageView<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), DataError>;
}

/// A worker's working memory for transforms.
#[derive(Debug, Default)]
pub struct Scratch {
    /// For the inside of a resize.
    pub resize: Vec<u8>,
    /// For a whole plane.
    pub plane: Vec<u8>,
}

/// Resizes with Pillow's bilinear filter and scales bytes to [0, 1]: torchvision's `Resize`, then
/// `ToTensor`.
#[derive(Debug, Clone)]
pub struct ResizeToUnit {
    channels: (usize, usize),
    resizer: Resizer,
}

impl ResizeToUnit {
    /// Prepares the way from images of shape `input` to shape `output`, both `[C, H, W]`.
    ///
    /// The number of channels stays, or 1 channel is repeated.
    pub fn new(input: [usize; 3], output: [usize; 3]) -> Result<Self, DataError> {
        let [from, from_height, from_width] = input;
        let [to, to_height, to_width] = output;
        if from == 0 || to == 0 || (from != to && from != 1) {
            let reason = format!(
                "cannot make {to} of {from}: the number stays the same, or one channel is repeated"
            );
            return Err(DataError::BadSetting { setting: "channels", reason });
        }
        let resizer = Resizer::new((from_height, from_width), (to_height, to_width))?;
        Ok(Self { channels: (from, to), resizer })
    }
}

impl Transform for ResizeToUnit {
    fn output_shape(&self) -> [usize; 3] {
        let (height, width) = self.resizer.to();
        [self.channels.1, height, width]
    }

    fn apply(
        &self,
        _: SampleAddress,
        image: ImageView<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let (from_height, from_width) = self.resizer.from();
        let expected = [self.channels.0, from_height, from_width];
        if image.shape != expected {
            let reason = format!(
                "prepared for images of shape {expected:?}, given one of {:?}",
                image.shape
            );
            return Err(DataError::BadSetting { setting: "source image size", reason });
        }
        let (height, width) = self.resizer.to();
        let plane = height * width;
        scratch.plane.resize(plane, 0);
        let sources = image.pixels.chunks_exact(from_height * from_width);
        for (source, out) in sources.zip(out.chunks_exact_mut(plane)) {
            self.resizer.resize(source, &mut scratch.plane, &mut scratch.resize);
            for (value, &byte) in out.iter_mut().zip(&scratch.plane) {
                *value = f32::from(byte) / 255.0;
            }
        }
        for copy in self.channels.0..self.channels.1 {
            out.copy_within(..plane, copy * plane);
        }
        Ok(())
    }
}
