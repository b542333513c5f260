//! From patches to tokens: adding the class token and the positions.

use super::{check_dropout, expect_shape, same_float};
use crate::error::Result;
use crate::{Dropout, Shape, Tensor};

/// Tokens.
pub trait Embeddings {
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
}

impl Tensor {
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
