//! Windows of images: cutting them out, and adding them up again; and parting images into windows.

use bytemuck::NoUninit;
use vitrine_tensor::backend::{Convolutions, Partition, Windows};
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

/// How images are parted, as `Parts` in `kernels/convolution.cu`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct Parts {
    height: u32,
    width: u32,
    channels: u32,
    window: [u32; 2],
    /// Less than height and width.
    shift: [u32; 2],
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

    fn partition(
        &self,
        images: &Tensor,
        windows: &Tensor,
        partition: &Partition,
        to_windows: bool,
    ) -> Result<()> {
        const OP: &str = "partition";
        let &[_, height, width, channels] = images.shape() else {
            unreachable!("`ops` gives [B, H, W, C]")
        };
        let ((p, q), (down, right)) = (partition.window, partition.shift);
        let (window, shift) = ([p, q], [down % height.max(1), right % width.max(1)]);
        let (window, shift) = (sizes(self, OP, window)?, sizes(self, OP, shift)?);
        let [height, width, channels] = sizes(self, OP, [height, width, channels])?;
        let parts = Parts { height, width, channels, window, shift };
        let (from, to) = if to_windows { (images, windows) } else { (windows, images) };
        let elements = to.elements() as u64;
        self.launch(OP, &format!("partition_{}", moved_as(to.dtype())))?
            .moves(&[from, to])
            .over(elements)
            .tensor(from)
            .tensor(to)
            .value(parts)
            .value(u32::from(to_windows))
            .value(elements)
            .launch()
    }
}
