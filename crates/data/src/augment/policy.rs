//! Policies by timm's strings: RandAugment (Cubuk et al. 2020) as `rand-m9-mstd0.5-inc1`, and 3-Augment (Touvron et al.
//! 2022, "DeiT III") as `3a`.

use std::fmt;
use std::str::FromStr;

use super::operation::Operation;
use crate::DataError;
use crate::random::Stream;

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

    fn from_str(text: &str) -> Result<Self, DataError> {
        let bad = || DataError::BadSetting {
            setting: "policy",
            reason: format!("{text:?} is neither \"3a\" nor a string such as \"rand-m9-mstd0.5-n2-p0.5-inc1\""),
        };
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
            let (key, number) = part.split_at(part.find(|c: char| c.is_ascii_digit()).ok_or_else(bad)?);
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

/// The string that is read.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Rand(rand) = self else { return f.write_str("3a") };
        let Rand { magnitude, magnitude_std, magnitude_max, layers, probability, .. } = rand;
        let increasing = u8::from(rand.increasing);
        write!(f, "rand-m{magnitude}-mstd{magnitude_std}-mmax{magnitude_max}-n{layers}-p{probability}-inc{increasing}")
    }
}

impl Policy {
    /// Draws what happens to a picture of this size (height, width).
    pub(super) fn draw(&self, size: (usize, usize), random: &mut Stream, operations: &mut Vec<Operation>) {
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
    fn operation(&self, which: u64, level: f64, sign: f64, (height, width): (usize, usize)) -> Operation {
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

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;
    use serde_json::Value;

    use super::*;

    const SIZE: (usize, usize) = (40, 60);

    /// timm's name of an operation, and the numbers that timm gives it.
    fn in_timm(operation: Operation, increasing: bool) -> (String, Vec<f64>) {
        let more = if increasing { "Increasing" } else { "" };
        let (name, number) = match operation {
            Operation::AutoContrast => return ("AutoContrast".into(), vec![]),
            Operation::Equalize => return ("Equalize".into(), vec![]),
            Operation::Invert => return ("Invert".into(), vec![]),
            Operation::Rotate(degrees) => ("Rotate".into(), degrees),
            Operation::Posterize(bits) => (format!("Posterize{more}"), f64::from(bits)),
            Operation::Solarize(threshold) => (format!("Solarize{more}"), f64::from(threshold)),
            Operation::SolarizeAdd(add) => ("SolarizeAdd".into(), f64::from(add)),
            Operation::Color(factor) => (format!("Color{more}"), factor),
            Operation::Contrast(factor) => (format!("Contrast{more}"), factor),
            Operation::Brightness(factor) => (format!("Brightness{more}"), factor),
            Operation::Sharpness(factor) => (format!("Sharpness{more}"), factor),
            Operation::ShearX(factor) => ("ShearX".into(), factor),
            Operation::ShearY(factor) => ("ShearY".into(), factor),
            Operation::TranslateX(pixels) => ("TranslateXRel".into(), pixels / SIZE.1 as f64),
            Operation::TranslateY(pixels) => ("TranslateYRel".into(), pixels / SIZE.0 as f64),
            other => panic!("{other:?} is none of RandAugment's"),
        };
        (name, vec![number])
    }

    #[test]
    fn strings_mean_what_they_mean_in_timm() {
        let bytes = include_bytes!("../../tests/golden/transforms.safetensors");
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        let text = &metadata.metadata().as_ref().unwrap()["rand_augment"];
        let cases: Vec<Value> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 3);
        for case in cases {
            let config = case["config"].as_str().unwrap();
            let Ok(Policy::Rand(rand)) = config.parse() else { panic!("{config}") };
            assert_eq!(rand.layers as u64, case["num_layers"].as_u64().unwrap(), "{config}");
            assert_eq!(Some(rand.probability), case["prob"].as_f64(), "{config}");
            assert_eq!(Some(rand.magnitude), case["magnitude"].as_f64(), "{config}");
            assert_eq!(Some(rand.magnitude_std), case["magnitude_std"].as_f64(), "{config}");
            assert_eq!(rand.magnitude_max, case["magnitude_max"].as_f64().unwrap_or(10.0), "{config}");
            let operations = case["ops"].as_array().unwrap();
            assert_eq!(operations.len() as u64, OPERATIONS);
            for (which, expected) in (0..).zip(operations) {
                for (sign, key) in [(1.0, "args"), (-1.0, "args_negative")] {
                    for (magnitude, arguments) in expected[key].as_object().into_iter().flatten() {
                        let level = magnitude.parse::<f64>().unwrap() / LEVELS;
                        let operation = rand.operation(which, level, sign, SIZE);
                        let (name, numbers) = in_timm(operation, rand.increasing);
                        assert_eq!(name, expected["name"].as_str().unwrap(), "{config}");
                        let wanted: Vec<f64> = serde_json::from_value(arguments.clone()).unwrap();
                        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
                        let equal = numbers.len() == wanted.len() && numbers.iter().zip(&wanted).all(near);
                        assert!(equal, "{config}, {name} at {magnitude}: {numbers:?}, timm {wanted:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_policy_is_read_back_from_what_it_prints() {
        for text in ["3a", "rand", "rand-m9-mstd0.5-inc1", "rand-m15-mmax30-n3-p1-mstd101"] {
            let policy: Policy = text.parse().unwrap();
            assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        }
        for text in ["", "rand-", "rand-x3", "rand-m", "rand-m9.5", "rand-p2", "3b", "random-m9", "rand-n-3"] {
            let error = text.parse::<Policy>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    /// Each operation is drawn as often as any other, half of the draws are applied, and magnitudes are normal.
    #[test]
    fn draws_follow_their_laws() {
        let policy: Policy = "rand-m5-mstd2-mmax10".parse().unwrap();
        let random = &mut Stream::new(1, crate::random::Purpose::Augmentation, 0);
        let mut operations = Vec::new();
        (0..15_000).for_each(|_| policy.draw(SIZE, random, &mut operations));
        // 30,000 draws, each applied with probability 1/2: 15,000 with a standard deviation of 87.
        assert!(operations.len().abs_diff(15_000) < 450, "{}", operations.len());
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        operations.iter().for_each(|o| *counts.entry(in_timm(*o, false).0).or_default() += 1);
        assert_eq!(counts.len(), 15);
        assert!(counts.values().all(|count| count.abs_diff(1000) < 160), "{counts:?}");
        let degrees: Vec<f64> = operations
            .iter()
            .filter_map(|o| if let Operation::Rotate(degrees) = o { Some(degrees / 3.0) } else { None })
            .collect();
        let count = degrees.len() as f64;
        let positive = degrees.iter().filter(|&&d| d > 0.0).count() as f64 / count;
        let mean = degrees.iter().map(|d| d.abs()).sum::<f64>() / count;
        let std = (degrees.iter().map(|d| (d.abs() - mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!((positive - 0.5).abs() < 0.06, "{positive}");
        // Clipped to 0 and 10, 2.5 standard deviations away.
        assert!((mean - 5.0).abs() < 0.25 && (std - 2.0).abs() < 0.2, "{mean} {std}");
    }
}
