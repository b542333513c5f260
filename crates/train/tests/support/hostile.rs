//! Folders of weights to spoil, and how they are opened.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use vitrine_train::description::Description;
use vitrine_train::predict::{Classifier, Guess};
use vitrine_train::recipe::{Overrides, Recipe};
use vitrine_train::{TrainError, weights};

/// What is done to a folder.
pub type Spoil = Box<dyn Fn(&Path)>;

/// A way to be wrong, and words that must stand in the refusal.
pub struct Case {
    pub name: &'static str,
    pub golden: &'static str,
    pub spoil: Spoil,
    pub words: Vec<&'static str>,
}

/// A copy of a golden folder: `hostile` in a new folder.
pub fn copy(golden: &str) -> TempDir {
    let from =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden/forms").join(golden);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("hostile");
    fs::create_dir(&to).unwrap();
    for file in from.read_dir().unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    folder
}

/// What becomes of `--weights FOLDER`, up to what the model makes of a picture.
pub fn opened(folder: &Path) -> Result<Vec<Guess>, String> {
    let open = || -> Result<Vec<Guess>, TrainError> {
        let mut overrides = Overrides::new();
        match Description::beside(folder)? {
            Some(about) => overrides.describe(&about, true)?,
            None => overrides.head_has(weights::classes(folder)?.unwrap_or(0)),
        };
        let recipe = Recipe::load("d2l", &overrides)?;
        let classifier = Classifier::load(&recipe, folder, |_| {})?;
        let vit = recipe.model.vit().unwrap();
        let pixels = vit.channels * vit.image_size.0 * vit.image_size.1;
        let pixels: Vec<f32> = (0..pixels).map(|i| (i % 13) as f32 / 6.0 - 1.0).collect();
        classifier.classify(&pixels)
    };
    open().map_err(|error| error.to_string())
}

/// Whether a message says enough, and not too much.
pub fn refused(
    message: Result<Option<String>, Box<dyn Any + Send>>,
    words: &[&str],
) -> Result<(), String> {
    let message = message.map_err(|_| "it panics")?.ok_or("it is read")?;
    let obeyed = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    match words.iter().find(|words| !message.contains(**words)) {
        Some(words) => Err(format!("no {words:?} in {message}")),
        None if message.len() > 5000 => Err(format!("{} bytes", message.len())),
        None if message.lines().count() > 3 || message.chars().any(obeyed) => {
            Err(format!("a terminal obeys {message:?}"))
        }
        None => Ok(()),
    }
}

/// The most memory that the process had, in kB; `None` where the system does not say.
pub fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A tensor in a file.
pub struct Entry {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Entry {
    pub fn zeros(shape: &[usize]) -> Self {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        Self { dtype: "F32".into(), shape: shape.to_vec(), bytes }
    }

    /// What the head says of it.
    pub fn info(&self, at: usize) -> Value {
        let Self { dtype, shape, bytes } = self;
        json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes.len()] })
    }

    /// Rounds numbers of 32 bits to another type.
    pub fn convert(&mut self, dtype: &str) {
        let numbers = self.bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word));
        self.bytes = match dtype {
            "F16" => numbers.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
            "BF16" => numbers.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
            _ => numbers.flat_map(|v| f64::from(v).to_le_bytes()).collect(),
        };
        self.dtype = dtype.into();
    }
}

/// The tensors of a file.
pub fn read(path: &Path) -> BTreeMap<String, Entry> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let entry = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let (dtype, shape) = (view.dtype().to_string(), view.shape().to_vec());
        (name, Entry { dtype, shape, bytes: view.data().to_vec() })
    };
    file.tensors().into_iter().map(entry).collect()
}

/// Changes the tensors of a file; it need not be sound.
pub fn rewrite(path: &Path, change: &dyn Fn(&mut BTreeMap<String, Entry>)) {
    let mut all = read(path);
    change(&mut all);
    let (mut head, mut data) = (Map::new(), Vec::new());
    for (name, entry) in all {
        head.insert(name, entry.info(data.len()));
        data.extend(entry.bytes);
    }
    let head = Value::Object(head).to_string();
    let length = (head.len() as u64).to_le_bytes();
    fs::write(path, [&length, head.as_bytes(), &data].concat()).unwrap();
}
