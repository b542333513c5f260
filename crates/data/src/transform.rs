//! What happens to a picture between the dataset and the batch. That of a model without augmentation is in
//! [`crate::preprocessing`], the random ones are in [`crate::augment`].

use crate::Result;
use crate::resize::{Interpolation, Resizer};
use crate::samples::{Image, Rect};

/// Which visit to which sample this is: where a random transform takes its random numbers from, and nowhere else.
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
    ) -> Result<()>;
}

/// A worker's working memory for transforms: with it little is allocated for each image, and resizes between the same
/// sizes are prepared once.
#[derive(Debug, Default)]
pub struct Scratch {
    resizers: Vec<Resizer>,
    between: Vec<u8>,
    /// Where an operation puts its result, to change places with its picture.
    pub(crate) other: Vec<u8>,
}

impl Scratch {
    /// How many resizes stay prepared.
    const RESIZERS: usize = 8;

    /// Cuts `from` out of a picture, resizes it to the size `to` (height, width), and keeps `part` of the result.
    pub fn resize(
        &mut self,
        image: &mut Image,
        from: Rect,
        to: (usize, usize),
        part: Rect,
        interpolation: Interpolation,
    ) -> Result<()> {
        let [channels, height, width] = image.shape;
        from.check((height, width))?;
        let size = (from.height, from.width);
        let wanted = |r: &Resizer| {
            (r.from, r.to, r.part, r.interpolation) == (size, to, part, interpolation)
        };
        let resizer = match self.resizers.iter().position(wanted) {
            Some(place) => self.resizers.remove(place),
            None => Resizer::new(size, to, part, interpolation)?,
        };
        self.other.resize(channels * part.height * part.width, 0);
        let planes = image.pixels.chunks_exact(height * width);
        for (plane, out) in planes.zip(self.other.chunks_exact_mut(part.height * part.width)) {
            let source = &plane[from.top * width + from.left..];
            resizer.resize(source, width, out, &mut self.between);
        }
        self.exchange(image, (part.height, part.width));
        // The one used last comes first, the one that was not used for longest is dropped.
        self.resizers.insert(0, resizer);
        self.resizers.truncate(Self::RESIZERS);
        Ok(())
    }

    /// Makes a picture of what an operation left in `other`.
    pub(crate) fn exchange(&mut self, image: &mut Image, (height, width): (usize, usize)) {
        std::mem::swap(&mut image.pixels, &mut self.other);
        image.shape = [image.shape[0], height, width];
    }
}
