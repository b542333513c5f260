//! Images in windows: cutting into patches, and back.

use super::expect_shape;
use crate::error::{Error, Result};
use crate::{Shape, Tensor};

/// Windows of images.
pub trait Convolutions {
    /// Cuts `images [B, C, H, W]` into `patches [B, (H/p)·(W/q), C·p·q]`, a patch's elements in the order (C, p, q).
    fn patchify(&self, images: &Tensor, patch: (usize, usize), patches: &Tensor) -> Result<()>;
    /// Puts patches back into images: the inverse, and the gradient, of `patchify`.
    fn unpatchify(&self, patches: &Tensor, patch: (usize, usize), images: &Tensor) -> Result<()>;
}

impl Tensor {
    /// Cuts images `[B, C, H, W]` into patches `[B, (H/p)·(W/q), C·p·q]`, row by row. A convolution whose kernel and
    /// stride are the patch is this, followed by a linear layer (Dosovitskiy et al. 2021, section 3.1).
    pub fn patchify(&self, patch: (usize, usize)) -> Result<Self> {
        let shape = patch_shape("patchify", self.shape(), patch)?;
        let patches = Self::uninitialised(shape, self.dtype(), self.device())?;
        self.device().backend().patchify(&self.contiguous()?, patch, &patches)?;
        Ok(patches)
    }

    /// Puts patches back into images `[B, C, H, W]`: the inverse and the gradient of [`Tensor::patchify`].
    pub fn unpatchify(&self, patch: (usize, usize), images: &[usize]) -> Result<Self> {
        const OP: &str = "unpatchify";
        let shape = patch_shape(OP, images, patch)?;
        expect_shape(OP, self, &shape, "the patches must be those of the images")?;
        let out = Self::uninitialised(Shape::new(images)?, self.dtype(), self.device())?;
        self.device().backend().unpatchify(&self.contiguous()?, patch, &out)?;
        Ok(out)
    }
}

fn patch_shape(op: &'static str, images: &[usize], patch: (usize, usize)) -> Result<Shape> {
    let rule = "images must be [B, C, H, W], H and W multiples of the patch's height and width";
    match *images {
        [batch, channels, height, width]
            if patch.0 > 0
                && patch.1 > 0
                && height.is_multiple_of(patch.0)
                && width.is_multiple_of(patch.1) =>
        {
            let count = height / patch.0 * (width / patch.1);
            Shape::new(&[batch, count, channels * patch.0 * patch.1])
        }
        _ => Err(Error::ShapeMismatch {
            op,
            lhs: images.to_vec(),
            rhs: vec![patch.0, patch.1],
            rule,
        }),
    }
}
