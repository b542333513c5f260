//! Windows of images: cutting them out, and adding them up again. Work is split by rows of windows or of pixels.

use super::CpuBackend;
use super::arithmetic::store;
use super::dispatch::{with_element, with_float};
use super::memory::{read, write};
use super::number::Number;
use super::parallel::{each, try_each};
use super::scratch::with_scratch;
use crate::backend::{Convolutions, Windows};
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

impl Convolutions for CpuBackend {
    fn unfold(&self, images: &Tensor, windows: &Windows, to: &Tensor) -> Result<()> {
        let cut = Cut::new(windows, images.shape());
        with_element!(images.dtype(), T => cut.unfold::<T>(&read(images), &mut write(to)));
        Ok(())
    }

    fn fold(&self, from: &Tensor, windows: &Windows, images: &Tensor) -> Result<()> {
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
}
