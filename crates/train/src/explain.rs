//! Where a model looked: maps over an image of what its answer rests on, and pictures of them.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use vitrine_autodiff::Var;
use vitrine_nn::{AttentionWeights, InputSpec, Model, Parameters, Pass, TokenGrid};
use vitrine_tensor::Tensor;

use crate::error::{Result, TrainError};
use crate::evaluate::largest;

/// How a map is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// The attention of all layers, mean of heads, half of each layer passed on as it is (Abnar and Zuidema 2020,
    /// section 3).
    Rollout,
    /// The last layer's attention, a map for each head.
    Attention,
    /// The attention of all layers, each weighed by its gradient for the class (Chefer et al. 2021, "Generic
    /// attention-model explainability", equations 5 and 6).
    GradientAttention,
    /// The gradient for the class times the pixels, summed over channels, as an amount.
    Gradient,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Rollout, Self::Attention, Self::GradientAttention, Self::Gradient];

    /// The name, as in names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::Attention => "attention",
            Self::GradientAttention => "gradient-attention",
            Self::Gradient => "gradient",
        }
    }
}

/// How much each place of an image counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Rows and columns.
    pub size: (usize, usize),
    /// Row by row.
    pub values: Vec<f64>,
}

/// A model's answer to an image, and what it rests on.
pub struct Explanation {
    /// The logits of all classes.
    pub logits: Vec<f64>,
    /// The class that is explained.
    pub class: usize,
    attention: Vec<Layer>,
    grid: Option<TokenGrid>,
    gradient: Map,
}

/// A layer's attention weights `[H, N, N]`, and their gradients.
struct Layer {
    heads: usize,
    tokens: usize,
    weights: Vec<f64>,
    gradients: Vec<f64>,
}

impl Explanation {
    /// Runs an image `[C, H, W]` of the model's size, and goes back from a class's logit: the likeliest one's, if none
    /// is named.
    pub fn of(
        model: &dyn Model,
        parameters: &Parameters,
        pixels: &[f32],
        class: Option<usize>,
    ) -> Result<Self> {
        let InputSpec { channels, size: (height, width), .. } = model.input();
        let device = parameters.values().device();
        let parameters = parameters.clone().computing_in(parameters.values().dtype())?;
        let pass = Pass::explaining(&parameters);
        let shape = [1, channels, height, width];
        let image = Tensor::from_slice(pixels, &shape, device)?;
        let image = pass.tape().variable(image.to_dtype(parameters.values().dtype())?);
        let output = model.forward(&pass, &image)?.prediction()?;
        let logits = output.value().to_f64_vec()?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(TrainError::NotFiniteOutput { what: "output" });
        }
        let class = class.unwrap_or_else(|| largest(&logits));
        if class >= logits.len() {
            return Err(TrainError::Unavailable {
                what: format!("class {class} of {}", logits.len()),
                advice: "classes are counted from 0",
            });
        }
        let logit = output.narrow(1, class, 1)?.sum()?;
        let kept = pass.attention();
        let gradients = pass.backward(&logit)?;
        let of = |variable: &Var| -> Result<Vec<f64>> {
            match gradients.get(variable) {
                Some(gradient) => Ok(gradient.to_f64_vec()?),
                None => Ok(vec![0.0; variable.shape().iter().product()]),
            }
        };
        let layer = |kept: &AttentionWeights| -> Result<Layer> {
            let &[_, heads, tokens, _] = kept.weights.shape() else {
                unreachable!("attention weights are [B, H, N, N]")
            };
            let weights = kept.weights.to_f64_vec()?;
            Ok(Layer { heads, tokens, weights, gradients: of(&kept.added)? })
        };
        let attention = kept.iter().map(layer).collect::<Result<_>>()?;
        let products = of(&image)?.into_iter().zip(pixels).map(|(g, &x)| g * f64::from(x));
        let products: Vec<f64> = products.collect();
        let plane = height * width;
        let amount = |at: usize| (0..channels).map(|c| products[c * plane + at]).sum::<f64>().abs();
        let gradient = Map { size: (height, width), values: (0..plane).map(amount).collect() };
        Ok(Self { logits, class, attention, grid: model.token_grid(), gradient })
    }

    /// The maps of a method, one or one a head; an error if the model has no attention over a whole image.
    pub fn maps(&self, method: Method) -> Result<Vec<Map>> {
        if method == Method::Gradient {
            return Ok(vec![self.gradient.clone()]);
        }
        let (Some(grid), Some(last)) = (self.grid, self.attention.last()) else {
            return Err(TrainError::Unavailable {
                what: format!("the map {}", method.name()),
                advice: "the model has no attention over a whole image; gradient is for every model",
            });
        };
        let tokens = last.tokens;
        Ok(match method {
            Method::Attention => {
                let square = tokens * tokens;
                last.weights.chunks_exact(square).map(|head| read(head, tokens, grid)).collect()
            }
            Method::Rollout => {
                let mut rolled = identity(tokens);
                for layer in &self.attention {
                    let mut mean = layer.mean(|weight, _| weight);
                    for (i, row) in mean.chunks_exact_mut(tokens).enumerate() {
                        row[i] += 1.0;
                        let sum: f64 = row.iter().sum();
                        row.iter_mut().for_each(|value| *value /= sum);
                    }
                    rolled = product(&mean, &rolled, tokens);
                }
                vec![read(&rolled, tokens, grid)]
            }
            Method::GradientAttention | Method::Gradient => {
                let mut relevance = identity(tokens);
                for layer in &self.attention {
                    let mean = layer.mean(|weight, gradient| (weight * gradient).max(0.0));
                    let added = product(&mean, &relevance, tokens);
                    relevance.iter_mut().zip(added).for_each(|(value, added)| *value += added);
                }
                // What a token has of itself says nothing of the image.
                relevance.iter_mut().step_by(tokens + 1).for_each(|value| *value -= 1.0);
                vec![read(&relevance, tokens, grid)]
            }
        })
    }
}

