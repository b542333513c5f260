//! `vitrine predict`: its figures against a reference, and what it says to input that is wrong.

mod vitrine_program;

use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use tempfile::tempdir;
use vitrine_nn::Pass;
use vitrine_program::{
    Ended, picture, text, tiny, tiny_recipe, tiny_run, tiny_weights, vitrine, vitrine_with,
};
use vitrine_tensor::Tensor;
use vitrine_train::{build, checkpoint, weights};

/// Weights whose head is 0 but for its bias: every picture gets these logits.
fn weights_with_logits(folder: &Path, logits: &[f32; 10]) -> std::path::PathBuf {
    let path = folder.join("known.safetensors");
    let (_, parameters) = build::model(&tiny_recipe(&[])).unwrap();
    let value = |name| parameters.value(parameters.find(name).unwrap()).unwrap();
    value("head.weight").fill_(0.0).unwrap();
    value("head.bias").copy_from_slice_(logits).unwrap();
    checkpoint::write_weights(&path, &parameters).unwrap();
    path
}

fn objects(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(object: &Value, key: &str) -> Vec<f64> {
    let classes = object["classes"].as_array().unwrap().iter();
    classes.map(|class| class[key].as_f64().unwrap()).collect()
}

#[test]
fn probabilities_are_the_softmax_of_known_logits() {
    let folder = tempdir().unwrap();
    // e^logit is 1, 2, 3, 4 and six times 0.25: 11.5 in all.
    let exponentials = [0.25f32, 1.0, 0.25, 4.0, 0.25, 0.25, 2.0, 0.25, 0.25, 3.0];
    let weights = weights_with_logits(folder.path(), &exponentials.map(f32::ln));
    let image = picture(folder.path(), "a.png", |x, y| (x * y) as u8);
    let arguments = tiny(&["predict", "--weights", text(&weights), text(&image), "--json"]);

    let stdout = vitrine(&[&arguments[..], &["--top", "4"]].concat()).succeeded();
    let [object] = &objects(&stdout)[..] else { panic!("{stdout}") };
    assert_eq!(object["file"], text(&image));
    assert_eq!(numbers(object, "label"), [3.0, 9.0, 6.0, 1.0]);
    let names: Vec<_> = (0..4).map(|k| object["classes"][k]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Dress", "Ankle boot", "Shirt", "Trouser"]);
    for (found, expected) in numbers(object, "probability").iter().zip([4.0, 3.0, 2.0, 1.0]) {
        assert!((found - expected / 11.5).abs() < 1e-6, "{found}");
    }

    // More classes than there are: all of them; equal ones by their labels.
    let stdout = vitrine(&[&arguments[..], &["--top", "99"]].concat()).succeeded();
    let object = &objects(&stdout)[0];
    assert_eq!(numbers(object, "label"), [3.0, 9.0, 6.0, 1.0, 0.0, 2.0, 4.0, 5.0, 7.0, 8.0]);
    let sum: f64 = numbers(object, "probability").iter().sum();
    assert!((sum - 1.0).abs() < 1e-12, "{sum}");
}

#[test]
fn text_has_a_block_for_each_image_in_the_order_given() {
    let folder = tempdir().unwrap();
    let logits = [0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 30.0];
    let weights = weights_with_logits(folder.path(), &logits);
    let b = picture(folder.path(), "b.png", |_, _| 7);
    let a = picture(folder.path(), "a.png", |_, _| 9);
    let arguments = ["predict", "--weights", text(&weights), text(&b), text(&a), "--top", "1"];
    let stdout = vitrine(&tiny(&arguments)).succeeded();
    let expected =
        format!("{}\n  1.0000  Ankle boot\n{}\n  1.0000  Ankle boot\n", text(&b), text(&a));
    assert_eq!(stdout, expected);
}

#[test]
fn logits_are_the_models_on_the_pixels_of_the_file() {
    let folder = tempdir().unwrap();
    let weights = tiny_weights(folder.path(), &["run.seed=7"]);
    let pixel = |x: u32, y: u32| (x * 9 + y * y) as u8;
    let image = picture(folder.path(), "a.png", pixel);
    let from_file = ["predict", "--weights", text(&weights), text(&image), "--json", "--top=10"];
    let ended = vitrine(&tiny(&from_file));
    let found = objects(&ended.succeeded()).remove(0);

    // 28x28 needs no resize, so the input is known without the loader.
    let recipe = tiny_recipe(&["run.seed=7"]);
    let (model, parameters) = build::model(&recipe).unwrap();
    let pixels: Vec<f32> = (0..28 * 28).map(|i| f32::from(pixel(i % 28, i / 28)) / 255.0).collect();
    let device = build::device(recipe.training.run.device).unwrap();
    let images = Tensor::from_slice(&pixels, &[1, 1, 28, 28], &device).unwrap();
    let pass = Pass::inference(&parameters);
    let logits = model.forward(&pass, &pass.constant(images)).unwrap();
    let logits = logits.logits.value().to_f64_vec().unwrap();
    let labels = numbers(&found, "label");
    for (label, logit) in labels.iter().zip(numbers(&found, "logit")) {
        assert_eq!(logit, logits[*label as usize]);
    }

    // The same bytes on the standard input give the same, under the name -.
    let from_stdin = ["predict", "--weights", text(&weights), "-", "--json", "--top=10"];
    let ended = vitrine_with(&tiny(&from_stdin), &fs::read(&image).unwrap());
    let piped = objects(&ended.succeeded()).remove(0);
    assert_eq!((&piped["file"], &piped["classes"]), (&"-".into(), &found["classes"]));
}

#[test]
fn a_trained_run_knows_its_classes() {
    let folder = tempdir().unwrap();
    // One patch for the whole picture: stripes are then a linear matter.
    let more = [
        "model.patch_size=28",
        "model.depth=1",
        "run.epochs=30",
        "run.batch_size=10",
        "optimizer.kind=adamw",
        "optimizer.learning_rate=0.01",
        "model.dropout=0",
        "model.attention_dropout=0",
        "model.embedding_dropout=0",
    ];
    let run = tiny_run(folder.path(), &more);
    let mut hits = 0;
    for class in 0..10 {
        let stripe = |_, y: u32| if y * 10 / 28 == class { 190 } else { 30 };
        let image = picture(folder.path(), &format!("{class}.png"), stripe);
        let ended = vitrine(&["predict", "--run", text(&run), text(&image), "--json"]);
        let object = objects(&ended.succeeded()).remove(0);
        hits += u32::from(object["classes"][0]["label"] == class);
    }
    assert!(hits >= 9, "{hits} of 10");
}

#[test]
fn an_unreadable_image_is_named_and_the_others_are_classified() {
    let folder = tempdir().unwrap();
    let weights = tiny_weights(folder.path(), &[]);
    let good = picture(folder.path(), "good.png", |_, _| 1);
    let last = picture(folder.path(), "last.png", |_, _| 2);
    let broken = folder.path().join("broken.png");
    let whole = fs::read(&good).unwrap();
    fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let missing = folder.path().join("missing.png");
    let no_picture = folder.path().join("notes.txt");
    fs::write(&no_picture, "not a picture").unwrap();

    let files = [&good, &broken, &missing, &no_picture, &last].map(|path| text(path));
    let arguments = [&["predict", "--json", "--weights", text(&weights)], &files[..]].concat();
    let ended = vitrine(&tiny(&arguments));
    assert_eq!(ended.code, Some(1));
    let classified: Vec<_> = objects(&ended.stdout).iter().map(|o| o["file"].clone()).collect();
    assert_eq!(classified, [text(&good), text(&last)]);
    let errors: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    for (error, file) in errors.iter().zip([&broken, &missing, &no_picture]) {
        assert!(error.starts_with("error: ") && error.contains(text(file)), "{error}");
        // The system's reason is said once.
        assert!(error.matches("os error").count() <= 1, "{error}");
    }

    // A folder, an empty file, and an empty standard input.
    let predict = |file: &str| vitrine(&tiny(&["predict", "--weights", text(&weights), file]));
    predict(text(folder.path())).failed(&[text(folder.path())]);
    fs::write(&no_picture, "").unwrap();
    predict(text(&no_picture)).failed(&[text(&no_picture), "cannot decode"]);
    predict("-").failed(&["standard input", "cannot decode"]);
}

/// What `predict` makes of a file of weights.
#[test]
fn weights_of_every_float_type_are_read() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let (_, parameters) = build::model(&tiny_recipe(&[])).unwrap();
    let quarter = |k: usize| (k % 7) as f32 / 4.0 - 0.5;
    type Bytes = fn(f32) -> Vec<u8>;
    let bytes: [(Dtype, Bytes); 4] = [
        (Dtype::F64, |x| f64::from(x).to_le_bytes().to_vec()),
        (Dtype::F32, |x| x.to_le_bytes().to_vec()),
        (Dtype::F16, |x| half::f16::from_f32(x).to_le_bytes().to_vec()),
        (Dtype::BF16, |x| half::bf16::from_f32(x).to_le_bytes().to_vec()),
    ];
    for (dtype, bytes) in bytes {
        let data = parameters.infos().iter().map(|info| {
            let count = info.group.range.len();
            (
                &info.name,
                &info.shape,
                (0..count).flat_map(|k| bytes(quarter(k))).collect::<Vec<u8>>(),
            )
        });
        let data: Vec<_> = data.collect();
        let views = data.iter().map(|(name, shape, bytes)| {
            (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap())
        });
        safetensors::serialize_to_file(views, None, &path).unwrap();
        parameters.values().fill_(9.0).unwrap();
        weights::load(&path, None, &parameters, false).unwrap();
        for info in parameters.infos() {
            let values = parameters.value(parameters.find(&info.name).unwrap()).unwrap();
            let expected: Vec<f32> = (0..values.elements()).map(quarter).collect();
            assert_eq!(values.to_vec::<f32>().unwrap(), expected, "{} in {dtype:?}", info.name);
        }
    }
}

fn predict_with(weights: &Path) -> Ended {
    let folder = tempdir().unwrap();
    let image = picture(folder.path(), "a.png", |_, _| 3);
    vitrine(&tiny(&["predict", "--weights", text(weights), text(&image)]))
}

#[test]
fn weights_that_are_of_no_use_are_refused() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("missing.safetensors");
    predict_with(&missing).failed(&[text(&missing), "cannot read the weights"]);

    let other = tiny_weights(folder.path(), &["model.width=32"]);
    predict_with(&other).failed(&[
        text(&other),
        "another model",
        "cls_token ([1, 1, 32] in the file",
    ]);
    let deeper = tiny_weights(folder.path(), &["model.depth=2"]);
    predict_with(&deeper).failed(&[text(&deeper), "another model", "blocks.1."]);

    let biased = tiny_weights(folder.path(), &["model.projection_bias=true"]);
    let mended = "unknown to the model: blocks.0.attn.proj.bias; --set model.projection_bias=true gives it one";
    predict_with(&biased).failed(&[text(&biased), mended]);

    let weights = tiny_weights(folder.path(), &[]);
    let whole = fs::read(&weights).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        predict_with(&weights).failed(&[text(&weights), "truncated or no safetensors file"]);
    }
    for number in [f32::NAN, f32::INFINITY] {
        let mut bytes = whole.clone();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&number.to_le_bytes());
        fs::write(&weights, &bytes).unwrap();
        predict_with(&weights).failed(&[text(&weights), "not finite"]);
    }

    // Finite weights, but no finite output.
    let huge = weights_with_logits(folder.path(), &[0.0; 10]);
    let (_, parameters) = build::model(&tiny_recipe(&[])).unwrap();
    let head = parameters.value(parameters.find("head.weight").unwrap()).unwrap();
    head.fill_(3e38).unwrap();
    let norm = parameters.value(parameters.find("norm.bias").unwrap()).unwrap();
    norm.fill_(3e38).unwrap();
    checkpoint::write_weights(&huge, &parameters).unwrap();
    let ended = predict_with(&huge);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    ended.says(&["error: ", "not finite", "a.png"]);
}

