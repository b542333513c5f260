//! Cutting images into patches and back; class token and positions.

use bytemuck::NoUninit;
use vitrine_tensor::{Dropout, Result, Tensor};

use super::copy::moved_as;
use crate::arguments::DropoutArgument;
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

/// Cuts images into patches.
pub(crate) fn patchify(
    backend: &CudaBackend,
    images: &Tensor,
    patch: (usize, usize),
    patches: &Tensor,
) -> Result<()> {
    let grid = Grid::new(images, patch);
    move_pixels(backend, "patchify", [images, patches], grid)
}

/// Puts patches back into images.
pub(crate) fn unpatchify(
    backend: &CudaBackend,
    patches: &Tensor,
    patch: (usize, usize),
    images: &Tensor,
) -> Result<()> {
    let grid = Grid::new(images, patch);
    move_pixels(backend, "unpatchify", [patches, images], grid)
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

/// `y = (class ++ patches + positions) · mask`
pub(crate) fn tokens(
    backend: &CudaBackend,
    patches: &Tensor,
    class: Option<&Tensor>,
    positions: &Tensor,
    dropout: Option<Dropout>,
    y: &Tensor,
) -> Result<()> {
    backend
        .launch_for("embed_tokens", y.dtype())?
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
