//! `vitrine eval` and the figures behind it, against counts made in another way.

mod vitrine_program;

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tempfile::tempdir;
use vitrine_data::{
    DataError, Dataset, DatasetName, FetchMethod, Image, Loader, LoaderConfig, Locator,
    Preprocessing, Samples,
};
use vitrine_program::{text, tiny, tiny_recipe, tiny_run, tiny_weights, vitrine};
use vitrine_train::evaluate::evaluate;
use vitrine_train::predict::Classifier;
use vitrine_train::{build, checkpoint};

/// The folder of the real data, or a line that says that a test is left out.
fn real_data(test: &str) -> Option<PathBuf> {
    let locator = Locator { fetch: vec![FetchMethod::Apt], ..Locator::from_env(None) };
    match locator.locate(DatasetName::FashionMnist.spec()) {
        Err(report @ DataError::NotFound { .. }) => {
            // Not with eprintln: the test harness swallows what a passing test prints.
            let _ = writeln!(io::stderr(), "LEFT OUT: {test} on the real data.\n{report}");
            None
        }
        folder => Some(folder.unwrap()),
    }
}

#[test]
fn figures_equal_those_of_single_images() {
    let folder = tempdir().unwrap();
    let more = ["run.seed=3", "run.batch_size=16"];
    let weights = tiny_weights(folder.path(), &more);
    let recipe = tiny_recipe(&more);
    let classifier = Classifier::load(&recipe, &weights, |_| {}).unwrap();
    // 61 images: the last batch is short.
    let dataset = Arc::new(Dataset::synthetic(61, [1, 28, 28], 10, 5).unwrap());
    let (mut loss, mut top1, mut top5) = (0.0, 0, 0);
    let mut confusion = vec![vec![0; 10]; 10];
    for sample in 0..dataset.len() {
        let (mut image, label) = (Image::default(), dataset.label(sample));
        dataset.read(sample, &mut image).unwrap();
        let pixels: Vec<f32> = image.pixels.iter().map(|p| f32::from(*p) / 255.0).collect();
        let guesses = classifier.classify(&pixels).unwrap();
        let place = guesses.iter().position(|guess| guess.label == label as usize).unwrap();
        loss -= guesses[place].probability.ln();
        top1 += u64::from(place == 0);
        top5 += u64::from(place < 5);
        confusion[label as usize][guesses[0].label] += 1;
    }

    let (model, parameters) = build::model(&recipe).unwrap();
    let loader = build::loader(&recipe.training, &model.input(), dataset, false).unwrap();
    let mut seen = Vec::new();
    let found = evaluate(model.as_ref(), &parameters, &loader, |done| {
        seen.push(done);
        ControlFlow::Continue(())
    });
    let found = found.unwrap().unwrap();
    assert_eq!(seen, [1, 2, 3, 4]);
    assert_eq!(found.images, 61);
    assert_eq!(found.confusion, confusion);
    assert_eq!(found.top1, top1 as f64 / 61.0);
    assert_eq!(found.top5, top5 as f64 / 61.0);
    assert!((found.loss - loss / 61.0).abs() < 1e-5, "{} and {}", found.loss, loss / 61.0);
    let counts: Vec<u64> = found.classes.iter().map(|class| class.count).collect();
    assert_eq!(counts, [7, 6, 6, 6, 6, 6, 6, 6, 6, 6]);
}

#[test]
fn a_loss_that_is_not_finite_shows() {
    let recipe = tiny_recipe(&[]);
    let (model, parameters) = build::model(&recipe).unwrap();
    parameters.values().fill_(3e38).unwrap();
    let dataset = Arc::new(Dataset::synthetic(4, [1, 28, 28], 10, 5).unwrap());
    let loader =
        Loader::new(dataset, LoaderConfig::new(4, Preprocessing::new(1, (28, 28)))).unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let found = evaluate(model.as_ref(), &parameters, &loader, go_on).unwrap().unwrap();
    assert!(found.loss.is_nan());
    let broken_off = evaluate(model.as_ref(), &parameters, &loader, |_| ControlFlow::Break(()));
    assert_eq!(broken_off.unwrap(), None);
}

