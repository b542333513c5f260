//! Prediction: a model with its weights, and the classes that it gives to single pictures.

use std::path::Path;

use serde::Serialize;
use vitrine_data::{Preprocessing, decode_image, load_image};
use vitrine_nn::{Model, Parameters, Pass};
use vitrine_tensor::Tensor;

use crate::build;
use crate::description::Description;
use crate::error::{Result, TrainError};
use crate::recipe::Recipe;

/// A trained model that classifies pictures.
///
/// ```no_run
/// use std::path::Path;
/// use vitrine_train::predict::Classifier;
/// use vitrine_train::recipe::{Overrides, Recipe};
///
/// let recipe = Recipe::load("d2l", &Overrides::new())?;
/// let weights = Path::new("weights.safetensors");
/// let classifier = Classifier::load(&recipe, weights, |notice| eprintln!("{notice}"))?;
/// let guesses = classifier.classify_file(Path::new("shoe.png"))?;
/// println!("{}: {:.3}", guesses[0].name, guesses[0].probability);
/// # Ok::<(), vitrine_train::TrainError>(())
/// ```
pub struct Classifier {
    model: Box<dyn Model>,
    parameters: Parameters,
    preprocessing: Preprocessing,
    max_pixels: u64,
    class_names: Vec<String>,
}

/// A class with what a model makes of it for one picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// The class's number.
    pub label: usize,
    /// What the class is called.
    pub name: String,
    /// The softmax of the logits; the probabilities of all classes add up to 1.
    pub probability: f64,
    /// The model's output for this class.
    pub logit: f64,
}

impl Classifier {
    /// The recipe's model with weights from a folder or a safetensors file, as [`build::model_with_weights`] reads
    /// them. Classes have the names that [`Description::of`] gives them.
    pub fn load(recipe: &Recipe, weights: &Path, notice: impl Fn(&str)) -> Result<Self> {
        let (model, parameters) = build::model_with_weights(recipe, weights, notice)?;
        let about = Description::of(recipe, weights)?;
        let (class_names, preprocessing) = (about.label_names, about.pretrained_cfg);
        let max_pixels = recipe.training.data.max_pixels;
        Ok(Self { model, parameters, preprocessing, max_pixels, class_names })
    }

    /// Classifies an image file; all classes, the likeliest first.
    pub fn classify_file(&self, path: &Path) -> Result<Vec<Guess>> {
        self.classify(&load_image(path, &self.preprocessing, self.max_pixels)?)
    }

    /// Classifies the contents of an image file; `name` is for error messages.
    pub fn classify_bytes(&self, name: &str, bytes: &[u8]) -> Result<Vec<Guess>> {
        self.classify(&decode_image(name, bytes, &self.preprocessing, self.max_pixels)?)
    }

    /// Classifies a picture `[C, H, W]` of the model's size, as its preprocessing leaves it.
    pub fn classify(&self, pixels: &[f32]) -> Result<Vec<Guess>> {
        let [channels, height, width] = self.preprocessing.input_size;
        let shape = [1, channels, height, width];
        let images = Tensor::from_slice(pixels, &shape, self.parameters.values().device())?;
        let pass = Pass::inference(&self.parameters);
        let output = self.model.forward(&pass, &pass.constant(images))?;
        let logits = output.prediction()?.value().to_f64_vec()?;
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(TrainError::NotFiniteOutput { what: "output" });
        }
        let names = self.class_names.iter();
        let mut guesses: Vec<Guess> = (0..)
            .zip(names.zip(softmax(&logits)).zip(&logits))
            .map(|(label, ((name, probability), &logit))| Guess {
                label,
                name: name.clone(),
                probability,
                logit,
            })
            .collect();
        // Stable: of equals, the lower label comes first.
        guesses.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        Ok(guesses)
    }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}
