//! Random changes of training pictures: crop, flips, colours, RandAugment, erasing. What each operation does is in
//! `operation`, which are drawn by a policy in `policy`, and what mixes the pictures of a batch in `mixup`.

mod blur;
mod geometry;
mod mixup;
mod operation;
mod policy;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::preprocessing::Preprocessing;
use crate::random::{Purpose, Stream};
use crate::samples::{Image, Rect};
use crate::transform::{SampleAddress, Scratch, Transform};

pub use mixup::{Mixup, MixupMode};
pub use operation::Operation;
pub use policy::Policy;

/// What timm does to a training picture, in its order: crop and resize, flips, the policy, colour jitter,
/// normalisation, erasing. All but the last two work on bytes. A grey picture stays one plane to the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmentation {
    /// The model's input, and the filter of all resizes and turns.
    pub preprocessing: Preprocessing,
    /// Which part of the picture is taken.
    pub crop: RandomCrop,
    /// The share of the area of a random part, between two numbers.
    pub scale: [f64; 2],
    /// The ratio of width to height of a random part, between two numbers.
    pub ratio: [f64; 2],
    /// Black pixels on each side.
    pub padding: usize,
    /// The probability that left and right are exchanged.
    pub hflip: f64,
    /// The probability that top and bottom are exchanged.
    pub vflip: f64,
    /// How far brightness, contrast and saturation are changed, each by a factor from 1 - x (no less than 0) to 1 + x.
    pub color_jitter: f64,
    /// How far the hue is turned, of 1 for all the way round, up to 0.5 either way.
    pub hue: f64,
    /// What operations are drawn.
    pub policy: Option<Policy>,
    /// The probability that a rectangle is erased (Zhong et al. 2020).
    pub reprob: f64,
    /// What erased pixels become.
    pub remode: EraseMode,
}

/// Which part of a picture a model is trained on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RandomCrop {
    /// That of evaluation.
    #[default]
    #[serde(rename = "none")]
    None,
    /// A random part, resized to the input's size (Szegedy et al. 2015, section 6).
    #[serde(rename = "rrc")]
    Resized,
    /// The picture of evaluation, with black pixels on each side, cut to the input's size at a random place.
    #[serde(rename = "pad")]
    Padded,
}

impl RandomCrop {
    /// The names in files and on the command line.
    pub const NAMES: &[&str] = &["none", "rrc", "pad"];
}

/// What erased pixels become, by timm's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EraseMode {
    /// The mean: 0 after normalisation.
    #[default]
    Const,
    /// Normal noise, after normalisation.
    Pixel,
}

impl EraseMode {
    /// The names in files and on the command line.
    pub const NAMES: &[&str] = &["const", "pixel"];
}

