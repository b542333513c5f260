//! Max pooling of images `[B, H, W, C]`, and its gradient. The mean over all pixels is `mean_axis`.

use super::{Windows, expect_shape, same_device, same_float};
use crate::error::{Error, Result};
use crate::{DType, Shape, Tensor};

/// Poolings over windows of images.
pub trait Poolings {
    /// `y [B, H', W', C]`: the largest of each window of x `[B, H, W, C]`, or a NaN that is there; padding is not
    /// looked at. `places`, `u8` of y's shape, receives where in the window it is, row by row: the first such place.
    fn max_pool(&self, x: &Tensor, windows: &Windows, y: &Tensor, places: &Tensor) -> Result<()>;
    /// `dx [B, H, W, C]`: each dy goes to the pixel that its window was at.
    fn max_pool_grad(
        &self,
        dy: &Tensor,
        places: &Tensor,
        windows: &Windows,
        dx: &Tensor,
    ) -> Result<()>;
}

impl Windows {
    /// `[B, H', W', C]` for images `[B, H, W, C]`.
    fn pooled(&self, op: &'static str, images: &[usize]) -> Result<Shape> {
        let &[batch, height, width, channels] = images else {
            let rule = "images must be [B, H, W, C]";
            return Err(Error::Shape { op, shape: images.to_vec(), rule });
        };
        let (rows, columns) = self.of_images(op, images, [height, width])?;
        let Self { kernel, padding, .. } = *self;
        if padding.0 >= kernel.0 || padding.1 >= kernel.1 || kernel.0 * kernel.1 > 256 {
            return Err(Error::Argument {
                op,
                name: "windows",
                value: format!("{self:?}"),
                rule: "the padding must be smaller than the kernel, and a window have at most 256 pixels",
            });
        }
        Shape::new(&[batch, rows, columns, channels])
    }
}

impl Tensor {
    /// The largest of each window of images `[B, H, W, C]`, `[B, H', W', C]`, as PyTorch's `max_pool2d`; and where in
    /// the window it is, row by row, as `u8` of the same shape, for the gradient.
    pub fn max_pool(&self, windows: &Windows) -> Result<(Self, Self)> {
        let device = same_float("max_pool", self, &[])?;
        let shape = windows.pooled("max_pool", self.shape())?;
        let y = Self::uninitialised(shape, self.dtype(), device)?;
        let places = Self::uninitialised(shape, DType::U8, device)?;
        device.backend().max_pool(&self.contiguous()?, windows, &y, &places)?;
        Ok((y, places))
    }

    /// The gradient of [`Tensor::max_pool`] for its input, of the shape `images`, with `self` as `dy [B, H', W', C]`.
    pub fn max_pool_grad(
        &self,
        places: &Self,
        windows: &Windows,
        images: &[usize],
    ) -> Result<Self> {
        const OP: &str = "max_pool_grad";
        let device = same_float(OP, self, &[])?;
        same_device(OP, self, &[places])?;
        let shape = windows.pooled(OP, images)?;
        expect_shape(OP, self, &shape, "dy must be [B, H', W', C]")?;
        expect_shape(OP, places, &shape, "the places must be [B, H', W', C]")?;
        if places.dtype() != DType::U8 {
            return Err(Error::DType { op: OP, dtype: places.dtype(), expected: "places of u8" });
        }
        let dx = Self::uninitialised(Shape::new(images)?, self.dtype(), device)?;
        device.backend().max_pool_grad(&self.contiguous()?, &places.contiguous()?, windows, &dx)?;
        Ok(dx)
    }
}
