//! A labelled set of images in memory, as bytes. Where it comes from is in [`crate::locate`].

use std::fmt;

use crate::DataError;
use crate::philox::{Purpose, Stream};

/// Images of one size with their labels. Every label is checked when the dataset is made.
#[derive(Clone, PartialEq, Eq)]
pub struct Dataset {
    name: String,
    /// `[N, C, H, W]`, row-major.
    images: Vec<u8>,
    labels: Vec<i64>,
    image_shape: [usize; 3],
    class_names: Vec<String>,
}

impl Dataset {
    /// Makes a dataset of its parts.
    ///
    /// `images` is `[N, C, H, W]` in row-major order, where N is the number of labels and
    /// `image_shape` is `[C, H, W]`. A label is an index into `class_names`.
    pub fn from_parts(
        name: impl Into<String>,
        images: Vec<u8>,
        labels: Vec<i64>,
        image_shape: [usize; 3],
        class_names: Vec<String>,
    ) -> Result<Self, DataError> {
        let name = name.into();
        let Some(pixels) = image_shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) else {
            let reason = format!("an image of shape {image_shape:?} is too large");
            return Err(DataError::BadParts { dataset: name, reason });
        };
        if pixels == 0 {
            let reason = format!("an image of shape {image_shape:?} has no pixel");
            return Err(DataError::BadParts { dataset: name, reason });
        }
        if labels.len().checked_mul(pixels) != Some(images.len()) {
            let reason = format!(
                "{} labels need as many images of shape {image_shape:?} ({pixels} bytes each), \
                 but there are {} bytes",
                labels.len(),
                images.len()
            );
            return Err(DataError::BadParts { dataset: name, reason });
        }
        let classes = class_names.len();
        if classes == 0 {
            let reason = "there are no class names".to_owned();
            return Err(DataError::BadParts { dataset: name, reason });
        }
        let out_of_range = |&label: &i64| usize::try_from(label).map_or(true, |l| l >= classes);
        if let Some(sample) = labels.iter().position(out_of_range) {
            let label = labels[sample];
            return Err(DataError::LabelOutOfRange { dataset: name, sample, label, classes });
        }
        Ok(Self { name, images, labels, image_shape, class_names })
    }

    /// Makes a dataset for tests: noise, with a bright stripe whose place tells the class. A model
    /// that learns at all learns it within a few steps. Labels run 0, 1, … `classes - 1`, 0, 1, …
    /// There should be no more classes than rows of pixels.
    ///
    /// Sample `i` depends on `seed` and `i` only, so a longer dataset begins with a shorter one.
    pub fn synthetic(
        samples: usize,
        image_shape: [usize; 3],
        classes: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let [channels, height, width] = image_shape;
        let mut images = Vec::with_capacity(samples * channels * height * width);
        for sample in 0..samples {
            let mut noise = Stream::new(seed, Purpose::SyntheticImage, sample as u64);
            let class = sample % classes.max(1);
            for _ in 0..channels {
                for y in 0..height {
                    let bright = y * classes / height == class;
                    let base = if bright { 160 } else { 0 };
                    images.extend((0..width).map(|_| base + (noise.next_u32() >> 26) as u8));
                }
            }
        }
        let labels = (0..samples).map(|sample| (sample % classes.max(1)) as i64).collect();
        let class_names = (0..classes).map(|class| format!("stripe {class}")).collect();
        Self::from_parts("synthetic", images, labels, image_shape, class_names)
    }

    /// Keeps the first `samples` samples, or all if there are fewer.
    #[must_use]
    pub fn limit(mut self, samples: usize) -> Self {
        let samples = samples.min(self.len());
        self.images.truncate(samples * self.image_bytes());
        self.labels.truncate(samples);
        self
    }

    /// The dataset's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The shape of one image, `[C, H, W]`.
    pub fn image_shape(&self) -> [usize; 3] {
        self.image_shape
    }

    /// The classes' names: label `i` is the class `class_names()[i]`.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// All labels, in sample order.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// The image and the label of one sample, or `None` past the end.
    pub fn get(&self, sample: usize) -> Option<(ImageView<'_>, i64)> {
        let label = *self.labels.get(sample)?;
        Some((self.image(sample), label))
    }

    /// The image of a sample that exists.
    pub(crate) fn image(&self, sample: usize) -> ImageView<'_> {
        let bytes = self.image_bytes();
        let pixels = &self.images[sample * bytes..(sample + 1) * bytes];
        ImageView { pixels, shape: self.image_shape }
    }

    fn image_bytes(&self) -> usize {
        self.image_shape.iter().product()
    }
}

/// Names the dataset and its sizes, not its pixels.
impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("samples", &self.len())
            .field("image_shape", &self.image_shape)
            .field("classes", &self.class_names.len())
            .finish_non_exhaustive()
    }
}

/// One image, borrowed from its dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageView<'a> {
    /// `[C, H, W]`, row-major.
    pub pixels: &'a [u8],
    /// `[C, H, W]`.
    pub shape: [usize; 3],
}
