//! Max pooling of images, and its gradient.

use vitrine_tensor::backend::{Poolings, Windows};
use vitrine_tensor::{Result, Tensor};

use super::convolution::Cut;
use crate::backend::CudaBackend;

/// How windows cut images `[B, H, W, C]`.
fn cut(backend: &CudaBackend, op: &'static str, windows: &Windows, images: &Tensor) -> Result<Cut> {
    let &[_, height, width, channels] = images.shape() else {
        unreachable!("`ops` gives [B, H, W, C]")
    };
    Cut::new(backend, op, windows, [channels, height, width])
}

impl Poolings for CudaBackend {
    fn max_pool(&self, x: &Tensor, windows: &Windows, y: &Tensor, places: &Tensor) -> Result<()> {
        const OP: &str = "max_pool";
        let elements = y.elements() as u64;
        self.launch_for(OP, y.dtype())?
            .moves(&[x, y, places])
            .over(elements)
            .tensor(x)
            .tensor(y)
            .tensor(places)
            .value(cut(self, OP, windows, x)?)
            .value(elements)
            .launch()
    }

    fn max_pool_grad(
        &self,
        dy: &Tensor,
        places: &Tensor,
        windows: &Windows,
        dx: &Tensor,
    ) -> Result<()> {
        const OP: &str = "max_pool_grad";
        let elements = dx.elements() as u64;
        self.launch_for(OP, dx.dtype())?
            .moves(&[dy, places, dx])
            .over(elements)
            .tensor(dy)
            .tensor(places)
            .tensor(dx)
            .value(cut(self, OP, windows, dx)?)
            .value(elements)
            .launch()
    }
}
