//! Prediction: a model with its weights, and the classes that it gives to single pictures.

use std::path::Path;

use serde::Serialize;
use vitrine_data::{Preprocessing, decode_image, load_image};
use vitrine_models::VisionTransformer;
use vitrine_nn::{Parameters, Pass};
use vitrine_tensor::Tensor;

use crate::error::{Result, TrainError};
use crate::recipe::Recipe;
use crate::{build, checkpoint};

/// A trained model that classifies pictures.
///
/// ```no_run
/// use std::path::Path;
/// use vitrine_train::predict::Classifier;
/// use vitrine_train::recipe::{Overrides, Recipe};
///
/// let recipe = Recipe::load("d2l", &Overrides::new())?;
/// let classifier = Classifier::load(&recipe, Path::new("weights.safetensors"))?;
/// let guesses = classifier.classify_file(Path::new("shoe.png"))?;
/// println!("{}: {:.3}", guesses[0].name, guesses[0].probability);
/// # Ok::<(), vitrine_train::TrainError>(())
/// ```
pub struct Classifier {
    model: VisionTransformer,
    parameters: Parameters,
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
    /// The recipe's model with weights from a checkpoint's folder or a safetensors file with timm's names.
    ///
    /// Classes bear the names of the recipe's data set, or their numbers if the model has another number of classes.
    pub fn load(recipe: &Recipe, weights: &Path) -> Result<Self> {
        let (model, parameters) = build::model(recipe)?;
        checkpoint::load_weights(weights, &parameters)?;
        let (names, classes) =
            (build::spec_of(recipe.data.dataset).class_names, recipe.model.classes);
        let class_names = match names.len() == classes {
            true => names.iter().map(|name| (*name).to_owned()).collect(),
            false => (0..classes).map(|label| label.to_string()).collect(),
        };
        Ok(Self { model, parameters, class_names })
    }

    /// Classifies an image file; all classes, the likeliest first.
    pub fn classify_file(&self, path: &Path) -> Result<Vec<Guess>> {
        self.classify(&load_image(path, &self.preprocessing())?)
    }

    /// Classifies the contents of an image file; `name` is for error messages.
    pub fn classify_bytes(&self, name: &str, bytes: &[u8]) -> Result<Vec<Guess>> {
        self.classify(&decode_image(name, bytes, &self.preprocessing())?)
    }

    fn preprocessing(&self) -> Preprocessing {
        let config = self.model.config();
        Preprocessing::new(config.channels, config.image_size)
    }

    /// Classifies pixels `[C, H, W]` of the model's size, scaled to [0, 1].
    pub fn classify(&self, pixels: &[f32]) -> Result<Vec<Guess>> {
        let config = self.model.config();
        let shape = [1, config.channels, config.image_size.0, config.image_size.1];
        let images = Tensor::from_slice(pixels, &shape, self.parameters.values().device())?;
        let pass = Pass::inference(&self.parameters);
        let logits = self.model.forward(&pass, &pass.constant(images))?.value().to_f64_vec()?;
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
