//! Coarse operations put together from finer ones: what a backend does that does not fuse them.

use crate::backend::{BatchNorm, Binary, Convolutions, Epilogue, Products, Storage, Windows};
use crate::{Result, Shape, Tensor};

/// A tensor between two operations, of the type and on the device of `like`.
fn between<B: Storage + ?Sized>(backend: &B, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    let shape = Shape::new(shape)?;
    let memory = backend.allocate(shape.elements() * like.dtype().size())?;
    Ok(Tensor::from_memory(memory, shape, like.dtype(), like.device()))
}

/// [`Products::linear_grad_activated`] in two passes, with the gradient of the linear layer's input between them.
pub fn linear_grad_activated<B: Products + ?Sized>(
    backend: &B,
    dy: &Tensor,
    w: &Tensor,
    derivative: &Tensor,
    dpre: &Tensor,
) -> Result<()> {
    let dx = between(backend, dpre.shape(), dpre)?;
    backend.linear_grad_input(dy, w, &dx)?;
    backend.binary(Binary::Mul, &dx, derivative, dpre)
}

/// A weight `[O, C, p, q]` as a matrix `[O, C·p·q]`.
fn as_matrix(w: &Tensor) -> Result<Tensor> {
    w.reshape(&[w.shape()[0], w.shape()[1..].iter().product()])
}

/// Results `[B, H', W', O]` as rows `[B, M, O]`.
fn as_rows(y: &Tensor) -> Result<Tensor> {
    let &[batch, height, width, outputs] = y.shape() else { unreachable!("`ops` gives images") };
    y.reshape(&[batch, height * width, outputs])
}

/// The windows `[B, M, C·p·q]` of x `[B, H, W, C]`, for rows `[B, M, ..]` and a weight's matrix.
fn unfolded<B: Convolutions + ?Sized>(
    backend: &B,
    x: &Tensor,
    windows: &Windows,
    [rows, matrix]: [&Tensor; 2],
) -> Result<Tensor> {
    let channels_first = x.permute(&[0, 3, 1, 2])?;
    let images = between(backend, channels_first.shape(), x)?;
    backend.copy(&channels_first, &images)?;
    let shape = [rows.shape()[0], rows.shape()[1], matrix.shape()[1]];
    let unfolded = between(backend, &shape, x)?;
    backend.unfold(&images, windows, &unfolded)?;
    Ok(unfolded)
}

/// [`Convolutions::convolution`] as a linear layer on the windows, and a batch norm.
pub fn convolution<B: Convolutions + ?Sized>(
    backend: &B,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    windows: &Windows,
    norm: Option<(&Tensor, &BatchNorm<'_>)>,
    y: &Tensor,
) -> Result<()> {
    if let Some((statistics, norm)) = norm {
        let before = between(backend, y.shape(), y)?;
        convolution(backend, x, w, bias, windows, None, &before)?;
        return backend.batch_norm(&before, statistics, norm, y);
    }
    let (y, w) = (as_rows(y)?, as_matrix(w)?);
    let x = unfolded(backend, x, windows, [&y, &w])?;
    backend.linear(&x, &w, &Epilogue { bias, ..Epilogue::default() }, None, &y)
}

/// [`Convolutions::convolution_grad_input`]: the gradient of the windows, folded.
pub fn convolution_grad_input<B: Convolutions + ?Sized>(
    backend: &B,
    dy: &Tensor,
    w: &Tensor,
    windows: &Windows,
    dx: &Tensor,
) -> Result<()> {
    let (dy, w) = (as_rows(dy)?, as_matrix(w)?);
    let unfolded = between(backend, &[dy.shape()[0], dy.shape()[1], w.shape()[1]], dx)?;
    backend.linear_grad_input(&dy, &w, &unfolded)?;
    let channels_first = dx.permute(&[0, 3, 1, 2])?;
    let images = between(backend, channels_first.shape(), dx)?;
    backend.fold(&unfolded, windows, &images)?;
    backend.copy(&images.permute(&[0, 2, 3, 1])?, dx)
}

/// [`Convolutions::convolution_grad_weight`] as that of a linear layer on the windows.
pub fn convolution_grad_weight<B: Convolutions + ?Sized>(
    backend: &B,
    dy: &Tensor,
    x: &Tensor,
    windows: &Windows,
    dw: &Tensor,
    db: Option<&Tensor>,
) -> Result<()> {
    let (dy, dw) = (as_rows(dy)?, as_matrix(dw)?);
    let x = unfolded(backend, x, windows, [&dy, &dw])?;
    backend.linear_grad_weight(&dy, &x, &dw, db)
}
