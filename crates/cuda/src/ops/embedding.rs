//! Class token and positions.

use vitrine_tensor::backend::Embeddings;
use vitrine_tensor::{Dropout, Result, Tensor};

use crate::arguments::DropoutArgument;
use crate::backend::CudaBackend;

impl Embeddings for CudaBackend {
    fn embed_tokens(
        &self,
        patches: &Tensor,
        class: Option<&Tensor>,
        positions: &Tensor,
        dropout: Option<Dropout>,
        y: &Tensor,
    ) -> Result<()> {
        self.launch_for("embed_tokens", y.dtype())?
            .moves(&[patches, positions, y])
            .over_masked(y.elements())
            .tensor(patches)
            .optional(class)
            .tensor(positions)
            .value(DropoutArgument::new(dropout, y))
            .tensor(y)
            .value(class.map_or(0, Tensor::elements) as u32)
            .value(positions.elements() as u32)
            .value(y.elements() as u64)
            .launch()
    }
}
