//! Policies by timm's strings: RandAugment (Cubuk et al. 2020) as `rand-m9-mstd0.5-inc1`, and 3-Augment (Touvron et al.
//! 2022, "DeiT III") as `3a`.

use std::str::FromStr;

use super::operation::Operation;
use crate::random::Stream;
use crate::{DataError, Result};

/// Which operations are drawn for a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// Some of fifteen operations, drawn with replacement.
    Rand(Rand),
    /// One of solarize, grey and blur.
    ThreeAugment,
}

/// RandAugment's settings, with their letters in timm's string.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rand {
    /// `m`: how strong operations are.
    pub magnitude: f64,
    /// `mstd`: the standard deviation of a picture's magnitude; over 100, it is drawn evenly from 0 to `m`.
    pub magnitude_std: f64,
    /// `mmax`: the most that a magnitude may be.
    pub magnitude_max: f64,
    /// `n`: how many operations are drawn.
    pub layers: usize,
    /// `p`: the probability that one that is drawn is applied.
    pub probability: f64,
    /// `inc`: whether all operations are stronger at a larger magnitude.
    pub increasing: bool,
}

/// timm's scale of magnitudes.
const LEVELS: f64 = 10.0;
/// RandAugment's operations.
const OPERATIONS: u64 = 15;

impl FromStr for Policy {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        let forms = "\"3a\" nor a string such as \"rand-m9-mstd0.5-n2-p0.5-inc1\"";
        let reason = format!("{text:?} is neither {forms}");
        let bad = || DataError::BadSetting { setting: "policy", reason: reason.clone() };
        if text == "3a" {
            return Ok(Self::ThreeAugment);
        }
        let mut rand = Rand {
            magnitude: LEVELS,
            magnitude_std: 0.0,
            magnitude_max: LEVELS,
            layers: 2,
            probability: 0.5,
            increasing: false,
        };
        let mut parts = text.split('-');
        if parts.next() != Some("rand") {
            return Err(bad());
        }
        for part in parts {
            let (key, number) =
                part.split_at(part.find(|c: char| c.is_ascii_digit()).ok_or_else(bad)?);
            let value: f64 = number.parse().map_err(|_| bad())?;
            let whole = value.fract() == 0.0;
            match key {
                "m" if whole => rand.magnitude = value,
                "mstd" => rand.magnitude_std = value,
                "mmax" if whole && value > 0.0 => rand.magnitude_max = value,
                "n" if whole && value <= 100.0 => rand.layers = value as usize,
                "p" if value <= 1.0 => rand.probability = value,
                "inc" if whole => rand.increasing = value != 0.0,
                _ => return Err(bad()),
            }
        }
        Ok(Self::Rand(rand))
    }
}

impl Policy {
    /// Draws what happens to a picture of this size (height, width).
    pub(super) fn draw(
        &self,
        size: (usize, usize),
        random: &mut Stream,
        operations: &mut Vec<Operation>,
    ) {
        let Self::Rand(rand) = self else {
            operations.push(match random.below(3) {
                0 => Operation::Solarize(128),
                1 => Operation::Color(0.0),
                _ => Operation::GaussianBlur(random.between(0.1, 2.0)),
            });
            return;
        };
        for _ in 0..rand.layers {
            let which = random.below(OPERATIONS);
            if random.happens(rand.probability) {
                let noisy = match rand.magnitude_std {
                    std if std > 100.0 => random.between(0.0, rand.magnitude),
                    std => rand.magnitude + std * random.normal(),
                };
                let level = noisy.clamp(0.0, rand.magnitude_max) / LEVELS;
                let sign = if random.happens(0.5) { -1.0 } else { 1.0 };
                operations.push(rand.operation(which, level, sign, size));
            }
        }
    }
}

impl Rand {
    /// The operation of this number, in timm's order, at a level of 1 for magnitude 10; where it may go either way, by
    /// the sign.
    pub fn operation(
        &self,
        which: u64,
        level: f64,
        sign: f64,
        (height, width): (usize, usize),
    ) -> Operation {
        let up = self.increasing;
        let factor = if up { (1.0 + sign * level * 0.9).max(0.1) } else { level * 1.8 + 0.1 };
        let bits = (level * 4.0) as i32;
        let threshold = ((level * 256.0) as i32).min(256);
        let either = sign * level;
        match which {
            0 => Operation::AutoContrast,
            1 => Operation::Equalize,
            2 => Operation::Invert,
            3 => Operation::Rotate(either * 30.0),
            4 => Operation::Posterize(if up { 4 - bits } else { bits }),
            5 => Operation::Solarize(if up { 256 - threshold } else { threshold }),
            6 => Operation::SolarizeAdd(((level * 110.0) as i32).min(128)),
            7 => Operation::Color(factor),
            8 => Operation::Contrast(factor),
            9 => Operation::Brightness(factor),
            10 => Operation::Sharpness(factor),
            11 => Operation::ShearX(either * 0.3),
            12 => Operation::ShearY(either * 0.3),
            13 => Operation::TranslateX(either * 0.45 * width as f64),
            _ => Operation::TranslateY(either * 0.45 * height as f64),
        }
    }
}
