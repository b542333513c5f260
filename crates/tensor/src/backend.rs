//! The [`Backend`] trait: the coarse operations that a device offers, and the plain structs they take.
//!
//! Operations write into tensors that the caller allocated. Every method may trust what the safe functions in `ops`
//! have checked: shapes fit, element types are the same unless stated, all tensors are on this backend, none but the
//! ones documented as strided has gaps, and a destination shares memory with no input. No checks live here.

use std::any::Any;
use std::ops::Range;

use crate::random::Dropout;
use crate::{Result, Tensor, composed};

/// A backend's own memory behind a tensor. It goes back to the backend when it is dropped.
pub type Memory = Box<dyn Any + Send + Sync>;

/// The function after a linear layer's product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x·Φ(x)` with the normal distribution function Φ (Hendrycks and Gimpel 2016, equation 1).
    GeluErf,
    /// `x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))` (the same paper, section 2).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// An element-wise function of two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a − b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
}

/// What a linear layer does after its product, in this order: bias, activation, dropout, residual.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[O]`, added to each row.
    pub bias: Option<&'a Tensor>,
    /// Applied to each element.
    pub activation: Option<Activation>,
    /// Applied to each element, which is numbered in the output's order.
    pub dropout: Option<Dropout>,
    /// Of the output's shape, added last.
    pub residual: Option<&'a Tensor>,
}

/// The statistics of a row that layer norm saves, and the gradients it gives.
pub struct LayerNormGrads<'a> {
    /// `[.., D]`
    pub input: &'a Tensor,
    /// `[D]`, added to; may have the accumulator's type.
    pub scale: &'a Tensor,
    /// `[D]`, added to; may have the accumulator's type.
    pub shift: &'a Tensor,
}

/// How the heads of an attention lie in memory, and what it is to do.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Number of heads H; the width D of queries is H times the head's.
    pub heads: usize,
    /// `[B]` of `i64`: keys at and past this position get no weight. `None`: all count.
    pub valid_lens: Option<&'a Tensor>,
    /// Dropout on the attention weights. Weight `(b, h, i, j)` has the index `((b·H + h)·max(Q, K) + i)·K + j`, so
    /// that a run over the first queries alone draws the masks of the full one.
    pub dropout: Option<Dropout>,
}

/// Where queries, keys and values (or their gradients) are. The last axis is dense in each.
#[derive(Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// `[B, Q, D]`, strided.
    pub query: &'a Tensor,
    /// `[B, K, D]`, strided.
    pub key: &'a Tensor,
    /// `[B, K, D]`, strided.
    pub value: &'a Tensor,
}

/// Where attention writes gradients.
#[derive(Clone, Copy)]
pub enum AttentionGrads<'a> {
    /// One tensor `[B, N, 3D]`: queries, keys, values side by side.
    Packed(&'a Tensor),
    /// Queries `[B, Q, D]`, and keys beside values `[B, K, 2D]`.
    Split(&'a Tensor, &'a Tensor),
}

/// A range of flat parameters that an optimizer treats alike.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Which elements.
    pub range: Range<usize>,
    /// Whether weight decay applies.
    pub decay: bool,
    /// A factor on the learning rate.
    pub rate_scale: f64,
    /// Whether nothing is updated.
    pub frozen: bool,
}

/// One step of stochastic gradient descent, as PyTorch's `torch.optim.SGD` defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The learning rate.
    pub learning_rate: f64,
    /// μ in `v = μv + g`. The velocity is used when this is not 0.
    pub momentum: f64,
    /// Use `g + μv` in place of `v`.
    pub nesterov: bool,
    /// λ in `g + λw`.
    pub weight_decay: f64,
}

/// One step of AdamW (Loshchilov and Hutter 2019, algorithm 2), as `torch.optim.AdamW` defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// The learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// λ in `w − learning_rate·λ·w`.
    pub weight_decay: f64,
    /// The number of this step, from 1: the moments' bias is corrected with it.
    pub step: u64,
}

/// The operations of a device.
///
/// B is the batch, N tokens, D a width, I and O the inputs and outputs of a linear layer, K classes or keys.
/// "Rows" are all axes but the last. `Any` is a supertrait so that a caller can get at what one backend alone offers:
/// `(device.backend() as &dyn Any).downcast_ref::<CpuBackend>()`.
pub trait Backend: Any + Send + Sync {
    /// What people call the device, such as `cpu` or `cuda:0`.
    fn name(&self) -> String;

    /// Memory of `bytes` bytes with any content.
    fn allocate(&self, bytes: usize) -> Result<Memory>;
    /// Copies bytes from the host into a dense tensor.
    fn upload(&self, bytes: &[u8], to: &Tensor) -> Result<()>;
    /// Copies a dense tensor to the host, waiting for what is still running.
    fn download(&self, from: &Tensor, bytes: &mut [u8]) -> Result<()>;

    /// Overwrites memory that is not in use with NaN, where the backend keeps such memory. For tests: an operation that
    /// leaves a part of its result unwritten is found.
    fn poison(&self) {}

    /// `to = from`, both strided, converting the element type.
    fn copy(&self, from: &Tensor, to: &Tensor) -> Result<()>;
    /// `to = value`, strided.
    fn fill(&self, to: &Tensor, value: f64) -> Result<()>;
    /// `to += factor · from`, dense.
    fn add_scaled(&self, from: &Tensor, factor: f64, to: &Tensor) -> Result<()>;
    /// `to = op(a, b)`; `a` and `b` strided, broadcast to the shape of `to` (stride 0).
    fn binary(&self, op: Binary, a: &Tensor, b: &Tensor, to: &Tensor) -> Result<()>;
    /// Sums `from [outer, reduced, inner]` over its middle axis into `to [outer, inner]`.
    fn sum(&self, from: &Tensor, to: &Tensor) -> Result<()>;

