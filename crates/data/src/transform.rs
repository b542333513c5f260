//! What happens to a picture between the dataset and the batch. That of a model without augmentation is in
//! [`crate::preprocessing`].

use crate::DataError;
use crate::resize::Resizer;
use crate::samples::Image;

/// Which visit to which sample this is. A random transform takes its random numbers from here and from nowhere else, so
/// that a batch does not depend on who makes it, or when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SampleAddress {
    /// The loader's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The sample's index in the dataset.
    pub sample: usize,
}

/// Turns one picture of bytes, of any shape, into one image of floats. Workers share it.
pub trait Transform: Send + Sync {
    /// The shape of what [`apply`](Self::apply) writes, `[C, H, W]`.
    fn output_shape(&self) -> [usize; 3];

    /// Writes the image for a batch to `out`, row-major, every element of it: `out` holds old values.
    ///
    /// `image` has as many pixels as its shape says, one at the least. It belongs to the call, which may change it.
    /// `scratch` is working memory that stays with its worker.
    fn apply(
        &self,
        address: SampleAddress,
        image: &mut Image,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), DataError>;
}

/// A worker's working memory for transforms: with it nothing is allocated for each image, and resizes between the same
/// sizes are prepared once.
#[derive(Debug, Default)]
pub struct Scratch {
    resizers: Vec<Resizer>,
    between: Vec<u8>,
    plane: Vec<u8>,
}

impl Scratch {
    /// How many resizes stay prepared.
    const RESIZERS: usize = 8;

    /// A row-major plane of size `from` (height, width), resized to size `to` with Pillow's bilinear filter.
    ///
    /// # Panics
    /// If `source` has not as many bytes as `from` says.
    pub fn resize(
        &mut self,
        source: &[u8],
        from: (usize, usize),
        to: (usize, usize),
    ) -> Result<&[u8], DataError> {
        let prepared = self.resizers.iter().position(|r| (r.from(), r.to()) == (from, to));
        let resizer = match prepared {
            Some(place) => self.resizers.remove(place),
            None => Resizer::new(from, to)?,
        };
        self.plane.resize(to.0 * to.1, 0);
        resizer.resize(source, &mut self.plane, &mut self.between);
        // The one used last comes first, the one that was not used for longest is dropped.
        self.resizers.insert(0, resizer);
        self.resizers.truncate(Self::RESIZERS);
        Ok(&self.plane)
    }
}
