//! Cutting images into patches and back.

use rayon::prelude::*;

use super::CpuBackend;
use super::dispatch::with_element;
use super::memory::{read, write};
use crate::backend::Convolutions;
use crate::dtype::Element;
use crate::{Result, Tensor};

/// How images are cut.
struct Grid {
    channels: usize,
    height: usize,
    width: usize,
    patch: (usize, usize),
}

impl Grid {
    fn new(images: &[usize], patch: (usize, usize)) -> Self {
        Self { channels: images[1], height: images[2], width: images[3], patch }
    }

    fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Calls `each` for every run of pixels that is dense in both: position in the image, position in its patches.
    fn for_each_run(&self, mut each: impl FnMut(usize, usize)) {
        let (p, q) = self.patch;
        let per_row = self.width / q;
        let patch = self.channels * p * q;
        for channel in 0..self.channels {
            for y in 0..self.height {
                for column in 0..per_row {
                    let pixel = (channel * self.height + y) * self.width + column * q;
                    let number = y / p * per_row + column;
                    each(pixel, number * patch + (channel * p + y % p) * q);
                }
            }
        }
    }

    fn cut<T: Element>(&self, images: &[T], patches: &mut [T]) {
        let run = self.patch.1;
        let size = self.image().max(1);
        patches.par_chunks_mut(size).zip(images.par_chunks(size)).for_each(|(patches, image)| {
            self.for_each_run(|pixel, at| {
                patches[at..at + run].copy_from_slice(&image[pixel..pixel + run]);
            });
        });
    }

    fn paste<T: Element>(&self, patches: &[T], images: &mut [T]) {
        let run = self.patch.1;
        let size = self.image().max(1);
        images.par_chunks_mut(size).zip(patches.par_chunks(size)).for_each(|(image, patches)| {
            self.for_each_run(|pixel, at| {
                image[pixel..pixel + run].copy_from_slice(&patches[at..at + run]);
            });
        });
    }
}

impl Convolutions for CpuBackend {
    fn patchify(&self, images: &Tensor, patch: (usize, usize), patches: &Tensor) -> Result<()> {
        let grid = Grid::new(images.shape(), patch);
        with_element!(images.dtype(), T => grid.cut::<T>(&read(images), &mut write(patches)));
        Ok(())
    }

    fn unpatchify(&self, patches: &Tensor, patch: (usize, usize), images: &Tensor) -> Result<()> {
        let grid = Grid::new(images.shape(), patch);
        with_element!(images.dtype(), T => grid.paste::<T>(&read(patches), &mut write(images)));
        Ok(())
    }
}
