//! Windows of images: cutting them out and adding them up again, of images `[B, C, H, W]` as they are read; and
//! convolution, which is that with a product, of images `[B, H, W, C]`: with a pixel's channels side by side, most of a
//! window lies in memory as it is multiplied.

use super::{BatchNorm, BatchNorms, expect_shape, expect_sum, expect_writable, same_float};
use crate::backend::{Movement, Products};
use crate::error::{Error, Result};
use crate::{Shape, Tensor, composed};

/// Windows that slide over images: pairs are (height, width), in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    /// The size of a window (p, q), at least 1.
    pub kernel: (usize, usize),
    /// From one window to the next, at least 1.
    pub stride: (usize, usize),
    /// Rows and columns of zeros that are thought of on each side of an image.
    pub padding: (usize, usize),
}

impl Partition {
    /// `[B·M, p·q, C]` for images `[B, H, W, C]`.
    fn windows(&self, op: &'static str, images: &[usize]) -> Result<Shape> {
        let (p, q) = self.window;
        match *images {
            [batch, height, width, channels]
                if p > 0 && q > 0 && height.is_multiple_of(p) && width.is_multiple_of(q) =>
            {
                Shape::new(&[batch * (height / p) * (width / q), p * q, channels])
            }
            _ => Err(Error::Argument {
                op,
                name: "window",
                value: format!("({p}, {q}) for images {images:?}"),
                rule: "images must be [B, H, W, C], and the window divide their height and width",
            }),
        }
    }
}

impl Windows {
    /// Windows side by side.
    pub fn patches(size: (usize, usize)) -> Self {
        Self { kernel: size, stride: size, padding: (0, 0) }
    }

    /// How many windows lie below each other, and how many side by side, in images of a height and a width; those that
    /// the lower and the right edge would cut are left out. `None` if not one fits.
    pub fn count(&self, height: usize, width: usize) -> Option<(usize, usize)> {
        let along = |extent: usize, kernel: usize, stride: usize, padding: usize| {
            let padded = padding.checked_mul(2)?.checked_add(extent)?;
            let room = padded.checked_sub(kernel).filter(|_| kernel > 0)?;
            Some(room.checked_div(stride)? + 1)
        };
        let Self { kernel, stride, padding } = self;
        Some((
            along(height, kernel.0, stride.0, padding.0)?,
            along(width, kernel.1, stride.1, padding.1)?,
        ))
    }

    /// Whether no pixel lies in two windows.
    pub fn are_apart(&self) -> bool {
        self.stride.0 >= self.kernel.0 && self.stride.1 >= self.kernel.1
    }

    /// The windows' rows and columns in images of a height and a width.
    pub(super) fn of_images(
        &self,
        op: &'static str,
        images: &[usize],
        [height, width]: [usize; 2],
    ) -> Result<(usize, usize)> {
        match self.count(height, width) {
            Some(grid) => Ok(grid),
            None => Err(Error::Argument {
                op,
                name: "windows",
                value: format!("{self:?} for images {images:?}"),
                rule: "kernel and stride must be at least 1, and a kernel must fit into the padded image",
            }),
        }
    }

    /// `[B, M, C·p·q]`
    fn unfolded(&self, op: &'static str, images: &[usize]) -> Result<Shape> {
        let &[batch, channels, height, width] = images else {
            let rule = "images must be [B, C, H, W]";
            return Err(Error::Shape { op, shape: images.to_vec(), rule });
        };
        let (rows, columns) = self.of_images(op, images, [height, width])?;
        Shape::new(&[batch, rows * columns, channels * self.kernel.0 * self.kernel.1])
    }

    /// `[B, H', W', O]` for images `[B, H, W, C]` and a weight `[O, C, p, q]`.
    fn convolved(&self, op: &'static str, images: &[usize], weight: &Tensor) -> Result<Shape> {
        let &[batch, height, width, channels] = images else {
            let rule = "images must be [B, H, W, C]";
            return Err(Error::Shape { op, shape: images.to_vec(), rule });
        };
        let (rows, columns) = self.of_images(op, images, [height, width])?;
        let outputs = weight.shape().first().copied().unwrap_or(0);
        let expected = [outputs, channels, self.kernel.0, self.kernel.1];
        expect_shape(op, weight, &expected, "the weight must be [O, C, p, q], p and q the kernel")?;
        Shape::new(&[batch, rows, columns, outputs])
    }
}

