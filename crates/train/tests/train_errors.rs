//! What can go wrong with a run: each error has its type and its words, and what was good before is kept.

mod support;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{
    assert_same, finish, images, one_step, open, overrides, small, small_images, traces, whole_run,
};
use vitrine_data::{DataError, Dataset};
use vitrine_train::TrainError;
use vitrine_train::atomic::AtomicWriteError;
use vitrine_train::build::{self, Datasets};
use vitrine_train::checkpoint::CheckpointError;
use vitrine_train::metrics::MetricsError;
use vitrine_train::trainer::{CONFIG, LAST, resumed_recipe};
use vitrine_train::weights;

/// Runs `vitrine train` with arguments that must fail, and gives its message.
fn train_fails(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    let output = command.arg("train").args(arguments).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty() && message.starts_with("error: "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

/// The path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The error of what must fail.
fn error<T>(result: Result<T, TrainError>) -> TrainError {
    match result {
        Err(error) => error,
        Ok(_) => panic!("this must fail"),
    }
}

/// Fails unless the text has all these parts.
fn assert_says(error: &TrainError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

/// A run in a temporary folder that was stopped after its first step.
fn stopped_run(keys: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    one_step(&mut support::create(small(keys), folder.path(), &small_images(61, 20)).unwrap());
    folder
}

#[test]
fn there_is_no_run_to_go_on_with_or_one_that_is_in_the_way() {
    let data = small_images(16, 10);
    let folder = tempfile::tempdir().unwrap();
    let e = error(open(folder.path(), &data, &[]));
    assert!(matches!(e, TrainError::NoRun { .. }));
    assert_says(&e, &[text(folder.path()), "holds no run", "config.toml"]);

    let run = stopped_run(&[]);
    let before = traces(run.path());
    let e = error(support::create(small(&[]), run.path(), &data));
    assert!(matches!(e, TrainError::RunExists { .. }));
    assert_says(&e, &[text(run.path()), "holds a run already", "--out", "--resume"]);
    assert_eq!(traces(run.path()), before);

    // A configuration without a checkpoint.
    fs::remove_dir_all(run.path().join(LAST)).unwrap();
    let e = error(open(run.path(), &data, &[]));
    assert!(matches!(e, TrainError::Checkpoint(CheckpointError::Missing { .. })));
    assert_says(&e, &["there is no checkpoint", LAST]);
}

#[test]
fn a_run_that_is_done_wants_more_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_images(16, 10);
    whole_run(&small(&[]), folder.path(), &data, 1);
    for keys in [&[][..], &["run.epochs=1"]] {
        let e = error(open(folder.path(), &data, keys));
        assert!(matches!(e, TrainError::Finished { epochs: 2, .. }));
        assert_says(&e, &["has done its 2 epochs", "--epochs N"]);
    }
    // Its configuration is as it was.
    assert_eq!(resumed_recipe(folder.path(), &overrides(&[])).unwrap().training.run.epochs, 2);
    assert_eq!(finish(open(folder.path(), &data, &["run.epochs=3"]).unwrap()).unwrap().epoch, 3);
}

#[test]
fn warm_up_ends_before_the_run_does() {
    let folder = tempfile::tempdir().unwrap();
    // Two epochs of two steps.
    let data = small_images(16, 10);
    let e = error(support::create(small(&["schedule.warmup_steps=4"]), folder.path(), &data));
    assert_says(&e, &["`schedule.warmup_steps = 4`", "shorter than the run, which has 4 steps"]);
    support::create(small(&["schedule.warmup_steps=3"]), folder.path(), &data).unwrap();
}

#[test]
fn another_recipe_is_another_run() {
    let run = stopped_run(&[]);
    let data = small_images(61, 20);
    for (key, before) in [
        ("model.depth=2", "1"),
        ("data.limit_train=8", "0"),
        ("optimizer.learning_rate=0.2", "0.1"),
        ("schedule.warmup_steps=2", "0"),
        ("objective.label_smoothing=0.1", "0.0"),
        ("run.batch_size=4", "8"),
        ("run.seed=4", "0"),
    ] {
        let (name, after) = key.split_once('=').unwrap();
        let was = format!("it was {before} and would be {after}");
        // The program asks before it looks for data, the trainer in any case.
        for e in [
            error(open(run.path(), &data, &[key])),
            error(support::resume_recipe(small(&[key]), run.path(), &data)),
        ] {
            assert!(matches!(e, TrainError::ResumeDiffers { .. }), "{key}: {e}");
            assert_says(&e, &[&format!("`{name}` differs"), &was, "run.epochs", "Start a new run"]);
        }
    }
}

#[test]
fn other_data_is_another_run() {
    let run = stopped_run(&[]);
    let (train, val) = (small_images(61, 20), small_images(60, 21));
    for (data, part) in [
        (Datasets { val: val.val, ..train.clone() }, "validation"),
        (Datasets { train: val.train, ..train.clone() }, "training"),
        // As many images of the same classes, with other pixels.
        (Datasets { val: images(1, 61, 10).val, ..small_images(61, 20) }, "validation"),
        (Datasets { train: images(1, 61, 10).val, ..train.clone() }, "training"),
    ] {
        let e = error(open(run.path(), &data, &[]));
        assert!(matches!(e, TrainError::OtherData { part: found, .. } if found == part), "{e}");
        assert_says(&e, &[part, "Give it the data that it began with"]);
    }
    // Nothing was changed by the attempts; a run of before, which says nothing of its data, goes on with any.
    let path = run.path().join("last/trainer.json");
    let mut position: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for part in ["train_data", "val_data"] {
        assert!(position.as_object_mut().unwrap().remove(part).is_some());
    }
    fs::write(&path, position.to_string()).unwrap();
    finish(open(run.path(), &train, &[]).unwrap()).unwrap();
}

#[test]
fn a_run_is_written_by_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_images(61, 20);
    let trainer = support::create(small(&[]), folder.path(), &data).unwrap();
    for e in [
        error(open(folder.path(), &data, &[])),
        error(support::create(small(&[]), folder.path(), &data)),
    ] {
        assert!(matches!(e, TrainError::RunBusy { .. }), "{e}");
        assert_says(&e, &["is being written to by another process"]);
    }
    drop(trainer);
    finish(open(folder.path(), &data, &[]).unwrap()).unwrap();
}

#[test]
fn a_checkpoint_of_another_model_or_optimizer_is_refused() {
    let run = stopped_run(&[]);
    let data = small_images(61, 20);
    let other = |keys: &[&str]| {
        let recipe = small(keys);
        fs::write(run.path().join(CONFIG), recipe.to_toml().unwrap()).unwrap();
        error(support::resume_recipe(recipe, run.path(), &data))
    };
    for (keys, words) in [
        ("model.width=24", "[1, 1, 16] in the file, [1, 1, 24] in the model"),
        ("model.depth=2", "blocks.1."),
        ("model.pool=mean", "pos_embed ([1, 5, 16] in the file, [1, 4, 16] in the model)"),
    ] {
        let e = other(&[keys]);
        assert!(matches!(e, TrainError::Checkpoint(CheckpointError::OtherModel { .. })));
        assert_says(&e, &["weights.safetensors is of another model", words]);
    }
    let e = other(&["optimizer.kind=adamw"]);
    assert!(matches!(e, TrainError::Checkpoint(CheckpointError::OtherOptimizer { .. })));
    assert_says(&e, &["is of the optimizer sgd, the recipe says adamw"]);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 3);
    let nan = |bytes: &mut Vec<u8>| {
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    let key = |bytes: &mut Vec<u8>| {
        *bytes = String::from_utf8_lossy(bytes).replace("steps", "stops").into_bytes();
    };
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    type Expected = fn(&CheckpointError) -> bool;
    let format: Expected = |e| matches!(e, CheckpointError::Format { .. });
    let position: Expected = |e| matches!(e, CheckpointError::Position { .. });
    let not_finite: Expected = |e| matches!(e, CheckpointError::NotFinite { .. });
    let cases: [(&str, Damage, Expected, &str); 7] = [
        ("weights.safetensors", &cut, format, "is truncated or no safetensors file"),
        ("weights.safetensors", &|b| b.clear(), format, "is truncated or no safetensors file"),
        ("weights.safetensors", &nan, not_finite, "not finite"),
        ("optimizer.safetensors", &cut, format, "is truncated or no safetensors file"),
        ("optimizer.safetensors", &nan, not_finite, "`velocity`"),
        ("trainer.json", &cut, position, "is damaged"),
        ("trainer.json", &key, position, "unknown field `stops`"),
    ];
    let run = stopped_run(&["optimizer.momentum=0.9"]);
    let data = small_images(61, 20);
    for (name, damage, expected, words) in cases {
        let path = run.path().join(LAST).join(name);
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let e = error(open(run.path(), &data, &[]));
        assert!(matches!(&e, TrainError::Checkpoint(e) if expected(e)), "{e}");
        assert_says(&e, &[text(&path), words]);
        fs::write(&path, good).unwrap();
    }
    fs::remove_file(run.path().join(LAST).join("optimizer.safetensors")).unwrap();
    let e = error(open(run.path(), &data, &[]));
    assert_says(&e, &["cannot read", "optimizer.safetensors", "No such file"]);
}

/// Whether the last checkpoint can be read (which weights that are not finite cannot), and how far it is.
fn good_steps(folder: &Path, keys: &[&str]) -> u64 {
    let (_, parameters) = build::model(&small(keys)).unwrap();
    weights::load(&folder.join(LAST), None, &parameters, false).unwrap();
    open(folder, &small_images(61, 20), &[]).unwrap().position().steps
}

#[test]
fn a_run_that_explodes_stops_and_keeps_the_last_good_checkpoint() {
    // Each step multiplies the weights by −100,000.
    let explode = ["optimizer.learning_rate=1000", "optimizer.weight_decay=100"];
    for further in [
        &["run.checkpoint_every=1"][..],
        &["run.checkpoint_every=1", "run.log_every=1"],
        &["run.checkpoint_every=6", "run.log_every=1000"],
        &["run.log_every=1000"],
        &["run.log_every=1", "optimizer.clip_norm=1"],
    ] {
        let keys = [&explode[..], further].concat();
        let folder = tempfile::tempdir().unwrap();
        let run = support::create(small(&keys), folder.path(), &small_images(61, 20)).unwrap();
        let e = error(finish(run));
        match &e {
            TrainError::NotFinite { epoch: 1, .. } => {
                assert_says(&e, &["the loss is ", "in epoch 1, batch ", "The checkpoint in", LAST]);
            }
            TrainError::Checkpoint(CheckpointError::Diverged { .. }) => {
                assert_says(&e, &["has become a number that is not finite", "is kept", LAST]);
            }
            other => panic!("{further:?}: {other}"),
        }
        assert_says(&e, &["A lower learning rate, warm-up or clip_norm may help"]);
        let steps = good_steps(folder.path(), &keys);
        assert_eq!(steps > 0, further[0] == "run.checkpoint_every=1", "{further:?}");
        assert!(!folder.path().join(".last.new").exists());
    }
}

#[test]
fn weights_that_overflow_are_never_written() {
    let keys = ["optimizer.learning_rate=1000", "optimizer.weight_decay=100"];
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = support::create(small(&keys), folder.path(), &small_images(61, 20)).unwrap();
    // Equal logits, however large, give a loss of ln 10; the step after it multiplies by −100,000 and overflows.
    let parameters = trainer.parameters();
    let weight = parameters.value(parameters.find("head.weight").unwrap()).unwrap();
    weight.copy_from_slice_(&[1e34_f32; 160]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(true);
    let e = error(trainer.run(&mut (), &stop));
    assert!(matches!(
        &e,
        TrainError::Checkpoint(CheckpointError::Diverged { name, .. }) if name == "head.weight"
    ));
    assert_says(&e, &["`head.weight` has become", "no checkpoint was written to", "is kept"]);
    drop(trainer);
    assert_eq!(good_steps(folder.path(), &keys), 0);
}

#[test]
fn a_run_cannot_be_put_below_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    for out in [file.clone(), file.join("run")] {
        let e = error(support::create(small(&[]), &out, &small_images(16, 10)));
        assert!(
            matches!(e, TrainError::Checkpoint(CheckpointError::Io { action: "create", .. })),
            "{e}"
        );
        assert_says(&e, &["cannot create", text(&out)]);
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

/// A file system of 200 kB; `None`, and a word about it, where none may be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"]).arg(folder.path());
        let mounted = command.output().is_ok_and(|output| output.status.success());
        if !mounted {
            // Not with eprintln: the test harness swallows what a passing test prints.
            let _ = writeln!(
                io::stderr(),
                "LEFT OUT: a full disk (no file system may be mounted here)."
            );
        }
        mounted.then(|| Self(folder))
    }

    /// Leaves so many bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
        let size = file.metadata().unwrap().len();
        file.set_len(size - left).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_shard_that_finds_no_room_says_where() {
    let Some(disk) = SmallDisk::mount() else { return };
    let data = tempfile::tempdir().unwrap();
    let shard = File::create(data.path().join("pictures.tar.gz")).unwrap();
    let mut shard = flate2::write::GzEncoder::new(shard, flate2::Compression::fast());
    shard.write_all(&vec![0; 1 << 20]).unwrap();
    shard.finish().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vitrine"))
        .args(["train", "--data", text(data.path()), "--out", text(&data.path().join("run"))])
        .env("TMPDIR", disk.0.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for part in ["pictures.tar.gz", "cannot be decompressed into", text(disk.0.path()), "$TMPDIR"] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
}

#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    let Some(disk) = SmallDisk::mount() else { return };
    let full = |e: &TrainError| match e {
        TrainError::Checkpoint(CheckpointError::Write(AtomicWriteError::Failed {
            source, ..
        }))
        | TrainError::Metrics(MetricsError::Write(AtomicWriteError::Failed { source, .. }))
        | TrainError::Write(AtomicWriteError::Failed { source, .. }) => {
            source.kind() == ErrorKind::StorageFull
        }
        _ => false,
    };
    let data = small_images(61, 20);
    let run = disk.0.path().join("run");
    let reference = tempfile::tempdir().unwrap();
    let expected = whole_run(&small(&[]), reference.path(), &data, 1);

    let filler = disk.fill(8192);
    let e = error(support::create(small(&[]), &run, &data));
    assert!(full(&e));
    assert_says(&e, &[text(&run), "free some space or choose another folder"]);
    assert!(!run.join(CONFIG).exists());
    fs::remove_file(filler).unwrap();

    let mut trainer = support::create(small(&[]), &run, &data).unwrap();
    one_step(&mut trainer);
    for left in [0, 8192, 16384] {
        let filler = disk.fill(left);
        let e = error(finish(trainer));
        assert!(full(&e), "{e}");
        assert_says(&e, &["free some space or choose another folder"]);
        assert!(!run.join(".last.new").exists(), "what was half written fills the disk");
        fs::remove_file(filler).unwrap();
        trainer = open(&run, &data, &[]).unwrap();
        assert_eq!(trainer.position().steps, 1);
    }
    finish(trainer).unwrap();
    assert_same(&traces(&run), &expected, "on a disk that was full for a while");
}

#[test]
fn labels_and_classes_must_fit_the_model() {
    let names = |count| (0..count).map(|class| format!("class {class}")).collect();
    let parts = |labels: Vec<i64>, classes| {
        let pixels = vec![0; labels.len() * 100];
        Dataset::from_parts("mine", pixels, labels, [1, 10, 10], names(classes))
    };
    for label in [10, -1] {
        let e = parts(vec![0, 9, label], 10).unwrap_err();
        assert!(matches!(e, DataError::LabelOutOfRange { sample: 2, classes: 10, .. }));
        let message = e.to_string();
        assert!(message.contains(&label.to_string()) && message.contains("mine"), "{message}");
    }
    // More classes than the model has: no label may get past its logits.
    let train = std::sync::Arc::new(parts(vec![0, 11], 12).unwrap());
    let data = Datasets::new(train.clone(), train);
    let folder = tempfile::tempdir().unwrap();
    let e = error(support::create(small(&[]), folder.path(), &data));
    assert!(matches!(e, TrainError::Classes { found: 12, expected: 10, .. }));
    assert_says(&e, &["mine has 12 classes, the model 10", "model.classes=12"]);
}

#[test]
fn the_program_says_what_is_wrong_before_it_fetches_anything() {
    let folder = tempfile::tempdir().unwrap();
    let run = stopped_run(&[]);
    let (empty, out, taken) = (text(folder.path()), folder.path().join("out"), text(run.path()));
    let out = text(&out);
    let cases: [(&[&str], &[&str]); 11] = [
        (&["--set", "model.heads=7"], &["`model.heads = 7`", "divide `model.width = 512`"]),
        (&["--set", "model.patch_size=7"], &["`model.patch_size = 7`", "`model.image_size = 96`"]),
        (&["--set", "model.head=4"], &["`model.head`", "did you mean `model.heads`?"]),
        (&["--set", "optimizer.lr=1"], &["did you mean `optimizer.learning_rate`?"]),
        (&["--set", "model.heads"], &["`--set model.heads` is not of the form key=value"]),
        (&["--epochs", "0"], &["run.epochs", "a whole number from 1"]),
        (&["--recipe", "d21"], &["\"d21\"", "did you mean `d2l`?"]),
        (&["--recipe", "nowhere.toml"], &["cannot read the recipe nowhere.toml"]),
        (&["--device", "cuda:0"], &["device cuda:0 is not available", "--device cpu"]),
        (&["--resume", empty], &["holds no run", empty]),
        (
            &["--resume", taken, "--seed", "5"],
            &["`run.seed` differs from the run that is resumed", "it was 0 and would be 5"],
        ),
    ];
    for (arguments, words) in cases {
        let out: &[&str] = if arguments[0] == "--resume" { &[] } else { &["--out", out] };
        let message = train_fails(&[arguments, out].concat());
        for word in words {
            assert!(message.contains(word), "{word:?} is missing in: {message}");
        }
    }
    let message = train_fails(&["--out", taken]);
    assert!(message.contains("holds a run already"), "{message}");
    assert!(!folder.path().join("out").exists());
}
