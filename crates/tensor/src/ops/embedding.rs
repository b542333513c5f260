//! From patches to tokens: prefix tokens and positions, learned ones added and others as rotations.

use super::{check_dropout, expect_accumulator, expect_shape, same_float};
use crate::error::{Error, Result};
use crate::{Dropout, Shape, Tensor};

/// By what angles tokens turn, and which of their columns (Su et al. 2021, equation 34, with the halves of a head as
/// the pairs). Of `[B, N, W]` the last M tokens turn.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The angles' cosines `[M, d/2]`, of the accumulator's type: `f32` for `f32` and `bf16`.
    pub cos: Tensor,
    /// Their sines, likewise.
    pub sin: Tensor,
    /// How many groups of d columns turn, from the first on: queries and keys, say, and not the values behind.
    pub heads: usize,
}

/// Tokens.
pub trait Embeddings {
    /// `y = (prefix ++ patches + positions) · mask`: patches `[B, M, D]`, prefix `[1, P, D]` (left out: N = M),
    /// positions `[1, N, D]`, y `[B, N, D]`.
    fn embed_tokens(
        &self,
        patches: &Tensor,
        prefix: Option<&Tensor>,
        positions: &Tensor,
        dropout: Option<Dropout>,
        y: &Tensor,
    ) -> Result<()>;
    /// `y = x`, where the halves a and b of each head that turns become `a·cos − b·sin` and `b·cos + a·sin`: x and y
    /// `[B, N, W]`. The inverse has `−sin`.
    fn rotate(&self, x: &Tensor, rotation: &Rotation, inverse: bool, y: &Tensor) -> Result<()>;
}

impl Tensor {
    /// `dropout(prefix ++ patches + positions)`: patches `[B, M, D]`, prefix any number of `[1, P, D]`, positions
    /// `[1, N, D]` with N all tokens, or `[1, M, D]` for patches alone, or none; the result is `[B, N, D]`.
    pub fn embed_tokens(
        &self,
        prefix: &[&Self],
        positions: Option<&Self>,
        dropout: Option<Dropout>,
    ) -> Result<Self> {
        const OP: &str = "embed_tokens";
        let others: Vec<&Self> = prefix.iter().copied().chain(positions).collect();
        let device = same_float(OP, self, &others)?;
        let &[batch, patches, width] = self.shape() else {
            return Err(self.shape_error(OP, "patches must be [B, M, D]"));
        };
        let mut before = 0;
        for part in prefix {
            let count = part.shape().get(1).copied().unwrap_or(1);
            expect_shape(OP, part, &[1, count, width], "prefix tokens must be [1, P, D]")?;
            before += count;
        }
        let tokens = before + patches;
        check_dropout(OP, dropout.as_ref())?;
        let positions = match positions {
            Some(all) if before == 0 || all.shape() != [1, patches, width] => {
                let rule = "positions must be [1, N, D], or [1, M, D] for patches alone";
                expect_shape(OP, all, &[1, tokens, width], rule)?;
                all.contiguous()?
            }
            some => {
                let all = Self::zeros(&[1, tokens, width], self.dtype(), device)?;
                if let Some(some) = some {
                    all.narrow(1, before, patches)?.copy_(some)?;
                }
                all
            }
        };
        let prefix = match prefix {
            [] => None,
            [one] => Some(one.contiguous()?),
            parts => Some(Self::concat(parts, 1)?),
        };
        let y = Self::uninitialised(Shape::new(&[batch, tokens, width])?, self.dtype(), device)?;
        let patches = self.contiguous()?;
        device.backend().embed_tokens(&patches, prefix.as_ref(), &positions, dropout, &y)?;
        Ok(y)
    }

    /// Turns columns of the last tokens of `[B, N, W]` by a rotation, or back: that is the gradient.
    pub fn rotate(&self, rotation: &Rotation, inverse: bool) -> Result<Self> {
        const OP: &str = "rotate";
        let Rotation { cos, sin, heads } = rotation;
        let device = same_float(OP, self, &[])?;
        expect_accumulator(OP, cos, self)?;
        expect_accumulator(OP, sin, self)?;
        let &[_, tokens, width] = self.shape() else {
            return Err(self.shape_error(OP, "x must be [B, N, W]"));
        };
        let &[turned, half] = cos.shape() else {
            return Err(cos.shape_error(OP, "cosines must be [M, d/2]"));
        };
        expect_shape(OP, sin, &[turned, half], "sines must have the cosines' shape")?;
        if turned > tokens || half == 0 || width % (2 * half) != 0 {
            let rule =
                "x must be [B, N, W] and cosines [M, d/2], M at most N and W a multiple of d";
            return Err(Error::shapes(OP, self.shape(), cos.shape(), rule));
        }
        if *heads > width / (2 * half) {
            let rule = "x has fewer groups of d columns";
            return Err(Error::argument(OP, "number of heads that turn", heads, rule));
        }
        let y = Self::uninitialised(self.dims(), self.dtype(), device)?;
        let dense = Rotation { cos: cos.contiguous()?, sin: sin.contiguous()?, heads: *heads };
        device.backend().rotate(&self.contiguous()?, &dense, inverse, &y)?;
        Ok(y)
    }
}
