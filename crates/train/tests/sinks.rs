//! What a trainer tells, and what it takes from a program of one's own: figures of each step, the sum over ranks, soft
//! targets, settings made in code.

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::{create, data, finish, one_step, open, tiny, traces, train};
use vitrine_comm::Collective;
use vitrine_data::{DataError, Dataset, Image, Labels, Samples};
use vitrine_tensor::{Result as TensorResult, Tensor};
use vitrine_train::TrainError;
use vitrine_train::build::{Datasets, Parts};
use vitrine_train::recipe::Recipe;
use vitrine_train::sink::{Event, LEARNING_RATE, Sink, TRAIN_LOSS};
use vitrine_train::trainer::Trainer;

/// Keeps the figures of each step and what else it was told.
#[derive(Default)]
struct Kept {
    steps: Vec<(u64, f64, f64)>,
    epochs: Vec<u64>,
    batches: u64,
    checkpoints: usize,
}

impl Sink for Kept {
    fn take(&mut self, event: Event<'_>) -> vitrine_train::Result<()> {
        match event {
            Event::Step { step, figures } => {
                let [(TRAIN_LOSS, loss), (LEARNING_RATE, rate)] = *figures else {
                    panic!("{figures:?}")
                };
                self.steps.push((step, loss, rate));
            }
            Event::EpochEnds(metrics) => self.epochs.push(metrics.epoch),
            Event::Batch { .. } => self.batches += 1,
            Event::Checkpoint => self.checkpoints += 1,
            Event::EpochBegins { .. }
            | Event::Examples { .. }
            | Event::Judged(_)
            | Event::Message(_) => {}
        }
        Ok(())
    }
}

/// The lines of `steps.jsonl`.
fn lines(folder: &std::path::Path) -> Vec<(u64, f64, f64)> {
    let text = fs::read_to_string(folder.join("steps.jsonl")).unwrap();
    let read = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| line[name].as_f64().unwrap();
        (line["step"].as_u64().unwrap(), number("train/loss"), number("train/learning_rate"))
    };
    text.lines().map(read).collect()
}

#[test]
fn every_step_is_told_once_and_written() {
    let sets = ["schedule.kind=cosine", "optimizer.accumulation=3", "run.log_every=2"];
    let folder = tempfile::tempdir().unwrap();
    let mut kept = Kept::default();
    let mut trainer = create(tiny(&sets), folder.path(), &data()).unwrap();
    // A trainer can be sent to a thread.
    let kept = std::thread::spawn(move || {
        trainer.run(&mut kept, &AtomicBool::new(false)).unwrap();
        kept
    })
    .join()
    .unwrap();
    // Two epochs of 16, 16, 16 and 8 images: a step of three batches and one of the last.
    assert_eq!(kept.steps.iter().map(|step| step.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((kept.epochs, kept.batches, kept.checkpoints), (vec![1, 2], 8, 2));
    assert_eq!(lines(folder.path()), kept.steps);
    // Weighted by images, the steps of an epoch give the epoch's loss.
    let metrics = &traces(folder.path()).metrics;
    for (epoch, steps) in metrics.iter().zip(kept.steps.chunks(2)) {
        let mean = (steps[0].1 * 48.0 + steps[1].1 * 8.0) / 56.0;
        assert!((epoch.train_loss - mean).abs() < 1e-9, "{mean} {epoch:?}");
        assert_eq!(epoch.learning_rate, steps[1].2);
    }
}

#[test]
fn a_resumed_run_has_no_step_twice() {
    let folder = tempfile::tempdir().unwrap();
    let whole = tempfile::tempdir().unwrap();
    train(tiny(&[]), whole.path(), &data());
    let mut trainer = create(tiny(&[]), folder.path(), &data()).unwrap();
    one_step(&mut trainer);
    drop(trainer);
    assert_eq!(lines(folder.path()).len(), 1);
    // What a killed process wrote past its checkpoint.
    let path = folder.path().join("steps.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.clone() + &text.replace("\"step\":1", "\"step\":2") + "{\"step\":3,")
        .unwrap();
    finish(open(folder.path(), &data(), &[]).unwrap()).unwrap();
    assert_eq!(lines(folder.path()), lines(whole.path()));
    assert_eq!(lines(whole.path()).len(), 8);
}

/// Stands for another rank with the same gradient, and counts.
struct Twice(Arc<AtomicUsize>);

impl Collective for Twice {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        2
    }
    fn sum(&self, buffer: &Tensor) -> TensorResult<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        buffer.add_scaled_(&buffer.copy()?, 1.0)
    }
}

