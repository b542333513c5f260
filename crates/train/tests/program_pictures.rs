//! `vitrine train --data DIR`: a folder of pictures in, a classifier that knows their classes' names out; and what is
//! said where the folder is not as it should be. What a folder may hold is tested in `vitrine-data`.

mod vitrine_program;

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::tempdir;
use vitrine_program::{Ended, picture, text, tiny, tiny_run, vitrine};

const CLASSES: [(&str, u8); 2] = [("bright", 200), ("dark", 40)];

/// `count` pictures of each class in folders of their names, all different from those of another `seed`.
fn pictures(folder: &Path, count: u32, seed: u32) {
    for (class, level) in CLASSES {
        let folder = folder.join(class);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let noise = |x: u32, y: u32| (x * 31 + y * 17 + (i + 100 * seed) * 7) % 40;
            picture(&folder, &format!("{i}.png"), |x, y| level + noise(x, y) as u8);
        }
    }
}

/// The small model on a folder, with more arguments.
fn train(data: &Path, out: &Path, more: &[&str]) -> Ended {
    let arguments =
        ["train", "--data", text(data), "--out", text(out), "--recipe", "scratch-small"];
    let quick = [
        "--set=schedule.warmup_epochs=0",
        "--set=optimizer.learning_rate=0.003",
        "--set=augment.auto_augment=none",
        "--batch-size=4",
        "--epochs=6",
    ];
    vitrine(&[&tiny(&arguments)[..], &quick, more].concat())
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_folder_in_a_classifier_out() {
    let folder = tempdir().unwrap();
    let (data, run) = (folder.path().join("lamps"), folder.path().join("run"));
    pictures(&data, 20, 0);
    fs::write(data.join("bright/notes.txt"), "no picture").unwrap();
    let ended = train(&data, &run, &["--set=data.max_broken=1", "--set=augment.reprob=0.5"]);
    assert!(ended.stdout.starts_with("done: validation accuracy 1.0000"), "{ended:?}");
    ended.says(&["passed over as no pictures: 1", "32 training and 8 validation images"]);

    // The run says what it was trained on, and the weights what they are for.
    let config: toml::Table = fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(config["data"]["dataset"].as_str(), Some("folder"));
    assert_eq!(config["data"]["dir"].as_str(), Some(text(&data)));
    assert_eq!(config["data"]["holdout"].as_float(), Some(0.2));
    assert_eq!(config["model"]["classes"].as_integer(), Some(2));
    let about = json(&run.join("best/config.json"));
    assert_eq!(about["label_names"], serde_json::json!(["bright", "dark"]));
    let preprocessing = &about["pretrained_cfg"];
    assert_eq!(preprocessing["input_size"], serde_json::json!([3, 28, 28]));
    for (key, value) in [("interpolation", "bicubic"), ("crop_mode", "center")] {
        assert_eq!(preprocessing[key], value, "{key}");
    }
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("8 validation images: held out of the training part"), "{report}");
    assert!(!run.join("test.json").exists());

    // Classes and preprocessing come from beside the weights.
    let weights = run.join("best/weights.safetensors");
    let new = picture(folder.path(), "new.png", |x, _| 190 + x as u8);
    let of_run = vec!["predict", "--run", text(&run), "--json", text(&new)];
    let recipe = ["--recipe", "scratch-small", "--set=schedule.warmup_epochs=0"];
    let alone =
        [&["predict", "--weights", text(&weights), "--json", text(&new)][..], &recipe].concat();
    for arguments in [of_run, tiny(&alone)] {
        let answer = vitrine(&arguments).json();
        assert_eq!(answer["classes"][0]["name"], "bright", "{answer}");
    }
    let figures = vitrine(&["eval", "--run", text(&run), "--json"]).json();
    for (key, value) in
        [("images", 8.0), ("balanced_accuracy", 1.0), ("macro_f1", 1.0), ("roc_auc", 1.0)]
    {
        assert_eq!(figures[key].as_f64(), Some(value), "{key}");
    }
    let ended = vitrine(&["eval", "--run", text(&run), "--split", "test"]);
    assert_eq!(ended.code, Some(1));
    ended.says(&["a test part is not available"]);

    // Other pictures are judged whole, whatever their classes are called.
    let other = folder.path().join("others");
    pictures(&other, 3, 5);
    let judge = ["eval", "--run", text(&run), "--data", text(&other), "--json"];
    let figures = vitrine(&judge).json();
    assert_eq!((&figures["images"], &figures["top1"]), (&6.into(), &1.0.into()));
    fs::rename(other.join("dark"), other.join("apple")).unwrap();
    let ended = vitrine(&judge);
    ended.says(&["the weights call the classes bright, dark, the data apple, bright"]);
    assert_eq!(ended.json()["top1"], 0.0);

    // It goes on without a word about the data, and not with other data.
    let resume = ["train", "--resume", text(&run), "--epochs", "7"];
    assert!(vitrine(&resume).succeeded().starts_with("done"));
    pictures(&data, 21, 0);
    let ended = vitrine(&["train", "--resume", text(&run), "--epochs", "8"]);
    assert_eq!(ended.code, Some(1));
    ended.says(&["the training data differ"]);
}

