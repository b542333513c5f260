//! What the tests of whole runs share: a tiny model, made-up images, runs in folders, and the state that a run leaves
//! behind, for comparison bit for bit. No test lives here.

#![allow(dead_code, reason = "each of the test programs uses a part")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vitrine_data::Dataset;
use vitrine_train::TrainError;
use vitrine_train::build::Datasets;
use vitrine_train::checkpoint::Position;
use vitrine_train::metrics::{EpochMetrics, read_metrics};
use vitrine_train::progress::Progress;
use vitrine_train::recipe::{Overrides, Recipe};
use vitrine_train::threads::with_threads;
use vitrine_train::trainer::{LAST, METRICS, Outcome, Trainer, resumed_recipe};

/// The keys of the tiny model: 10 × 10 pixels in four patches, one block. Dropout stays at the textbook's 0.1.
const TINY: [&str; 8] = [
    "model.width=16",
    "model.heads=2",
    "model.depth=1",
    "model.mlp_width=32",
    "model.image_size=10",
    "model.patch_size=5",
    "run.batch_size=8",
    "run.epochs=2",
];

/// Overrides made of keys.
pub fn overrides(keys: &[&str]) -> Overrides {
    let mut overrides = Overrides::new();
    for key in keys {
        overrides.set(key).unwrap();
    }
    overrides
}

/// The tiny model's recipe, with further keys.
pub fn recipe(keys: &[&str]) -> Recipe {
    Recipe::load("d2l", &overrides(&[&TINY, keys].concat())).unwrap()
}

/// Made-up images of 10 × 10 pixels in ten classes.
pub fn images(train: usize, val: usize) -> Datasets {
    let synthetic = |samples, seed| Dataset::synthetic(samples, [1, 10, 10], 10, seed).unwrap();
    Datasets { train: Arc::new(synthetic(train, 1)), val: Arc::new(synthetic(val, 2)) }
}

/// Starts a run in a folder that holds none.
pub fn create(recipe: &Recipe, folder: &Path, data: &Datasets) -> Result<Trainer, TrainError> {
    Trainer::create(recipe.clone(), folder, data)
}

/// Goes on with the run in a folder, as `vitrine train --resume` does.
pub fn resume(folder: &Path, keys: &[&str], data: &Datasets) -> Result<Trainer, TrainError> {
    Trainer::resume(resumed_recipe(folder, &overrides(keys))?, folder, data)
}

/// Trains to the end.
pub fn finish(mut trainer: Trainer) -> Result<EpochMetrics, TrainError> {
    match trainer.run(&mut Progress::silent(), &AtomicBool::new(false))? {
        Outcome::Finished(metrics) => Ok(metrics),
        Outcome::Interrupted => panic!("nobody asked the run to stop"),
    }
}

/// Trains for one step.
pub fn one_step(trainer: &mut Trainer) -> Outcome {
    trainer.run(&mut Progress::silent(), &AtomicBool::new(true)).unwrap()
}

/// A whole run, in one go, in a pool of so many threads.
pub fn whole_run(recipe: &Recipe, folder: &Path, data: &Datasets, threads: usize) -> State {
    with_threads(threads, || finish(create(recipe, folder, data).unwrap()).unwrap()).unwrap();
    State::read(folder)
}

/// What a run has left in its folder, without what the clock has put there.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub weights: Vec<u8>,
    pub optimizer: Vec<u8>,
    pub position: Position,
    pub metrics: Vec<EpochMetrics>,
    pub best: Vec<u8>,
}

impl State {
    pub fn read(folder: &Path) -> Self {
        let last = folder.join(LAST);
        let mut metrics = read_metrics(&folder.join(METRICS)).unwrap();
        for epoch in &mut metrics {
            (epoch.seconds, epoch.images_per_second) = (0.0, 0.0);
        }
        let text = fs::read_to_string(last.join("trainer.json")).unwrap();
        let mut position: Position = serde_json::from_str(&text).unwrap();
        position.sums.seconds = 0.0;
        Self {
            weights: fs::read(last.join("weights.safetensors")).unwrap(),
            optimizer: fs::read(last.join("optimizer.safetensors")).unwrap(),
            position,
            metrics,
            best: fs::read(folder.join("best/weights.safetensors")).unwrap_or_default(),
        }
    }

    /// Fails, and says which part differs, unless two states are equal. (Whole files would fill the screen.)
    pub fn assert_equals(&self, other: &Self, case: &str) {
        assert_eq!(self.metrics, other.metrics, "{case}: metrics");
        assert_eq!(self.position, other.position, "{case}: position");
        assert!(self.weights == other.weights, "{case}: the weights differ");
        assert!(self.optimizer == other.optimizer, "{case}: the optimizer's buffers differ");
        assert!(self.best == other.best, "{case}: the best weights differ");
    }
}
