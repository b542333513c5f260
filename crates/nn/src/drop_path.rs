//! The drop path layer: residual branches that are left out for some images. What joins a branch with what it passes
//! is the block's, in `vitrine-models`.

use vitrine_autodiff::Var;
use vitrine_tensor::Tensor;

use crate::dropout::Dropout;
use crate::error::Result;
use crate::parameters::Scope;
use crate::pass::Pass;

/// Sets a residual branch to 0 in training for a random share of the images, and scales it by `1/(1−p)` for the rest:
/// stochastic depth (Huang et al. 2016, "Deep networks with stochastic depth"), as timm's `DropPath` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropPath {
    dropout: Option<Dropout>,
    rows: usize,
}

impl DropPath {
    /// A drop path layer with its own stream, or none if the probability is 0, for branches of so many rows an image
    /// (the windows that it is parted into). An error if the probability is not in [0, 1).
    pub fn new(scope: &mut Scope<'_>, probability: f64, rows: usize) -> Result<Self> {
        let dropout = (probability != 0.0).then(|| Dropout::new(scope, probability));
        Ok(Self { dropout: dropout.transpose()?, rows })
    }

    /// The probabilities of the branches of `depth` blocks: from 0 at the first to `last`, in even steps (Huang et al.
    /// 2016, equation 4, as timm's `calculate_drop_path_rates`).
    pub fn rates(last: f64, depth: usize) -> impl Iterator<Item = f64> {
        let steps = depth.saturating_sub(1).max(1) as f64;
        (0..depth).map(move |block| last * block as f64 / steps)
    }

    /// Whether anything is dropped in this pass.
    pub fn drops(&self, pass: &Pass<'_>) -> bool {
        self.mask(pass).is_some()
    }

    fn mask(&self, pass: &Pass<'_>) -> Option<vitrine_tensor::Dropout> {
        pass.mask(&self.dropout?)
    }

    /// A branch `[B·M, ..]` of B images, the M rows of one dropped together.
    pub fn forward(&self, pass: &Pass<'_>, branch: &Var) -> Result<Var> {
        let Some(mask) = self.mask(pass) else { return Ok(branch.clone()) };
        let images = branch.shape().first().copied().unwrap_or(0) / self.rows.max(1);
        let ones = Tensor::full(&[images], 1.0, pass.dtype(), branch.value().device())?;
        let factors = pass.constant(ones.dropout(mask)?.reshape(&[images, 1])?);
        let size = branch.value().elements() / images.max(1);
        let dropped = branch.reshape(&[images, size])?.mul(&factors)?;
        Ok(dropped.reshape(branch.shape())?)
    }
}
