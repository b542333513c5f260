//! Golden files in one element type, and comparing with what they hold.

use serde_json::Value;
use vitrine_nn::Parameters;
use vitrine_tensor::{DType, Tensor};
use vitrine_testkit::Comparison;
use vitrine_testkit::golden::GoldenFile;

/// A golden file, its floats read as one element type.
pub struct Golden {
    file: GoldenFile,
    name: String,
    pub dtype: DType,
}

impl Golden {
    pub fn open(name: &str, dtype: DType) -> Self {
        Self { file: GoldenFile::open(name), name: name.to_owned(), dtype }
    }

    pub fn config(&self) -> &Value {
        &self.file.config
    }

    /// The names and descriptions of the cases.
    pub fn cases(&self) -> impl Iterator<Item = (&str, &Value)> {
        let cases = self.config()["cases"].as_object().expect("the file has cases");
        assert!(!cases.is_empty());
        cases.iter().map(|(name, description)| (name.as_str(), description))
    }

    /// A tensor of this test's element type; integers stay integers.
    pub fn tensor(&self, key: &str) -> Tensor {
        let stored = self.file.tensor(key);
        match stored.dtype() {
            DType::I64 => stored,
            _ => stored.to_dtype(self.dtype).unwrap(),
        }
    }

    /// Sets every parameter to the file's `{prefix}.NAME`, `NAME` being what is left of its name after `scope`.
    pub fn load(&self, parameters: &Parameters, scope: &str, prefix: &str) {
        for (name, value) in parameters.named_values() {
            let name = name.strip_prefix(scope).expect("all parameters are in the scope");
            value.unwrap().copy_(&self.tensor(&format!("{prefix}.{name}"))).unwrap();
        }
    }

    /// Compares every parameter's gradient with the file's `{prefix}.NAME`.
    pub fn compare_grads(&self, parameters: &Parameters, scope: &str, prefix: &str) {
        for name in parameters.names() {
            let grad = parameters.grad(parameters.find(name).unwrap()).unwrap();
            let name = name.strip_prefix(scope).expect("all parameters are in the scope");
            self.compare(&format!("{prefix}.{name}"), &grad);
        }
    }

    /// Compares within the tolerance of the element type. In `f64` that of 1e-7 is just above the rounding of the
    /// file's values to `f32`.
    pub fn compare(&self, key: &str, actual: &Tensor) {
        self.compare_with(key, actual, &self.file.tensor(key));
    }

    /// As [`Golden::compare`], with one row of a stored tensor.
    pub fn compare_row(&self, key: &str, row: usize, actual: &Tensor) {
        let expected = self.file.tensor(key).narrow(0, row, 1).unwrap();
        self.compare_with(key, actual, &expected.reshape(actual.shape()).unwrap());
    }

    fn compare_with(&self, key: &str, actual: &Tensor, expected: &Tensor) {
        let dtype = actual.dtype();
        assert_eq!(dtype, self.dtype.accumulator(), "{key}");
        let expected = expected.to_dtype(DType::F64).unwrap().to_ndarray::<f64>().unwrap();
        let comparison = Comparison::new("value", actual, &expected).unwrap();
        if let Err(mismatch) = comparison.verdict() {
            panic!("{}, {key} in {dtype}: {mismatch}", self.name);
        }
    }
}
