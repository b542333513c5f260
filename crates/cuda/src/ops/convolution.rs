//! Cutting images into patches and back.

use bytemuck::NoUninit;
use vitrine_tensor::backend::Convolutions;
use vitrine_tensor::{Result, Tensor};

use super::movement::moved_as;
use crate::backend::CudaBackend;

/// How images are cut, as `Grid` in `kernels/embed.cu`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct Grid {
    channels: u32,
    height: u32,
    width: u32,
    patch: [u32; 2],
}

impl Grid {
    fn new(images: &Tensor, patch: (usize, usize)) -> Self {
        let &[_, channels, height, width] = images.shape() else {
            unreachable!("`ops` gives [B, C, H, W]")
        };
        let [channels, height, width] = [channels, height, width].map(|extent| extent as u32);
        Self { channels, height, width, patch: [patch.0 as u32, patch.1 as u32] }
    }
}

fn move_pixels(
    backend: &CudaBackend,
    op: &'static str,
    [from, to]: [&Tensor; 2],
    grid: Grid,
) -> Result<()> {
    let elements = to.elements() as u64;
    backend
        .launch(op, &format!("{op}_{}", moved_as(to.dtype())))?
        .moves(&[from, to])
        .over(elements)
        .tensor(from)
        .tensor(to)
        .value(grid)
        .value(elements)
        .launch()
}

impl Convolutions for CudaBackend {
    fn patchify(&self, images: &Tensor, patch: (usize, usize), patches: &Tensor) -> Result<()> {
        let grid = Grid::new(images, patch);
        move_pixels(self, "patchify", [images, patches], grid)
    }

    fn unpatchify(&self, patches: &Tensor, patch: (usize, usize), images: &Tensor) -> Result<()> {
        let grid = Grid::new(images, patch);
        move_pixels(self, "unpatchify", [patches, images], grid)
    }
}
