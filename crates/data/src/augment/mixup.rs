//! Mixing the images of a batch, and their targets: mixup and CutMix. What changes one picture alone is beside it.

use serde::{Deserialize, Serialize};

use crate::random::{Purpose, Stream};
use crate::transform::SampleAddress;
use crate::{DataError, Result};

/// What timm's `Mixup` does to a batch: the first image is mixed with the last, the second with the last but one, and
/// so on, and their targets as much. One image in the middle stays as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixup {
    /// The α of Beta(α, α) that mixup's share is drawn from (Zhang et al. 2018); 0: no mixup.
    pub mixup_alpha: f64,
    /// That of CutMix (Yun et al. 2019); 0: no CutMix.
    pub cutmix_alpha: f64,
    /// The probability that anything is mixed.
    pub prob: f64,
    /// The probability of CutMix where there are both.
    pub switch_prob: f64,
    /// What is drawn anew for each batch or pair: all of the above.
    pub mode: MixupMode,
}

/// What one draw holds for, by timm's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MixupMode {
    /// A batch.
    #[default]
    Batch,
    /// A pair of images.
    Pair,
}

impl MixupMode {
    /// The names in files and on the command line.
    pub const NAMES: &[&str] = &["batch", "pair"];
}

/// How two images are mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mix {
    /// Each keeps this share of itself.
    Blend(f64),
    /// These rows and columns are exchanged.
    Cut([usize; 2], [usize; 2]),
}

impl Mixup {
    pub(crate) fn check(&self) -> Result<()> {
        let alphas = [self.mixup_alpha, self.cutmix_alpha];
        let all = alphas.iter().all(|alpha| (0.0..=1e3).contains(alpha))
            && [self.prob, self.switch_prob].iter().all(|share| (0.0..=1.0).contains(share));
        if all {
            return Ok(());
        }
        let reason = "each α is from 0 to 1000, each probability from 0 to 1".to_owned();
        Err(DataError::BadSetting { setting: "mixup", reason })
    }

    /// Mixes images `[B, C, H, W]` and soft targets `[B, K]` of visits to B samples. What is drawn for a batch is
    /// addressed by its first sample, for a pair by its first.
    pub(crate) fn apply(
        &self,
        visits: &[SampleAddress],
        size: [usize; 2],
        images: &mut [f32],
        shares: &mut [f32],
    ) {
        let Some(&first) = visits.first() else { return };
        let draw = |visit| self.draw(&mut Stream::of(Purpose::Mixing, visit), size);
        let of_batch = (self.mode == MixupMode::Batch).then(|| draw(first)).flatten();
        let count = visits.len();
        let pixels = images.len() / count;
        for (i, &visit) in visits[..count / 2].iter().enumerate() {
            let mix = match self.mode {
                MixupMode::Batch => of_batch,
                MixupMode::Pair => draw(visit),
            };
            if let Some(mix) = mix {
                mix.images(size, pair(images, pixels, [i, count - 1 - i]));
                let classes = shares.len() / count;
                blend(mix.share(size), pair(shares, classes, [i, count - 1 - i]));
            }
        }
    }

    fn draw(&self, stream: &mut Stream, size: [usize; 2]) -> Option<Mix> {
        let happens = stream.happens(self.prob);
        let cuts = match [self.mixup_alpha, self.cutmix_alpha].map(|alpha| alpha > 0.0) {
            [true, both] => both && stream.happens(self.switch_prob),
            [false, cuts] => cuts,
        };
        let alpha = if cuts { self.cutmix_alpha } else { self.mixup_alpha };
        if !happens || alpha == 0.0 {
            return None;
        }
        let share = beta(stream, alpha);
        if !cuts {
            return Some(Mix::Blend(share));
        }
        let [rows, columns] = size.map(|extent| {
            let (length, middle) =
                (extent as f64 * (1.0 - share).sqrt(), stream.below(extent as u64));
            clipped(length as usize, middle as usize, extent)
        });
        Some(Mix::Cut(rows, columns))
    }
}

/// As much of a length around a middle as lies in the extent.
fn clipped(length: usize, middle: usize, extent: usize) -> [usize; 2] {
    [middle.saturating_sub(length / 2), extent.min(middle + length.div_ceil(2))]
}

impl Mix {
    /// What each keeps of itself: of a cut, by what was left of the rectangle at the image's edges.
    fn share(self, [height, width]: [usize; 2]) -> f64 {
        match self {
            Self::Blend(share) => share,
            Self::Cut(rows, columns) => {
                let area = (rows[1] - rows[0]) * (columns[1] - columns[0]);
                1.0 - area as f64 / (height * width) as f64
            }
        }
    }

    fn images(self, [height, width]: [usize; 2], [first, second]: [&mut [f32]; 2]) {
        let (rows, columns) = match self {
            Self::Blend(share) => return blend(share, [first, second]),
            Self::Cut(rows, columns) => (rows, columns[0]..columns[1]),
        };
        let lines = first.chunks_exact_mut(width).zip(second.chunks_exact_mut(width)).enumerate();
        for (line, (first, second)) in lines {
            if (rows[0]..rows[1]).contains(&(line % height)) {
                first[columns.clone()].swap_with_slice(&mut second[columns.clone()]);
            }
        }
    }
}

/// Two parts of one length.
fn pair(values: &mut [f32], len: usize, [i, j]: [usize; 2]) -> [&mut [f32]; 2] {
    let (before, from) = values.split_at_mut(j * len);
    [&mut before[i * len..][..len], &mut from[..len]]
}

