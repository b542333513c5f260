//! What the trainer's tests share: a tiny model, made-up images, run folders and what is compared of them. No test.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vitrine_data::{Dataset, Samples};
use vitrine_train::TrainError;
use vitrine_train::build::{Datasets, Parts};
use vitrine_train::checkpoint::Position;
use vitrine_train::metrics::{EpochMetrics, read_metrics};
use vitrine_train::progress::Progress;
use vitrine_train::recipe::{Overrides, Recipe};
use vitrine_train::threads::with_threads;
use vitrine_train::trainer::{Outcome, Trainer, resumed_recipe};

/// A model of some 8,000 parameters on 16 × 16 images, dropout on.
pub const TINY: &[&str] = &[
    "model.image_size=16",
    "model.patch_size=8",
    "model.width=16",
    "model.heads=2",
    "model.mlp_width=32",
    "run.batch_size=16",
    "run.epochs=2",
    "run.log_every=1",
    "run.seed=7",
];

/// A smaller one: 10 × 10 pixels in four patches, one block.
const SMALL: &[&str] = &[
    "model.width=16",
    "model.heads=2",
    "model.depth=1",
    "model.mlp_width=32",
    "model.image_size=10",
    "model.patch_size=5",
    "run.batch_size=8",
    "run.epochs=2",
];

/// What a modern recipe has, all at once.
pub const MODERN: &[&str] = &[
    "optimizer.kind=muon",
    "optimizer.momentum=0.95",
    "optimizer.learning_rate=0.003",
    "optimizer.weight_decay=0.05",
    "optimizer.model_ema_decay=0.9",
    "optimizer.model_ema_warmup=true",
    "schedule.kind=linear",
    "schedule.warmup_steps=2",
    "schedule.warmup_learning_rate=1e-4",
    "model.drop_path=0.2",
    "model.dynamic_img_size=true",
    "augment.crop=rrc",
    "augment.hflip=0.5",
    "augment.mixup=0.8",
    "augment.cutmix=1.0",
    "augment.mixup_mode=pair",
    "objective.label_smoothing=0.1",
    "run.checkpoint_hist=1",
];

/// Other optimizers; SOAP is the last.
pub const OPTIMIZERS: [&[&str]; 2] = [
    &[
        "optimizer.kind=schedule-free-adamw",
        "optimizer.learning_rate=0.003",
        "schedule.warmup_steps=3",
    ],
    &["optimizer.kind=soap", "optimizer.learning_rate=0.003", "optimizer.precondition_frequency=2"],
];

/// How many of [`OPTIMIZERS`] this program has.
pub const KNOWN: usize = if cfg!(feature = "linalg") { 2 } else { 1 };

/// The batches of an epoch of [`data`] with [`TINY`]: three of 16 images and a last one of 8.
pub const BATCHES: usize = 4;

/// The tiny recipe with some keys set.
pub fn tiny(sets: &[&str]) -> Recipe {
    Recipe::load("d2l", &overrides(&[TINY, sets].concat())).unwrap()
}

/// The recipe of the smaller model with some keys set.
pub fn small(sets: &[&str]) -> Recipe {
    Recipe::load("d2l", &overrides(&[SMALL, sets].concat())).unwrap()
}

pub fn overrides(sets: &[&str]) -> Overrides {
    let mut overrides = Overrides::new();
    for assignment in sets {
        overrides.set(assignment).unwrap();
    }
    overrides
}

/// 56 images to train on and 20 to validate on.
pub fn data() -> Datasets {
    images(56, 20, 16)
}

/// So many square images, whose classes can be learnt.
pub fn images(train: usize, val: usize, size: usize) -> Datasets {
    let make = |count, seed| {
        Arc::new(Dataset::synthetic(count, [1, size, size], 10, seed).unwrap()) as Arc<dyn Samples>
    };
    Datasets::new(make(train, 1), make(val, 2))
}

/// Images for the smaller model.
pub fn small_images(train: usize, val: usize) -> Datasets {
    images(train, val, 10)
}

/// Starts a run and trains to its end.
pub fn train(recipe: Recipe, folder: &Path, data: &Datasets) -> EpochMetrics {
    finish(create(recipe, folder, data).unwrap()).unwrap()
}

/// Resumes a run with some keys set, and trains to its end.
pub fn resume(folder: &Path, data: &Datasets, sets: &[&str]) -> EpochMetrics {
    finish(open(folder, data, sets).unwrap()).unwrap()
}

/// Opens a run to go on with it, as `vitrine train --resume` does.
pub fn open(folder: &Path, data: &Datasets, sets: &[&str]) -> Result<Trainer, TrainError> {
    resume_recipe(resumed_recipe(folder, &overrides(sets))?, folder, data)
}

