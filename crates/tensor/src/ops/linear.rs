//! The linear layer's product with its epilogue, its gradients, and the batched matrix product.

use super::{check_dropout, expect_shape, expect_sum, expect_writable, same_float};
use crate::backend::{Activation, Arithmetic, Storage};
use crate::error::{Error, Result};
use crate::{Dropout, Shape, Tensor, composed};

/// What a linear layer does after its product, in this order: bias, activation, dropout, residual.
///
/// `T` is what holds the values: a tensor, or a variable of a tape.
pub struct Epilogue<'a, T: ?Sized = Tensor> {
    /// `[O]`, added to each row.
    pub bias: Option<&'a T>,
    /// Applied to each element.
    pub activation: Option<Activation>,
    /// Applied to each element, which is numbered in the output's order.
    pub dropout: Option<Dropout>,
    /// Of the output's shape, added last.
    pub residual: Option<&'a T>,
}

impl<T: ?Sized> Clone for Epilogue<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Epilogue<'_, T> {}

impl<T: ?Sized> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Self { bias: None, activation: None, dropout: None, residual: None }
    }
}

impl<'a, T: ?Sized> Epilogue<'a, T> {
    /// The same with what `of` finds in each value.
    pub fn map<U: ?Sized>(&self, of: impl Fn(&'a T) -> &'a U) -> Epilogue<'a, U> {
        let Self { bias, activation, dropout, residual } = *self;
        Epilogue { bias: bias.map(&of), activation, dropout, residual: residual.map(&of) }
    }
}

/// Matrix products: the linear layer with its gradients, and batches.
pub trait Products: Storage + Arithmetic {
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
}

impl Tensor {
    /// `y = epilogue(x·wᵀ)`: x `[.., I]`, weight `[O, I]`, y `[.., O]`.
    pub fn linear(&self, weight: &Self, epilogue: &Epilogue<'_>) -> Result<Self> {
        self.linear_into(weight, epilogue, false).map(|(y, _)| y)
    }

    /// As [`Tensor::linear`], with what the gradient needs of the activation, if there is one: the derivative of
    /// `dropout(activation(·))` at each element of the product, `mask · activation′(·)`.
    pub fn linear_with_derivative(
        &self,
        weight: &Self,
        epilogue: &Epilogue<'_>,
    ) -> Result<(Self, Option<Self>)> {
        self.linear_into(weight, epilogue, epilogue.activation.is_some())
    }

    fn linear_into(
        &self,
        weight: &Self,
        epilogue: &Epilogue<'_>,
        keep: bool,
    ) -> Result<(Self, Option<Self>)> {
        const OP: &str = "linear";
        let mut others = vec![weight];
        others.extend(epilogue.bias);
        others.extend(epilogue.residual);
        let device = same_float(OP, self, &others)?;
        let shape = output_shape(OP, self, weight)?;
        if let Some(bias) = epilogue.bias {
            expect_shape(OP, bias, &weight.shape()[..1], "the bias must be [O]")?;
        }
        if let Some(residual) = epilogue.residual {
            expect_shape(OP, residual, &shape, "the residual must have the output's shape")?;
        }
        check_dropout(OP, epilogue.dropout.as_ref())?;
        let (x, w) = (self.contiguous()?, weight.contiguous()?);
        let bias = epilogue.bias.map(Self::contiguous).transpose()?;
        let residual = epilogue.residual.map(Self::contiguous).transpose()?;
        let epilogue = Epilogue { bias: bias.as_ref(), residual: residual.as_ref(), ..*epilogue };
        let y = Self::uninitialised(shape, self.dtype(), device)?;
        let derivative =
            keep.then(|| Self::uninitialised(shape, self.dtype(), device)).transpose()?;
        device.backend().linear(&x, &w, &epilogue, derivative.as_ref(), &y)?;
        Ok((y, derivative))
    }

    /// The gradient of [`Tensor::linear`]'s product for its input: `dx = dy·w`, with `self` as `dy [.., O]`.
    pub fn linear_grad_input(&self, weight: &Self) -> Result<Self> {
        const OP: &str = "linear_grad_input";
        let device = same_float(OP, self, &[weight])?;
        let shape = self.grad_input_shape(OP, weight)?;
        let dx = Self::uninitialised(shape, self.dtype(), device)?;
        device.backend().linear_grad_input(&self.contiguous()?, &weight.contiguous()?, &dx)?;
        Ok(dx)
    }

