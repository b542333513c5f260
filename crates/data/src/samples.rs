//! What a dataset is to the loader: pictures of any size with their labels. Those in memory are in [`crate::dataset`].

use md5::{Digest, Md5};

use crate::{DataError, files};

/// A labelled set of pictures, wherever they come from. Workers share it.
///
/// What its methods give for an index is always the same. A set whose pictures are files reads and decodes them in
/// [`read`](Self::read), which the loader's workers call.
pub trait Samples: Send + Sync {
    /// The title in messages and reports.
    fn name(&self) -> &str;

    /// The classes' names: label `i` is the class `class_names()[i]`.
    fn class_names(&self) -> &[String];

    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of a sample, an index into [`class_names`](Self::class_names). The loader refuses any other.
    fn label(&self, index: usize) -> i64;

    /// Writes the picture of a sample, decoded, to `image`, whose memory is that of an earlier picture. The loader
    /// refuses a picture without pixels, and one that does not fit its shape.
    ///
    /// [`DataError::Sample`] is the error for what has no error of its own.
    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError>;

    /// Writes the soft target of a sample, if it has one: the shares of all classes, `[K]`, none negative, which add up
    /// to one. `shares` comes with zeros. Gives whether it was written: for all samples, or for none.
    ///
    /// The label of such a sample is the class that counts as the right one.
    fn shares(&self, _index: usize, _shares: &mut [f32]) -> bool {
        false
    }

    /// A number by which a run knows its data again, in hexadecimal, the same on every machine: an MD5.
    ///
    /// It covers the name, the class names, the number of samples and all labels. It also covers shape, pixels and soft
    /// target of up to 32 samples: the first, the last, and others evenly spread between.
    fn fingerprint(&self) -> Result<String, DataError> {
        let (samples, classes) = (self.len(), self.class_names().len());
        let mut sum = Md5::new();
        for text in self.class_names().iter().map(String::as_str).chain([self.name()]) {
            // With its length, or names could pass for others that are cut elsewhere.
            sum.update((text.len() as u64).to_le_bytes());
            sum.update(text);
        }
        sum.update([classes, samples].map(|count| (count as u64).to_le_bytes()).as_flattened());
        (0..samples).for_each(|index| sum.update(self.label(index).to_le_bytes()));
        let looked_at = samples.min(32);
        let (mut image, mut shares) = (Image::default(), vec![0.0; classes]);
        for index in (0..looked_at).map(|i| i * (samples - 1) / (looked_at - 1).max(1)) {
            self.read(index, image.cleared())?;
            sum.update(image.shape.map(|side| (side as u64).to_le_bytes()).as_flattened());
            sum.update(&image.pixels);
            shares.fill(0.0);
            if self.shares(index, &mut shares) {
                shares.iter().for_each(|share| sum.update(share.to_le_bytes()));
            }
        }
        Ok(files::hex(&sum.finalize()))
    }
}

/// A picture in memory, as bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// `[C, H, W]`, row-major.
    pub pixels: Vec<u8>,
    /// `[C, H, W]`. One channel is grey, three are red, green and blue.
    pub shape: [usize; 3],
}

impl Image {
    /// The memory without the picture.
    pub(crate) fn cleared(&mut self) -> &mut Self {
        self.pixels.clear();
        self.shape = [0; 3];
        self
    }

    /// Says what is wrong if there is no pixel, or the pixels do not fit the shape.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (shape, bytes) = (self.shape, self.pixels.len());
        let reason = || format!("a picture of shape {shape:?} does not have {bytes} bytes");
        (pixels(shape) == Some(bytes)).then_some(()).ok_or_else(reason)
    }
}

/// The bytes of a picture of shape `[C, H, W]`, if it has any and they can be counted.
pub(crate) fn pixels(shape: [usize; 3]) -> Option<usize> {
    let bytes = shape.iter().try_fold(1usize, |bytes, &side| bytes.checked_mul(side))?;
    (bytes > 0).then_some(bytes)
}

/// The label of a sample as the number of a class, or the error that says that it is none.
pub(crate) fn check_label(
    dataset: &str,
    classes: usize,
    sample: usize,
    label: i64,
) -> Result<(), DataError> {
    if usize::try_from(label).is_ok_and(|label| label < classes) {
        return Ok(());
    }
    Err(DataError::LabelOutOfRange { dataset: dataset.to_owned(), sample, label, classes })
}
