//! What a dataset is to the loader: pictures of any size with their labels. Those in memory are in [`crate::dataset`].

use md5::{Digest, Md5};

use crate::{DataError, Result, files};

/// The title of a set of pictures, its classes, and the class of each picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    pub(crate) name: String,
    pub(crate) class_names: Vec<String>,
    pub(crate) labels: Vec<i64>,
}

impl Labels {
    /// Label `i` is the class `class_names[i]`; any other is refused.
    pub fn new(
        name: impl Into<String>,
        class_names: Vec<String>,
        labels: Vec<i64>,
    ) -> Result<Self> {
        let name = name.into();
        check_labels(&name, class_names.len(), &labels)?;
        Ok(Self { name, class_names, labels })
    }
}

/// Refuses labels of which one is not the number of a class.
pub(crate) fn check_labels(dataset: &str, classes: usize, labels: &[i64]) -> Result<()> {
    let wrong = labels.iter().position(|label| !(0..classes as i64).contains(label));
    wrong.map_or(Ok(()), |sample| {
        let (dataset, label) = (dataset.to_owned(), labels[sample]);
        Err(DataError::LabelOutOfRange { dataset, sample, label, classes })
    })
}

/// A labelled set of pictures, wherever they come from. Workers share it, and call [`read`](Self::read). What its
/// methods give for an index is always the same.
pub trait Samples: Send + Sync {
    /// The title, the classes, and the label of each sample.
    fn labels(&self) -> &Labels;

    /// Writes the picture of a sample, decoded, to `image`, whose memory is that of an earlier picture. The loader
    /// refuses a picture without pixels, and one that does not fit its shape. [`DataError::Sample`] is the error for
    /// what has no error of its own.
    fn read(&self, index: usize, image: &mut Image) -> Result<()>;

    /// The name and the contents of the file that a sample's picture is, where it is one.
    fn file(&self, _index: usize) -> Result<Option<(String, Vec<u8>)>> {
        Ok(None)
    }

    /// Writes the soft target of a sample, if it has one: the shares of all classes, `[K]`, none negative, which add up
    /// to one. `shares` comes with zeros. Gives whether it was written: for all samples, or for none. The label of such
    /// a sample is the class that counts as the right one.
    fn shares(&self, _index: usize, _shares: &mut [f32]) -> bool {
        false
    }

    /// The title in messages and reports.
    fn name(&self) -> &str {
        &self.labels().name
    }

    /// The classes' names, by label.
    fn class_names(&self) -> &[String] {
        &self.labels().class_names
    }

    /// The number of samples.
    fn len(&self) -> usize {
        self.labels().labels.len()
    }

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of a sample.
    fn label(&self, index: usize) -> i64 {
        self.labels().labels[index]
    }

    /// A number by which a run knows its data again, in hexadecimal, the same on every machine: an MD5.
    ///
    /// It covers the name, the class names, the number of samples and all labels. It also covers shape, pixels and soft
    /// target of up to 32 samples: the first, the last, and others evenly spread between.
    fn fingerprint(&self) -> String {
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
            // One that cannot be read is the loader's business; here it counts as empty.
            if self.read(index, image.cleared()).is_err() {
                image.cleared();
            }
            sum.update(image.shape.map(|side| (side as u64).to_le_bytes()).as_flattened());
            sum.update(&image.pixels);
            shares.fill(0.0);
            if self.shares(index, &mut shares) {
                shares.iter().for_each(|share| sum.update(share.to_le_bytes()));
            }
        }
        files::hex(&sum.finalize())
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

    /// A number that only the same picture has: the MD5 of its shape and pixels.
    pub fn md5(&self) -> [u8; 16] {
        let mut sum = Md5::new();
        sum.update(self.shape.map(|side| (side as u64).to_le_bytes()).as_flattened());
        sum.update(&self.pixels);
        sum.finalize().into()
    }

    /// Says what is wrong if there is no pixel, or the pixels do not fit the shape.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (shape, bytes) = (self.shape, self.pixels.len());
        let reason = || format!("a picture of shape {shape:?} does not have {bytes} bytes");
        (pixels(shape) == Some(bytes)).then_some(()).ok_or_else(reason)
    }
}

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Rows above it.
    pub top: usize,
    /// Columns on its left.
    pub left: usize,
    /// Its rows.
    pub height: usize,
    /// Its columns.
    pub width: usize,
}

impl Rect {
    /// All of a picture of this size (height, width).
    pub fn whole((height, width): (usize, usize)) -> Self {
        Self { top: 0, left: 0, height, width }
    }

    /// Refuses a part that is empty, or reaches out of a picture of this size (height, width).
    pub(crate) fn check(self, size: (usize, usize)) -> Result<()> {
        let within = |start: usize, length: usize, side: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if within(self.top, self.height, size.0) && within(self.left, self.width, size.1) {
            return Ok(());
        }
        let reason = format!("{self:?} is no part of a picture of {} x {}", size.0, size.1);
        Err(DataError::BadSetting { setting: "part", reason })
    }
}

/// The bytes of a picture of shape `[C, H, W]`, if it has any and they can be counted.
pub(crate) fn pixels(shape: [usize; 3]) -> Option<usize> {
    let bytes = shape.iter().try_fold(1usize, |bytes, &side| bytes.checked_mul(side))?;
    (bytes > 0).then_some(bytes)
}
