//! Properties of views: any chain of permute, narrow, reshape and broadcast reads and writes the elements that
//! `ndarray` says.

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use proptest::prelude::*;
use vitrine_tensor::{Device, Tensor};

/// One view, described by numbers that fit whatever shape it meets.
#[derive(Clone, Debug)]
enum View {
    Permute(Vec<u8>),
    Narrow { axis: u8, start: u8, length: u8 },
    Reshape { axis: u8, split: u8 },
    Broadcast { added: u8, times: u8 },
}

fn view() -> impl Strategy<Value = View> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 6).prop_map(View::Permute),
        (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(axis, start, length)| View::Narrow {
            axis,
            start,
            length
        }),
        (any::<u8>(), any::<u8>()).prop_map(|(axis, split)| View::Reshape { axis, split }),
        (0..2u8, 1..4u8).prop_map(|(added, times)| View::Broadcast { added, times }),
    ]
}

/// A tensor, and an array that must always hold the same.
#[derive(Clone)]
struct Pair {
    tensor: Tensor,
    array: ArrayD<f32>,
}

impl Pair {
    fn new(shape: &[usize], device: &Device) -> Self {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32).collect();
        Self {
            tensor: Tensor::from_slice(&values, shape, device).unwrap(),
            array: ArrayD::from_shape_vec(IxDyn(shape), values).unwrap(),
        }
    }

    fn apply(self, view: &View) -> Self {
        let Self { tensor, array } = self;
        let (shape, rank) = (tensor.shape().to_vec(), tensor.rank());
        match view {
            View::Permute(keys) => {
                let mut order: Vec<usize> = (0..rank).collect();
                order.sort_by_key(|&axis| keys[axis]);
                Self { tensor: tensor.permute(&order).unwrap(), array: array.permuted_axes(order) }
            }
            View::Narrow { axis, start, length } if rank > 0 => {
                let axis = usize::from(*axis) % rank;
                let start = usize::from(*start) % (shape[axis] + 1);
                let length = usize::from(*length) % (shape[axis] - start + 1);
                let slice = Slice::from(start..start + length);
                Self {
                    tensor: tensor.narrow(axis, start, length).unwrap(),
                    array: array.slice_axis(Axis(axis), slice).to_owned(),
                }
            }
            View::Reshape { axis, split } if rank > 0 => {
                // Splits one axis in two where there is room, else joins it with the next.
                let axis = usize::from(*axis) % rank;
                let part = usize::from(*split) % 4 + 1;
                let mut to = shape.clone();
                if rank < 6 && shape[axis] % part == 0 {
                    to.splice(axis..=axis, [shape[axis] / part, part]);
                } else if axis + 1 < rank {
                    to.splice(axis..axis + 2, [shape[axis] * shape[axis + 1]]);
                }
                let values: Vec<f32> = array.iter().copied().collect();
                Self {
                    tensor: tensor.reshape(&to).unwrap(),
                    array: ArrayD::from_shape_vec(to, values).unwrap(),
                }
            }
            View::Broadcast { added, times } => {
                let stretch = |&n: &usize| if n == 1 { usize::from(*times) } else { n };
                let mut to: Vec<usize> = shape.iter().map(stretch).collect();
                if *added == 1 && rank < 6 {
                    to.insert(0, usize::from(*times));
                }
                Self {
                    tensor: tensor.broadcast_to(&to).unwrap(),
                    array: array.broadcast(to).unwrap().to_owned(),
                }
            }
            View::Narrow { .. } | View::Reshape { .. } => Self { tensor, array },
        }
    }
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..6usize, 0..5)
}

proptest! {
    #[test]
    fn views_hold_what_ndarray_says(
        shape in shape(),
        views in prop::collection::vec(view(), 0..6),
    ) {
        let pair = views.iter().fold(Pair::new(&shape, &Device::cpu()), Pair::apply);
        let Pair { tensor, array } = pair;
        prop_assert_eq!(tensor.shape(), array.shape());
        prop_assert_eq!(tensor.elements(), array.len());
        prop_assert_eq!(&tensor.to_ndarray::<f32>().unwrap(), &array);
        let dense = tensor.contiguous().unwrap();
        prop_assert!(dense.is_contiguous());
        prop_assert_eq!(&dense.to_ndarray::<f32>().unwrap(), &array);
        // An operation with a strided input sees the same elements.
        prop_assert_eq!(tensor.add(&tensor).unwrap().to_ndarray::<f32>().unwrap(), &array + &array);
    }

    #[test]
    fn writing_to_a_view_changes_its_elements_alone(
        shape in shape(),
        axis in any::<u8>(), start in any::<u8>(), length in any::<u8>(),
        keys in prop::collection::vec(any::<u8>(), 6),
    ) {
        let whole = Pair::new(&shape, &Device::cpu());
        let narrow = View::Narrow { axis, start, length };
        let view = whole.clone().apply(&View::Permute(keys.clone())).apply(&narrow);
        view.tensor.fill_(-1.0).unwrap();
        // The values are their own numbers, so the view's values say which elements it has.
        let mut expected = whole.array.clone();
        for &number in &view.array {
            expected.as_slice_mut().unwrap()[number as usize] = -1.0;
        }
        prop_assert_eq!(whole.tensor.to_ndarray::<f32>().unwrap(), expected);
        let negative = view.array.mapv(|v| v - 0.5);
        let source = Tensor::try_from(negative).unwrap();
        view.tensor.copy_(&source).unwrap();
        prop_assert_eq!(view.tensor.to_ndarray::<f32>().unwrap(), view.array.mapv(|v| v - 0.5));
    }

    #[test]
    fn reshaping_a_dense_tensor_shares_its_memory(shape in shape()) {
        let Pair { tensor, .. } = Pair::new(&shape, &Device::cpu());
        let flat = tensor.reshape(&[tensor.elements()]).unwrap();
        prop_assert!(flat.shares_memory_with(&tensor));
        flat.fill_(7.0).unwrap();
        prop_assert!(tensor.to_vec::<f32>().unwrap().iter().all(|&v| v == 7.0));
    }

    #[test]
    fn joining_the_parts_gives_the_whole(shape in shape(), axis in any::<u8>(), at in any::<u8>()) {
        let Pair { tensor, array } = Pair::new(&shape, &Device::cpu());
        if tensor.rank() > 0 {
            let axis = usize::from(axis) % tensor.rank();
            let at = usize::from(at) % (shape[axis] + 1);
            let parts = [
                tensor.narrow(axis, 0, at).unwrap(),
                tensor.narrow(axis, at, shape[axis] - at).unwrap(),
            ];
            let joined = Tensor::concat(&[&parts[0], &parts[1]], axis).unwrap();
            prop_assert_eq!(joined.to_ndarray::<f32>().unwrap(), array);
        }
    }
}
