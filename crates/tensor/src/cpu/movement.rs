//! Copies and fills, for tensors with and without gaps.

use rayon::prelude::*;

use super::CpuBackend;
use super::arithmetic::{load, store};
use super::dispatch::with_element;
use super::memory::{read, write};
use crate::backend::Movement;
use crate::dtype::Element;
use crate::{DType, Result, Shape, Tensor, bf16};

/// Elements that one task works on.
const BLOCK: usize = 16 * 1024;

/// Where row `row` (an index over all axes but the last) starts.
pub(super) fn row_offset(mut row: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut offset = 0;
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        offset += row % shape[axis] * strides[axis];
        row /= shape[axis];
    }
    offset
}

pub(super) fn last(values: &[usize]) -> usize {
    values.last().copied().unwrap_or(1)
}

/// Copies strided elements into a strided destination, converting the type.
fn copy<S: Element, T: Element>(
    from: &[S],
    from_strides: &[usize],
    to: &mut [T],
    to_tensor: &Tensor,
) {
    let shape = to_tensor.shape();
    if to_tensor.elements() == 0 {
        return;
    }
    let dense = Shape::from_valid(shape).row_major_strides();
    if to_tensor.is_contiguous() && from_strides == dense.as_slice() {
        let blocks = to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK));
        return blocks.for_each(|(to, from)| convert_run(from, to));
    }
    let (columns, from_step, to_step) =
        (last(shape), last(from_strides), last(to_tensor.strides()));
    let copy_row = |row: usize, to: &mut [T]| {
        let from = &from[row_offset(row, shape, from_strides)..];
        if from_step == 1 && to_step == 1 {
            convert_run(&from[..columns], &mut to[..columns]);
            return;
        }
        match bytemuck::try_cast_slice::<S, T>(from) {
            Ok(from) if S::DTYPE == T::DTYPE => {
                for i in 0..columns {
                    to[i * to_step] = from[i * from_step];
                }
            }
            _ => {
                for i in 0..columns {
                    to[i * to_step] = T::from_f64(from[i * from_step].to_f64());
                }
            }
        }
    };
    if to_tensor.is_contiguous() {
        let rows = (BLOCK / columns).max(1);
        to.par_chunks_mut(rows * columns).enumerate().for_each(|(block, to)| {
            for (i, to) in to.chunks_exact_mut(columns).enumerate() {
                copy_row(block * rows + i, to);
            }
        });
    } else {
        for row in 0..to_tensor.rows() {
            copy_row(row, &mut to[row_offset(row, shape, to_tensor.strides())..]);
        }
    }
}

/// Copies elements that stand side by side, converting the type.
fn convert_run<S: Element, T: Element>(from: &[S], to: &mut [T]) {
    use bytemuck::{cast_slice, cast_slice_mut};
    match (S::DTYPE, T::DTYPE) {
        (from_type, to_type) if from_type == to_type => to.copy_from_slice(cast_slice(from)),
        (DType::F32, DType::BF16) => store::<bf16>(cast_slice(from), cast_slice_mut(to)),
        (DType::BF16, DType::F32) => load::<bf16>(cast_slice(from), cast_slice_mut(to)),
        _ => {
            for (to, from) in to.iter_mut().zip(from) {
                *to = T::from_f64(from.to_f64());
            }
        }
    }
}

/// Sets every element of a strided destination.
fn fill<T: Element>(to: &mut [T], tensor: &Tensor, value: f64) {
    let value = T::from_f64(value);
    if tensor.is_contiguous() {
        to.par_chunks_mut(BLOCK).for_each(|block| block.fill(value));
        return;
    }
    let (columns, step) = (last(tensor.shape()), last(tensor.strides()));
    for row in 0..tensor.rows() {
        let start = row_offset(row, tensor.shape(), tensor.strides());
        for i in 0..columns {
            to[start + i * step] = value;
        }
    }
}

impl Movement for CpuBackend {
    fn copy(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        with_element!(from.dtype(), S => with_element!(to.dtype(), T => {
            copy::<S, T>(&read(from), from.strides(), &mut write(to), to);
        }));
        Ok(())
    }

    fn fill(&self, to: &Tensor, value: f64) -> Result<()> {
        with_element!(to.dtype(), T => fill::<T>(&mut write(to), to, value));
        Ok(())
    }
}