#[test]
fn a_test_part_is_read_once_at_the_end() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("lamps");
    for (seed, part) in (1..).zip(["train", "val", "test"]) {
        pictures(&data.join(part), 10 * seed, seed);
    }
    let run = folder.path().join("three");
    let ended = train(&data, &run, &[]);
    assert!(ended.stdout.contains("test accuracy 1.0000 with the weights of epoch"), "{ended:?}");
    ended.says(&["20 training and 40 validation images"]);
    let test = json(&run.join("test.json"));
    assert_eq!((&test["images"], &test["top1"]), (&60.into(), &1.0.into()));
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let accuracy =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["val_accuracy"].as_f64().unwrap();
    let accuracies: Vec<f64> = metrics.lines().map(accuracy).collect();
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    let first = accuracies.iter().position(|&accuracy| accuracy == best).unwrap() + 1;
    assert_eq!(test["epoch"], first);
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["Test accuracy", "60 test images, read once at the end", "40 validation images"] {
        assert!(report.contains(part), "{part}");
    }
    let judged = vitrine(&["eval", "--run", text(&run), "--split", "test", "--json"]).json();
    assert_eq!(judged["loss"], test["loss"]);

    // A run that ended before its test part was read goes on with that.
    fs::remove_file(run.join("test.json")).unwrap();
    vitrine(&["train", "--resume", text(&run)]).succeeded();
    assert_eq!(json(&run.join("test.json")), test);
    for shorter in ["6", "3"] {
        let resume = ["train", "--resume", text(&run), "--epochs", shorter];
        vitrine(&resume).failed(&["has done its 6 epochs"]);
    }
    // With more epochs it has another end, and no figures of the old one.
    vitrine(&["train", "--resume", text(&run), "--epochs", "7"]).succeeded();
    assert_eq!(json(&run.join("test.json"))["epoch"], first);

    // A part for validation is there already; without it, one is held out, or the test part is both.
    train(&data, &folder.path().join("x"), &["--set=data.holdout=0.5"])
        .failed(&["data.holdout", "leave it at 0"]);
    fs::remove_dir_all(data.join("val")).unwrap();
    let held = folder.path().join("held");
    train(&data, &held, &["--set=data.holdout=2"]).says(&["18 training and 2 validation images"]);
    assert_eq!(json(&held.join("test.json"))["images"], 60);
    let textbook = folder.path().join("textbook");
    train(&data, &textbook, &[]).says(&["20 training and 60 validation images"]);
    assert!(!textbook.join("test.json").exists());
    train(&data.join("test"), &folder.path().join("y"), &["--set=data.holdout=0"])
        .failed(&["hold out a share"]);
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("lamps");
    pictures(&data, 5, 0);
    let out = folder.path().join("run");
    let fails = |data: &Path, more: &[&str], parts: &[&str]| {
        train(data, &out, more).failed(parts);
        assert!(!out.join("config.toml").exists());
    };
    let missing = folder.path().join("missing");
    fails(&missing, &[], &["there is no folder", text(&missing)]);
    fails(&data.join("dark/0.png"), &[], &["it is a file"]);
    fails(&data.join("dark"), &[], &["beside each other", text(&data)]);
    fails(&data, &["--set=data.classes=[\"dark\",\"grey\"]"], &["\"grey\"", "bright, dark"]);
    fails(&data, &["--set=data.holdout=10"], &["of its 10 pictures, 10 cannot be held out"]);
    fails(&data, &["--set=data.holdout=1.5"], &["data.holdout = 1.5", "whole"]);
    fails(&data, &["--set=model.classes=3"], &["2 classes, the model 3"]);

    // A picture that is cut short stops the run, unless one may be.
    let cut = data.join("dark/3.png");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let ended = train(&data, &out, &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    ended.says(&["1 picture cannot be read", "data.max_broken allows 0", text(&cut)]);
    let other = folder.path().join("other");
    let ended = train(&data, &other, &["--set=data.max_broken=1"]);
    ended.says(&["passed over, as they cannot be read (1):", text(&cut)]);
    assert_eq!(ended.code, Some(0));
    let seen = vitrine(&["data", text(&data), "--json"]).json();
    assert_eq!(seen["parts"][0]["broken"].as_array().unwrap().len(), 1);
}

