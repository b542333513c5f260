//! [`Case`]: one operation on one set of inputs, and how to run it so that unwritten results are found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use vitrine_tensor::{DType, Device, Result};

use crate::compare::Comparison;
use crate::inputs::Setup;

type Run = dyn Fn(&Setup) -> Result<Vec<Comparison>> + Send + Sync;

/// One operation on one set of inputs.
pub struct Case {
    /// The method of `vitrine_tensor::Backend` that is tested.
    pub op: &'static str,
    /// What is particular about the inputs.
    pub name: String,
    run: Box<Run>,
}

impl Case {
    /// A case that runs `run` and compares all that it gives.
    pub fn new(
        op: &'static str,
        name: impl Into<String>,
        run: impl Fn(&Setup) -> Result<Vec<Comparison>> + Send + Sync + 'static,
    ) -> Self {
        Self { op, name: name.into(), run: Box::new(run) }
    }

    /// Runs the case once.
    pub fn run(&self, device: &Device, dtype: DType) -> Result<Vec<Comparison>> {
        (self.run)(&Setup::new(device, dtype))
    }

    /// Runs the case with `value` in place of one number of the input that is made after so many others; `None` if it
    /// has no more inputs than that.
    pub(crate) fn run_spoiled(
        &self,
        (device, dtype): (&Device, DType),
        input: usize,
        value: f64,
    ) -> Option<std::result::Result<Vec<Comparison>, String>> {
        let setup = Setup::spoiled(device, dtype, input, value);
        let result = caught(|| (self.run)(&setup));
        setup.has_spoiled().then_some(result)
    }

    /// Runs the case twice, the second time in buffers that were filled with NaN, and gives the comparisons of the
    /// second run. An error is the message of what went wrong: an error of the operation, a panic, or results of
    /// the two runs that differ in any bit.
    pub fn run_poisoned(
        &self,
        device: &Device,
        dtype: DType,
    ) -> std::result::Result<Vec<Comparison>, String> {
        let run = || caught(|| self.run(device, dtype));
        let bits = |comparisons: &[Comparison]| -> Vec<u64> {
            comparisons.iter().flat_map(|c| c.actual().iter().map(|v| v.to_bits())).collect()
        };
        let first = bits(&run()?);
        device.backend().poison();
        let second = run()?;
        if second.iter().all(|c| c.verdict().is_ok()) && bits(&second) != first {
            return Err("a second run gives other bits".into());
        }
        Ok(second)
    }
}

/// An error or a panic as a message.
fn caught(
    run: impl FnOnce() -> Result<Vec<Comparison>>,
) -> std::result::Result<Vec<Comparison>, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(comparisons)) => Ok(comparisons),
        Ok(Err(error)) => Err(format!("error: {error}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("without a message")))
        }
    }
}
