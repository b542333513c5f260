//! Training on a CUDA device gives what the CPU gives: losses, weights, runs that go from one to the other.

mod support;

use support::*;
use vitrine_train::bench::{Bench, Work};

/// A ViT of width 32 with two blocks on 16 × 16 images, dropout on, in patches of 8.
const SMALL: &[&str] = &["model.width=32", "model.heads=4", "model.mlp_width=64"];
const ON_CUDA: &str = "run.device=cuda:0";

/// Losses of so many steps on one batch, and the weights after them.
fn steps(count: usize, sets: &[&str]) -> (Vec<f64>, Vec<f64>) {
    let mut bench = Bench::of(&tiny(&[SMALL, sets].concat()), Work::TrainStep).unwrap();
    let losses = (0..count).map(|_| bench.step().unwrap()).collect();
    (losses, bench.parameters().values().to_f64_vec().unwrap())
}

/// The largest difference, in parts of the largest value.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|value| value.is_finite()));
    let largest = a.iter().fold(0.0, |top: f64, value| top.max(value.abs()));
    a.iter().zip(b).fold(0.0, |top: f64, (a, b)| top.max((a - b).abs())) / largest
}

#[test]
fn the_losses_of_twenty_steps_are_the_cpus() {
    // Masks of dropout and first weights are the same; what differs is the order of sums, which the steps amplify. Adam
    // divides by the root of a moment, so its steps do so more.
    let adamw = ["optimizer.kind=adamw", "optimizer.learning_rate=0.003"];
    let all = ["optimizer.momentum=0.9", "optimizer.clip_norm=0.5", "loss.label_smoothing=0.1"];
    let muon = [
        "optimizer.kind=muon",
        "optimizer.momentum=0.95",
        "optimizer.learning_rate=0.003",
        "optimizer.model_ema_decay=0.9",
    ];
    let settings: [(&[&str], f64); 7] = [
        (&[], 2e-5),
        (&all, 2e-5),
        (&adamw, 1e-4),
        (&muon, 1e-4),
        (OPTIMIZERS[0], 1e-4),
        (&["model.last_block_saving=false", "model.qkv_bias=true", "model.pool=mean"], 2e-5),
        (&["run.precision=bf16"], 2e-2),
    ];
    for (sets, tolerance) in settings {
        let (cpu, cpu_weights) = steps(20, sets);
        let (cuda, cuda_weights) = steps(20, &[sets, &[ON_CUDA]].concat());
        let (losses, weights) = (distance(&cpu, &cuda), distance(&cpu_weights, &cuda_weights));
        println!("{sets:?}: losses differ by {losses:.1e}, weights by {weights:.1e}");
        assert!(losses < tolerance && weights < 10.0 * tolerance, "{sets:?}: {losses} {weights}");
        // Nor are they equal because nothing happens.
        assert!(cpu[19] < 0.9 * cpu[0], "{sets:?}: {cpu:?}");
    }
}

#[test]
fn a_blocks_activations_may_be_computed_again() {
    let (kept, weights) = steps(3, &[ON_CUDA]);
    let (again, weights_again) = steps(3, &[ON_CUDA, "model.recompute=true"]);
    assert_eq!(kept, again);
    assert_eq!(weights, weights_again);
}

#[test]
fn a_run_goes_on_on_another_device() {
    let data = data();
    let whole = tempfile::tempdir().unwrap();
    train(tiny(&["optimizer.momentum=0.9"]), whole.path(), &data);
    let expected = traces(whole.path());
    for (first, second) in [("cpu", "cuda:0"), ("cuda:0", "cpu"), ("cuda:0", "cuda:0")] {
        let folder = tempfile::tempdir().unwrap();
        let first = format!("run.device={first}");
        let recipe = tiny(&["optimizer.momentum=0.9", "run.epochs=1", &first]);
        train(recipe, folder.path(), &data);
        resume(folder.path(), &data, &["run.epochs=2", &format!("run.device={second}")]);
        let found = traces(folder.path());
        for (found, expected) in found.metrics.iter().zip(&expected.metrics) {
            let losses = [found.train_loss, found.val_loss];
            let expected_losses = [expected.train_loss, expected.val_loss];
            assert!(distance(&losses, &expected_losses) < 2e-5, "{first}, then {second}");
            assert_eq!(found.step, expected.step);
        }
    }
}

#[test]
fn equal_runs_give_equal_bits() {
    let data = data();
    let [first, second] = [(); 2].map(|()| {
        let folder = tempfile::tempdir().unwrap();
        let grows = ["model.dynamic_img_size=true", "augment.image_sizes=[8,16]"];
        train(tiny(&[&[ON_CUDA][..], &grows].concat()), folder.path(), &data);
        traces(folder.path())
    });
    assert_same(&first, &second, "twice on cuda:0");
}
