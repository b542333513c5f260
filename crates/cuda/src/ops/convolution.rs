//! Windows of images: cutting them out, and adding them up again.

use bytemuck::NoUninit;
use vitrine_tensor::backend::{Convolutions, Windows};
use vitrine_tensor::{Result, Tensor};

use super::arithmetic::float_kernel;
use super::linear::sizes;
use super::movement::moved_as;
use crate::backend::CudaBackend;

/// How windows cut images, as `Cut` in `kernels/windows.cuh`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
pub(super) struct Cut {
    channels: u32,
    height: u32,
    width: u32,
    kernel: [u32; 2],
    stride: [u32; 2],
    padding: [u32; 2],
    rows: u32,
    columns: u32,
}

impl Cut {
    /// How windows cut images of these channels, height and width.
    pub(super) fn new(
        backend: &CudaBackend,
        op: &'static str,
        windows: &Windows,
        [channels, height, width]: [usize; 3],
    ) -> Result<Self> {
        let (rows, columns) = windows.count(height, width).expect("`ops` admits windows that fit");
        let pair = |(first, second): (usize, usize)| sizes(backend, op, [first, second]);
        let Windows { kernel, stride, padding } = *windows;
        pair((height + 2 * padding.0, width + 2 * padding.1))?;
        let [channels, height, width, rows, columns] =
            sizes(backend, op, [channels, height, width, rows, columns])?;
        let (kernel, stride, padding) = (pair(kernel)?, pair(stride)?, pair(padding)?);
        Ok(Self { channels, height, width, kernel, stride, padding, rows, columns })
    }
}

impl CudaBackend {
    /// Launches a kernel with a thread for each element of `to`.
    fn move_pixels(
        &self,
        op: &'static str,
        kernel: &str,
        [from, to]: [&Tensor; 2],
        windows: &Windows,
        images: &Tensor,
    ) -> Result<()> {
        let &[_, channels, height, width] = images.shape() else {
            unreachable!("`ops` gives [B, C, H, W]")
        };
        let cut = Cut::new(self, op, windows, [channels, height, width])?;
        let elements = to.elements() as u64;
        self.launch(op, kernel)?
            .moves(&[from, to])
            .over(elements)
            .tensor(from)
            .tensor(to)
            .value(cut)
            .value(elements)
            .launch()
    }
}

impl Convolutions for CudaBackend {
    fn unfold(&self, images: &Tensor, windows: &Windows, to: &Tensor) -> Result<()> {
        let kernel = format!("unfold_{}", moved_as(to.dtype()));
        self.move_pixels("unfold", &kernel, [images, to], windows, images)
    }

    fn fold(&self, from: &Tensor, windows: &Windows, images: &Tensor) -> Result<()> {
        let kernel = match windows.are_apart() {
            true => format!("fold_{}", moved_as(images.dtype())),
            false => float_kernel("fold", images.dtype())?,
        };
        self.move_pixels("fold", &kernel, [from, images], windows, images)
    }
}
