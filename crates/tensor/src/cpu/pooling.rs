//! Max pooling of images `[B, H, W, C]`, row by row of windows, and its gradient, row by row of pixels.

use num_traits::{Float, Zero};

use super::CpuBackend;
use super::arithmetic::store;
use super::dispatch::with_float;
use super::memory::{read, write};
use super::number::Number;
use super::parallel::{each, try_each};
use super::scratch::with_scratch;
use super::windows::WindowRows;
use crate::backend::{Poolings, Windows};
use crate::simd;
use crate::{Result, Tensor};

simd! {
    /// Notes in `top` and `places` where a pixel at a place of the window is larger, or the first NaN.
    fn take_larger<T: Number>(x: &[T], place: u8, top: &mut [T], places: &mut [u8]) {
        for ((top, places), x) in top.iter_mut().zip(places).zip(x) {
            let (value, old) = (x.widen(), top.widen());
            let larger = value > old || (value.is_nan() && !old.is_nan());
            *top = if larger { *x } else { *top };
            *places = if larger { place } else { *places };
        }
    }
}

simd! {
    /// Adds the gradients of a window that was at a place.
    fn add_chosen<T: Number>(dy: &[T], places: &[u8], place: u8, sums: &mut [T::Acc]) {
        for ((sum, dy), chosen) in sums.iter_mut().zip(dy).zip(places) {
            *sum = *sum + if *chosen == place { dy.widen() } else { T::Acc::zero() };
        }
    }
}

impl WindowRows {
    /// Calls `each` for every pixel of a row of a window's, window by window, in a row of windows: the window's column,
    /// the pixel's, and its place in the row of the window.
    fn for_each_pixel(&self, mut each: impl FnMut(usize, usize, usize)) {
        for column in 0..self.grid[1] {
            for j in 0..self.kernel[1] {
                let x = (column * self.stride[1] + j) as isize + self.origin[1];
                if (0..self.image[1] as isize).contains(&x) {
                    each(column, x as usize, j);
                }
            }
        }
    }
}

/// The place of a pixel in a window.
fn place(rows: &WindowRows, [i, j]: [usize; 2]) -> u8 {
    u8::try_from(i * rows.kernel[1] + j).expect("`ops` admits small windows")
}

fn forward<T: Number>(x: &[T], rows: &WindowRows, y: &mut [T], places: &mut [u8]) {
    let [height, width, channels] = rows.image;
    let line = (rows.grid[1] * channels).max(1);
    each(y.chunks_mut(line).zip(places.chunks_mut(line)).enumerate(), |(number, (y, places))| {
        let (image, row) = (number / rows.grid[0], number % rows.grid[0]);
        y.fill(T::narrow(T::Acc::neg_infinity()));
        let mut first = true;
        for i in 0..rows.kernel[0] {
            let pixel = (row * rows.stride[0] + i) as isize + rows.origin[0];
            if !(0..height as isize).contains(&pixel) {
                continue;
            }
            let x = &x[(image * height + pixel as usize) * width * channels..][..width * channels];
            let mut column_before = None;
            rows.for_each_pixel(|column, pixel, j| {
                let (to, from) = (column * channels, pixel * channels);
                let (places, place) = (&mut places[to..to + channels], place(rows, [i, j]));
                if first && column_before.replace(column) != Some(column) {
                    // What is −∞ everywhere is at the window's first pixel.
                    places.fill(place);
                }
                take_larger(&x[from..from + channels], place, &mut y[to..to + channels], places);
            });
            first = false;
        }
    });
}

fn grad<T: Number>(dy: &[T], places: &[u8], rows: &WindowRows, dx: &mut [T]) -> Result<()> {
    let [height, width, channels] = rows.image;
    try_each(dx.chunks_mut((width * channels).max(1)).enumerate(), |(number, dx)| {
        let (image, y) = (number / height, (number % height) as isize - rows.origin[0]);
        with_scratch(dx.len(), |sums: &mut [T::Acc]| {
            sums.fill(T::Acc::zero());
            for row in 0..rows.grid[0] {
                let i = y - (row * rows.stride[0]) as isize;
                if !(0..rows.kernel[0] as isize).contains(&i) {
                    continue;
                }
                let start = (image * rows.grid[0] + row) * rows.grid[1] * channels;
                rows.for_each_pixel(|column, pixel, j| {
                    let from = start + column * channels..start + (column + 1) * channels;
                    let sums = &mut sums[pixel * channels..][..channels];
                    let place = place(rows, [i as usize, j]);
                    add_chosen(&dy[from.clone()], &places[from], place, sums);
                });
            }
            store(sums, dx);
            Ok(())
        })
    })
}

impl Poolings for CpuBackend {
    fn max_pool(&self, x: &Tensor, windows: &Windows, y: &Tensor, places: &Tensor) -> Result<()> {
        let rows = WindowRows::new(windows, x.shape());
        with_float!(y.dtype(), T => {
            forward::<T>(&read(x), &rows, &mut write(y), &mut write(places));
        });
        Ok(())
    }

    fn max_pool_grad(
        &self,
        dy: &Tensor,
        places: &Tensor,
        windows: &Windows,
        dx: &Tensor,
    ) -> Result<()> {
        let rows = WindowRows::new(windows, dx.shape());
        with_float!(dx.dtype(), T => grad::<T>(&read(dy), &read(places), &rows, &mut write(dx)))
    }
}
