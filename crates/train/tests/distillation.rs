//! A teacher: the loss that its answers give, beside the formula; which teachers are refused; and a run with one.

mod support;

use std::path::Path;

use support::{create, small, small_images, train};
use vitrine_autodiff::Tape;
use vitrine_nn::{Output, Pass};
use vitrine_tensor::{Device, Tensor};
use vitrine_train::TrainError;
use vitrine_train::build;
use vitrine_train::objective::DeviceBatch;
use vitrine_train::recipe::Recipe;
use vitrine_train::trainer::{BEST, MODEL};

/// A teacher that takes other pixels than its student.
fn teacher(folder: &Path) -> Recipe {
    let recipe = small(&["model.mean=0.4", "model.std=0.5", "run.epochs=1"]);
    train(recipe.clone(), folder, &small_images(24, 10));
    recipe
}

fn student(folder: &Path, keys: &[&str]) -> Recipe {
    let named = format!("objective.teacher={}", folder.display());
    small(&[&["model.distilled=true", named.as_str()], keys].concat())
}

fn values(count: usize, factor: f64) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f64 / 101.0 * factor) as f32).collect()
}

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|v| v.exp()).sum();
    row.iter().map(|v| v - sum.ln()).collect()
}

#[test]
fn losses_are_those_of_the_formulas() {
    let folder = tempfile::tempdir().unwrap();
    let of_teacher = teacher(folder.path());
    let cpu = Device::cpu();
    let (pixels, labels) = (values(3 * 100, 1.0), [1i64, 0, 7]);
    let seen: Vec<f32> = pixels.iter().map(|v| (v - 0.4) / 0.5).collect();
    let (model, parameters) =
        build::model_with_weights(&of_teacher, &folder.path().join(BEST), |_| {}).unwrap();
    let pass = Pass::inference(&parameters);
    let seen = pass.constant(Tensor::from_slice(&seen, &[3, 1, 10, 10], &cpu).unwrap());
    let taught = model.forward(&pass, &seen).unwrap().logits.value().to_f64_vec().unwrap();
    let (first, second) = (values(30, 3.0), values(30, 5.0));
    let log = |logits: &[f32], tau: f64| -> Vec<Vec<f64>> {
        let scaled: Vec<f64> = logits.iter().map(|&v| f64::from(v) / tau).collect();
        scaled.chunks(10).map(log_softmax).collect()
    };
    let labelled: f64 =
        log(&first, 1.0).iter().zip(labels).map(|(r, l)| -r[l as usize] / 3.0).sum();
    let tau = 2.5;
    let soft: f64 = taught
        .chunks(10)
        .zip(log(&second, tau))
        .map(|(teacher, student)| {
            let teacher = log_softmax(&teacher.iter().map(|v| v / tau).collect::<Vec<_>>());
            teacher.iter().zip(student).map(|(t, s)| t.exp() * (t - s)).sum::<f64>() * tau * tau
                / 3.0
        })
        .sum();
    let hard: f64 = taught
        .chunks(10)
        .zip(log(&second, 1.0))
        .map(|(teacher, student)| {
            let top = (0..10).max_by(|&a, &b| teacher[a].total_cmp(&teacher[b])).unwrap();
            -student[top] / 3.0
        })
        .sum();
    for source in [folder.path().to_owned(), folder.path().join(MODEL)] {
        for (kind, expected) in [("soft", soft), ("hard", hard)] {
            let kind = format!("objective.distillation_type={kind}");
            let keys =
                [&kind, "objective.distillation_tau=2.5", "objective.distillation_alpha=0.3"];
            let recipe = student(&source, &keys);
            let objective =
                recipe.objective.build(&recipe.training, &recipe.model.input()).unwrap();
            let tape = Tape::new();
            let logits =
                |values: &[f32]| tape.variable(Tensor::from_slice(values, &[3, 10], &cpu).unwrap());
            let output = Output { logits: logits(&first), distilled: Some(logits(&second)) };
            let batch = DeviceBatch {
                images: Tensor::from_slice(&pixels, &[3, 1, 10, 10], &cpu).unwrap(),
                labels: Tensor::from_slice(&labels, &[3], &cpu).unwrap(),
                shares: None,
            };
            let loss = objective.loss(&output, &batch).unwrap().value().to_scalar().unwrap();
            let expected = 0.7 * labelled + 0.3 * expected;
            assert!(
                (loss - expected).abs() < 2e-6 * expected.abs(),
                "{kind}: {loss}, not {expected}"
            );
        }
    }
}

#[test]
fn teachers_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    teacher(folder.path());
    let soft = "objective.distillation_type=soft";
    let refused = |recipe: Recipe, words: &str| {
        let run = tempfile::tempdir().unwrap();
        match create(recipe, run.path(), &small_images(8, 8)) {
            Err(TrainError::Setting(error)) => {
                assert!(error.to_string().contains(words), "{error}");
            }
            other => panic!("{:?}", other.err()),
        }
    };
    refused(small(&[soft]), "objective.teacher");
    refused(student(folder.path(), &[soft, "model.image_size=20"]), "20x20 pixels");
    let nowhere = student(Path::new("/nowhere"), &[soft]);
    assert!(create(nowhere, folder.path(), &small_images(8, 8)).is_err());
}

#[test]
fn a_student_is_trained() {
    let [of_teacher, run] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    teacher(of_teacher.path());
    let recipe = student(of_teacher.path(), &["objective.distillation_type=hard"]);
    assert!(train(recipe, run.path(), &small_images(24, 10)).train_loss.is_finite());
}
