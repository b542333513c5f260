//! Copies and fills, for tensors with and without gaps, on all threads. Work is split by the axes of the destination.

use std::cmp::Reverse;
use std::convert::Infallible;

use super::CpuBackend;
use super::arithmetic::{load, store};
use super::dispatch::with_element;
use super::memory::{lock, write};
use super::parallel::each_task;
use super::transpose::{SIDE, transpose};
use crate::backend::Movement;
use crate::dtype::Element;
use crate::{DType, Result, Tensor, bf16};

/// Elements that one task works on.
const BLOCK: usize = 16 * 1024;

/// An axis of a copy: its extent, and the strides of both tensors.
#[derive(Clone, Copy)]
struct Axis {
    extent: usize,
    from: usize,
    to: usize,
}

/// The axes in the order in which they lie in the destination; those that are one axis in both tensors are merged.
fn axes_of(shape: &[usize], from: &[usize], to: &[usize]) -> Vec<Axis> {
    let axis = |i: usize| Axis { extent: shape[i], from: from[i], to: to[i] };
    let mut axes: Vec<Axis> = (0..shape.len()).map(axis).filter(|axis| axis.extent != 1).collect();
    axes.sort_by_key(|axis| Reverse(axis.to));
    let mut merged: Vec<Axis> = Vec::with_capacity(axes.len());
    for Axis { extent, from, to } in axes {
        match merged.last_mut() {
            Some(outer) if [outer.from, outer.to] == [from * extent, to * extent] => {
                *outer = Axis { extent: outer.extent * extent, from, to };
            }
            _ => merged.push(Axis { extent, from, to }),
        }
    }
    merged
}

fn elements(axes: &[Axis]) -> usize {
    axes.iter().map(|axis| axis.extent).product()
}

/// Cuts the first axis of a destination into blocks of `count` entries, and runs `work` on each from its first entry
/// on, in parallel where there is enough of it.
fn in_blocks<T: Send>(
    axes: &[Axis],
    count: usize,
    to: &mut [T],
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let (axis, inner) = (axes[0], &axes[1..]);
    let reach: usize = inner.iter().map(|axis| (axis.extent - 1) * axis.to).sum();
    let blocks = axis.extent.div_ceil(count);
    if elements(axes) <= BLOCK || axis.to <= reach {
        return (0..blocks)
            .for_each(|block| work(block * count, &mut to[block * count * axis.to..]));
    }
    let in_task = (BLOCK / (count * elements(inner)).max(1)).max(1);
    let blocks = to.chunks_mut(count * axis.to).take(blocks);
    let Ok(()) = each_task(blocks, in_task, |first, task| {
        for (i, to) in task.into_iter().enumerate() {
            work((first + i) * count, to);
        }
        Ok::<(), Infallible>(())
    });
}

/// Copies strided elements into a strided destination, converting the type.
fn copy<S: Element, T: Element>(axes: &[Axis], from: &[S], to: &mut [T]) {
    match axes {
        [] => convert_run(&from[..1], &mut to[..1]),
        [axis] => in_blocks(axes, BLOCK, to, |first, to| {
            let axis = Axis { extent: BLOCK.min(axis.extent - first), ..*axis };
            copy_run(axis, &from[first * axis.from..], to);
        }),
        [rows, inner @ .., columns] if rows.from == 1 && columns.to == 1 => {
            let count = (BLOCK / elements(&axes[1..])).max(1).next_multiple_of(SIDE);
            in_blocks(axes, count, to, |first, to| {
                let rows = Axis { extent: count.min(rows.extent - first), ..*rows };
                copy_turned([rows, *columns], inner, &from[first..], to);
            });
        }
        [axis, inner @ ..] => in_blocks(axes, 1, to, |i, to| {
            copy(inner, &from[i * axis.from..], to);
        }),
    }
}

/// Copies elements along one axis.
fn copy_run<S: Element, T: Element>(axis: Axis, from: &[S], to: &mut [T]) {
    let Axis { extent, from: from_step, to: to_step } = axis;
    match (from_step, to_step) {
        (1, 1) => convert_run(&from[..extent], &mut to[..extent]),
        (0, 1) => {
            convert_run(&from[..1], &mut to[..1]);
            let value = to[0];
            to[..extent].fill(value);
        }
        _ if S::DTYPE == T::DTYPE => {
            let from: &[T] = bytemuck::cast_slice(from);
            for i in 0..extent {
                to[i * to_step] = from[i * from_step];
            }
        }
        _ => {
            for i in 0..extent {
                to[i * to_step] = T::from_f64(from[i * from_step].to_f64());
            }
        }
    }
}

/// Copies where the rows of the destination are columns of the source, square by square; `others` are the axes between.
fn copy_turned<S: Element, T: Element>(
    [rows, columns]: [Axis; 2],
    others: &[Axis],
    from: &[S],
    to: &mut [T],
) {
    if let [axis, inner @ ..] = others {
        for i in 0..axis.extent {
            copy_turned([rows, columns], inner, &from[i * axis.from..], &mut to[i * axis.to..]);
        }
        return;
    }
    let mut square = [[S::default(); SIDE]; SIDE];
    for row in (0..rows.extent).step_by(SIDE) {
        let height = SIDE.min(rows.extent - row);
        for column in (0..columns.extent).step_by(SIDE) {
            let width = SIDE.min(columns.extent - column);
            for (i, line) in square.iter_mut().enumerate().take(width) {
                let start = (column + i) * columns.from + row;
                line[..height].copy_from_slice(&from[start..start + height]);
            }
            transpose(&mut square);
            for (i, line) in square.iter().enumerate().take(height) {
                convert_run(&line[..width], &mut to[(row + i) * rows.to + column..][..width]);
            }
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

impl Movement for CpuBackend {
    fn copy(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        if to.elements() > 0 {
            let axes = axes_of(to.shape(), from.strides(), to.strides());
            with_element!(from.dtype(), S => with_element!(to.dtype(), T => {
                let (from, mut to) = lock::<S, T>(&[from], &[to]);
                copy(&axes, &from[0], &mut to[0]);
            }));
        }
        Ok(())
    }

    fn fill(&self, to: &Tensor, value: f64) -> Result<()> {
        if to.elements() > 0 {
            let axes = axes_of(to.shape(), &vec![0; to.rank()], to.strides());
            with_element!(to.dtype(), T => {
                copy(&axes, &[T::from_f64(value)], &mut write::<T>(to));
            });
        }
        Ok(())
    }
}
