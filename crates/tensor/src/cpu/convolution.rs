//! Convolution of images `[B, H, W, C]` and its gradients: products whose one operand is the windows, which are packed
//! straight from the images. An image of windows is never in memory.

use super::CpuBackend;
use super::activation::activate_row;
use super::arithmetic::{add_row, multiply_by};
use super::batch_norm::Channels;
use super::dispatch::{with_float, with_sum};
use super::linear::{compute, forward, grad_bias, grad_weight, pack_weight};
use super::memory::{lock, packed_weight, read, write};
use super::number::{Acc, Number};
use super::parallel::each;
use super::product::{BlockGrid, Matrix, Right, product};
use super::scratch::with_scratch;
use super::windows::{self, WindowRows};
use crate::backend::{Activation, BatchNorm, Convolutions, Epilogue, Partition, Windows};
use crate::{Result, Tensor};

/// Values of windows and of a result's gradient that are multiplied together for a weight's gradient: their packed
/// forms stay in the cache that the threads share.
const TOGETHER: usize = 1 << 20;

/// The extents of a weight `[O, C, p, q]`: O, C and p·q.
type Extents = [usize; 3];

fn extents(w: &Tensor) -> Extents {
    let &[outputs, channels, p, q] = w.shape() else { unreachable!("`ops` gives [O, C, p, q]") };
    [outputs, channels, p * q]
}

/// The windows of images as a matrix `[B·H'·W', p·q·C]`: the images themselves where windows are the pixels.
fn matrix<'a, T: Number>(
    x: &'a [T],
    images: usize,
    windows: &Windows,
    rows: &'a WindowRows,
) -> Matrix<'a, T> {
    let [count, size] = rows.extents(images);
    match *windows == Windows::patches((1, 1)) {
        true => Matrix::row_major(x, count, size),
        false => Matrix::windows(x, images, rows),
    }
}

/// A weight `[O, I]` as the right operand of a product.
fn transposed<T: Number>(w: &[T], outputs: usize, inputs: usize) -> Matrix<'_, T> {
    Matrix::row_major(w, outputs, inputs).transposed()
}

/// Runs `work` on a weight `[O, C, p·q]` as `[O, p·q, C]`.
fn with_channels_last<T: Number>(
    w: &[T],
    [outputs, channels, taps]: Extents,
    work: impl FnOnce(&[T]) -> Result<()>,
) -> Result<()> {
    if taps == 1 || channels == 1 {
        return work(w);
    }
    with_scratch(outputs * channels * taps, |turned: &mut [T]| {
        let size = channels * taps;
        each(turned.chunks_mut(size.max(1)).zip(w.chunks(size.max(1))), |(to, from)| {
            for (tap, to) in to.chunks_exact_mut(channels).enumerate() {
                for (to, from) in to.iter_mut().zip(from.chunks_exact(taps)) {
                    *to = from[tap];
                }
            }
        });
        work(turned)
    })
}

/// A batch norm that follows a convolution, folded together with its bias: factors and summands for each channel.
struct Then<'a, T: Number> {
    factors: Vec<T::Acc>,
    summands: Vec<T::Acc>,
    residual: Option<&'a [T]>,
    activation: Option<Activation>,
}

/// `y = activation(x·wᵀ·factors + summands + residual)`, while a block is in cache.
fn forward_then<T: Number>(
    x: Matrix<'_, T>,
    w: Right<'_, T>,
    then: &Then<'_, T>,
    y: &mut [T],
) -> Result<()> {
    let outputs = then.factors.len();
    if y.is_empty() {
        return Ok(());
    }
    let grid = BlockGrid::new::<T>(y.len() / outputs, outputs);
    product(x, w, &grid, grid.cut(y), |y, block| {
        let (rows, columns) = (block.rows(), block.columns());
        compute(&block, y, |i, values| {
            multiply_by::<T::Acc>(values, &then.factors[columns.clone()]);
            add_row::<T::Acc>(values, &then.summands[columns.clone()]);
            if let Some(residual) = then.residual {
                let first = (rows.start + i) * outputs + columns.start;
                add_row(values, &residual[first..][..values.len()]);
            }
            if let Some(activation) = then.activation {
                activate_row(values, activation);
            }
        })
    })
}

/// `dw [O, C, p·q] += sums [O, p·q, C]`
fn add_channels_last<S: Number>(dw: &mut [S], sums: &[S::Acc], [_, channels, taps]: Extents) {
    let size = (channels * taps).max(1);
    each(dw.chunks_mut(size).zip(sums.chunks(size)), |(to, from)| {
        for (channel, to) in to.chunks_exact_mut(taps).enumerate() {
            for (to, from) in to.iter_mut().zip(from.chunks_exact(channels)) {
                *to = S::narrow(to.widen() + from[channel]);
            }
        }
    });
}

