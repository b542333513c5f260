//! Cutting images into patches and back; class token and positions.

use rayon::prelude::*;

use super::activation::Mask;
use super::elementwise::store;
use super::number::Number;
use super::scratch::with_scratch;
use super::simd::simd;
use crate::dtype::Element;

/// How images are cut.
pub(crate) struct Grid {
    channels: usize,
    height: usize,
    width: usize,
    patch: (usize, usize),
}

impl Grid {
    pub(crate) fn new(images: &[usize], patch: (usize, usize)) -> Self {
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

    pub(crate) fn cut<T: Element>(&self, images: &[T], patches: &mut [T]) {
        let run = self.patch.1;
        let size = self.image().max(1);
        patches.par_chunks_mut(size).zip(images.par_chunks(size)).for_each(|(patches, image)| {
            self.for_each_run(|pixel, at| {
                patches[at..at + run].copy_from_slice(&image[pixel..pixel + run]);
            });
        });
    }

    pub(crate) fn paste<T: Element>(&self, patches: &[T], images: &mut [T]) {
        let run = self.patch.1;
        let size = self.image().max(1);
        images.par_chunks_mut(size).zip(patches.par_chunks(size)).for_each(|(image, patches)| {
            self.for_each_run(|pixel, at| {
                image[pixel..pixel + run].copy_from_slice(&patches[at..at + run]);
            });
        });
    }
}

simd! {
    fn add<T: Number>(a: &[T], b: &[T], sums: &mut [T::Acc]) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = a.widen() + b.widen();
        }
    }
}

/// `y = (class ++ patches + positions) · mask`
pub(crate) fn tokens<T: Number>(
    patches: &[T],
    class: Option<&[T]>,
    positions: &[T],
    mask: Option<&Mask>,
    y: &mut [T],
) {
    if y.is_empty() {
        return;
    }
    let tokens = positions.len();
    let before = class.map_or(0, <[T]>::len);
    y.par_chunks_mut(tokens).enumerate().for_each(|(image, y)| {
        let patches = &patches[image * (tokens - before)..][..tokens - before];
        with_scratch(tokens, |sums| {
            let (first, others) = sums.split_at_mut(before);
            add(class.unwrap_or_default(), positions, first);
            add(patches, &positions[before..], others);
            if let Some(mask) = mask {
                mask.apply(sums, image * tokens);
            }
            store(sums, y);
        });
    });
}
