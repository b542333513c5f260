//! The patch embedding: a convolution whose kernel and stride are the patch, as a product.

use vitrine_autodiff::Var;
use vitrine_tensor::{Epilogue, Windows};

use crate::error::{Error, Result};
use crate::init::Init;
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;

/// Cuts images into patches and projects each: `[B, C, H, W]` to `[B, (H/p)·(W/q), D]` (Dosovitskiy et al. 2021,
/// section 3.1).
#[derive(Clone, Copy, Debug)]
pub struct PatchEmbedding {
    weight: ParameterId,
    bias: ParameterId,
    image: (usize, usize),
    patch: (usize, usize),
    channels: usize,
    width: usize,
    any_size: bool,
}

impl PatchEmbedding {
    /// Declares `proj.weight [D, C, p, q]` and `proj.bias [D]`. Images and patches are (height, width), in pixels.
    pub fn new(
        scope: &mut Scope<'_>,
        image: (usize, usize),
        patch: (usize, usize),
        channels: usize,
        width: usize,
        weight: &Init,
        bias: &Init,
    ) -> Result<Self> {
        let fits =
            |image: usize, patch: usize| patch > 0 && image > 0 && image.is_multiple_of(patch);
        if !fits(image.0, patch.0) || !fits(image.1, patch.1) {
            return Err(Error::Config {
                layer: "patch embedding",
                what: "patch size",
                value: format!("{}x{} for images of {}x{}", patch.0, patch.1, image.0, image.1),
                rule: "height and width of the image must be multiples of the patch's",
            });
        }
        let mut proj = scope.scope("proj");
        let shape = [width, channels, patch.0, patch.1];
        let fan_in = channels * patch.0 * patch.1;
        let weight = proj.weight("weight", &shape, weight);
        let bias = proj.vector("bias", &[width], bias, fan_in);
        Ok(Self { weight, bias, image, patch, channels, width, any_size: false })
    }

    /// Whether images of other sizes are taken as well.
    pub fn with_any_size(self, any_size: bool) -> Self {
        Self { any_size, ..self }
    }

    /// Whether it takes images of this size.
    pub fn takes(&self, (height, width): (usize, usize)) -> bool {
        let whole = |image: usize, patch: usize| image > 0 && image.is_multiple_of(patch);
        let whole = whole(height, self.patch.0) && whole(width, self.patch.1);
        (height, width) == self.image || (self.any_size && whole)
    }

    /// The number of patches M of an image.
    pub fn patches(&self) -> usize {
        self.image.0 / self.patch.0 * (self.image.1 / self.patch.1)
    }

    /// `[B, C, H, W]` to `[B, M, D]`.
    pub fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Var> {
        let fits = match *images.shape() {
            [_, channels, height, width] => {
                channels == self.channels && self.takes((height, width))
            }
            _ => false,
        };
        if !fits {
            return Err(vitrine_tensor::Error::ShapeMismatch {
                op: "patch embedding",
                lhs: images.shape().to_vec(),
                rhs: vec![self.channels, self.image.0, self.image.1],
                rule: "images must be [B, C, H, W] with the model's channels and image size",
            }
            .into());
        }
        let inputs = self.channels * self.patch.0 * self.patch.1;
        let weight = pass.parameter_rows(self.weight, 0, self.width, &[self.width, inputs])?;
        let bias = pass.parameter(self.bias)?;
        let options = Epilogue { bias: Some(&bias), ..Default::default() };
        Ok(images.unfold(&Windows::patches(self.patch))?.linear(&weight, &options)?)
    }
}