/// Pixels of a gradient for images that are the sums of one kind of windows of the result's gradient: those that lie
/// `stride` apart, where a stride leaves out the same rows and columns of the kernel.
struct Phase {
    /// The first such pixel.
    first: [usize; 2],
    /// Windows of the result's gradient, one for each such pixel.
    rows: WindowRows,
    /// The kernel's rows and columns that meet there, in the windows' order: last first.
    taps: [Vec<usize>; 2],
}

/// All phases of images `[B, H, W, C]`, for a result's gradient of a shape `[B, H', W', O]`.
fn phases(windows: &Windows, images: &[usize], dy: &[usize]) -> Vec<Phase> {
    // Along an axis: pixel a + s·n gets from result n + (a + padding − i)/s, by kernel row i, which s must divide.
    let along = |stride: usize, kernel: usize, padding: usize, extent: usize| {
        (0..stride.min(extent)).map(move |first| {
            let start = (first + padding) % stride;
            let taps: Vec<usize> = (start..kernel).step_by(stride).rev().collect();
            let origin = match taps.first() {
                Some(&last) => (first + padding) as isize - last as isize,
                None => 0,
            };
            (first, taps, origin / stride as isize, (extent - first).div_ceil(stride))
        })
    };
    let Windows { kernel, stride, padding } = *windows;
    let down = along(stride.0, kernel.0, padding.0, images[1]);
    down.flat_map(|down| {
        along(stride.1, kernel.1, padding.1, images[2]).map(move |across| {
            let rows = WindowRows {
                image: [dy[1], dy[2], dy[3]],
                kernel: [down.1.len(), across.1.len()],
                stride: [1, 1],
                origin: [down.2, across.2],
                grid: [down.3, across.3],
            };
            let taps = [down.1.clone(), across.1];
            Phase { first: [down.0, across.0], rows, taps }
        })
    })
    .collect()
}

/// `dx` for windows that are not the pixels.
fn grad_input<T: Number>(
    dy: &[T],
    w: &[T],
    [outputs, channels, size]: Extents,
    windows: &Windows,
    phases: &[Phase],
    images: &[usize],
    dx: &mut [T],
) -> Result<()> {
    let whole = phases.len() == 1;
    for phase in phases {
        let [down, across] = &phase.taps;
        let inner = down.len() * across.len() * outputs;
        let taps: Vec<usize> = down
            .iter()
            .flat_map(|i| across.iter().map(move |j| i * windows.kernel.1 + j))
            .collect();
        let [rows, columns] = phase.rows.grid;
        let pixels = images[0] * rows * columns;
        with_scratch(inner * channels, |turned: &mut [T]| {
            let per_tap = (outputs * channels).max(1);
            for (&tap, to) in taps.iter().zip(turned.chunks_exact_mut(per_tap)) {
                let to = to.chunks_mut(channels).zip(w.chunks(channels * size));
                each(to, |(to, from)| {
                    for (to, from) in to.iter_mut().zip(from.chunks_exact(size)) {
                        *to = from[tap];
                    }
                });
            }
            let w = Matrix::row_major(turned, inner, channels);
            let dy = match inner {
                0 => Matrix::row_major(&[], pixels, 0),
                _ => Matrix::windows(dy, images[0], &phase.rows),
            };
            let grid = BlockGrid::new::<T>(pixels, channels);
            let into = |dx: &mut [T]| {
                product(dy, w.into(), &grid, grid.cut(dx), |dx, block| {
                    compute(&block, dx, |_, _| ())
                })
            };
            if whole {
                return into(dx);
            }
            with_scratch(pixels * channels, |part: &mut [T]| {
                into(part)?;
                // Row by row of the images.
                let lines = dx.chunks_mut((images[2] * channels).max(1)).enumerate();
                each(lines, |(line, to)| {
                    let (image, y) = (line / images[1], line % images[1]);
                    if y % windows.stride.0 == phase.first[0] {
                        let row = (image * rows + y / windows.stride.0) * columns * channels;
                        let from = part[row..][..columns * channels].chunks_exact(channels);
                        let to = to.chunks_exact_mut(channels).skip(phase.first[1]);
                        for (to, from) in to.step_by(windows.stride.1).zip(from) {
                            to.copy_from_slice(from);
                        }
                    }
                });
                Ok(())
            })
        })?;
    }
    Ok(())
}

impl Convolutions for CpuBackend {
    fn unfold(&self, images: &Tensor, windows: &Windows, to: &Tensor) -> Result<()> {
        windows::unfold(images, windows, to);
        Ok(())
    }