    /// `y = epilogue(x·wᵀ)`: x `[.., I]`, w `[O, I]`, y `[.., O]`. With `derivative` (of y's shape; there is an
    /// activation), that of `dropout(activation(·))` at each element is written there too: `mask · activation′(·)`.
    fn linear(
        &self,
        x: &Tensor,
        w: &Tensor,
        epilogue: &Epilogue<'_>,
        derivative: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<()>;
    /// `dx = dy·w`.
    fn linear_grad_input(&self, dy: &Tensor, w: &Tensor, dx: &Tensor) -> Result<()>;
    /// `dpre = (dy·w) · derivative`: the gradient for the value before what made the input, of which `derivative`, of
    /// dpre's shape, is the derivative. A backend that does not fuse the two parts need not override this.
    fn linear_grad_activated(
        &self,
        dy: &Tensor,
        w: &Tensor,
        derivative: &Tensor,
        dpre: &Tensor,
    ) -> Result<()> {
        composed::linear_grad_activated(self, dy, w, derivative, dpre)
    }
    /// `dw += dyᵀ·x`, and `db += Σ dy` over the rows. Each of dw and db may have the accumulator's type.
    fn linear_grad_weight(
        &self,
        dy: &Tensor,
        x: &Tensor,
        dw: &Tensor,
        db: Option<&Tensor>,
    ) -> Result<()>;
    /// `c[b] = a[b]·b[b]`: `[B, M, K]` by `[B, K, N]`, both strided, c dense.
    fn matmul(&self, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<()>;

    /// `y = activation(x)`.
    fn activate(&self, x: &Tensor, activation: Activation, y: &Tensor) -> Result<()>;
    /// `dx = dy · activation′(x)`.
    fn activate_grad(
        &self,
        x: &Tensor,
        activation: Activation,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()>;
    /// `y = x · mask`. It is its own gradient.
    fn dropout(&self, x: &Tensor, dropout: Dropout, y: &Tensor) -> Result<()>;

    /// `y = (x − mean)/√(variance + ε)·scale + shift` over the last axis; `statistics [rows, 2]` (of the
    /// accumulator's type) receives the mean and the reciprocal of the root.
    fn layer_norm(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        epsilon: f64,
        y: &Tensor,
        statistics: &Tensor,
    ) -> Result<()>;
    /// The gradients of layer norm.
    fn layer_norm_grad(
        &self,
        x: &Tensor,
        scale: &Tensor,
        statistics: &Tensor,
        dy: &Tensor,
        grads: &LayerNormGrads<'_>,
    ) -> Result<()>;

    /// Softmax over the last axis.
    fn softmax(&self, x: &Tensor, y: &Tensor) -> Result<()>;
    /// `dx = y·(dy − Σ dy·y)` over the last axis.
    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, dx: &Tensor) -> Result<()>;

    /// Scaled dot-product attention; `y [B, Q, D]`, `log_sums [B, H, Q]` (of the accumulator's type) receives the
    /// logarithm of each softmax's denominator.
    fn attention(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
    ) -> Result<()>;
    /// The gradients of attention. The weights are computed again from `log_sums`, so memory stays linear in the
    /// number of tokens.
    fn attention_grad(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
        dy: &Tensor,
        grads: &AttentionGrads<'_>,
    ) -> Result<()>;

    /// The mean cross-entropy of `logits [B, K]` with `labels [B]` (`i64`) into the scalar `loss` of the
    /// accumulator's type. A share `smoothing` of each target is spread over all classes.
    fn cross_entropy(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        loss: &Tensor,
    ) -> Result<()>;
    /// `dlogits` for the gradient `dloss` of the mean.
    fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()>;

    /// Cuts `images [B, C, H, W]` into `patches [B, (H/p)·(W/q), C·p·q]`, a patch's elements in the order (C, p, q).
    fn patchify(&self, images: &Tensor, patch: (usize, usize), patches: &Tensor) -> Result<()>;
    /// Puts patches back into images: the inverse, and the gradient, of `patchify`.
    fn unpatchify(&self, patches: &Tensor, patch: (usize, usize), images: &Tensor) -> Result<()>;
    /// `y = (class ++ patches + positions) · mask`: patches `[B, M, D]`, class `[1, 1, D]` (left out: N = M),
    /// positions `[1, N, D]`, y `[B, N, D]`.
    fn embed_tokens(
        &self,
        patches: &Tensor,
        class: Option<&Tensor>,
        positions: &Tensor,
        dropout: Option<Dropout>,
        y: &Tensor,
    ) -> Result<()>;

    /// Updates `parameters` (dense) in place; `velocity` is used with momentum only. Weight decay leaves out the
    /// elements of `undecayed`, ranges in ascending order.
    fn sgd(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        velocity: Option<&Tensor>,
        step: &SgdStep,
        undecayed: &[Range<usize>],
    ) -> Result<()>;
    /// Updates `parameters` (dense) and both moments in place. Weight decay leaves out the elements of `undecayed`,
    /// ranges in ascending order.
    fn adamw(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        first_moment: &Tensor,
        second_moment: &Tensor,
        step: &AdamWStep,
        undecayed: &[Range<usize>],
    ) -> Result<()>;
    /// The scalar `to` (`f64` if x is, else `f32`) `= Σ x²`.
    fn sum_squares(&self, x: &Tensor, to: &Tensor) -> Result<()>;
    /// `x *= min(1, max_norm / (√sum_squares + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does.
    fn clip_norm(&self, x: &Tensor, sum_squares: &Tensor, max_norm: f64) -> Result<()>;
}