impl Layer {
    /// The mean over the heads `[N, N]` of what is made of a weight and its gradient.
    fn mean(&self, of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let square = self.tokens * self.tokens;
        let mut mean = vec![0.0; square];
        for (i, (&weight, &gradient)) in self.weights.iter().zip(&self.gradients).enumerate() {
            mean[i % square] += of(weight, gradient) / self.heads as f64;
        }
        mean
    }
}

fn identity(tokens: usize) -> Vec<f64> {
    let mut each = vec![0.0; tokens * tokens];
    each.iter_mut().step_by(tokens + 1).for_each(|value| *value = 1.0);
    each
}

fn product(a: &[f64], b: &[f64], tokens: usize) -> Vec<f64> {
    let mut result = vec![0.0; tokens * tokens];
    for (row, out) in a.chunks_exact(tokens).zip(result.chunks_exact_mut(tokens)) {
        for (&weight, from) in row.iter().zip(b.chunks_exact(tokens)) {
            out.iter_mut().zip(from).for_each(|(out, &value)| *out += weight * value);
        }
    }
    result
}

/// What the head reads of a matrix of tokens: the first token's row over the patches, or the mean of theirs.
fn read(matrix: &[f64], tokens: usize, grid: TokenGrid) -> Map {
    let TokenGrid { prefix, rows, columns, reads_first } = grid;
    let patches = rows * columns;
    let read = if reads_first { 0..1 } else { prefix..prefix + patches };
    let mut values = vec![0.0; patches];
    for row in read.clone() {
        let row = &matrix[row * tokens + prefix..][..patches];
        values.iter_mut().zip(row).for_each(|(v, share)| *v += share / read.len() as f64);
    }
    Map { size: (rows, columns), values }
}

/// An image `[C, H, W]`, as the model's preprocessing leaves it, with maps over it beside each other, as a PNG file.
/// The more a place counts, the warmer it is; each map's largest value is the warmest. Pixels are repeated until the
/// shorter side has `least` of them.
pub fn overlay(pixels: &[f32], input: &InputSpec, maps: &[Map], least: usize) -> Result<Vec<u8>> {
    let InputSpec { channels, size: (height, width), .. } = *input;
    let scale = least.div_ceil(height.min(width).max(1)).max(1);
    let (tall, wide) = (height * scale, width * scale);
    let columns = (maps.len() as f64).sqrt().ceil().max(1.0) as usize;
    let rows = maps.len().div_ceil(columns);
    let failed = |error: String| TrainError::Unavailable {
        what: format!("a picture: {error}"),
        advice: "the images are too large",
    };
    let side = |count: usize, side: usize| {
        u32::try_from(count * side).map_err(|error| failed(error.to_string()))
    };
    let mut picture = RgbImage::new(side(columns, wide)?, side(rows, tall)?);
    let level = |c: usize, y: usize, x: usize| {
        let c = if channels == 3 { c } else { 0 };
        let value = f64::from(pixels[(c * height + y / scale) * width + x / scale]);
        (value * input.std[c] + input.mean[c]).clamp(0.0, 1.0)
    };
    for (i, map) in maps.iter().enumerate() {
        let (low, high) = map
            .values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |range, &v| (range.0.min(v), range.1.max(v)));
        let (top, left) = (i / columns * tall, i % columns * wide);
        for y in 0..tall {
            for x in 0..wide {
                let at = |place: usize, side: usize, count: usize| {
                    ((place as f64 + 0.5) * count as f64 / side as f64 - 0.5).max(0.0)
                };
                let value = map.between(at(y, tall, map.size.0), at(x, wide, map.size.1));
                let share = if high > low { (value - low) / (high - low) } else { 0.0 };
                let warm = warmth(share);
                let color = [0, 1, 2].map(|c| {
                    let mixed = 0.45 * level(c, y, x) + 0.55 * warm[c];
                    (255.0 * mixed).round().clamp(0.0, 255.0) as u8
                });
                picture.put_pixel((left + x) as u32, (top + y) as u32, image::Rgb(color));
            }
        }
    }
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).map_err(|error| failed(error.to_string()))?;
    Ok(png.into_inner())
}

impl Map {
    /// The value at a place between the values, which it is a mean of.
    fn between(&self, y: f64, x: f64) -> f64 {
        let (rows, columns) = self.size;
        let around = |at: f64, count: usize| {
            let low = (at as usize).min(count - 1);
            (low, (low + 1).min(count - 1), at - low as f64)
        };
        let ((top, bottom, down), (left, right, across)) = (around(y, rows), around(x, columns));
        let value = |row: usize, column: usize| self.values[row * columns + column];
        let along = |row: usize| (1.0 - across) * value(row, left) + across * value(row, right);
        (1.0 - down) * along(top) + down * along(bottom)
    }
}

/// From dark blue by green and yellow to red.
fn warmth(share: f64) -> [f64; 3] {
    const STOPS: [[f64; 3]; 5] =
        [[0.0, 0.0, 0.4], [0.0, 0.4, 0.8], [0.2, 0.8, 0.4], [1.0, 0.9, 0.1], [0.9, 0.1, 0.0]];
    let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (at as usize).min(STOPS.len() - 2);
    [0, 1, 2].map(|c| STOPS[low][c] + (at - low as f64) * (STOPS[low + 1][c] - STOPS[low][c]))
}