    fn fold(&self, from: &Tensor, windows: &Windows, images: &Tensor) -> Result<()> {
        windows::fold(from, windows, images)
    }

    fn partition(
        &self,
        images: &Tensor,
        windows: &Tensor,
        partition: &Partition,
        to_windows: bool,
    ) -> Result<()> {
        windows::partition(images, windows, partition, to_windows);
        Ok(())
    }

    fn convolution(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: Option<&Tensor>,
        windows: &Windows,
        norm: Option<(&Tensor, &BatchNorm<'_>)>,
        y: &Tensor,
    ) -> Result<()> {
        let (rows, extents) = (WindowRows::new(windows, x.shape()), extents(w));
        with_float!(y.dtype(), T => {
            let (x, values, bias) = (read::<T>(x), read::<T>(w), bias.map(read::<T>));
            let [outputs, channels, taps] = extents;
            let inputs = channels * taps;
            let x = matrix(&x, y.shape()[0], windows, &rows);
            let residual = norm.and_then(|(_, norm)| norm.residual).map(read::<T>);
            let fold = |(statistics, norm): (&Tensor, &BatchNorm<'_>)| {
                let [factors, summands] =
                    Channels::new::<T>(&read(statistics), norm).folded(bias.as_deref());
                Then { factors, summands, residual: residual.as_deref(), activation: norm.activation }
            };
            let then = norm.map(fold);
            let mut y = write(y);
            let run = |w: Right<'_, T>, y: &mut [T]| match &then {
                Some(then) => forward_then(x, w, then, y),
                None => {
                    let epilogue = Epilogue { bias: bias.as_deref(), ..Epilogue::default() };
                    forward(x, w, &epilogue, None, None, y)
                }
            };
            // Another form than that of a linear layer on the same weight.
            let packed = packed_weight(w, [!inputs, outputs], |buffer| {
                let mut packed = None;
                let packs = |w: &[T]| {
                    packed = pack_weight(transposed(w, outputs, inputs), buffer);
                    Ok(())
                };
                with_channels_last::<T>(&values, extents, packs).ok()?;
                packed
            });
            match packed.as_deref() {
                Some(buffer) => {
                    let matrix = transposed(&values, outputs, inputs);
                    let w = Right { matrix, packed: Some(bytemuck::cast_slice(buffer.bytes())) };
                    run(w, &mut y)
                }
                None => with_channels_last::<T>(&values, extents, |w| {
                    run(transposed(w, outputs, inputs).into(), &mut y)
                }),
            }
        })
    }

    fn convolution_grad_input(
        &self,
        dy: &Tensor,
        w: &Tensor,
        windows: &Windows,
        dx: &Tensor,
    ) -> Result<()> {
        let phases = phases(windows, dx.shape(), dy.shape());
        with_float!(dx.dtype(), T => {
            let (dy, w_values) = (read::<T>(dy), read::<T>(w));
            grad_input::<T>(
                &dy, &w_values, extents(w), windows, &phases, dx.shape(), &mut write(dx),
            )
        })
    }

    fn convolution_grad_weight(
        &self,
        dy: &Tensor,
        x: &Tensor,
        windows: &Windows,
        dw: &Tensor,
        db: Option<&Tensor>,
    ) -> Result<()> {
        let rows = WindowRows::new(windows, x.shape());
        let extents = extents(dw);
        let [outputs, channels, taps] = extents;
        let (inputs, pixels) = (channels * taps, rows.grid[0] * rows.grid[1]);
        let images: usize = (TOGETHER / (pixels * inputs.min(outputs)).max(1)).max(1);
        with_float!(dy.dtype(), T => {
            with_sum!(dw.dtype(), T, S => {
                let (from, mut dw) = lock::<T, S>(&[dy, x], &[dw]);
                with_scratch(outputs * inputs, |sums: &mut [Acc<T>]| {
                    sums.fill(num_traits::Zero::zero());
                    let [height, width, _] = rows.image;
                    let (image, result) = (height * width * channels, pixels * outputs);
                    for first in (0..x.shape()[0]).step_by(images) {
                        let images = images.min(x.shape()[0] - first);
                        let dy = &from[0][first * result..][..images * result];
                        let x = &from[1][first * image..][..images * image];
                        let x = matrix(x, images, windows, &rows);
                        grad_weight::<T, Acc<T>>(dy, x, sums, outputs)?;
                    }
                    add_channels_last::<S>(&mut dw[0], sums, extents);
                    Ok(())
                })?;
            });
            if let Some(db) = db {
                with_sum!(db.dtype(), T, S => {
                    let (dy, mut db) = lock::<T, S>(&[dy], &[db]);
                    grad_bias(&dy[0], &mut db[0]);
                });
            }
        });
        Ok(())
    }
}
