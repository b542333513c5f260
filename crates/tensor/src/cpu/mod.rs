//! The CPU backend: locks the tensors' memory, picks the element type, and calls one generic kernel an operation.
//! Work is split in blocks of fixed size, never by the number of threads, so results are the same on any number.

mod activation;
mod attention;
mod buffer;
mod cross_entropy;
mod elementwise;
mod embed;
mod layer_norm;
mod linear;
mod memory;
mod number;
mod optimizer;
mod peak;
mod product;
mod scratch;
mod simd;
mod softmax;
mod transpose;
mod weights;

use std::sync::Arc;

pub(crate) use memory::HostMemory;
use memory::{Pool, read, write};
pub use peak::Peak;

use std::ops::Range;

use crate::backend::*;
use crate::error::{Error, Result};
use crate::random::Dropout;
use crate::{DType, Tensor, bf16};

/// The backend that computes on the host, with rayon's current thread pool.
#[derive(Default)]
pub struct CpuBackend {
    pool: Arc<Pool>,
}

impl CpuBackend {
    /// Gives buffers that are not in use back to the system.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// How many buffers the pool had to ask the system for so far. In a steady state this no longer grows.
    pub fn fresh_allocations(&self) -> usize {
        self.pool.fresh_allocations()
    }

    /// Loops of nothing but multiply-adds, one for each instruction of this machine that does them: the pace that no
    /// product can exceed.
    pub fn peaks() -> Vec<Peak> {
        peak::peaks()
    }

    /// Bytes in buffers that wait to be used again.
    pub fn idle_bytes(&self) -> usize {
        self.pool.idle_bytes()
    }
}

/// Runs the body with `$type` standing for the Rust type of a float dtype.
macro_rules! with_float {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $type = f32;
                $body
            }
            DType::F64 => {
                type $type = f64;
                $body
            }
            DType::BF16 => {
                type $type = bf16;
                $body
            }
            DType::U8 | DType::I64 => unreachable!("`ops` admits floats only"),
        }
    };
}

/// As `with_float`, for every dtype.
macro_rules! with_element {
    ($dtype:expr, $type:ident => $body:expr) => {
        match $dtype {
            DType::U8 => {
                type $type = u8;
                $body
            }
            DType::I64 => {
                type $type = i64;
                $body
            }
            float => with_float!(float, $type => $body),
        }
    };
}

/// Runs the body with `$sum` standing for `$type` or its accumulator, whichever has the dtype.
macro_rules! with_sum {
    ($dtype:expr, $type:ty, $sum:ident => $body:expr) => {
        if $dtype == <$type as crate::Element>::DTYPE {
            type $sum = $type;
            $body
        } else {
            type $sum = Acc<$type>;
            $body
        }
    };
}

type Acc<T> = <T as number::Number>::Acc;

