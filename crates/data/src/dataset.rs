//! A labelled set of images in memory, as bytes. Where it comes from is in [`crate::locate`].

use std::fmt;

use crate::random::{Purpose, Stream};
use crate::samples::{Image, Labels, Samples, pixels};
use crate::{DataError, Result};

/// Images of one size with their labels.
#[derive(Clone, PartialEq, Eq)]
pub struct Dataset {
    labels: Labels,
    /// `[N, C, H, W]`, row-major.
    images: Vec<u8>,
    image_shape: [usize; 3],
}

impl Dataset {
    /// Makes a dataset of its parts. `images` is `[N, C, H, W]` in row-major order, where N is the number of labels and
    /// `image_shape` is `[C, H, W]`. A label is an index into `class_names`.
    pub fn from_parts(
        name: impl Into<String>,
        images: Vec<u8>,
        labels: Vec<i64>,
        image_shape: [usize; 3],
        class_names: Vec<String>,
    ) -> Result<Self> {
        let labels = Labels::new(name, class_names, labels)?;
        let (count, bytes) = (labels.labels.len(), images.len());
        let reason = match pixels(image_shape) {
            None => format!("an image of shape {image_shape:?} has no pixel, or too many"),
            Some(each) if each.checked_mul(count) == Some(bytes) => {
                return Ok(Self { labels, images, image_shape });
            }
            _ => format!(
                "{count} labels need as many images of shape {image_shape:?}, not {bytes} bytes"
            ),
        };
        Err(DataError::BadParts { dataset: labels.name, reason })
    }

    /// Makes a dataset for tests: noise, with a bright stripe whose place tells the class. A model that learns at all
    /// learns it within a few steps. Labels run 0, 1, … `classes - 1`, 0, 1, … There should be no more classes than
    /// rows of pixels. Sample `i` depends on `seed` and `i` only, so a longer dataset begins with a shorter one.
    pub fn synthetic(
        samples: usize,
        image_shape: [usize; 3],
        classes: usize,
        seed: u64,
    ) -> Result<Self> {
        let [channels, height, width] = image_shape;
        let mut images = Vec::with_capacity(samples * channels * height * width);
        let mut labels = Vec::with_capacity(samples);
        for sample in 0..samples {
            let mut noise = Stream::new(seed, Purpose::SyntheticImage, sample as u64);
            let class = sample % classes.max(1);
            labels.push(class as i64);
            for row in 0..channels * height {
                let base = if row % height * classes / height == class { 160 } else { 0 };
                images.extend((0..width).map(|_| base + (noise.next_u32() >> 26) as u8));
            }
        }
        let class_names = (0..classes).map(|class| format!("stripe {class}")).collect();
        Self::from_parts("synthetic", images, labels, image_shape, class_names)
    }
}

impl Samples for Dataset {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<()> {
        let bytes: usize = self.image_shape.iter().product();
        image.pixels.clear();
        image.pixels.extend_from_slice(&self.images[index * bytes..(index + 1) * bytes]);
        image.shape = self.image_shape;
        Ok(())
    }
}

/// Names the dataset and its sizes, not its pixels.
impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, classes) = (self.name(), self.class_names().len());
        write!(f, "{name}: {} of {:?} in {classes} classes", self.len(), self.image_shape)
    }
}
