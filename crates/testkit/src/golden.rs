//! Golden files: what PyTorch and timm computed, as `golden/make.py` wrote it down.

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use vitrine_tensor::{Device, Tensor};

/// The folder of the golden files.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

/// A golden file. What it lacks is a panic: it serves tests.
pub struct GoldenFile {
    bytes: Vec<u8>,
    name: String,
    /// What the script said of the file's cases; null if nothing.
    pub config: Value,
}

impl GoldenFile {
    /// Reads `NAME.safetensors`.
    pub fn open(name: &str) -> Self {
        let path = format!("{FOLDER}/{name}.safetensors");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("the file has a head");
        let config = metadata.metadata().as_ref().and_then(|metadata| metadata.get("config"));
        let config = config.map(|text| serde_json::from_str(text).expect("the metadata is JSON"));
        Self { bytes, name: name.to_owned(), config: config.unwrap_or_default() }
    }

    /// A tensor as it is stored, on the CPU: `f32`, `f64` or `i64`.
    pub fn tensor(&self, key: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.bytes).expect("the file is whole");
        let view = file.tensor(key).unwrap_or_else(|error| panic!("{}, {key}: {error}", self.name));
        let (data, shape, cpu) = (view.data(), view.shape(), Device::cpu());
        let tensor = match view.dtype() {
            Dtype::F32 => Tensor::from_slice(&words(data, f32::from_le_bytes), shape, &cpu),
            Dtype::F64 => Tensor::from_slice(&words(data, f64::from_le_bytes), shape, &cpu),
            Dtype::I64 => Tensor::from_slice(&words(data, i64::from_le_bytes), shape, &cpu),
            other => panic!("{}, {key}: element type {other:?}", self.name),
        };
        tensor.expect("the shape is the data's")
    }

    /// The numbers of a tensor.
    pub fn values(&self, key: &str) -> Vec<f64> {
        self.tensor(key).to_f64_vec().expect("the tensor is on the CPU")
    }
}

fn words<T, const N: usize>(data: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (words, []) = data.as_chunks() else { panic!("a part of a number") };
    words.iter().map(|&word| from(word)).collect()
}

/// `‖found − expected‖ / ‖expected‖`
///
/// # Panics
/// If they are not equally many.
pub fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(f, e)| f - e));
    difference / norm(&mut expected.iter().copied())
}