impl Backend for CpuBackend {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        match self.pool.take(bytes) {
            Some(memory) => Ok(Box::new(memory)),
            None => Err(Error::Device {
                op: "allocate",
                device: self.name(),
                message: format!(
                    "no memory for {bytes} bytes; a smaller batch or image needs less"
                ),
            }),
        }
    }

    fn upload(&self, bytes: &[u8], to: &Tensor) -> Result<()> {
        with_element!(to.dtype(), T => {
            bytemuck::cast_slice_mut::<T, u8>(&mut write::<T>(to)).copy_from_slice(bytes);
        });
        Ok(())
    }

    fn download(&self, from: &Tensor, bytes: &mut [u8]) -> Result<()> {
        with_element!(from.dtype(), T => {
            bytes.copy_from_slice(bytemuck::cast_slice::<T, u8>(&read::<T>(from)));
        });
        Ok(())
    }

    fn poison(&self) {
        self.pool.poison();
        scratch::poison();
    }

    fn copy(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        with_element!(from.dtype(), S => with_element!(to.dtype(), T => {
            elementwise::copy::<S, T>(&read(from), from.strides(), &mut write(to), to);
        }));
        Ok(())
    }

    fn fill(&self, to: &Tensor, value: f64) -> Result<()> {
        with_element!(to.dtype(), T => elementwise::fill::<T>(&mut write(to), to, value));
        Ok(())
    }

    fn add_scaled(&self, from: &Tensor, factor: f64, to: &Tensor) -> Result<()> {
        with_float!(to.dtype(), T => {
            elementwise::add_scaled::<T>(&read(from), factor, &mut write(to));
        });
        Ok(())
    }

    fn binary(&self, op: Binary, a: &Tensor, b: &Tensor, to: &Tensor) -> Result<()> {
        with_float!(to.dtype(), T => {
            let (left, right) = (read::<T>(a), read::<T>(b));
            let left = elementwise::Operand { values: &left, strides: a.strides() };
            let right = elementwise::Operand { values: &right, strides: b.strides() };
            elementwise::binary(op, left, right, &mut write(to), to.shape());
        });
        Ok(())
    }

    fn sum(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        let &[_, reduced, inner] = from.shape() else { unreachable!("`ops` gives three axes") };
        with_float!(to.dtype(), T => {
            elementwise::sum::<T>(&read(from), reduced, inner, &mut write(to));
        });
        Ok(())
    }

    fn linear(
        &self,
        x_tensor: &Tensor,
        w_tensor: &Tensor,
        epilogue: &Epilogue<'_>,
        derivative: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<()> {
        with_float!(y.dtype(), T => {
            let bias = epilogue.bias.map(read::<T>);
            let residual = epilogue.residual.map(read::<T>);
            let finish = linear::Finish {
                bias: bias.as_deref(),
                activation: epilogue.activation,
                dropout: epilogue.dropout,
                residual: residual.as_deref(),
                rows_per_sample: rows_per_sample(y),
            };
            let mut derivative = derivative.map(write::<T>);
            let (x, w) = (read::<T>(x_tensor), read::<T>(w_tensor));
            let (inputs, outputs) = (x_tensor.dims().last(), y.dims().last());
            let packed = memory::packed_weight(w_tensor, |buffer| {
                linear::pack_weight::<T>(&w, [outputs, inputs], buffer)
            });
            let packed = packed.as_deref().map(buffer::Buffer::bytes);
            let weight = linear::Weight { values: &w, outputs, inputs, packed };
            linear::forward(&x, &weight, &finish, derivative.as_deref_mut(), &mut write(y));
        });
        Ok(())
    }

    fn linear_grad_input(&self, dy: &Tensor, w: &Tensor, dx: &Tensor) -> Result<()> {
        let &[outputs, inputs] = w.shape() else { unreachable!("`ops` gives a matrix") };
        with_float!(dx.dtype(), T => {
            linear::grad_input::<T>(&read(dy), &read(w), &mut write(dx), [outputs, inputs], None);
        });
        Ok(())
    }

    fn linear_grad_activated(
        &self,
        dy: &Tensor,
        w: &Tensor,
        derivative: &Tensor,
        dpre: &Tensor,
    ) -> Result<()> {
        let &[outputs, inputs] = w.shape() else { unreachable!("`ops` gives a matrix") };
        with_float!(dpre.dtype(), T => {
            let (derivative, mut dpre) = (read(derivative), write(dpre));
            let extents = [outputs, inputs];
            linear::grad_input::<T>(&read(dy), &read(w), &mut dpre, extents, Some(&derivative));
        });
        Ok(())
    }

    fn linear_grad_weight(
        &self,
        dy: &Tensor,
        x: &Tensor,
        dw: &Tensor,
        db: Option<&Tensor>,
    ) -> Result<()> {
        let &[outputs, inputs] = dw.shape() else { unreachable!("`ops` gives a matrix") };
        with_float!(dy.dtype(), T => {
            let (dy, x) = (read::<T>(dy), read::<T>(x));
            with_sum!(dw.dtype(), T, S => {
                linear::grad_weight::<T, S>(&dy, &x, &mut write(dw), outputs, inputs);
            });
            if let Some(db) = db {
                with_sum!(db.dtype(), T, S => linear::grad_bias::<T, S>(&dy, &mut write(db)));
            }
        });
        Ok(())
    }

    fn matmul(&self, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<()> {
        with_float!(c.dtype(), T => {
            let (left, right) = (read::<T>(a), read::<T>(b));
            let left = linear::Batched { values: &left, shape: a.shape(), strides: a.strides() };
            let right = linear::Batched { values: &right, shape: b.shape(), strides: b.strides() };
            linear::matmul(left, right, &mut write(c));
        });
        Ok(())
    }

    fn activate(&self, x: &Tensor, activation: Activation, y: &Tensor) -> Result<()> {
        with_float!(y.dtype(), T => activation::forward::<T>(&read(x), activation, &mut write(y)));
        Ok(())
    }

    fn activate_grad(
        &self,
        x: &Tensor,
        activation: Activation,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        with_float!(dx.dtype(), T => {
            activation::grad::<T>(&read(x), activation, &read(dy), &mut write(dx));
        });
        Ok(())
    }

    fn dropout(&self, x: &Tensor, dropout: Dropout, y: &Tensor) -> Result<()> {
        let mask = activation::Mask::new(dropout, x);
        with_float!(y.dtype(), T => activation::dropout::<T>(&read(x), &mask, &mut write(y)));
        Ok(())
    }

    fn layer_norm(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        epsilon: f64,
        y: &Tensor,
        statistics: &Tensor,
    ) -> Result<()> {
        with_float!(y.dtype(), T => {
            let mut statistics = write::<Acc<T>>(statistics);
            let (scale, shift) = (read::<T>(scale), read::<T>(shift));
            layer_norm::forward::<T>(
                &read(x), &scale, &shift, epsilon, &mut write(y), &mut statistics,
            );
        });
        Ok(())
    }

    fn layer_norm_grad(
        &self,
        x: &Tensor,
        scale: &Tensor,
        statistics: &Tensor,
        dy: &Tensor,
        grads: &LayerNormGrads<'_>,
    ) -> Result<()> {
        with_float!(x.dtype(), T => {
            let sums = layer_norm::grad::<T>(
                &read(x), &read(scale), &read(statistics), &read(dy), &mut write(grads.input),
            );
            let (scale, shift) = sums.split_at(scale.elements());
            for (to, sums) in [(grads.scale, scale), (grads.shift, shift)] {
                with_sum!(to.dtype(), T, S => elementwise::accumulate::<S>(&mut write(to), sums));
            }
        });
        Ok(())
    }

    fn softmax(&self, x: &Tensor, y: &Tensor) -> Result<()> {
        with_float!(y.dtype(), T => {
            softmax::forward::<T>(&read(x), x.dims().last(), &mut write(y));
        });
        Ok(())
    }

    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, dx: &Tensor) -> Result<()> {
        with_float!(dx.dtype(), T => {
            softmax::grad::<T>(&read(y), &read(dy), y.dims().last(), &mut write(dx));
        });
        Ok(())
    }

    fn attention(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
    ) -> Result<()> {
        with_float!(y.dtype(), T => {
            let (q, k, v) = (read::<T>(inputs.query), read(inputs.key), read(inputs.value));
            let lens = attention.valid_lens.map(read::<i64>);
            let plan = attention::Plan::new(inputs, attention, lens.as_deref());
            plan.forward::<T>([&q, &k, &v], &mut write(y), &mut write(log_sums));
        });
        Ok(())
    }

    fn attention_grad(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
        dy: &Tensor,
        grads: &AttentionGrads<'_>,
    ) -> Result<()> {
        with_float!(y.dtype(), T => {
            let (q, k, v) = (read::<T>(inputs.query), read(inputs.key), read(inputs.value));
            let lens = attention.valid_lens.map(read::<i64>);
            let plan = attention::Plan::new(inputs, attention, lens.as_deref());
            let saved = attention::Saved {
                inputs: [&q, &k, &v],
                y: &read(y),
                log_sums: &read(log_sums),
                dy: &read(dy),
            };
            match grads {
                AttentionGrads::Packed(qkv) => plan.grad_packed::<T>(&saved, &mut write(qkv)),
                AttentionGrads::Split(q, kv) => {
                    plan.grad_split::<T>(&saved, &mut write(q), &mut write(kv));
                }
            }
        });
        Ok(())
    }

    fn cross_entropy(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        loss: &Tensor,
    ) -> Result<()> {
        let classes = logits.dims().last();
        let labels = cross_entropy::Labels::new(&read(labels), classes, smoothing)?;
        with_float!(logits.dtype(), T => {
            write::<Acc<T>>(loss)[0] = cross_entropy::forward::<T>(&read(logits), &labels);
        });
        Ok(())
    }

    fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()> {
        let classes = logits.dims().last();
        let labels = cross_entropy::Labels::new(&read(labels), classes, smoothing)?;
        with_float!(logits.dtype(), T => {
            let dloss = read::<Acc<T>>(dloss)[0];
            cross_entropy::grad::<T>(&read(logits), &labels, dloss, &mut write(dlogits));
        });
        Ok(())
    }

    fn patchify(&self, images: &Tensor, patch: (usize, usize), patches: &Tensor) -> Result<()> {
        let grid = embed::Grid::new(images.shape(), patch);
        with_element!(images.dtype(), T => grid.cut::<T>(&read(images), &mut write(patches)));
        Ok(())
    }

    fn unpatchify(&self, patches: &Tensor, patch: (usize, usize), images: &Tensor) -> Result<()> {
        let grid = embed::Grid::new(images.shape(), patch);
        with_element!(images.dtype(), T => grid.paste::<T>(&read(patches), &mut write(images)));
        Ok(())
    }

    fn embed_tokens(
        &self,
        patches: &Tensor,
        class: Option<&Tensor>,
        positions: &Tensor,
        dropout: Option<Dropout>,
        y: &Tensor,
    ) -> Result<()> {
        let mask = dropout.map(|d| activation::Mask::new(d, y));
        with_float!(y.dtype(), T => {
            let class = class.map(read::<T>);
            let (patches, positions) = (read::<T>(patches), read::<T>(positions));
            let mut y = write::<T>(y);
            embed::tokens::<T>(&patches, class.as_deref(), &positions, mask.as_ref(), &mut y);
        });
        Ok(())
    }

    fn sgd(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        velocity: Option<&Tensor>,
        step: &SgdStep,
        undecayed: &[Range<usize>],
    ) -> Result<()> {
        with_float!(parameters.dtype(), T => {
            let (mut parameters, grads) = (write::<T>(parameters), read::<T>(grads));
            let mut velocity = velocity.map(write::<T>);
            for (run, decays) in optimizer::runs(parameters.len(), undecayed, step.weight_decay) {
                let weight_decay = if decays { step.weight_decay } else { 0.0 };
                let step = SgdStep { weight_decay, ..*step };
                let velocity = velocity.as_mut().map(|velocity| &mut velocity[run.clone()]);
                optimizer::sgd::<T>(&mut parameters[run.clone()], &grads[run], velocity, &step);
            }
        });
        Ok(())
    }

    fn adamw(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        first_moment: &Tensor,
        second_moment: &Tensor,
        step: &AdamWStep,
        undecayed: &[Range<usize>],
    ) -> Result<()> {
        with_float!(parameters.dtype(), T => {
            let (mut parameters, grads) = (write::<T>(parameters), read::<T>(grads));
            let (mut first, mut second) = (write::<T>(first_moment), write::<T>(second_moment));
            for (run, decays) in optimizer::runs(parameters.len(), undecayed, step.weight_decay) {
                let weight_decay = if decays { step.weight_decay } else { 0.0 };
                let step = AdamWStep { weight_decay, ..*step };
                let moments = (&mut first[run.clone()], &mut second[run.clone()]);
                optimizer::adamw::<T>(&mut parameters[run.clone()], &grads[run], moments, &step);
            }
        });
        Ok(())
    }

    fn sum_squares(&self, x: &Tensor, to: &Tensor) -> Result<()> {
        with_float!(x.dtype(), T => {
            write::<Acc<T>>(to)[0] = optimizer::sum_squares::<T>(&read(x));
        });
        Ok(())
    }

    fn clip_norm(&self, x: &Tensor, sum_squares: &Tensor, max_norm: f64) -> Result<()> {
        with_float!(x.dtype(), T => {
            let norm = crate::Element::to_f64(read::<Acc<T>>(sum_squares)[0]).sqrt();
            optimizer::clip::<T>(&mut write(x), norm, max_norm);
        });
        Ok(())
    }
}

/// Rows (all axes but first and last) of one sample.
fn rows_per_sample(t: &Tensor) -> usize {
    match t.shape() {
        [_, middle @ .., _] => middle.iter().product(),
        _ => 1,
    }
}
