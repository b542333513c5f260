//! Adding the class token and the positions.

use rayon::prelude::*;

use super::CpuBackend;
use super::activation::Mask;
use super::arithmetic::store;
use super::dispatch::with_float;
use super::memory::{read, write};
use super::number::Number;
use super::scratch::with_scratch;
use super::simd::simd;
use crate::backend::Embeddings;
use crate::{Dropout, Result, Tensor};

simd! {
    fn add<T: Number>(a: &[T], b: &[T], sums: &mut [T::Acc]) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum = a.widen() + b.widen();
        }
    }
}

/// `y = (class ++ patches + positions) · mask`
fn tokens<T: Number>(
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

impl Embeddings for CpuBackend {
    fn embed_tokens(
        &self,
        patches: &Tensor,
        class: Option<&Tensor>,
        positions: &Tensor,
        dropout: Option<Dropout>,
        y: &Tensor,
    ) -> Result<()> {
        let mask = dropout.map(|d| Mask::new(d, y));
        with_float!(y.dtype(), T => {
            let class = class.map(read::<T>);
            let (patches, positions) = (read::<T>(patches), read::<T>(positions));
            let mut y = write::<T>(y);
            tokens::<T>(&patches, class.as_deref(), &positions, mask.as_ref(), &mut y);
        });
        Ok(())
    }
}
