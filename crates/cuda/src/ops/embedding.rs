//! Prefix tokens and positions, added and as rotations.

use vitrine_tensor::backend::Embeddings;
use vitrine_tensor::{Dropout, Result, Rotation, Tensor};

use crate::arguments::DropoutArgument;
use crate::backend::CudaBackend;

impl Embeddings for CudaBackend {
    fn embed_tokens(
        &self,
        patches: &Tensor,
        prefix: Option<&Tensor>,
        positions: &Tensor,
        dropout: Option<Dropout>,
        y: &Tensor,
    ) -> Result<()> {
        self.launch_for("embed_tokens", y.dtype())?
            .moves(&[patches, positions, y])
            .over_masked(y.elements())
            .tensor(patches)
            .optional(prefix)
            .tensor(positions)
            .value(DropoutArgument::new(dropout, y))
            .tensor(y)
            .value(prefix.map_or(0, Tensor::elements) as u32)
            .value(positions.elements() as u32)
            .value(y.elements() as u64)
            .launch()
    }

    fn rotate(&self, x: &Tensor, rotation: &Rotation, inverse: bool, y: &Tensor) -> Result<()> {
        let Rotation { cos, sin, heads } = rotation;
        let (tokens, width) = (x.shape()[1], x.shape()[2]);
        let (turned, half) = (cos.shape()[0], cos.shape()[1]);
        self.launch_for("rotate", y.dtype())?
            .moves(&[x, cos, sin, y])
            .over_rows(x.rows())
            .tensor(x)
            .tensor(cos)
            .tensor(sin)
            .value(if inverse { -1.0_f32 } else { 1.0 })
            .tensor(y)
            .value(x.rows() as u64)
            .value(tokens as u32)
            .value((tokens - turned) as u32)
            .value((width / 2) as u32)
            .value(half as u32)
            .value(*heads as u32)
            .launch()
    }
}