#[test]
fn weights_that_are_changed_to_fit_are_told_of() {
    let folder = tempdir().unwrap();
    let weights = tiny_weights(folder.path(), &["model.channels=3"]);
    let image = picture(folder.path(), "a.png", |_, _| 3);
    let predict = tiny(&["predict", "--weights", text(&weights), text(&image)]);
    let ended = vitrine(&[&predict[..], &["--set=model.channels=3"]].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let ended = vitrine(&[&predict[..], &["--set=model.image_size=56"]].concat());
    ended.says(&[
        "positions of 2 patches are resampled for 4",
        "the patch weights of three channels are summed for one",
    ]);
    ended.succeeded();
}

#[test]
fn runs_that_are_of_no_use_are_refused() {
    let folder = tempdir().unwrap();
    let image = picture(folder.path(), "a.png", |_, _| 3);
    let predict = |run: &Path, more: &[&str]| {
        vitrine(&[&["predict", "--run", text(run), text(&image)], more].concat())
    };
    let missing = folder.path().join("missing");
    predict(&missing, &[]).failed(&[text(&missing), "holds no run"]);
    predict(folder.path(), &[]).failed(&[text(folder.path()), "holds no run"]);

    let run = tiny_run(folder.path(), &[]);
    predict(&run, &[]).succeeded();
    predict(&run, &["--set", "model.width=32"]).failed(&["another model", "best"]);
    // Without `best`, `last` serves; but not where `best` was asked for.
    fs::remove_dir_all(run.join("best")).unwrap();
    predict(&run, &[]).succeeded();
    predict(&run, &["--checkpoint", "last"]).succeeded();
    predict(&run, &["--checkpoint", "best"]).failed(&["no checkpoint", "best"]);
    fs::remove_dir_all(run.join("last")).unwrap();
    predict(&run, &[]).failed(&["no checkpoint", "last"]);
    fs::write(run.join("config.toml"), "[model]\nhedas = 3\n").unwrap();
    predict(&run, &[]).failed(&["config.toml", "model.heads"]);
}

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    for (arguments, part) in [
        (&["predict", "a.png"][..], "--run"),
        (&["predict", "--run", "r", "--weights", "w", "a.png"], "cannot be used with"),
        (&["predict", "--run", "r"], "<FILE>"),
        (&["predict", "--weights", "w", "a.png", "--top", "0"], "--top"),
        (&["predict", "--weights", "w", "a.png", "--checkpoint", "last"], "--checkpoint"),
        (&["predict", "--run", "r", "a.png", "--checkpoint", "first"], "best, last"),
        (&["predict", "--run", "r", "--recipe", "d2l", "a.png"], "--recipe"),
        (&["predict", "--run", "r", "a.png", "--jsno"], "--json"),
    ] {
        vitrine(arguments).refused(&[part]);
    }
}
