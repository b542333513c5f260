//! Windows of images: cutting them out, adding them up again, and finding one without cutting ([`WindowRows`]). Work is
//! split by rows of windows or of pixels. What is done with windows is in `convolution` and `pooling`.

use super::arithmetic::store;
use super::dispatch::{with_element, with_float};
use super::memory::{read, write};
use super::number::Number;
use super::parallel::{each, try_each};
use super::scratch::with_scratch;
use crate::backend::{Partition, Windows};
use crate::dtype::Element;
use crate::{Result, Tensor};

/// How images are cut into windows.
struct Cut<'a> {
    windows: &'a Windows,
    channels: usize,
    height: usize,
    width: usize,
    /// Windows below each other.
    rows: usize,
    /// For each of the windows side by side, the pixels of a row that lie in it: the first one's number, its place in
    /// the window's row, and how many there are.
    runs: Vec<(usize, usize, usize)>,
}

impl<'a> Cut<'a> {
    fn new(windows: &'a Windows, images: &[usize]) -> Self {
        let &[_, channels, height, width] = images else { unreachable!("`ops` gives images") };
        let (rows, columns) = windows.count(height, width).expect("`ops` admits windows that fit");
        let run = |column: usize| {
            let (start, before) = (column * windows.stride.1, windows.padding.1);
            let inside = before.saturating_sub(start).min(windows.kernel.1);
            let first = (start + inside).saturating_sub(before).min(width);
            let end = (start + windows.kernel.1).saturating_sub(before).min(width);
            (first, inside, end.saturating_sub(first))
        };
        Self { windows, channels, height, width, rows, runs: (0..columns).map(run).collect() }
    }

    /// Elements of a window.
    fn size(&self) -> usize {
        self.channels * self.windows.kernel.0 * self.windows.kernel.1
    }

    fn unfold<T: Element>(&self, images: &[T], to: &mut [T]) {
        if to.is_empty() {
            return;
        }
        let ((p, q), size) = (self.windows.kernel, self.size());
        let padded = self.windows.padding != (0, 0);
        each(to.chunks_mut(self.runs.len() * size).enumerate(), |(number, to)| {
            let (image, row) = (number / self.rows, number % self.rows);
            if padded {
                to.fill(T::default());
            }
            for (channel, y) in (0..self.channels).flat_map(|c| (0..p).map(move |y| (c, y))) {
                let pixel = (row * self.windows.stride.0 + y).checked_sub(self.windows.padding.0);
                let Some(pixel) = pixel.filter(|&pixel| pixel < self.height) else { continue };
                let line = (image * self.channels + channel) * self.height + pixel;
                let line = &images[line * self.width..][..self.width];
                let windows = to.chunks_exact_mut(size).zip(&self.runs);
                for (window, &(first, inside, len)) in windows {
                    window[(channel * p + y) * q + inside..][..len]
                        .copy_from_slice(&line[first..first + len]);
                }
            }
        });
    }

    /// Calls `each` for every run of a row of pixels that lies in a window, in a fixed order: its first pixel, and what
    /// the window holds there.
    fn for_each_run<T>(&self, from: &[T], line: usize, mut each: impl FnMut(usize, &[T])) {
        let ((p, q), size) = (self.windows.kernel, self.size());
        let (image, channel) =
            (line / self.height / self.channels, line / self.height % self.channels);
        let y = line % self.height + self.windows.padding.0;
        let first = (y + 1).saturating_sub(p).div_ceil(self.windows.stride.0);
        for row in first..self.rows.min(y / self.windows.stride.0 + 1) {
            let start = (image * self.rows + row) * self.runs.len() * size;
            let start = start + (channel * p + y - row * self.windows.stride.0) * q;
            for (column, &(pixel, inside, len)) in self.runs.iter().enumerate() {
                each(pixel, &from[start + column * size + inside..][..len]);
            }
        }
    }

    /// For windows that are apart.
    fn paste<T: Element>(&self, from: &[T], images: &mut [T]) {
        each(images.chunks_mut(self.width.max(1)).enumerate(), |(line, to)| {
            to.fill(T::default());
            self.for_each_run(from, line, |first, run| {
                to[first..first + run.len()].copy_from_slice(run);
            });
        });
    }

    /// For windows that overlap.
    fn add_up<T: Number>(&self, from: &[T], images: &mut [T]) -> Result<()> {
        try_each(images.chunks_mut(self.width.max(1)).enumerate(), |(line, to)| {
            with_scratch(self.width, |sums: &mut [T::Acc]| {
                sums.fill(num_traits::Zero::zero());
                self.for_each_run(from, line, |first, run| {
                    for (sum, value) in sums[first..].iter_mut().zip(run) {
                        *sum = *sum + value.widen();
                    }
                });
                store(sums, to);
                Ok(())
            })
        })
    }
}

/// Cuts windows out; see [`Convolutions::unfold`](crate::backend::Convolutions::unfold).
pub(super) fn unfold(images: &Tensor, windows: &Windows, to: &Tensor) {
    let cut = Cut::new(windows, images.shape());
    with_element!(images.dtype(), T => cut.unfold::<T>(&read(images), &mut write(to)));
}

