//! Plain values that kernels take: how views are walked, where a dropout mask is drawn from, which activation.
//! Each mirrors a struct of the same name in `kernels/*.cuh`.

use bytemuck::NoUninit;
use vitrine_tensor::{Activation, Dropout, Error, MAX_RANK, Tensor};

/// The places of up to three strided tensors of one shape, as `Walk` in `kernels/walk.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, NoUninit)]
#[repr(C)]
pub(crate) struct Walk {
    rank: u32,
    extents: [u32; MAX_RANK],
    elements: u32,
    strides: [[u64; MAX_RANK]; 3],
}

impl Walk {
    /// Merges neighbouring axes that are one axis in every tensor. The strides are in elements.
    pub(crate) fn new(
        op: &'static str,
        shape: &[usize],
        strides: &[&[usize]],
    ) -> Result<Self, Error> {
        let elements = shape.iter().product::<usize>();
        let Ok(elements) = u32::try_from(elements) else {
            let rule = "the CUDA backend walks over fewer than 2^32 elements; take parts of it";
            return Err(Error::Shape { op, shape: shape.to_vec(), rule });
        };
        let mut walk =
            Self { rank: 1, extents: [1; MAX_RANK], elements, strides: [[0; MAX_RANK]; 3] };
        let mut last = None;
        for axis in (0..shape.len()).filter(|&axis| shape[axis] != 1) {
            let one_axis = |to: usize| {
                strides.iter().enumerate().all(|(tensor, strides)| {
                    walk.strides[tensor][to] == (strides[axis] * shape[axis]) as u64
                })
            };
            let to = match last {
                Some(to) if one_axis(to) => to,
                Some(to) => to + 1,
                None => 0,
            };
            walk.extents[to] *= shape[axis] as u32;
            for (tensor, strides) in strides.iter().enumerate() {
                walk.strides[tensor][to] = strides[axis] as u64;
            }
            last = Some(to);
            walk.rank = to as u32 + 1;
        }
        Ok(walk)
    }

    /// How many elements there are.
    pub(crate) fn elements(&self) -> u64 {
        self.elements.into()
    }

    /// Whether all of the first `tensors` are dense.
    pub(crate) fn is_dense(&self, tensors: usize) -> bool {
        self.rank == 1 && self.strides[..tensors].iter().all(|strides| strides[0] == 1)
    }
}

/// A dropout mask, as `Dropout` in `kernels/random.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, NoUninit)]
#[repr(C)]
pub(crate) struct DropoutArgument {
    threshold: u32,
    scale: f32,
    seed: [u32; 2],
    step: u32,
    stream: u32,
    sample: u64,
    sample_stride: u64,
}

impl DropoutArgument {
    /// The mask of a tensor whose first axis counts samples; without a dropout, one that keeps everything. A tensor of
    /// one axis is one sample.
    pub(crate) fn new(dropout: Option<Dropout>, tensor: &Tensor) -> Self {
        let samples = if tensor.rank() < 2 { 1 } else { tensor.shape()[0] };
        Self::of_samples(dropout, tensor.elements() / samples.max(1))
    }

    /// The mask of samples of `sample` elements.
    pub(crate) fn of_samples(dropout: Option<Dropout>, sample: usize) -> Self {
        let sample = sample.max(1) as u64;
        match dropout {
            None => Self {
                threshold: 0,
                scale: 1.0,
                seed: [0; 2],
                step: 0,
                stream: 0,
                sample,
                sample_stride: sample,
            },
            Some(dropout) => Self {
                threshold: dropout.threshold(),
                scale: dropout.scale() as f32,
                seed: [dropout.key.seed as u32, (dropout.key.seed >> 32) as u32],
                step: dropout.key.step as u32,
                stream: dropout.key.stream,
                sample,
                sample_stride: dropout.sample_stride.map_or(sample, |stride| stride as u64),
            },
        }
    }
}

/// The number of an activation in `kernels/activation.cuh`.
pub(crate) fn activation_number(activation: Option<Activation>) -> u32 {
    match activation {
        None => 0,
        Some(Activation::GeluErf) => 1,
        Some(Activation::GeluTanh) => 2,
        Some(Activation::Relu) => 3,
        Some(Activation::Silu) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(shape: &[usize], strides: &[&[usize]]) -> (Vec<u32>, Vec<Vec<u64>>) {
        let walk = Walk::new("copy", shape, strides).unwrap();
        let rank = walk.rank as usize;
        let strides = walk.strides[..strides.len()].iter().map(|s| s[..rank].to_vec()).collect();
        (walk.extents[..rank].to_vec(), strides)
    }

    #[test]
    fn dense_tensors_have_one_axis() {
        assert_eq!(walk(&[2, 3, 4], &[&[12, 4, 1]]), (vec![24], vec![vec![1]]));
        assert_eq!(walk(&[], &[&[]]), (vec![1], vec![vec![0]]));
        assert_eq!(walk(&[1, 5, 1], &[&[5, 1, 1]]), (vec![5], vec![vec![1]]));
    }

    #[test]
    fn axes_merge_where_they_do_in_each_tensor() {
        // A transposed matrix beside a dense one; a row repeated over a batch.
        assert_eq!(walk(&[2, 3], &[&[1, 2], &[3, 1]]), (vec![2, 3], vec![vec![1, 2], vec![3, 1]]));
        assert_eq!(
            walk(&[4, 2, 3], &[&[0, 3, 1], &[6, 3, 1]]),
            (vec![4, 6], vec![vec![0, 1], vec![6, 1]])
        );
        assert_eq!(walk(&[4, 1, 3], &[&[7, 9, 1]]), (vec![4, 3], vec![vec![7, 1]]));
    }

    #[test]
    fn more_elements_than_a_kernel_counts_are_an_error() {
        let error = Walk::new("copy", &[1 << 16, 1 << 16], &[&[1 << 16, 1]]).unwrap_err();
        assert!(error.to_string().contains("2^32"), "{error}");
    }
}
