//! From a picture to a model's input: channels, size, crop, scale. Training, evaluation and single pictures share it.

use std::array;

use serde::{Deserialize, Serialize};

use crate::resize::{Interpolation, check_size};
use crate::samples::{Image, Rect};
use crate::transform::{SampleAddress, Scratch, Transform};
use crate::{DataError, Result};

/// What a model expects of a picture, and the [`Transform`] that does it and nothing else. Its form in a file is
/// `pretrained_cfg` in timm's `config.json`, which lies beside a model's weights.
///
/// The picture is resized with Pillow's filter and cut, its bytes are scaled to [0, 1], and of each channel the mean is
/// subtracted before it is divided by the standard deviation: timm's transform for evaluation, in `f32`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// `[C, H, W]`. A grey picture becomes as many equal channels, and a coloured one grey for a single channel; else
    /// the number is that of the pictures.
    pub input_size: [usize; 3],
    /// The filter of the resize.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// The input's share of the resized picture's shorter side, over 0 and up to 1; of both sides where they are
    /// squashed.
    #[serde(default = "whole")]
    pub crop_pct: f64,
    /// What becomes of a picture of another shape than the input.
    #[serde(default)]
    pub crop_mode: CropMode,
    /// The mean of each channel of pictures in [0, 1], `[C]`.
    pub mean: Vec<f64>,
    /// The standard deviation of each channel of pictures in [0, 1], `[C]`.
    pub std: Vec<f64>,
}

fn whole() -> f64 {
    1.0
}

/// What becomes of a picture of another shape than the input, by timm's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CropMode {
    /// It is resized to the very size, and so distorted.
    #[default]
    Squash,
    /// Its shorter side is resized, and the middle is cut out.
    Center,
    /// Its longer side is resized, and a border of the mean is put around it.
    Border,
}

impl CropMode {
    /// The names in files and on the command line.
    pub const NAMES: &[&str] = &["squash", "center", "border"];
}

impl Preprocessing {
    /// Inputs in [0, 1] (mean 0 and standard deviation 1) of the whole picture, resized with the bilinear filter.
    pub fn new(channels: usize, (height, width): (usize, usize)) -> Self {
        Self {
            input_size: [channels, height, width],
            interpolation: Interpolation::Bilinear,
            crop_pct: 1.0,
            crop_mode: CropMode::Squash,
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        }
    }

    /// The input's size (height, width).
    pub fn size(&self) -> (usize, usize) {
        (self.input_size[1], self.input_size[2])
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_size("image size", self.size())?;
        let Self { input_size: [channels, ..], crop_pct, mean, std, .. } = self;
        let each = |values: &[f64], least: f32| {
            let values = values.iter().map(|&value| value as f32);
            values.len() == *channels && values.into_iter().all(|v| (least..=f32::MAX).contains(&v))
        };
        let crop = *crop_pct > 0.0 && *crop_pct <= 1.0;
        if *channels > 0 && crop && each(mean, f32::MIN) && each(std, f32::MIN_POSITIVE) {
            return Ok(());
        }
        let reason = format!(
            "channels {channels}, crop_pct {crop_pct}, mean {mean:?}, std {std:?}: at least one channel, a crop over 0 \
             and up to 1, for each channel a finite mean and a finite std above 0"
        );
        Err(DataError::BadSetting { setting: "preprocessing", reason })
    }