/// How images are parted into windows side by side, after they were turned: the first window begins at a pixel, and
/// what goes past the lower or right edge goes on at the upper or left (Liu et al. 2021, "Swin Transformer", section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The size of a window (p, q), which divides the images'.
    pub window: (usize, usize),
    /// Row and column of the pixel that the first window begins with.
    pub shift: (usize, usize),
}

/// What works on windows of images. Convolutions that a backend does not fuse are products of unfolded images.
pub trait Convolutions: Products + Movement + BatchNorms {
    /// Cuts `images [B, C, H, W]` into `to [B, M, C·p·q]`, the windows row by row and a window's elements in the order
    /// (C, p, q). Padding reads as 0. Of any element type.
    fn unfold(&self, images: &Tensor, windows: &Windows, to: &Tensor) -> Result<()>;
    /// Adds up `from [B, M, C·p·q]` in `images [B, C, H, W]`: the gradient of `unfold`. Pixels in no window get 0. Of
    /// any element type where windows are apart, else of floats.
    fn fold(&self, from: &Tensor, windows: &Windows, images: &Tensor) -> Result<()>;
    /// Moves pixels between images `[B, H, W, C]` and the windows of a [`Partition`] `[B·M, p·q, C]`: out of the images
    /// `to_windows`, else back. Of any element type.
    fn partition(
        &self,
        images: &Tensor,
        windows: &Tensor,
        partition: &Partition,
        to_windows: bool,
    ) -> Result<()>;
    /// `y [B, H', W', O]`: x `[B, H, W, C]`, w `[O, C, p, q]`, bias `[O]`. A batch norm by given statistics `[2, O]`
    /// follows if there is one.
    fn convolution(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: Option<&Tensor>,
        windows: &Windows,
        norm: Option<(&Tensor, &BatchNorm<'_>)>,
        y: &Tensor,
    ) -> Result<()> {
        composed::convolution(self, x, w, bias, windows, norm, y)
    }
    /// `dx [B, H, W, C]` for `dy [B, H', W', O]`.
    fn convolution_grad_input(
        &self,
        dy: &Tensor,
        w: &Tensor,
        windows: &Windows,
        dx: &Tensor,
    ) -> Result<()> {
        composed::convolution_grad_input(self, dy, w, windows, dx)
    }
    /// Adds to `dw [O, C, p, q]`, and to `db [O]` the sums of dy. Each of dw and db may have the accumulator's type.
    fn convolution_grad_weight(
        &self,
        dy: &Tensor,
        x: &Tensor,
        windows: &Windows,
        dw: &Tensor,
        db: Option<&Tensor>,
    ) -> Result<()> {
        composed::convolution_grad_weight(self, dy, x, windows, dw, db)
    }
}

impl Tensor {
    /// Cuts images `[B, C, H, W]` into windows `[B, M, C·p·q]`, row by row, a window's elements in the order (C, p, q);
    /// padding reads as 0. It is PyTorch's `torch.nn.functional.unfold` with the last two axes exchanged.
    pub fn unfold(&self, windows: &Windows) -> Result<Self> {
        let shape = windows.unfolded("unfold", self.shape())?;
        let out = Self::uninitialised(shape, self.dtype(), self.device())?;
        self.device().backend().unfold(&self.contiguous()?, windows, &out)?;
        Ok(out)
    }

    /// Adds windows `[B, M, C·p·q]` up in images `[B, C, H, W]`: the gradient of [`Tensor::unfold`], and its inverse
    /// where the windows are [`Windows::patches`] that cover the images.
    pub fn fold(&self, windows: &Windows, images: &[usize]) -> Result<Self> {
        const OP: &str = "fold";
        if !windows.are_apart() {
            same_float(OP, self, &[])?;
        }
        let shape = windows.unfolded(OP, images)?;
        expect_shape(OP, self, &shape, "the windows must be those of the images, [B, M, C·p·q]")?;
        let out = Self::uninitialised(Shape::new(images)?, self.dtype(), self.device())?;
        self.device().backend().fold(&self.contiguous()?, windows, &out)?;
        Ok(out)
    }

    /// Images `[B, H, W, C]` parted into windows `[B·M, p·q, C]`, row by row.
    pub fn window_partition(&self, partition: &Partition) -> Result<Self> {
        let (windows, device) =
            (partition.windows("window_partition", self.shape())?, self.device());
        let out = Self::uninitialised(windows, self.dtype(), device)?;
        device.backend().partition(&self.contiguous()?, &out, partition, true)?;
        Ok(out)
    }

