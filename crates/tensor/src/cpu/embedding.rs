//! Prefix tokens and positions, added and as rotations.

use super::CpuBackend;
use super::activation::Mask;
use super::arithmetic::{add_row, load, store};
use super::dispatch::with_float;
use super::memory::{read, write};
use super::number::{Acc, Number, Real};
use super::parallel::{each, try_each};
use super::scratch::with_scratch;
use crate::backend::{Embeddings, Rotation};
use crate::simd;
use crate::{Dropout, Result, Tensor};

/// `y = (prefix ++ patches + positions) · mask`
fn tokens<T: Number>(
    patches: &[T],
    prefix: Option<&[T]>,
    positions: &[T],
    mask: Option<&Mask>,
    y: &mut [T],
) -> Result<()> {
    if y.is_empty() {
        return Ok(());
    }
    let tokens = positions.len();
    let before = prefix.map_or(0, <[T]>::len);
    try_each(y.chunks_mut(tokens).enumerate(), |(image, y)| {
        let patches = &patches[image * (tokens - before)..][..tokens - before];
        with_scratch(tokens, |sums| {
            let (first, others) = sums.split_at_mut(before);
            load(prefix.unwrap_or_default(), first);
            load(patches, others);
            add_row(sums, positions);
            if let Some(mask) = mask {
                mask.apply(sums, image * tokens);
            }
            store(sums, y);
            Ok(())
        })
    })
}

simd! {
    /// Turns all heads of a token: x and y `[heads, d]`, cos and sin `[d/2]`.
    fn rotate_heads<T: Number>(
        x: &[T],
        cos: &[T::Acc],
        sin: &[T::Acc],
        sign: T::Acc,
        y: &mut [T],
    ) {
        let half = cos.len();
        for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half)) {
            let ((a, b), (turned_a, turned_b)) = (x.split_at(half), y.split_at_mut(half));
            let inputs = a.iter().zip(b).zip(cos.iter().zip(sin));
            for ((turned_a, turned_b), ((a, b), (&cos, &sin))) in
                turned_a.iter_mut().zip(turned_b).zip(inputs)
            {
                let (a, b, sin) = (a.widen(), b.widen(), sin * sign);
                *turned_a = T::narrow(a * cos - b * sin);
                *turned_b = T::narrow(b * cos + a * sin);
            }
        }
    }
}

/// `y = x` with columns of the last tokens turned: x and y `[B, N, W]`, cos and sin `[M, d/2]`.
fn rotated<T: Number>(
    x: &[T],
    [tokens, width]: [usize; 2],
    (cos, sin): (&[Acc<T>], &[Acc<T>]),
    [half, heads]: [usize; 2],
    inverse: bool,
    y: &mut [T],
) {
    if y.is_empty() {
        return;
    }
    let still = tokens - cos.len() / half;
    let sign = Acc::<T>::of(if inverse { -1.0 } else { 1.0 });
    each(y.chunks_mut(width).zip(x.chunks(width)).enumerate(), |(row, (y, x))| {
        let columns = match (row % tokens).checked_sub(still) {
            None => 0,
            Some(token) => {
                let (columns, angles) = (2 * half * heads, token * half..(token + 1) * half);
                let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
                rotate_heads(&x[..columns], cos, sin, sign, &mut y[..columns]);
                columns
            }
        };
        y[columns..].copy_from_slice(&x[columns..]);
    });
}

impl Embeddings for CpuBackend {
    fn embed_tokens(
        &self,
        patches: &Tensor,
        prefix: Option<&Tensor>,
        positions: &Tensor,
        dropout: Option<Dropout>,
        y: &Tensor,
    ) -> Result<()> {
        let mask = dropout.map(|d| Mask::new(d, y));
        with_float!(y.dtype(), T => {
            let prefix = prefix.map(read::<T>);
            let (patches, positions) = (read::<T>(patches), read::<T>(positions));
            let mut y = write::<T>(y);
            tokens::<T>(&patches, prefix.as_deref(), &positions, mask.as_ref(), &mut y)
        })
    }

    fn rotate(&self, x: &Tensor, rotation: &Rotation, inverse: bool, y: &Tensor) -> Result<()> {
        let sizes = [x.shape()[1], x.shape()[2]];
        let heads = [rotation.cos.shape()[1], rotation.heads];
        with_float!(y.dtype(), T => {
            let (x, cos, sin) = (read::<T>(x), read(&rotation.cos), read(&rotation.sin));
            rotated::<T>(&x, sizes, (&cos, &sin), heads, inverse, &mut write(y));
        });
        Ok(())
    }
}