    /// As [`Tensor::linear_grad_input`], for an input that [`Tensor::linear_with_derivative`] made: the gradient for
    /// the value before its activation, `dpre = (dy·w) · derivative`.
    pub fn linear_grad_activated(&self, weight: &Self, derivative: &Self) -> Result<Self> {
        const OP: &str = "linear_grad_activated";
        let device = same_float(OP, self, &[weight, derivative])?;
        let shape = self.grad_input_shape(OP, weight)?;
        expect_shape(OP, derivative, &shape, "the derivative must have the input's shape")?;
        let dpre = Self::uninitialised(shape, self.dtype(), device)?;
        let (dy, w, derivative) =
            (self.contiguous()?, weight.contiguous()?, derivative.contiguous()?);
        device.backend().linear_grad_activated(&dy, &w, &derivative, &dpre)?;
        Ok(dpre)
    }

    /// The shape of `dy·w`, with `self` as dy.
    fn grad_input_shape(&self, op: &'static str, weight: &Self) -> Result<Shape> {
        if weight.rank() != 2 || self.rank() == 0 || self.dims().last() != weight.shape()[0] {
            let rule = "dy must be [.., O] and the weight [O, I]";
            return Err(Error::shapes(op, self.shape(), weight.shape(), rule));
        }
        Shape::new(&self.dims().with(self.rank() - 1, weight.shape()[1]))
    }

    /// The gradients of [`Tensor::linear`]'s product for weight and bias: `dw += dyᵀ·x`, `db += Σ dy`, with `self` as
    /// `dy [.., O]`. Either may have the accumulator's type, `f32` for `bf16`.
    pub fn linear_grad_weight_(&self, x: &Self, dw: &Self, db: Option<&Self>) -> Result<()> {
        const OP: &str = "linear_grad_weight";
        let device = same_float(OP, self, &[x])?;
        expect_sum(OP, dw, self)?;
        if dw.rank() != 2 || output_shape(OP, x, dw)?.as_slice() != self.shape() {
            let rule = "dy [.., O] and x [.., I] must have the same rows";
            return Err(Error::shapes(OP, self.shape(), x.shape(), rule));
        }
        expect_writable(OP, dw, &[self, x])?;
        if let Some(db) = db {
            expect_sum(OP, db, self)?;
            expect_shape(OP, db, &dw.shape()[..1], "the bias' gradient must be [O]")?;
            expect_writable(OP, db, &[self, x])?;
        }
        device.backend().linear_grad_weight(&self.contiguous()?, &x.contiguous()?, dw, db)
    }

    /// The matrix product of the last two axes: `[.., M, K]` by `[.., K, N]`, the leading axes being the same.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        const OP: &str = "matmul";
        let device = same_float(OP, self, &[other])?;
        let (rank, other_rank) = (self.rank(), other.rank());
        let fits = rank >= 2
            && rank == other_rank
            && self.shape()[..rank - 2] == other.shape()[..rank - 2]
            && self.shape()[rank - 1] == other.shape()[rank - 2];
        if !fits {
            let rule = "expected [.., M, K] and [.., K, N]";
            return Err(Error::shapes(OP, self.shape(), other.shape(), rule));
        }
        let shape = self.dims().with(rank - 1, other.shape()[rank - 1]);
        let batch: usize = self.shape()[..rank - 2].iter().product();
        let flat = |t: &Self| match rank {
            2 => t.broadcast_to(&[1, t.shape()[0], t.shape()[1]]),
            3 => Ok(t.clone()),
            _ => t.reshape(&[batch, t.shape()[rank - 2], t.shape()[rank - 1]]),
        };
        let c = Self::uninitialised(shape, self.dtype(), device)?;
        device.backend().matmul(&flat(self)?, &flat(other)?, &flat(&c)?)?;
        Ok(c)
    }
}

/// The shape of `x·wᵀ`.
fn output_shape(op: &'static str, x: &Tensor, weight: &Tensor) -> Result<Shape> {
    if weight.rank() != 2 || x.rank() == 0 || x.dims().last() != weight.shape()[1] {
        let rule = "x must be [.., I] and the weight [O, I]";
        return Err(Error::shapes(op, x.shape(), weight.shape(), rule));
    }
    Shape::new(&x.dims().with(x.rank() - 1, weight.shape()[0]))
}