    /// Windows `[B·M, p·q, C]` put together again to images `[B, H, W, C]`: the inverse of
    /// [`Tensor::window_partition`], and its gradient.
    pub fn window_reverse(&self, partition: &Partition, images: &[usize]) -> Result<Self> {
        const OP: &str = "window_reverse";
        let windows = partition.windows(OP, images)?;
        expect_shape(OP, self, &windows, "the windows must be those of the images, [B·M, p·q, C]")?;
        let out = Self::uninitialised(Shape::new(images)?, self.dtype(), self.device())?;
        self.device().backend().partition(&out, &self.contiguous()?, partition, false)?;
        Ok(out)
    }

    /// `y[b, i, j, o] = bias[o] + Σ w[o] · window (i, j) of x[b]`: x `[B, H, W, C]`, weight `[O, C, p, q]` with the
    /// windows' kernel, bias `[O]`, y `[B, H', W', O]`. As PyTorch's `torch.nn.functional.conv2d`, whose images are
    /// `[B, C, H, W]`.
    pub fn convolution(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        windows: &Windows,
    ) -> Result<Self> {
        self.convolved("convolution", weight, bias, windows, |x, w, bias, y| {
            y.device().backend().convolution(x, w, bias, windows, None, y)
        })
    }

    /// [`Tensor::convolution`], then [`Tensor::batch_norm`] by `statistics [2, O]`, in one pass where the backend
    /// can: what a network does that is not being trained.
    pub fn convolution_batch_norm(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        windows: &Windows,
        statistics: &Self,
        norm: &BatchNorm<'_>,
    ) -> Result<Self> {
        const OP: &str = "convolution_batch_norm";
        self.convolved(OP, weight, bias, windows, |x, w, bias, y| {
            norm.with_dense(OP, y, statistics, |norm| {
                let norm = Some((&statistics.contiguous()?, norm));
                y.device().backend().convolution(x, w, bias, windows, norm, y)
            })
        })
    }

    /// Calls `work` with dense images, weight and bias, and room for the result.
    fn convolved(
        &self,
        op: &'static str,
        weight: &Self,
        bias: Option<&Self>,
        windows: &Windows,
        work: impl FnOnce(&Self, &Self, Option<&Self>, &Self) -> Result<()>,
    ) -> Result<Self> {
        let mut others = vec![weight];
        others.extend(bias);
        let device = same_float(op, self, &others)?;
        let shape = windows.convolved(op, self.shape(), weight)?;
        if let Some(bias) = bias {
            expect_shape(op, bias, &weight.shape()[..1], "the bias must be [O]")?;
        }
        let y = Self::uninitialised(shape, self.dtype(), device)?;
        let bias = bias.map(Self::contiguous).transpose()?;
        work(&self.contiguous()?, &weight.contiguous()?, bias.as_ref(), &y)?;
        Ok(y)
    }

    /// The gradient of [`Tensor::convolution`] for its input, of the shape `images`, with `self` as
    /// `dy [B, H', W', O]`.
    pub fn convolution_grad_input(
        &self,
        weight: &Self,
        windows: &Windows,
        images: &[usize],
    ) -> Result<Self> {
        const OP: &str = "convolution_grad_input";
        let device = same_float(OP, self, &[weight])?;
        let shape = windows.convolved(OP, images, weight)?;
        expect_shape(OP, self, &shape, "dy must be [B, O, H', W']")?;
        let dx = Self::uninitialised(Shape::new(images)?, self.dtype(), device)?;
        let (dy, w) = (self.contiguous()?, weight.contiguous()?);
        device.backend().convolution_grad_input(&dy, &w, windows, &dx)?;
        Ok(dx)
    }

    /// The gradients of [`Tensor::convolution`] for weight and bias are added to `dw` and `db`, with `self` as
    /// `dy [B, H', W', O]`. Either may have the accumulator's type, `f32` for `bf16`.
    pub fn convolution_grad_weight_(
        &self,
        x: &Self,
        windows: &Windows,
        dw: &Self,
        db: Option<&Self>,
    ) -> Result<()> {
        const OP: &str = "convolution_grad_weight";
        let device = same_float(OP, self, &[x])?;
        let shape = windows.convolved(OP, x.shape(), dw)?;
        expect_shape(OP, self, &shape, "dy must be [B, O, H', W']")?;
        for grad in [Some(dw), db].into_iter().flatten() {
            expect_sum(OP, grad, self)?;
            expect_writable(OP, grad, &[self, x])?;
        }
        if let Some(db) = db {
            expect_shape(OP, db, &dw.shape()[..1], "the bias' gradient must be [O]")?;
        }
        let (dy, x) = (self.contiguous()?, x.contiguous()?);
        device.backend().convolution_grad_weight(&dy, &x, windows, dw, db)
    }
}