#[test]
fn gradients_are_summed_over_ranks_where_they_are_complete() {
    let weights = |sets: &[&str], ranks: bool| {
        let folder = tempfile::tempdir().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let mut trainer = create(tiny(sets), folder.path(), &data()).unwrap();
        if ranks {
            trainer = trainer.with_collective(Box::new(Twice(calls.clone())));
        }
        trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
        (support::bits(&trainer), calls.load(Ordering::Relaxed))
    };
    // Twice the gradient is twice the rate, to the bit: once a step, whatever is accumulated.
    let accumulation = "optimizer.accumulation=2";
    let (two_ranks, calls) = weights(&[accumulation], true);
    assert_eq!(calls, 4);
    assert_eq!(two_ranks, weights(&[accumulation, "optimizer.learning_rate=0.2"], false).0);
}

/// A data set whose targets are shares: all of it at the label.
struct Soft(Arc<dyn Samples>);

impl Samples for Soft {
    fn labels(&self) -> &Labels {
        self.0.labels()
    }
    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
        self.0.read(index, image)
    }
    fn shares(&self, index: usize, shares: &mut [f32]) -> bool {
        shares[self.label(index) as usize] = 1.0;
        true
    }
}

#[test]
fn shares_of_one_class_train_as_its_label_does() {
    for smoothing in ["objective.label_smoothing=0", "objective.label_smoothing=0.1"] {
        let [hard, soft] = [false, true].map(|soft| {
            let folder = tempfile::tempdir().unwrap();
            let mut data = data();
            if soft {
                data.train = Arc::new(Soft(data.train));
            }
            let mut trainer = create(tiny(&[smoothing]), folder.path(), &data).unwrap();
            trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
            trainer.parameters().values().to_vec::<f32>().unwrap()
        });
        let far = hard.iter().zip(&soft).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-5, "{smoothing}: {far}");
    }
}

#[test]
fn what_is_set_in_code_is_checked_as_a_recipe_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let start = |recipe: &Recipe, data: Datasets| {
        let parts = Parts::of(recipe, data)?;
        Trainer::create(parts, &recipe.training, &path).map(|_| ())
    };
    let good = tiny(&[]);
    let three = Recipe { model: good.model.clone().with_classes(3), ..good.clone() };
    let mut rate = good.clone();
    rate.training.optimizer.learning_rate = f64::NAN;
    let error = start(&rate, data()).unwrap_err().to_string();
    assert!(error.contains("`optimizer.learning_rate = nan`"), "{error}");
    assert!(!path.join("config.toml").exists());
    // Data of as many classes do not help while the recipe names other data: nobody could read the run again.
    let set = |seed| Arc::new(Dataset::synthetic(20, [1, 16, 16], 3, seed).unwrap());
    let own = || Datasets::new(set(1), set(2));
    let error = start(&three, own()).unwrap_err().to_string();
    assert!(error.contains("`data.dataset = \"fashion-mnist\"` has 10 classes"), "{error}");
    assert!(!path.join("last").exists());
    let mut nameless = three;
    nameless.training.data.dataset = None;
    let error = start(&nameless, data()).unwrap_err();
    assert!(matches!(error, TrainError::Classes { found: 10, expected: 3, .. }), "{error}");
    start(&nameless, own()).unwrap();
    let mut read = Recipe::load_file(&path.join("config.toml"), &support::overrides(&[])).unwrap();
    assert_eq!(read, nameless);
    let names = fs::read_to_string(path.join("last/config.json")).unwrap();
    assert!(names.contains("stripe 2") && names.contains("\"num_classes\": 3"), "{names}");
    // What needs data then asks which.
    let error = Datasets::load(&mut read.training, |_| ()).err().unwrap().to_string();
    assert!(error.contains("`data.dataset` (which images"), "{error}");
}