fn blend(share: f64, [first, second]: [&mut [f32]; 2]) {
    let (own, other) = (share as f32, (1.0 - share) as f32);
    for (a, b) in first.iter_mut().zip(second) {
        (*a, *b) = (*a * own + *b * other, *b * own + *a * other);
    }
}

/// A number from Beta(α, α).
fn beta(stream: &mut Stream, alpha: f64) -> f64 {
    let [first, second] = [(); 2].map(|()| ln_gamma(stream, alpha));
    1.0 / (1.0 + (second - first).exp())
}

/// The logarithm of a number from Gamma(α, 1) (Marsaglia and Tsang, "A simple method for generating gamma variables",
/// ACM TOMS 2000).
fn ln_gamma(stream: &mut Stream, alpha: f64) -> f64 {
    if alpha < 1.0 {
        let logarithm = ln_gamma(stream, alpha + 1.0) + (1.0 - stream.uniform()).ln() / alpha;
        return logarithm.max(f64::MIN);
    }
    let d = alpha - 1.0 / 3.0;
    loop {
        let x = stream.normal();
        let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        if v > 0.0 && (1.0 - stream.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Mixup = Mixup {
        mixup_alpha: 0.8,
        cutmix_alpha: 1.0,
        prob: 1.0,
        switch_prob: 0.5,
        mode: MixupMode::Pair,
    };

    fn visits(count: usize) -> Vec<SampleAddress> {
        (0..count).map(|sample| SampleAddress { seed: 3, epoch: 1, sample }).collect()
    }

    fn numbers(value: &serde_json::Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    #[test]
    fn images_and_targets_are_timms() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mixup.json");
        let file: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let single = |value: &serde_json::Value| -> Vec<f32> {
            numbers(value).into_iter().map(|number| number as f32).collect()
        };
        let size = [5, 6];
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 8);
        for case in cases {
            let (mut images, mut shares) = (single(&file["images"]), single(&file["targets"]));
            let (pixels, classes) = (images.len() / 4, shares.len() / 4);
            for (i, drawn) in case["pairs"].as_array().unwrap().iter().enumerate() {
                let share = drawn["share"].as_f64().unwrap();
                let mix = match drawn["middle"].as_array() {
                    None => Mix::Blend(share),
                    Some(middle) => {
                        let [rows, columns] = [0, 1].map(|axis| {
                            let length = (size[axis] as f64 * (1.0 - share).sqrt()) as usize;
                            clipped(length, middle[axis].as_u64().unwrap() as usize, size[axis])
                        });
                        Mix::Cut(rows, columns)
                    }
                };
                mix.images(size, pair(&mut images, pixels, [i, 3 - i]));
                blend(mix.share(size), pair(&mut shares, classes, [i, 3 - i]));
            }
            for (found, name) in [(images, "images"), (shares, "targets")] {
                let expected = single(&case[name]);
                let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6);
                assert!(found.len() == expected.len() && close, "{}: {name}", case["name"]);
            }
        }
    }

    #[test]
    fn shares_follow_their_distributions() {
        for alpha in [0.2, 1.0, 4.0] {
            let mixup = Mixup { mixup_alpha: alpha, cutmix_alpha: 0.0, ..ON };
            let count = 20_000;
            let shares: Vec<f64> = (visits(count).into_iter())
                .map(|visit| {
                    let mut stream = Stream::of(Purpose::Mixing, visit);
                    match mixup.draw(&mut stream, [5, 6]) {
                        Some(Mix::Blend(share)) => share,
                        other => panic!("{other:?}"),
                    }
                })
                .collect();
            let mean = shares.iter().sum::<f64>() / count as f64;
            let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / count as f64;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!(
                (mean - 0.5).abs() < 0.02 && (variance / expected - 1.0).abs() < 0.05,
                "{alpha}"
            );
        }
    }

    #[test]
    fn each_happens_as_often_as_asked() {
        let mixup = Mixup { prob: 0.75, switch_prob: 0.2, ..ON };
        let count = 20_000;
        let [mut none, mut cuts] = [0.0, 0.0];
        for visit in visits(count) {
            match mixup.draw(&mut Stream::of(Purpose::Mixing, visit), [5, 6]) {
                None => none += 1.0,
                Some(Mix::Cut(..)) => cuts += 1.0,
                Some(Mix::Blend(_)) => {}
            }
        }
        let (none, cuts) = (none / count as f64, cuts / (count as f64 - none));
        assert!((none - 0.25).abs() < 0.02 && (cuts - 0.2).abs() < 0.02, "{none} {cuts}");
    }

    #[test]
    fn a_batch_shares_a_draw_and_pairs_have_their_own() {
        let run = |mode| {
            let mixup = Mixup { mode, cutmix_alpha: 0.0, ..ON };
            let (mut images, mut shares) = (vec![0.0; 7 * 30], vec![0.0; 7 * 7]);
            (0..7).for_each(|i| shares[i * 8] = 1.0);
            mixup.apply(&visits(7), [5, 6], &mut images, &mut shares);
            (0..7).map(|i| shares[i * 8]).collect::<Vec<f32>>()
        };
        let (batch, pairs) = (run(MixupMode::Batch), run(MixupMode::Pair));
        assert!(batch[..3].iter().all(|share| *share == batch[0] && *share < 1.0), "{batch:?}");
        assert!(pairs[0] != pairs[1] && pairs[1] != pairs[2], "{pairs:?}");
        for own in [batch, pairs] {
            assert!(own[3] == 1.0 && (0..3).all(|i| own[i] == own[6 - i]), "{own:?}");
        }
    }
}