impl Augmentation {
    /// Nothing at random: what evaluation does.
    pub fn none(preprocessing: Preprocessing) -> Self {
        Self {
            preprocessing,
            crop: RandomCrop::None,
            scale: [0.08, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            padding: 4,
            hflip: 0.0,
            vflip: 0.0,
            color_jitter: 0.0,
            hue: 0.0,
            policy: None,
            reprob: 0.0,
            remode: EraseMode::Const,
        }
    }

    /// What happens to a picture at a visit, once it has the input's size, in order.
    pub fn operations(&self, visit: SampleAddress) -> Vec<Operation> {
        let random = &mut Stream::of(Purpose::Operations, visit);
        let mut operations = Vec::new();
        let padding = self.padding;
        if self.crop == RandomCrop::Padded {
            let mut place = || random.below(2 * padding as u64 + 1) as usize;
            operations.push(Operation::PadCrop { padding, top: place(), left: place() });
        }
        if random.happens(self.hflip) {
            operations.push(Operation::HorizontalFlip);
        }
        if random.happens(self.vflip) {
            operations.push(Operation::VerticalFlip);
        }
        if let Some(policy) = &self.policy {
            policy.draw(self.preprocessing.size(), random, &mut operations);
        }
        let first = operations.len();
        if self.color_jitter > 0.0 {
            let (low, high) = ((1.0 - self.color_jitter).max(0.0), 1.0 + self.color_jitter);
            let kinds = [Operation::Brightness, Operation::Contrast, Operation::Color];
            operations.extend(kinds.map(|kind| kind(random.between(low, high))));
        }
        if self.hue > 0.0 {
            operations.push(Operation::Hue(random.between(-self.hue, self.hue)));
        }
        random.shuffle(&mut operations[first..]);
        operations
    }
}

/// A rectangle in a picture of this size (height, width), at any place. Its share of the area and, on a logarithmic
/// scale, its ratio of width to height lie between two numbers. `fits` says of its and the picture's height, and of
/// their widths, whether it is taken. `None` if none of ten is.
fn rectangle(
    size: (usize, usize),
    scale: [f64; 2],
    ratio: [f64; 2],
    fits: fn(usize, usize) -> bool,
    random: &mut Stream,
) -> Option<Rect> {
    (0..10).find_map(|_| {
        let area = (size.0 * size.1) as f64 * random.between(scale[0], scale[1]);
        let ratio = random.between(ratio[0].ln(), ratio[1].ln()).exp();
        let [height, width] =
            [area / ratio, area * ratio].map(|square| square.sqrt().round_ties_even() as usize);
        (fits(height, size.0) && fits(width, size.1)).then(|| {
            let mut first = |side, length| random.below((side - length) as u64 + 1) as usize;
            let (top, left) = (first(size.0, height), first(size.1, width));
            Rect { top, left, height, width }
        })
    })
}

/// The middle of a picture of this size (height, width), as much of it as the ratio allows.
fn middle((height, width): (usize, usize), ratio: [f64; 2]) -> Rect {
    let round = |side: f64| (side.round_ties_even() as usize).max(1);
    let own = width as f64 / height as f64;
    let (tall, wide) = if own < ratio[0] {
        (round(width as f64 / ratio[0]).min(height), width)
    } else if own > ratio[1] {
        (height, round(height as f64 * ratio[1]).min(width))
    } else {
        (height, width)
    };
    Rect { top: (height - tall) / 2, left: (width - wide) / 2, height: tall, width: wide }
}

impl Transform for Augmentation {
    fn output_shape(&self) -> [usize; 3] {
        self.preprocessing.input_size
    }

    fn apply(
        &self,
        visit: SampleAddress,
        image: &mut Image,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<()> {
        let preprocessing = &self.preprocessing;
        preprocessing.match_channels(image)?;
        let (size, [_, height, width]) = (preprocessing.size(), image.shape);
        if self.crop == RandomCrop::Resized {
            // torchvision's `RandomResizedCrop`.
            let (from, random) = ((height, width), &mut Stream::of(Purpose::Crop, visit));
            let fits = |length, side| (1..=side).contains(&length);
            let part = rectangle(from, self.scale, self.ratio, fits, random)
                .unwrap_or_else(|| middle(from, self.ratio));
            scratch.resize(image, part, size, Rect::whole(size), preprocessing.interpolation)?;
        } else {
            preprocessing.resize(image, scratch)?;
        }
        let fill = preprocessing.mean_bytes();
        for operation in self.operations(visit) {
            operation.apply(image, preprocessing.interpolation, &fill, scratch);
        }
        preprocessing.normalise(image, out);
        let random = &mut Stream::of(Purpose::Erasing, visit);
        let (scale, ratio) = ([0.02, 1.0 / 3.0], [0.3, 1.0 / 0.3]);
        if random.happens(self.reprob)
            && let Some(part) = rectangle(size, scale, ratio, |length, side| length < side, random)
        {
            for plane in out.chunks_exact_mut(size.0 * size.1) {
                for row in plane.chunks_exact_mut(size.1).skip(part.top).take(part.height) {
                    row[part.left..][..part.width].fill_with(|| match self.remode {
                        EraseMode::Const => 0.0,
                        EraseMode::Pixel => random.normal() as f32,
                    });
                }
            }
        }
        Ok(())
    }
}
