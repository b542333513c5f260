//! Runs the `vitrine` program for tests, on a model that is as small as a model gets.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use vitrine_data::Dataset;
use vitrine_train::build::{self, Datasets, Parts};
use vitrine_train::checkpoint;
use vitrine_train::recipe::{Overrides, Recipe};
use vitrine_train::trainer::Trainer;

/// The recipe keys of the small model.
pub const TINY: [&str; 8] = [
    "model.width=16",
    "model.heads=2",
    "model.depth=1",
    "model.mlp_width=32",
    "model.image_size=28",
    "model.patch_size=14",
    "run.threads=1",
    "run.epochs=1",
];

/// What a run of the program left.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The standard output of a run that must have succeeded.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// The standard output as one JSON object.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.succeeded()).unwrap()
    }

    /// A failure: exit code 1, nothing on the standard output, one message, which has all these parts.
    #[track_caller]
    pub fn failed(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        assert_eq!(self.stderr.matches("error: ").count(), 1, "{self:?}");
        self.says(parts);
    }

    /// Arguments that were refused: exit code 2 and a message with all these parts.
    #[track_caller]
    pub fn refused(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        self.says(parts);
    }

    #[track_caller]
    pub fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {}", self.stderr);
        }
    }
}

/// `vitrine` with these arguments, and `input` on its standard input.
pub fn vitrine_with<S: AsRef<OsStr>>(arguments: &[S], input: &[u8]) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vitrine"))
        .args(arguments)
        .env_remove("VITRINE_DATA")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// `vitrine` with these arguments.
pub fn vitrine<S: AsRef<OsStr>>(arguments: &[S]) -> Ended {
    vitrine_with(arguments, b"")
}

/// Arguments that select the small model, after those given.
pub fn tiny<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let set = TINY.iter().flat_map(|key| ["--set", *key]);
    arguments.iter().copied().chain(set).collect()
}

/// The recipe of the small model, with more keys on top.
pub fn tiny_recipe(more: &[&str]) -> Recipe {
    let mut overrides = Overrides::new();
    for key in TINY.iter().chain(more) {
        overrides.set(key).unwrap();
    }
    Recipe::load("d2l", &overrides).unwrap()
}

/// A file with the first weights of the small model.
pub fn tiny_weights(folder: &Path, more: &[&str]) -> PathBuf {
    let path = folder.join("weights.safetensors");
    let (_, parameters) = build::model(&tiny_recipe(more)).unwrap();
    checkpoint::write_weights(&path, &parameters).unwrap();
    path
}

/// A run of the small model on a made-up data set, in a folder of its own.
pub fn tiny_run(folder: &Path, more: &[&str]) -> PathBuf {
    let path = folder.join("run");
    let train = Arc::new(Dataset::synthetic(200, [1, 28, 28], 10, 1).unwrap());
    let val = Arc::new(Dataset::synthetic(50, [1, 28, 28], 10, 2).unwrap());
    let data = Datasets::new(train, val);
    let mut trainer = {
        let recipe = tiny_recipe(more);
        let parts = Parts::of(&recipe, data).unwrap();
        Trainer::create(parts, &recipe.training, &path).unwrap()
    };
    trainer.run(&mut (), &false.into()).unwrap();
    path
}

/// A gray picture as a PNG file.
pub fn picture(folder: &Path, name: &str, pixel: impl Fn(u32, u32) -> u8) -> PathBuf {
    let path = folder.join(name);
    let image = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([pixel(x, y)]));
    image.save(&path).unwrap();
    path
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