    /// The size that a picture is resized to, and the part of it that is kept.
    fn resized(&self, (height, width): (usize, usize)) -> ((usize, usize), Rect) {
        let (to_height, to_width) = self.size();
        let scaled = |side: usize| (side as f64 / self.crop_pct) as usize;
        let (tall, wide) = (scaled(to_height), scaled(to_width));
        let size = match self.crop_mode {
            CropMode::Squash => (tall, wide),
            // The whole side of torchvision's `Resize`, rounded down; that of timm's `ResizeKeepRatio` to the nearest.
            CropMode::Center if tall == wide && height <= width => (tall, tall * width / height),
            CropMode::Center if tall == wide => (tall * height / width, tall),
            mode => {
                let (y, x) = (height as f64 / tall as f64, width as f64 / wide as f64);
                let ratio = if mode == CropMode::Border { y.max(x) } else { y.min(x) };
                let side = |side: usize| ((side as f64 / ratio).round_ties_even() as usize).max(1);
                (side(height), side(width))
            }
        };
        let (height, width) = (to_height.min(size.0), to_width.min(size.1));
        // Python's `round`, which torchvision's `CenterCrop` uses.
        let middle = |spare: usize| (spare as f64 / 2.0).round_ties_even() as usize;
        let (top, left) = (middle(size.0 - height), middle(size.1 - width));
        (size, Rect { top, left, height, width })
    }

    /// Gives a picture the input's size.
    pub(crate) fn resize(&self, image: &mut Image, scratch: &mut Scratch) -> Result<()> {
        let [_, height, width] = image.shape;
        let (to, part) = self.resized((height, width));
        scratch.resize(image, Rect::whole((height, width)), to, part, self.interpolation)?;
        if image.shape[1..] != self.input_size[1..] {
            self.pad(image, scratch);
        }
        Ok(())
    }

    /// Puts a border of the mean around a picture that is smaller than the input. That of a grey one has the mean's
    /// colour.
    fn pad(&self, image: &mut Image, scratch: &mut Scratch) {
        let ([channels, height, width], fill) = (image.shape, self.mean_bytes());
        let (to_height, to_width) = self.size();
        let (top, left) = ((to_height - height) / 2, (to_width - width) / 2);
        scratch.other.clear();
        for (plane, &fill) in fill.iter().enumerate() {
            let start = scratch.other.len();
            scratch.other.resize(start + to_height * to_width, fill);
            let rows = image.pixels[plane % channels * height * width..].chunks_exact(width);
            let to = scratch.other[start..].chunks_exact_mut(to_width).skip(top);
            for (row, to) in rows.take(height).zip(to) {
                to[left..left + width].copy_from_slice(row);
            }
        }
        scratch.exchange(image, (to_height, to_width));
        image.shape[0] = fill.len();
    }

    /// The mean of each channel in bytes: what fills the gaps that a turn leaves.
    pub(crate) fn mean_bytes(&self) -> Vec<u8> {
        self.mean.iter().map(|mean| (mean * 255.0).round_ties_even() as u8).collect()
    }

    /// Checks the settings, and gives a picture the number of channels that the input has, or one of them for all that
    /// are equal.
    pub(crate) fn match_channels(&self, image: &mut Image) -> Result<()> {
        self.check()?;
        match (image.shape[0], self.input_size[0]) {
            (3, 1) => image.turn_grey(),
            (from, to) if from != 1 && from != to => {
                let reason = format!(
                    "a picture of {from} does not become one of {to}: the number stays the same, \
                     one is repeated, and three become one"
                );
                return Err(DataError::BadSetting { setting: "channels", reason });
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes a picture of the input's size as the model takes it.
    pub(crate) fn normalise(&self, image: &Image, out: &mut [f32]) {
        let plane = image.shape[1] * image.shape[2];
        // A grey picture's one plane serves all channels.
        let planes = image.pixels.chunks_exact(plane).cycle();
        let statistics = self.mean.iter().zip(&self.std);
        for ((out, plane), (&mean, &std)) in out.chunks_exact_mut(plane).zip(planes).zip(statistics)
        {
            let (mean, std) = (mean as f32, std as f32);
            let values: [f32; 256] = array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
            for (value, &byte) in out.iter_mut().zip(plane) {
                *value = values[usize::from(byte)];
            }
        }
    }
}

impl Transform for Preprocessing {
    fn output_shape(&self) -> [usize; 3] {
        self.input_size
    }

    fn apply(
        &self,
        _: SampleAddress,
        image: &mut Image,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<()> {
        self.match_channels(image)?;
        self.resize(image, scratch)?;
        self.normalise(image, out);
        Ok(())
    }
}
