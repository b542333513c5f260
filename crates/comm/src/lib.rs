//! Ranks that train together: [`Collective`], and its form for one process alone.
//!
//! ```
//! use vitrine_comm::{Alone, Collective};
//! use vitrine_tensor::{Device, Tensor};
//!
//! let gradients = Tensor::from_slice(&[1.0f32, 2.0], &[2], &Device::cpu())?;
//! Alone.sum(&gradients)?; // over one rank: nothing changes
//! assert_eq!((Alone.rank(), Alone.size()), (0, 1));
//! assert_eq!(gradients.to_vec::<f32>()?, [1.0, 2.0]);
//! # Ok::<(), vitrine_tensor::Error>(())
//! ```

use vitrine_tensor::{Result, Tensor};

/// What one of several processes, the ranks, does with the others. All ranks make the same calls in the same order.
pub trait Collective: Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// Sums a flat buffer over all ranks, in place: the trainer calls it where a step's gradient is complete.
    fn sum(&self, buffer: &Tensor) -> Result<()>;
}

/// One process alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _: &Tensor) -> Result<()> {
        Ok(())
    }
}
