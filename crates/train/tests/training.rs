//! Training does what it is for: a tiny model learns, and accumulated batches equal a large one.

mod support;

use support::{finish, open, small, small_images};
use vitrine_train::trainer::Trainer;

#[test]
fn the_tiny_model_learns_the_stripes() {
    let folder = tempfile::tempdir().unwrap();
    let keys = [
        "optimizer.kind=adamw",
        "optimizer.learning_rate=0.005",
        "optimizer.weight_decay=0.01",
        "schedule.kind=cosine",
        "schedule.warmup_steps=10",
        "run.epochs=6",
        "run.batch_size=16",
    ];
    let data = small_images(800, 200);
    let last = finish(support::create(small(&keys), folder.path(), &data).unwrap()).unwrap();
    assert!(last.val_accuracy > 0.95, "{last:?}");
    assert!(last.train_loss < 0.5 && last.val_loss < 0.3, "{last:?}");
    assert_eq!((last.epoch, last.step), (6, 300));

    // What it has learned is in the checkpoint: one more epoch goes on from there.
    let trainer = open(folder.path(), &data, &["run.epochs=7"]).unwrap();
    let again = finish(trainer).unwrap();
    assert!(again.val_accuracy > 0.9, "{again:?}");
}

#[test]
fn a_run_ends_early_where_epochs_bring_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Weights that hardly move: no epoch is better than the first.
    let keys = ["optimizer.learning_rate=1e-30", "run.epochs=9", "run.patience=2"];
    let data = small_images(32, 20);
    let last = finish(support::create(small(&keys), folder.path(), &data).unwrap()).unwrap();
    assert_eq!(last.epoch, 3);
    // It is done, unless more is asked for.
    let again = |sets: &[&str]| finish(open(folder.path(), &data, sets).unwrap()).unwrap().epoch;
    let refused = open(folder.path(), &data, &[]).err().unwrap().to_string();
    assert!(refused.contains("3 epochs") && refused.contains("run.patience=0"), "{refused}");
    assert_eq!(again(&["run.patience=3"]), 4);
    assert_eq!(again(&["run.patience=0"]), 9);
}

/// The weights after training without dropout.
fn weights(keys: &[&str], images_used: usize) -> (Vec<f32>, f64) {
    let folder = tempfile::tempdir().unwrap();
    let no_dropout =
        ["model.dropout=0.0", "model.attention_dropout=0.0", "model.embedding_dropout=0.0"];
    let recipe = small(&[&no_dropout, keys].concat());
    let mut trainer: Trainer =
        support::create(recipe.clone(), folder.path(), &small_images(images_used, 20)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    trainer.run(&mut (), &stop).unwrap();
    let last = vitrine_train::metrics::read_metrics(&folder.path().join("metrics.jsonl")).unwrap();
    (trainer.parameters().values().to_vec().unwrap(), last[1].train_loss)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn two_batches_of_8_accumulated_equal_one_of_16() {
    let momentum = ["optimizer.momentum=0.9", "optimizer.clip_norm=1.0"];
    let eight = |n| format!("optimizer.accumulation={n}");
    let large = weights(&[&momentum[..], &["run.batch_size=16"]].concat(), 64);
    let small = weights(&[&momentum[..], &["run.batch_size=8", &eight(2)]].concat(), 64);
    let difference = largest_difference(&large.0, &small.0);
    // Values are around 1; 8 steps of rounding in sums of some hundred terms.
    assert!(difference < 2e-5, "{difference}");
    assert!((large.1 - small.1).abs() < 1e-5, "{} {}", large.1, small.1);
    // The comparison can fail.
    let other = weights(&[&momentum[..], &["run.batch_size=8", &eight(1)]].concat(), 64);
    assert!(largest_difference(&large.0, &other.0) > 1e-2);
}

#[test]
fn the_rest_of_an_epoch_is_a_smaller_group_of_its_own() {
    // Three batches of 8 in groups of two: the last group is a single batch, whose gradient is its mean and not half.
    // A group of 16 and one of 8 is what batches of 16 give.
    let small = weights(&["run.batch_size=8", "optimizer.accumulation=2"], 24);
    let large = weights(&["run.batch_size=16"], 24);
    let difference = largest_difference(&large.0, &small.0);
    assert!(difference < 2e-5, "{difference}");
}

#[test]
fn a_short_batch_counts_by_its_images() {
    // 28 images in one step: whole, or as batches of 8, 8, 8 and 4, of which the last has a share of 4/28.
    let small = weights(&["run.batch_size=8", "optimizer.accumulation=4"], 28);
    let large = weights(&["run.batch_size=32"], 28);
    let difference = largest_difference(&large.0, &small.0);
    assert!(difference < 2e-5, "{difference}");
    assert!((large.1 - small.1).abs() < 1e-5, "{} {}", large.1, small.1);
}