/// Starts a recipe's run.
pub fn create(recipe: Recipe, folder: &Path, data: &Datasets) -> Result<Trainer, TrainError> {
    Trainer::create(Parts::of(&recipe, data.clone())?, &recipe.training, folder)
}

/// Goes on with the run in a folder as a recipe says.
pub fn resume_recipe(
    recipe: Recipe,
    folder: &Path,
    data: &Datasets,
) -> Result<Trainer, TrainError> {
    Trainer::resume(Parts::of(&recipe, data.clone())?, &recipe.training, folder)
}

/// Trains to the end.
pub fn finish(mut trainer: Trainer) -> Result<EpochMetrics, TrainError> {
    match trainer.run(&mut (), &AtomicBool::new(false))? {
        Outcome::Finished(last) => Ok(last),
        Outcome::Interrupted => panic!("nobody asked it to stop"),
    }
}

/// Trains for one step.
pub fn one_step(trainer: &mut Trainer) -> Outcome {
    trainer.run(&mut (), &AtomicBool::new(true)).unwrap()
}

/// A whole run, in one go, in a pool of so many threads.
pub fn whole_run(recipe: &Recipe, folder: &Path, data: &Datasets, threads: usize) -> Traces {
    with_threads(threads, || train(recipe.clone(), folder, data)).unwrap();
    traces(folder)
}

/// Trains until so many batches were seen, then stops as on Ctrl-C.
pub fn run_batches(trainer: &mut Trainer, batches: usize) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let mut progress = after_each_batch(move |seen| {
        if seen == batches {
            flag.store(true, Ordering::Relaxed);
        }
    });
    trainer.run(&mut progress, &stop).unwrap()
}

/// A progress that tells how many batches were seen. The last batch of an epoch counts after its checkpoint.
pub fn after_each_batch(told: impl FnMut(usize) + Send + 'static) -> Progress {
    struct Lines<F>(usize, F);

    impl<F: FnMut(usize)> Write for Lines<F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            for _ in bytes.iter().filter(|byte| **byte == b'\n') {
                self.0 += 1;
                (self.1)(self.0);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // At this interval each batch gives one line, the last of an epoch the epoch's line.
    Progress::plain(Box::new(Lines(0, told)), Duration::ZERO)
}

/// The bits of all weights.
pub fn bits(trainer: &Trainer) -> Vec<u32> {
    let values: Vec<f32> = trainer.parameters().values().to_vec().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// All that two equal runs have in common: everything but times.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    pub weights: Vec<u8>,
    pub best: Vec<u8>,
    /// The descriptions beside the best weights and those that are kept, and these weights.
    pub kept: Vec<Vec<u8>>,
    pub optimizer: Vec<u8>,
    pub position: Position,
    pub metrics: Vec<EpochMetrics>,
}

/// What a run left in its folder.
pub fn traces(folder: &Path) -> Traces {
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let mut position = position(folder);
    position.sums.seconds = 0.0;
    let mut metrics = read_metrics(&folder.join("metrics.jsonl")).unwrap();
    for epoch in &mut metrics {
        (epoch.seconds, epoch.images_per_second) = (0.0, 0.0);
    }
    let kept = ["best", "checkpoints/1", "checkpoints/2"].into_iter().flat_map(|place| {
        ["config.json", "weights.safetensors"]
            .map(|name| fs::read(folder.join(place).join(name)).unwrap_or_default())
    });
    Traces {
        kept: kept.collect(),
        weights: read("last/weights.safetensors"),
        best: fs::read(folder.join("best/weights.safetensors")).unwrap_or_default(),
        optimizer: read("last/optimizer.safetensors"),
        position,
        metrics,
    }
}

/// Where the last checkpoint of a run is.
pub fn position(folder: &Path) -> Position {
    serde_json::from_slice(&fs::read(folder.join("last/trainer.json")).unwrap()).unwrap()
}

/// Asserts that two runs left the same, naming what differs instead of printing thousands of bytes.
#[track_caller]
pub fn assert_same(found: &Traces, expected: &Traces, case: &str) {
    assert_eq!(found.metrics, expected.metrics, "{case}: metrics");
    assert_eq!(found.position, expected.position, "{case}: position");
    assert!(found.weights == expected.weights, "{case}: the weights differ");
    assert!(found.optimizer == expected.optimizer, "{case}: the optimizer's buffers differ");
    assert!(found.kept == expected.kept, "{case}: what is kept of other epochs differs");
    assert!(found.best == expected.best, "{case}: the best weights differ");
}

/// Copies a folder and all in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Says on the test's output that something was not tested on this machine, and why.
pub fn left_out(test: &str, reason: &str) {
    // Past the harness's capture, so that it is seen when the test passes.
    let _ = writeln!(io::stderr(), "LEFT OUT: {test}: {reason}");
}
