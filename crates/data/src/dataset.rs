//! A labelled set of images in memory, as bytes. Where it comes from is in [`crate::locate`].

use std::fmt;

use crate::DataError;
use crate::random::{Purpose, Stream};
use crate::samples::{Image, Samples, check_label, pixels};

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
    /// `images` is `[N, C, H, W]` in row-major order, where N is the number of labels and `image_shape` is `[C, H, W]`.
    /// A label is an index into `class_names`.
    pub fn from_parts(
        name: impl Into<String>,
        images: Vec<u8>,
        labels: Vec<i64>,
        image_shape: [usize; 3],
        class_names: Vec<String>,
    ) -> Result<Self, DataError> {
        let (name, classes) = (name.into(), class_names.len());
        let bytes = pixels(image_shape);
        let reason = if bytes.is_none() {
            format!("an image of shape {image_shape:?} has no pixel, or too many")
        } else if bytes.and_then(|bytes| bytes.checked_mul(labels.len())) != Some(images.len()) {
            let (count, bytes) = (labels.len(), images.len());
            format!(
                "{count} labels need as many images of shape {image_shape:?}, not {bytes} bytes"
            )
        } else if classes == 0 {
            "there are no class names".to_owned()
        } else {
            let mut numbered = labels.iter().enumerate();
            numbered.try_for_each(|(i, &label)| check_label(&name, classes, i, label))?;
            return Ok(Self { name, images, labels, image_shape, class_names });
        };
        Err(DataError::BadParts { dataset: name, reason })
    }

    /// Makes a dataset for tests: noise, with a bright stripe whose place tells the class. A model that learns at all
    /// learns it within a few steps. Labels run 0, 1, … `classes - 1`, 0, 1, … There should be no more classes than
    /// rows of pixels.
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

    fn image_bytes(&self) -> usize {
        self.image_shape.iter().product()
    }
}

impl Samples for Dataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> i64 {
        self.labels[index]
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
        let bytes = self.image_bytes();
        image.pixels.clear();
        image.pixels.extend_from_slice(&self.images[index * bytes..(index + 1) * bytes]);
        image.shape = self.image_shape;
        Ok(())
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
