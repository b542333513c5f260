//! Fine-tuning: what stays as it is, at what rate the rest changes, features that are kept, LoRA, and weights made to
//! fit; and the folder that a finished run leaves for timm.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use support::{create, finish, open, overrides, small, small_images};
use vitrine_nn::{Parameters, Pass};
use vitrine_tensor::{Device, Tensor};
use vitrine_train::description::Description;
use vitrine_train::recipe::Recipe;
use vitrine_train::sink::{Event, Sink};
use vitrine_train::trainer::{BEST, LAST, MODEL, Outcome, Trainer};
use vitrine_train::{TrainError, build, weights};

/// Without dropout, so that features are what training sees.
const STILL: [&str; 5] = [
    "model.dropout=0",
    "model.attention_dropout=0",
    "model.embedding_dropout=0",
    "model.depth=2",
    "model.qkv_bias=true",
];

fn recipe(keys: &[&str]) -> Recipe {
    small(&[&STILL, keys].concat())
}

fn values(parameters: &Parameters) -> BTreeMap<String, Vec<f64>> {
    let each = parameters.named_values();
    each.map(|(name, value)| (name.to_owned(), value.unwrap().to_f64_vec().unwrap())).collect()
}

/// The parameters that a run of two epochs changes, and by how much the most.
fn changes(keys: &[&str]) -> BTreeMap<String, f64> {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = create(recipe(keys), folder.path(), &small_images(24, 10)).unwrap();
    let before = values(trainer.parameters());
    trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    let after = values(trainer.parameters());
    let change = |name: &String, before: &[f64]| {
        let pairs = before.iter().zip(&after[name]);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    before.iter().map(|(name, before)| (name.clone(), change(name, before))).collect()
}

#[test]
fn what_is_frozen_stays_and_all_else_changes() {
    type Frozen = fn(&str) -> bool;
    let cases: [(&str, Frozen); 4] = [
        ("backbone", |name| !name.starts_with("head.")),
        ("patch_embed", |name| name.starts_with("patch_embed.")),
        ("cls_token,blocks.*.attn", |name| name == "cls_token" || name.contains(".attn.")),
        ("*.bias", |name| name.ends_with(".bias")),
    ];
    for (pattern, frozen) in cases {
        for (name, change) in changes(&[&format!("optimizer.freeze={pattern}")]) {
            assert_eq!(change == 0.0, frozen(&name), "{pattern}: {name} changed by {change}");
        }
    }
}

#[test]
fn patterns_of_no_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (pattern, words) in [("blocks.7", "the nearest name is"), ("*", "nothing is left to train")]
    {
        let keys = [&*format!("optimizer.freeze={pattern}")];
        match create(recipe(&keys), folder.path(), &small_images(8, 8)) {
            Err(TrainError::Setting(error)) => {
                let text = error.to_string();
                assert!(text.contains("optimizer.freeze") && text.contains(words), "{text}");
            }
            other => panic!("{pattern}: {:?}", other.err()),
        }
    }
}

/// One step of SGD without momentum changes weights in proportion to their rates.
#[test]
fn each_layer_has_its_rate_and_the_head_its_own() {
    let once = ["run.epochs=1", "run.batch_size=24"];
    let plain = changes(&once);
    let keys = [&once[..], &["optimizer.layer_decay=0.5", "optimizer.head_rate_scale=3"]].concat();
    for (name, change) in changes(&keys) {
        let expected = match name.split('.').collect::<Vec<_>>()[..] {
            ["head", ..] => 3.0,
            ["norm", ..] | ["blocks", "1", ..] => 0.5,
            ["blocks", "0", ..] => 0.25,
            _ => 0.125,
        };
        let found = change / plain[&name];
        assert!((found / expected - 1.0).abs() < 2e-2, "{name}: {found}, not {expected}");
    }
}

/// What a run tells.
struct Said(String);

