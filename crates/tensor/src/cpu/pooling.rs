//! Max pooling of images `[B, H, W, C]`, row by row of windows, and its gradient, row by row of pixels.

use num_traits::{Float, Zero};

use super::CpuBackend;
use super::arithmetic::{load, store};
use super::dispatch::with_float;
use super::memory::{read, write};
use super::number::{Number, Real};
use super::parallel::{each, try_each};
use super::scratch::with_scratch;
use super::windows::WindowRows;
use crate::backend::{Poolings, Windows};
use crate::simd;
use crate::{Element, Result, Tensor};

/// Channels whose largest values are in registers at a time.
const LANES: usize = 16;

simd! {
    /// The largest, or the first NaN, of pixels of one window, each given by where its channels begin and its place in
    /// the window; the first of them where all are −∞.
    fn largest<T: Number>(x: &[T], pixels: &[(usize, u8)], y: &mut [T], places: &mut [u8]) {
        for (block, (y, places)) in y.chunks_mut(LANES).zip(places.chunks_mut(LANES)).enumerate() {
            // Places are numbers of the values' type, so that one comparison serves both.
            let wide = |place: u8| T::Acc::of(f64::from(place));
            let first = pixels.first().map_or(T::Acc::zero(), |&(_, place)| wide(place));
            let (mut top, mut at) = ([T::Acc::neg_infinity(); LANES], [first; LANES]);
            for &(start, place) in pixels {
                let x = &x[start + block * LANES..][..y.len()];
                // A whole register, with a length that is known, if there is one.
                let mut values = [T::Acc::neg_infinity(); LANES];
                match x.first_chunk::<LANES>() {
                    Some(x) => values = x.map(T::widen),
                    None => load(x, &mut values[..x.len()]),
                }
                let place = wide(place);
                for ((top, at), value) in top.iter_mut().zip(&mut at).zip(values) {
                    let larger = (value > *top) | (value.is_nan() & !top.is_nan());
                    *top = if larger { value } else { *top };
                    *at = if larger { place } else { *at };
                }
            }
            for (lane, (y, place)) in y.iter_mut().zip(places).enumerate() {
                (*y, *place) = (T::narrow(top[lane]), at[lane].to_f64() as u8);
            }
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
        let pixels_each = rows.kernel[0] * rows.kernel[1];
        let mut pixels: Vec<_> =
            (0..rows.grid[1]).map(|_| Vec::with_capacity(pixels_each)).collect();
        for i in 0..rows.kernel[0] {
            let pixel = (row * rows.stride[0] + i) as isize + rows.origin[0];
            if (0..height as isize).contains(&pixel) {
                let start = (image * height + pixel as usize) * width;
                rows.for_each_pixel(|column, pixel, j| {
                    pixels[column].push(((start + pixel) * channels, place(rows, [i, j])));
                });
            }
        }
        let windows = y.chunks_mut(channels).zip(places.chunks_mut(channels));
        windows.zip(&pixels).for_each(|((y, places), pixels)| largest(x, pixels, y, places));
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
