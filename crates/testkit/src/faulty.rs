//! [`Faulty`]: the CPU backend with one fault in one operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vitrine_tensor::backend::{Backend, Memory, Movement, Storage};
use vitrine_tensor::{CpuBackend, DType, Result, Tensor};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The operation is not run.
    Skip,
    /// The last element of the result with this number is wrong by a little.
    Perturb(usize),
}

/// The CPU backend with a fault in the operation `op`.
pub struct Faulty {
    pub(crate) inner: CpuBackend,
    op: &'static str,
    fault: Fault,
    hits: Arc<AtomicUsize>,
}

impl Faulty {
    /// The backend, and a count of how often the fault came about.
    pub fn new(op: &'static str, fault: Fault) -> (Self, Arc<AtomicUsize>) {
        let hits = Arc::new(AtomicUsize::new(0));
        (Self { inner: CpuBackend::default(), op, fault, hits: hits.clone() }, hits)
    }

    /// Runs an operation that writes `results`, or does it wrong.
    pub(crate) fn run(
        &self,
        op: &'static str,
        results: &[Option<&Tensor>],
        run: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let written = |t: &&Tensor| t.elements() > 0;
        if op != self.op {
            return run();
        }
        match self.fault {
            Fault::Skip if results.iter().flatten().any(written) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Fault::Skip => run(),
            Fault::Perturb(number) => {
                run()?;
                match results.get(number).copied().flatten().filter(written) {
                    Some(result) => self.perturb(result),
                    None => Ok(()),
                }
            }
        }
    }

    fn perturb(&self, result: &Tensor) -> Result<()> {
        self.hits.fetch_add(1, Ordering::Relaxed);
        let values = self.values(result)?;
        let size = values.iter().filter(|v| v.is_finite()).fold(0.0, |a: f64, v| a.max(v.abs()));
        // A small result may be the difference of larger numbers, and one that is 0 but for rounding gives no measure.
        let size = if size < 1e-6 { 1.0 } else { size.max(0.01) };
        let wrong = match result.dtype() {
            DType::F32 => 1e-3 * size,
            DType::F64 => 1e-5 * size,
            DType::BF16 => 0.05 * size,
            DType::U8 | DType::I64 => 1.0,
        };
        let mut last = result.clone();
        for axis in 0..last.rank() {
            last = last.narrow(axis, last.shape()[axis] - 1, 1)?;
        }
        let value = values[values.len() - 1];
        // 255 bytes and infinite logarithms have nothing above them.
        let wrong =
            if value.is_finite() && (value < 255.0 || wrong < 1.0) { value + wrong } else { 0.0 };
        self.inner.fill(&last, wrong)
    }

    /// The values of a tensor of any layout, read without the faulty operations.
    fn values(&self, tensor: &Tensor) -> Result<Vec<f64>> {
        let dense = Tensor::zeros(tensor.shape(), DType::F64, &vitrine_tensor::Device::cpu())?;
        self.inner.copy(tensor, &dense)?;
        dense.to_f64_vec()
    }
}

impl Storage for Faulty {
    fn name(&self) -> String {
        format!("cpu with {:?} in {}", self.fault, self.op)
    }

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        self.inner.allocate(bytes)
    }

    fn upload(&self, bytes: &[u8], to: &Tensor) -> Result<()> {
        self.run("upload", &[Some(to)], || self.inner.upload(bytes, to))
    }

    fn download(&self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        if self.op != "download" || bytes.is_empty() {
            return self.inner.download(from, bytes);
        }
        match self.fault {
            Fault::Skip => {
                self.hits.fetch_add(1, Ordering::Relaxed);
            }
            Fault::Perturb(0) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                self.inner.download(from, bytes)?;
                bytes[0] ^= 1;
            }
            Fault::Perturb(_) => self.inner.download(from, bytes)?,
        }
        Ok(())
    }

    fn poison(&self) {
        self.inner.poison();
    }
}

impl Backend for Faulty {}

/// Implements a topic: each operation with its arguments, and what it writes.
macro_rules! faults {
    ($topic:ident {
        $($name:ident($($arg:ident: $type:ty),*) writes [$($result:expr),*];)*
    }) => {
        /// The operations.
        pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];

        impl $topic for $crate::faulty::Faulty {
            $(fn $name(&self, $($arg: $type),*) -> vitrine_tensor::Result<()> {
                self.run(stringify!($name), &[$($result),*], || self.inner.$name($($arg),*))
            })*
        }
    };
}
pub(crate) use faults;
