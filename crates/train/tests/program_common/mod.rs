//! What the tests of the `vitrine` program share: the tiny model, files of weights made by hand, pictures, and how the
//! program is run. No test lives here.

#![allow(dead_code, reason = "each of the test programs uses a part")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use safetensors::tensor::{Dtype, TensorView};
use vitrine_train::build;
use vitrine_train::recipe::{Overrides, Recipe};

/// The keys of the tiny model: 28 × 28 pixels in four patches, one block.
const TINY: [&str; 6] = [
    "model.width=16",
    "model.heads=2",
    "model.depth=1",
    "model.mlp_width=32",
    "model.image_size=28",
    "model.patch_size=14",
];

/// The tiny model's recipe, with further keys.
pub fn recipe(keys: &[&str]) -> Recipe {
    let mut overrides = Overrides::new();
    for key in TINY.iter().chain(keys) {
        overrides.set(key).unwrap();
    }
    Recipe::load("d2l", &overrides).unwrap()
}

/// The program with arguments, of which `tiny` keys come last.
pub fn vitrine(arguments: &[&str], tiny: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    command.args(arguments);
    for key in tiny {
        command.args(["--set", key]);
    }
    // What the person who runs the tests has set must not matter.
    command.env_remove("VITRINE_DATA");
    command
}

/// The program with arguments and the tiny model's keys.
pub fn tiny(arguments: &[&str], keys: &[&str]) -> Command {
    vitrine(arguments, &[&TINY, keys].concat())
}

/// Runs a command that must succeed, and gives what it printed.
pub fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must end with this exit status and print nothing but errors, which it gives.
pub fn fails(mut command: Command, status: i32) -> String {
    let output = command.output().unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(status), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(errors.starts_with("error: ") && !errors.contains("panicked"), "{errors}");
    errors
}

/// Runs a command with a standard input.
pub fn with_input(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // A program that fails early does not read it.
    let _ = pipe.write_all(input);
    drop(pipe);
    child.wait_with_output().unwrap()
}

/// What a command wrote to the standard error.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A JSON object in each line.
pub fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Writes a file of weights for a recipe's model: all zero, but for what `value` gives at a parameter's name and the
/// index in it.
pub fn write_weights(path: &Path, recipe: &Recipe, value: impl Fn(&str, usize) -> f32) {
    let (_, parameters) = build::model(recipe).unwrap();
    let data: Vec<_> = parameters
        .infos()
        .iter()
        .map(|info| {
            let elements = info.shape.iter().product();
            let bytes: Vec<u8> =
                (0..elements).flat_map(|i| value(&info.name, i).to_le_bytes()).collect();
            (info.name.clone(), info.shape.clone(), bytes)
        })
        .collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Weights with which the model gives these logits, whatever the image.
pub fn write_constant(path: &Path, recipe: &Recipe, logits: &[f32]) {
    write_weights(path, recipe, |name, i| if name == "head.bias" { logits[i] } else { 0.0 });
}

/// Makes the folder of a run with this checkpoint in it, which gives these logits.
pub fn write_run(folder: &Path, recipe: &Recipe, checkpoints: &[(&str, &[f32])]) {
    for (name, logits) in checkpoints {
        write_constant(&folder.join(name).join("weights.safetensors"), recipe, logits);
    }
    fs::write(folder.join("config.toml"), recipe.resolved_toml().unwrap()).unwrap();
}

/// Writes a gray picture as PNG.
pub fn write_picture(path: &Path, (width, height): (u32, u32), gray: impl Fn(u32, u32) -> u8) {
    image::GrayImage::from_fn(width, height, |x, y| image::Luma([gray(x, y)])).save(path).unwrap();
}

/// The path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Files of weights that are of no use for the tiny model, each with what the error must say beside the file's name.
pub fn bad_weights(folder: &Path) -> Vec<(PathBuf, Vec<&'static str>)> {
    let file = |name: &str| folder.join(name);
    let good = file("good.safetensors");
    write_constant(&good, &recipe(&[]), &[0.0; 10]);

    let wider = file("wider.safetensors");
    write_constant(&wider, &recipe(&["model.width=24"]), &[0.0; 10]);
    let deeper = file("deeper.safetensors");
    write_constant(&deeper, &recipe(&["model.depth=2"]), &[0.0; 10]);
    let lacking = file("lacking.safetensors");
    write_constant(&lacking, &recipe(&["model.pool=mean"]), &[0.0; 10]);
    let truncated = file("truncated.safetensors");
    let bytes = fs::read(&good).unwrap();
    fs::write(&truncated, &bytes[..bytes.len() - 4]).unwrap();
    let header = file("header.safetensors");
    fs::write(&header, &bytes[..5]).unwrap();
    let nan = file("nan.safetensors");
    let at = ("blocks.0.mlp.fc1.weight", 7);
    write_weights(&nan, &recipe(&[]), |name, i| if (name, i) == at { f32::NAN } else { 0.0 });
    let infinite = file("infinite.safetensors");
    write_weights(&infinite, &recipe(&[]), |name, i| match (name, i) {
        ("head.bias", 9) => f32::NEG_INFINITY,
        _ => 0.0,
    });
    vec![
        (file("nowhere.safetensors"), vec!["No such file"]),
        (wider, vec!["of another model", "`cls_token`", "[1, 1, 24]", "[1, 1, 16]"]),
        (deeper, vec!["of another model", "the model has no `blocks.1."]),
        (lacking, vec!["of another model", "`cls_token` is missing"]),
        (truncated, vec!["is truncated or no safetensors file"]),
        (header, vec!["is truncated or no safetensors file"]),
        (nan, vec!["`blocks.0.mlp.fc1.weight`", "not finite"]),
        (infinite, vec!["`head.bias`", "not finite"]),
    ]
}