#[test]
fn data_tells_what_a_folder_has() {
    let folder = tempdir().unwrap();
    pictures(&folder.path().join("train"), 3, 0);
    pictures(&folder.path().join("val"), 2, 1);
    let copy = folder.path().join("val/bright/copy.png");
    fs::copy(folder.path().join("train/bright/1.png"), &copy).unwrap();
    fs::write(folder.path().join("train/dark/readme.md"), "text").unwrap();
    let arguments = ["data", text(folder.path())];
    let report = vitrine(&[&arguments[..], &["--json"]].concat()).json();
    assert_eq!((&report["dataset"], &report["passed_over"]), (&"folder".into(), &1.into()));
    let [train, val] = report["parts"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!((&train["name"], &train["images"]), (&"training".into(), &6.into()));
    assert_eq!(val["classes"], serde_json::json!({ "bright": 3, "dark": 2 }));
    assert_eq!(val["sizes"], serde_json::json!([[28, 28], [28, 28], [28, 28]]));
    assert_eq!(val["kinds"], serde_json::json!({ "Png L8": 5 }));
    assert_eq!(report["duplicates"], report["shared"]);
    assert_eq!(report["shared"][0][1], text(&copy));
    let shown: toml::Table = vitrine(&arguments).succeeded().parse().unwrap();
    assert_eq!(shown["parts"][1]["classes"]["bright"].as_integer(), Some(3));
}

#[test]
fn training_begins_with_weights_whose_head_may_be_anothers() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("lamps");
    pictures(&data, 10, 0);
    // Weights for ten classes of grey pictures.
    let weights = tiny_run(folder.path(), &["model.qkv_bias=true", "model.projection_bias=true"]);
    let weights = weights.join("last/weights.safetensors");
    let run = folder.path().join("fine");
    let arguments =
        ["train", "--weights", text(&weights), "--data", text(&data), "--out", text(&run)];
    let set = [
        "--set=schedule.warmup_epochs=0",
        "--set=model.channels=1",
        "--set=optimizer.learning_rate=1e-9",
        "--set=schedule.final_learning_rate=0",
        "--epochs=1",
        "--batch-size=4",
    ];
    let ended = vitrine(&[&tiny(&arguments)[..], &set].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.says(&["the weights tell 10 classes apart, the data has 2: the head begins anew"]);
    let read = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let values = |name: &str| -> Vec<f32> {
            let bytes = file.tensor(name).unwrap().data().to_vec();
            bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
        };
        (values("blocks.0.mlp.fc1.weight"), values("head.weight").len())
    };
    let ((before, _), (after, head)) =
        (read(&weights), read(&run.join("last/weights.safetensors")));
    assert_eq!(head, 2 * 16);
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-6));
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains(&format!("initial_weights = {:?}", text(&weights))), "{config}");

    // A run that is judged at another size tells what that takes.
    let ended =
        vitrine(&["eval", "--run", text(&run), "--data", text(&data), "--set=model.image_size=56"]);
    ended.says(&["positions of 2 patches are resampled for 4"]);
    ended.succeeded();

    // A run that goes on does not ask for them again.
    fs::remove_file(&weights).unwrap();
    vitrine(&["train", "--resume", text(&run), "--epochs", "2"]).succeeded();

    let nothing = folder.path().join("nothing.safetensors");
    vitrine(&tiny(&["train", "--weights", text(&nothing), "--data", text(&data)]))
        .failed(&["cannot read the weights", text(&nothing)]);
}
