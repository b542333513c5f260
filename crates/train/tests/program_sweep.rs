//! `vitrine sweep`: all runs, the table, the picture; what goes on where it was, and what fails alone.

mod vitrine_program;

use std::fs;
use std::path::Path;

use tempfile::tempdir;
use vitrine_program::{Ended, picture, text, vitrine};

/// A recipe of a small model, and the values it is run over.
const RECIPE: &str = r#"
base = "scratch-small"

[model]
preset = "vit-ti-16"
width = 16
heads = 2
depth = 1
mlp_width = 32
image_size = 28
patch_size = 14
channels = 1

[augment]
auto_augment = "none"

[schedule]
kind = "constant"
warmup_epochs = 0
final_learning_rate = 0.0

[run]
epochs = 2
batch_size = 4
threads = 1

[sweep]
"optimizer.learning_rate" = [0.001, 0.003]
"#;

/// Bright and dark pictures.
fn pictures(folder: &Path) {
    for (class, level) in [("bright", 200), ("dark", 40)] {
        let folder = folder.join(class);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..15u32 {
            let noise = |x: u32, y: u32| (x * 31 + y * 17 + i * 7) % 40;
            picture(&folder, &format!("{i}.png"), |x, y| level + noise(x, y) as u8);
        }
    }
}

fn sweep(folder: &Path, more: &[&str]) -> Ended {
    let (recipe, data) = (folder.join("recipe.toml"), folder.join("lamps"));
    let out = folder.join("sweep");
    if !data.exists() {
        pictures(&data);
        fs::write(&recipe, RECIPE).unwrap();
    }
    let arguments =
        ["sweep", "--recipe", text(&recipe), "--data", text(&data), "--out", text(&out)];
    vitrine(&[&arguments[..], more].concat())
}

/// The table without its last column, the time.
fn table(folder: &Path) -> Vec<String> {
    let csv = fs::read_to_string(folder.join("sweep/results.csv")).unwrap();
    csv.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
}

#[test]
fn a_sweep_goes_on_where_it_was_and_grows() {
    let folder = tempdir().unwrap();
    let ended = sweep(folder.path(), &["--seeds", "2", "--jobs", "2"]);
    ended.says(&["run 4 of 4: learning_rate=0.003,seed=1"]);
    let shown = ended.succeeded();
    assert!(
        shown.starts_with("| `optimizer.learning_rate` | runs | validation accuracy |"),
        "{shown}"
    );
    assert_eq!(shown, fs::read_to_string(folder.path().join("sweep/results.md")).unwrap());
    let whole = table(folder.path());
    assert_eq!(whole.len(), 3);
    assert!(whole[1].starts_with("0.001,2,") && whole[2].starts_with("0.003,2,"), "{whole:?}");
    let plot = fs::read_to_string(folder.path().join("sweep/results.svg")).unwrap();
    assert!(plot.contains("Validation accuracy") && plot.contains("Seconds of a run"), "{plot}");

    // One run is gone, one has done the first of its epochs alone, and the others are not trained again.
    let run = |name: &str| folder.path().join("sweep").join(name);
    let kept = run("learning_rate=0.001,seed=0/metrics.jsonl");
    let written = fs::metadata(&kept).unwrap().modified().unwrap();
    fs::remove_dir_all(run("learning_rate=0.001,seed=1")).unwrap();
    let cut = run("learning_rate=0.003,seed=0");
    fs::remove_dir_all(&cut).unwrap();
    let (recipe, data) = (folder.path().join("recipe.toml"), folder.path().join("lamps"));
    let one = ["train", "--recipe", text(&recipe), "--data", text(&data), "--out", text(&cut)];
    let rate = ["--set=optimizer.learning_rate=0.003", "--epochs=1"];
    vitrine(&[&one[..], &rate].concat()).succeeded();
    let config = fs::read_to_string(cut.join("config.toml")).unwrap();
    fs::write(cut.join("config.toml"), config.replace("epochs = 1\n", "epochs = 2\n")).unwrap();
    let about = fs::read_to_string(cut.join("about.json")).unwrap();
    fs::write(cut.join("about.json"), about.replace("\"finished\": true", "\"finished\": false"))
        .unwrap();
    let ended = sweep(folder.path(), &["--seeds", "2"]);
    ended.says(&["run 2 of 4", "run 3 of 4", "epoch 2/2"]);
    assert!(!ended.stderr.contains("run 1 of 4") && !ended.stderr.contains("run 4 of 4"));
    ended.succeeded();
    assert_eq!(table(folder.path()), whole);
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), written);

    // More seeds and values may follow, other settings not.
    let more = ["--seeds", "2", "--over", "optimizer.learning_rate=0.001,0.003,0.002"];
    sweep(folder.path(), &more).succeeded();
    assert_eq!(table(folder.path()).len(), 4);
    sweep(folder.path(), &["--seeds", "2", "--epochs", "3"]).failed(&["choose another --out"]);
}

#[test]
fn a_run_that_fails_does_not_stop_the_others() {
    let folder = tempdir().unwrap();
    let ended = sweep(folder.path(), &["--over", "optimizer.learning_rate=1000,0.003"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.says(&["1 of 2 runs failed", "learning_rate=1000", "not finite"]);
    let table = table(folder.path());
    assert!(table[1].starts_with("1000.0,0,,") && table[2].starts_with("0.003,1,"), "{table:?}");
}

#[test]
fn what_is_no_sweep_is_refused() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("sweep");
    let alone = |more: &[&str]| vitrine(&[&["sweep", "--out", text(&out)][..], more].concat());
    alone(&[]).failed(&["nothing to sweep over", "--over key=a,b"]);
    alone(&["--over", "model.deph=1,2"]).failed(&["`model.deph`", "did you mean `model.depth`?"]);
    alone(&["--over", "model.depth=1,0"]).failed(&["--over", "a whole number from 1"]);
    assert!(!out.exists());
}