#[test]
fn real_images_give_figures_that_agree_with_each_other() {
    let Some(data) = real_data("`vitrine eval`") else { return };
    let folder = tempdir().unwrap();
    let run = tiny_run(folder.path(), &["data.limit_val=300"]);
    let arguments = ["eval", "--run", text(&run), "--data", text(&data)];
    let report = vitrine(&[&arguments[..], &["--json"]].concat()).json();
    assert_eq!((&report["dataset"], &report["images"]), (&"Fashion-MNIST".into(), &300.into()));
    assert!(report["weights"].as_str().unwrap().ends_with("best"));
    let confusion: Vec<Vec<u64>> = serde_json::from_value(report["confusion"].clone()).unwrap();
    let hits: u64 = (0..10).map(|k| confusion[k][k]).sum();
    assert_eq!(confusion.iter().flatten().sum::<u64>(), 300);
    let number = |key: &str| report[key].as_f64().unwrap();
    assert_eq!(number("top1"), hits as f64 / 300.0);
    assert!(number("top1") <= number("top5") && number("top5") <= 1.0);
    assert!(number("loss") > 0.0);
    let classes = report["classes"].as_array().unwrap();
    for (label, class) in classes.iter().enumerate() {
        let row: u64 = confusion[label].iter().sum();
        assert_eq!(class["count"], row);
        assert_eq!(class["recall"].as_f64(), Some(confusion[label][label] as f64 / row as f64));
        let column: u64 = confusion.iter().map(|row| row[label]).sum();
        assert_eq!(class["precision"] == Value::Null, column == 0);
    }
    assert_eq!(classes[9]["name"], "Ankle boot");

    // The text says the same; another limit and batch size may be set.
    let stdout = vitrine(&arguments).succeeded();
    let top1 = format!("top-1  {:.4}\n", number("top1"));
    for part in ["300 validation images", &top1, "precision", "Ankle boot", "Confusion matrix"] {
        assert!(stdout.contains(part), "{stdout}");
    }
    let few = vitrine(&[&arguments[..], &["--limit-val=7", "--batch-size=2", "--json"]].concat());
    assert_eq!(few.json()["images"], 7);
    // The file alone, with the recipe named, gives what the run gives.
    let weights = run.join("best/weights.safetensors");
    let arguments = ["eval", "--weights", text(&weights), "--data", text(&data), "--json"];
    let mut alone = vitrine(&tiny(&[&arguments[..], &["--limit-val", "300"]].concat())).json();
    assert_eq!(alone["weights"], text(&weights));
    alone["weights"] = report["weights"].clone();
    assert_eq!(alone, report);

    let (_, parameters) = build::model(&tiny_recipe(&[])).unwrap();
    parameters.values().fill_(3e38).unwrap();
    let weights = folder.path().join("huge.safetensors");
    checkpoint::write_weights(&weights, &parameters).unwrap();
    let arguments = ["eval", "--weights", text(&weights), "--data", text(&data)];
    vitrine(&tiny(&[&arguments[..], &["--limit-val", "300"]].concat()))
        .failed(&["loss is not finite"]);
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("missing");
    vitrine(&["eval", "--run", text(&missing)]).failed(&[text(&missing), "holds no run"]);
    vitrine(&["eval", "--weights", text(&missing)]).failed(&[text(&missing)]);

    // The weights are looked at before the data.
    let weights = tiny_weights(folder.path(), &[]);
    let eval =
        |more: &[&str]| vitrine(&tiny(&[&["eval", "--weights", text(&weights)], more].concat()));
    let nowhere = ["--data", text(&missing)];
    vitrine(&[&["eval", "--weights", text(&weights)], &nowhere[..]].concat())
        .failed(&["another model", text(&weights)]);
    eval(&nowhere).failed(&["there is no folder", text(&missing)]);
    fs::create_dir(&missing).unwrap();
    eval(&nowhere).failed(&["t10k-images-idx3-ubyte is missing", text(&missing)]);
    fs::write(missing.join("t10k-images-idx3-ubyte"), [0, 0, 8, 3, 0, 0]).unwrap();
    eval(&nowhere).failed(&["t10k-images-idx3-ubyte"]);

    eval(&["--set", "model.hedas=4"]).failed(&["`model.heads`"]);
    eval(&["--recipe", "dl2"]).failed(&["d2l"]);

    let (_, parameters) = build::model(&tiny_recipe(&[])).unwrap();
    checkpoint::write_weights(&weights, &parameters).unwrap();
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, &bytes).unwrap();
    eval(&[]).failed(&[text(&weights), "not finite"]);
    fs::write(&weights, &bytes[..end - 9]).unwrap();
    eval(&[]).failed(&[text(&weights), "truncated"]);
}

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    vitrine(&["eval"]).refused(&["--run", "--weights"]);
    vitrine(&["eval", "--run", "r", "--weights", "w"]).refused(&["cannot be used with"]);
    vitrine(&["eval", "--run", "r", "--recipe", "d2l"]).refused(&["--recipe"]);
    vitrine(&["eval", "--run", "r", "--jsno"]).refused(&["--jsno"]);
    vitrine(&["evaluate"]).refused(&["eval"]);
}