impl Sink for Said {
    fn take(&mut self, event: Event<'_>) -> Result<(), TrainError> {
        if let Event::Message(text) = event {
            self.0 += text;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path.join("weights.safetensors")).unwrap()
}

#[test]
fn a_head_on_kept_features_learns_what_it_would_on_pictures() {
    let data = small_images(24, 10);
    let frozen = ["optimizer.freeze=backbone", "optimizer.learning_rate=0.5"];
    let [kept, pictures, resumed] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut said = Said(String::new());
    let mut trainer = create(recipe(&frozen), kept.path(), &data).unwrap();
    trainer.run(&mut said, &AtomicBool::new(false)).unwrap();
    assert!(said.0.contains("features of 34 images are kept"), "{}", said.0);

    // A flip that never comes: pictures are read anew all the same.
    let keys = [&frozen[..], &["augment.hflip=1e-300"]].concat();
    let trained = create(recipe(&keys), pictures.path(), &data).unwrap();
    finish(trained).unwrap();
    let load = |folder: &Path| {
        let (_, parameters) = build::model(&recipe(&[])).unwrap();
        weights::load(&folder.join(LAST), None, &parameters, false).unwrap();
        values(&parameters)
    };
    for (name, found) in load(kept.path()) {
        let other = &load(pictures.path())[&name];
        let off = found.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-5, "{name} is off by {off:.1e}");
    }

    // Stopped after a step, it goes on to the same bits.
    let stop = AtomicBool::new(true);
    let mut trainer = create(recipe(&frozen), resumed.path(), &data).unwrap();
    assert_eq!(trainer.run(&mut (), &stop).unwrap(), Outcome::Interrupted);
    drop(trainer);
    finish(open(resumed.path(), &data, &[]).unwrap()).unwrap();
    assert_eq!(read(&kept.path().join(LAST)), read(&resumed.path().join(LAST)));
}

fn pictures(recipe: &Recipe) -> Tensor {
    let input = build::model(recipe).unwrap().0.input();
    let count = 3 * input.channels * input.size.0 * input.size.1;
    let pixels: Vec<f32> = (0..count).map(|i| ((i * i) % 97) as f32 / 97.0).collect();
    let shape = [3, input.channels, input.size.0, input.size.1];
    Tensor::from_slice(&pixels, &shape, &Device::cpu()).unwrap()
}

fn logits(recipe: &Recipe, folder: &Path) -> Vec<f64> {
    let (model, parameters) = build::model_with_weights(recipe, folder, |_| {}).unwrap();
    let pass = Pass::inference(&parameters);
    let output = model.forward(&pass, &pass.constant(pictures(recipe))).unwrap();
    output.prediction().unwrap().value().to_f64_vec().unwrap()
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |top, v| top.max(v.abs()));
    let off = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max);
    assert!(off <= tolerance * largest, "off by {:.1e}", off / largest);
}

/// The recipe of weights by what lies beside them.
fn beside(folder: &Path) -> Recipe {
    let mut overrides = overrides(&[]);
    overrides.describe(&Description::beside(folder).unwrap().unwrap(), true).unwrap();
    Recipe::load("d2l", &overrides).unwrap()
}

#[test]
fn lora_adds_nothing_at_first_changes_nothing_else_and_is_merged_for_others() {
    let data = small_images(24, 10);
    let keys = ["model.lora_rank=2", "model.lora_alpha=8.0", "optimizer.learning_rate=0.5"];
    let (plain, lora) = (recipe(&[]), recipe(&keys));
    let [folder, again] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    finish(create(plain.clone(), folder.path(), &data).unwrap()).unwrap();
    let begun = folder.path().join(BEST);

    // Weights without LoRA are those of the model that it is added to.
    let first = build::model(&lora).unwrap();
    let weights = format!("run.initial_weights={}", begun.display());
    let start = [&keys[..], &[weights.as_str()]].concat();
    let run = folder.path().join("lora");
    let mut trainer: Trainer = create(recipe(&start), &run, &data).unwrap();
    let pass = Pass::inference(trainer.parameters());
    let output = first.0.forward(&pass, &pass.constant(pictures(&lora)));
    // Another model's layers do not take these parameters: the trainer's own do.
    assert!(output.is_err());
    drop(pass);
    let before = values(trainer.parameters());
    trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    for (name, after) in values(trainer.parameters()) {
        let changed = before[&name] != after;
        assert_eq!(changed, name.contains(".lora.") || name.starts_with("head."), "{name}");
    }
    drop(trainer);
    let merged = run.join(MODEL);
    let names = fs::read(merged.join("model.safetensors")).unwrap();
    assert!(!String::from_utf8_lossy(&names[..4096]).contains("lora"));
    assert_close(&logits(&beside(&merged), &merged), &logits(&lora, &run.join(BEST)), 1e-5);
    // It does something.
    let (with, without) = (logits(&lora, &run.join(BEST)), logits(&plain, &begun));
    assert!(with.iter().zip(&without).any(|(a, b)| (a - b).abs() > 1e-3));

    let mut trainer = create(recipe(&start), again.path(), &data).unwrap();
    trainer.run(&mut (), &AtomicBool::new(true)).unwrap();
    drop(trainer);
    finish(open(again.path(), &data, &[]).unwrap()).unwrap();
    assert_eq!(read(&run.join(LAST)), read(&again.path().join(LAST)));
}

