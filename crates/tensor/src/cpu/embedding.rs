//! Adding the class token and the positions.

use super::CpuBackend;
use super::activation::Mask;
use super::arithmetic::store;
use super::dispatch::with_float;
use super::memory::{read, write};
use super::number::Number;
use super::parallel::try_each;
use super::scratch::with_scratch;
use crate::backend::Embeddings;
use crate::simd;
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
) -> Result<()> {
    if y.is_empty() {
        return Ok(());
    }
    let tokens = positions.len();
    let before = class.map_or(0, <[T]>::len);
    try_each(y.chunks_mut(tokens).enumerate(), |(image, y)| {
        let patches = &patches[image * (tokens - before)..][..tokens - before];
        with_scratch(tokens, |sums| {
            let (first, others) = sums.split_at_mut(before);
            add(class.unwrap_or_default(), positions, first);
            add(patches, &positions[before..], others);
            if let Some(mask) = mask {
                mask.apply(sums, image * tokens);
            }
            store(sums, y);
            Ok(())
        })
    })
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
            tokens::<T>(&patches, class.as_deref(), &positions, mask.as_ref(), &mut y)
        })
    }
}