/// Adds windows up; see [`Convolutions::fold`](crate::backend::Convolutions::fold).
pub(super) fn fold(from: &Tensor, windows: &Windows, images: &Tensor) -> Result<()> {
    let cut = Cut::new(windows, images.shape());
    match windows.are_apart() {
        true => with_element!(images.dtype(), T => {
            cut.paste::<T>(&read(from), &mut write(images));
        }),
        false => with_float!(images.dtype(), T => {
            cut.add_up::<T>(&read(from), &mut write(images))?;
        }),
    }
    Ok(())
}

/// Moves pixels between images and windows; see [`Convolutions::partition`](crate::backend::Convolutions::partition).
pub(super) fn partition(images: &Tensor, windows: &Tensor, by: &Partition, to_windows: bool) {
    let &[_, height, width, channels] = images.shape() else { unreachable!("`ops` gives images") };
    let ((p, q), (down, right)) = (by.window, by.shift);
    let (rows, columns, size) = (height / p, width / q, p * q * channels);
    // The parts of a row of a window, which may go on at the left edge: the first pixel of the window's row and of the
    // image's, and how many there are.
    let parts = |column: usize| {
        let start = (column * q + right) % width;
        let len = q.min(width - start);
        [(0, start, len), (len, 0, q - len)]
    };
    with_element!(images.dtype(), T => match to_windows {
        true => {
            let images = read::<T>(images);
            each(write::<T>(windows).chunks_mut(size.max(1)).enumerate(), |(window, to)| {
                let (image, row, column) =
                    (window / columns / rows, window / columns % rows, window % columns);
                for r in 0..p {
                    let line = image * height + (row * p + r + down) % height;
                    for (inside, x, len) in parts(column) {
                        to[(r * q + inside) * channels..][..len * channels]
                            .copy_from_slice(&images[(line * width + x) * channels..][..len * channels]);
                    }
                }
            });
        }
        false => {
            let windows = read::<T>(windows);
            each(write::<T>(images).chunks_mut((width * channels).max(1)).enumerate(), |(line, to)| {
                let (image, y) = (line / height, (line % height + height - down % height) % height);
                for column in 0..columns {
                    let window = (image * rows + y / p) * columns + column;
                    for (inside, x, len) in parts(column) {
                        let from = window * size + (y % p * q + inside) * channels;
                        to[x * channels..][..len * channels]
                            .copy_from_slice(&windows[from..][..len * channels]);
                    }
                }
            });
        }
    });
}

/// Where the windows of images `[B, H, W, C]` lie: as rows of a matrix, in the order (B, H', W'), and in a row (p, q,
/// C).
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowRows {
    /// Height, width and channels of an image.
    pub(super) image: [usize; 3],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    /// The pixel of an image that its first window begins with: before the image where there is padding.
    pub(super) origin: [isize; 2],
    /// Windows below each other, and side by side.
    pub(super) grid: [usize; 2],
}

impl WindowRows {
    /// All windows of images of a shape `[B, H, W, C]`.
    pub(super) fn new(windows: &Windows, images: &[usize]) -> Self {
        let &[_, height, width, channels] = images else { unreachable!("`ops` gives images") };
        let Windows { kernel, stride, padding } = *windows;
        let grid = windows.count(height, width).expect("`ops` admits windows that fit");
        Self {
            image: [height, width, channels],
            kernel: kernel.into(),
            stride: stride.into(),
            origin: [-(padding.0 as isize), -(padding.1 as isize)],
            grid: grid.into(),
        }
    }

    /// Windows of that many images, and elements of a window.
    pub(super) fn extents(&self, images: usize) -> [usize; 2] {
        let [rows, columns] = self.grid;
        [images * rows * columns, self.kernel[0] * self.kernel[1] * self.image[2]]
    }

    /// Puts the elements of a window from `first` on into `to`, run by run.
    pub(super) fn copy<T: Element, U: Element>(
        &self,
        images: &[T],
        window: usize,
        first: usize,
        to: &mut [U],
        put: impl Fn(&[T], &mut [U]),
    ) {
        let [height, width, channels] = self.image;
        let (line, column) = (window / self.grid[1], window % self.grid[1]);
        let (image, row) = (line / self.grid[0], line % self.grid[0]);
        let left = (column * self.stride[1]) as isize + self.origin[1];
        let run = self.kernel[1] * channels;
        // What of a row of the window lies in the image.
        let inside = [-left, width as isize - left]
            .map(|end| end.clamp(0, self.kernel[1] as isize) as usize * channels);
        let mut rest = to;
        let (mut kernel_row, mut start) = (first / run, first % run);
        while !rest.is_empty() {
            let (to, others) = rest.split_at_mut((run - start).min(rest.len()));
            let y = (row * self.stride[0] + kernel_row) as isize + self.origin[0];
            let (from, end) = match (0..height as isize).contains(&y) {
                true => (inside[0].clamp(start, start + to.len()), inside[1].min(start + to.len())),
                false => (start, start),
            };
            let len = end.saturating_sub(from);
            to[..from - start].fill(U::default());
            if len > 0 {
                let line = (image * height + y as usize) * width * channels;
                let at = line as isize + left * channels as isize + from as isize;
                put(&images[at as usize..][..len], &mut to[from - start..][..len]);
            }
            to[from - start + len..].fill(U::default());
            (rest, kernel_row, start) = (others, kernel_row + 1, 0);
        }
    }
}
