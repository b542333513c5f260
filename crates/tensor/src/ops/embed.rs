//! From images to tokens: cutting into patches, and adding the class token and the positions; with their gradients.

use super::{check_dropout, expect_shape, same_float};
use crate::error::{Error, Result};
use crate::{Dropout, Shape, Tensor};

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

    /// `dropout(class ++ patches + positions)`: patches `[B, M, D]`, class `[1, 1, D]` or none, positions
    /// `[1, N, D]` with N = M + 1 (M without class); the result is `[B, N, D]`.
    pub fn embed_tokens(
        &self,
        class: Option<&Self>,
        positions: &Self,
        dropout: Option<Dropout>,
    ) -> Result<Self> {
        const OP: &str = "embed_tokens";
        let mut others = vec![positions];
        others.extend(class);
        let device = same_float(OP, self, &others)?;
        let &[batch, patches, width] = self.shape() else {
            return Err(self.shape_error(OP, "patches must be [B, M, D]"));
        };
        if let Some(class) = class {
            expect_shape(OP, class, &[1, 1, width], "the class token must be [1, 1, D]")?;
        }
        let tokens = patches + usize::from(class.is_some());
        expect_shape(OP, positions, &[1, tokens, width], "positions must be [1, N, D]")?;
        check_dropout(OP, dropout.as_ref())?;
        let y = Self::uninitialised(Shape::new(&[batch, tokens, width])?, self.dtype(), device)?;
        let class = class.map(Self::contiguous).transpose()?;
        let (patches, positions) = (self.contiguous()?, positions.contiguous()?);
        device.backend().embed_tokens(&patches, class.as_ref(), &positions, dropout, &y)?;
        Ok(y)
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
