//! [`Faulty`]: the CPU backend with one fault in one operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vitrine_tensor::backend::*;
use vitrine_tensor::{CpuBackend, DType, Dropout, Result, Tensor};

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
    inner: CpuBackend,
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

    fn run(
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

/// Implements the topics: each operation with its arguments, and what it writes.
macro_rules! operations {
    ($($topic:ident {
        $($name:ident($($arg:ident: $type:ty),*) writes [$($result:expr),*];)*
    })*) => {
        /// All operations that can have a fault.
        pub const OPERATIONS: &[&str] = &["upload", "download", $($(stringify!($name)),*),*];

        $(impl $topic for Faulty {
            $(fn $name(&self, $($arg: $type),*) -> Result<()> {
                self.run(stringify!($name), &[$($result),*], || self.inner.$name($($arg),*))
            })*
        })*
    };
}

/// What attention's gradient writes.
fn of_attention<'a>(grads: &AttentionGrads<'a>) -> [Option<&'a Tensor>; 2] {
    match *grads {
        AttentionGrads::Packed(qkv) => [Some(qkv), None],
        AttentionGrads::Split(q, kv) => [Some(q), Some(kv)],
    }
}

operations! {
    Movement {
        copy(from: &Tensor, to: &Tensor) writes [Some(to)];
        fill(to: &Tensor, value: f64) writes [Some(to)];
    }
    Arithmetic {
        add_scaled(from: &Tensor, factor: f64, to: &Tensor) writes [Some(to)];
        binary(op: Binary, a: &Tensor, b: &Tensor, to: &Tensor) writes [Some(to)];
        sum(from: &Tensor, to: &Tensor) writes [Some(to)];
    }
    Activations {
        activate(x: &Tensor, activation: Activation, y: &Tensor) writes [Some(y)];
        activate_grad(x: &Tensor, activation: Activation, dy: &Tensor, dx: &Tensor)
            writes [Some(dx)];
        dropout(x: &Tensor, dropout: Dropout, y: &Tensor) writes [Some(y)];
    }
    Products {
        linear(
            x: &Tensor, w: &Tensor, epilogue: &Epilogue<'_>, derivative: Option<&Tensor>, y: &Tensor
        ) writes [Some(y), derivative];
        linear_grad_input(dy: &Tensor, w: &Tensor, dx: &Tensor) writes [Some(dx)];
        linear_grad_activated(dy: &Tensor, w: &Tensor, derivative: &Tensor, dpre: &Tensor)
            writes [Some(dpre)];
        linear_grad_weight(dy: &Tensor, x: &Tensor, dw: &Tensor, db: Option<&Tensor>)
            writes [Some(dw), db];
        matmul(a: &Tensor, b: &Tensor, c: &Tensor) writes [Some(c)];
    }
    Convolutions {
        unfold(images: &Tensor, windows: &Windows, to: &Tensor) writes [Some(to)];
        fold(from: &Tensor, windows: &Windows, images: &Tensor) writes [Some(images)];
        convolution(
            x: &Tensor, w: &Tensor, bias: Option<&Tensor>, windows: &Windows, y: &Tensor
        ) writes [Some(y)];
        convolution_grad_input(dy: &Tensor, w: &Tensor, windows: &Windows, dx: &Tensor)
            writes [Some(dx)];
        convolution_grad_weight(
            dy: &Tensor, x: &Tensor, windows: &Windows, dw: &Tensor, db: Option<&Tensor>
        ) writes [Some(dw), db];
    }
    Norms {
        layer_norm(
            x: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f64, y: &Tensor,
            statistics: &Tensor
        ) writes [Some(y), Some(statistics)];
        layer_norm_grad(
            x: &Tensor, scale: &Tensor, statistics: &Tensor, dy: &Tensor, grads: &LayerNormGrads<'_>
        ) writes [Some(grads.input), Some(grads.scale), Some(grads.shift)];
        softmax(x: &Tensor, y: &Tensor) writes [Some(y)];
        softmax_grad(y: &Tensor, dy: &Tensor, dx: &Tensor) writes [Some(dx)];
    }
    Attentions {
        attention(
            inputs: &AttentionInputs<'_>, attention: &Attention<'_>, y: &Tensor, log_sums: &Tensor
        ) writes [Some(y), Some(log_sums)];
        attention_grad(
            inputs: &AttentionInputs<'_>, attention: &Attention<'_>, y: &Tensor, log_sums: &Tensor,
            dy: &Tensor, grads: &AttentionGrads<'_>
        ) writes [of_attention(grads)[0], of_attention(grads)[1]];
    }
    Losses {
        cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64, loss: &Tensor)
            writes [Some(loss)];
        cross_entropy_grad(
            logits: &Tensor, labels: &Tensor, smoothing: f64, dloss: &Tensor, dlogits: &Tensor
        ) writes [Some(dlogits)];
        soft_target_cross_entropy(logits: &Tensor, targets: &Tensor, loss: &Tensor)
            writes [Some(loss)];
        soft_target_cross_entropy_grad(
            logits: &Tensor, targets: &Tensor, dloss: &Tensor, dlogits: &Tensor
        ) writes [Some(dlogits)];
    }
    Embeddings {
        embed_tokens(
            patches: &Tensor, class: Option<&Tensor>, positions: &Tensor, dropout: Option<Dropout>,
            y: &Tensor
        ) writes [Some(y)];
    }
    Optimizers {
        sgd(
            parameters: &Tensor, grads: &Tensor, velocity: Option<&Tensor>, step: &SgdStep,
            groups: &[ParameterGroup]
        ) writes [Some(parameters), velocity];
        adamw(
            parameters: &Tensor, grads: &Tensor, first_moment: &Tensor, second_moment: &Tensor,
            step: &AdamWStep, groups: &[ParameterGroup]
        ) writes [Some(parameters), Some(first_moment), Some(second_moment)];
        sum_squares(x: &Tensor, to: &Tensor) writes [Some(to)];
        clip_norm(x: &Tensor, sum_squares: &Tensor, max_norm: f64) writes [Some(x)];
    }
}