#[test]
fn a_finished_run_leaves_timms_form() {
    let folder = tempfile::tempdir().unwrap();
    for (i, keys) in [&[][..], &["model.pool=mean"], &["model.init_values=0.1"]].iter().enumerate()
    {
        let run = folder.path().join(i.to_string());
        let recipe = recipe(keys);
        finish(create(recipe.clone(), &run, &small_images(24, 10)).unwrap()).unwrap();
        let model = run.join(MODEL);
        assert_close(&logits(&beside(&model), &model), &logits(&recipe, &run.join(BEST)), 1e-6);
        let config = fs::read_to_string(model.join("config.json")).unwrap();
        for key in ["architecture", "num_features", "label_names", "model_args", "first_conv"] {
            assert!(config.contains(&format!("{key:?}")), "{config}");
        }
    }
}

fn form(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden/forms").join(name)
}

fn adapted(name: &str, keys: &[&str]) -> (BTreeMap<String, Vec<f64>>, Vec<String>, Recipe) {
    let (mut overrides, folder) = (overrides(keys), form(name));
    overrides.describe(&Description::beside(&folder).unwrap().unwrap(), true).unwrap();
    let recipe = Recipe::load("d2l", &overrides).unwrap();
    let (_, parameters) = build::model(&recipe).unwrap();
    let notices = weights::load(&folder, Some(&recipe.model), &parameters, false).unwrap();
    (values(&parameters), notices, recipe)
}

/// What timm makes of positions or distances: for each height and width, values.
fn resampled(kind: &str) -> Vec<([usize; 2], Vec<f64>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/resampled.json");
    let golden: BTreeMap<String, BTreeMap<String, Vec<f64>>> =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let sides = |text: &str| {
        let (height, width) = text.split_once('x').unwrap();
        [height, width].map(|side| side.parse().unwrap())
    };
    golden[kind].iter().map(|(text, values)| (sides(text), values.clone())).collect()
}

#[test]
fn positions_of_another_grid_are_timms() {
    let golden = resampled("positions");
    assert_eq!(golden.len(), 4);
    for (grid, expected) in golden {
        let [height, width] = grid.map(|side| 4 * side);
        let size = format!("model.image_size=[{height}, {width}]");
        let (found, notices, _) = adapted("timm_vit", &[&size]);
        assert_close(&found["pos_embed"], &expected, 1e-6);
        assert!(notices.len() == 1 && notices[0].contains("resampled"), "{notices:?}");
    }
}

#[test]
fn distances_in_another_window_are_timms() {
    let golden = resampled("distances");
    assert_eq!(golden.len(), 3);
    for ([p, q], expected) in golden {
        // Patches of 2x2 pixels, and two windows down and across.
        let size = format!("model.image_size=[{}, {}]", 4 * p, 4 * q);
        let window = format!("model.window_size=[{p}, {q}]");
        let (found, notices, _) = adapted("timm_swin", &[&size, &window]);
        let name = "layers.0.blocks.1.attn.relative_position_bias_table";
        assert_close(&found[name], &expected, 1e-5);
        assert!(notices.len() == 1 && notices[0].contains("resampled"), "{notices:?}");
    }
}

#[test]
fn one_channel_sees_what_three_equal_ones_do() {
    let (grey, notices, recipe) = adapted("timm_vit", &["model.channels=1"]);
    let (colour, none, _) = adapted("timm_vit", &[]);
    assert!(notices.len() == 1 && none.is_empty());
    let (grey, colour) = (&grey["patch_embed.proj.weight"], &colour["patch_embed.proj.weight"]);
    let sums = colour.chunks(3 * 16).flat_map(|kernel| {
        (0..16).map(|i| kernel[i] + kernel[16 + i] + kernel[32 + i]).collect::<Vec<_>>()
    });
    assert_close(grey, &sums.collect::<Vec<_>>(), 1e-6);
    // As timm does, the mean of the three means is that of the one.
    let input = build::model(&recipe).unwrap().0.input();
    assert_eq!((input.mean.len(), input.channels), (1, 1));
}
