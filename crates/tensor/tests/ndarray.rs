//! Conversions from and to `ndarray`: the values are the same in any layout, and dense memory is moved, not copied.

use ndarray::{Array, Array1, Array2, ArrayD, Axis, array, s};
use vitrine_tensor::{DType, Device, Element, Error, Tensor, bf16};

#[test]
fn a_dense_array_goes_there_and_back_without_a_copy() {
    fn there_and_back<T: Element + PartialEq>(value: T) {
        let before = Array2::from_elem((30, 7), value);
        let place = before.as_ptr();
        let tensor = Tensor::try_from(before.clone()).unwrap();
        assert_eq!((tensor.shape(), tensor.dtype()), ([30, 7].as_slice(), T::DTYPE));
        assert_eq!(tensor.device(), &Device::cpu());
        let tensor = Tensor::try_from(before).unwrap();
        let after = tensor.into_ndarray::<T>().unwrap();
        assert_eq!(after.as_ptr(), place);
        assert_eq!(after, ArrayD::from_elem(vec![30, 7], value));
    }
    there_and_back(1.5f32);
    there_and_back(1.5f64);
    there_and_back(bf16::from_f32(1.5));
    there_and_back(15u8);
    there_and_back(-15i64);
}

#[test]
fn a_reshaped_tensor_still_moves() {
    let before = Array1::from_iter((0..24).map(f64::from));
    let place = before.as_ptr();
    let tensor = Tensor::try_from(before).unwrap().reshape(&[2, 3, 4]).unwrap();
    let after = tensor.into_ndarray::<f64>().unwrap();
    assert_eq!(after.as_ptr(), place);
    assert_eq!(after.shape(), [2, 3, 4]);
    assert_eq!(after[[1, 2, 3]], 23.0);
}

#[test]
fn an_array_that_was_moved_in_can_be_computed_with() {
    let x = Tensor::try_from(array![[1.0f32, 2.0], [3.0, 4.0]]).unwrap();
    x.add_scaled_(&x.copy().unwrap(), 1.0).unwrap();
    assert_eq!(x.matmul(&x).unwrap().to_vec::<f32>().unwrap(), [28.0, 40.0, 60.0, 88.0]);
    assert_eq!(x.into_ndarray::<f32>().unwrap(), array![[2.0, 4.0], [6.0, 8.0]].into_dyn());
}

#[test]
fn shared_or_narrowed_memory_is_copied() {
    let before = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let place = before.as_ptr();
    let tensor = Tensor::try_from(before).unwrap();
    let shared = tensor.clone();
    let copy = shared.into_ndarray::<f32>().unwrap();
    assert_ne!(copy.as_ptr(), place);
    assert_eq!(copy, array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].into_dyn());
    let row = tensor.narrow(0, 1, 1).unwrap().into_ndarray::<f32>().unwrap();
    assert_eq!(row, array![[4.0, 5.0, 6.0]].into_dyn());
    let first = tensor.narrow(0, 0, 1).unwrap();
    drop(tensor);
    assert_eq!(first.into_ndarray::<f32>().unwrap(), array![[1.0, 2.0, 3.0]].into_dyn());
}

#[test]
fn arrays_in_any_layout_keep_their_values() {
    let base =
        Array::from_iter((0..60).map(|i| i as f32)).into_shape_with_order((3, 4, 5)).unwrap();
    let mut reversed = base.clone();
    reversed.invert_axis(Axis(1));
    let mut cut = base.clone();
    cut.slice_collapse(s![1.., ..;2, 1..4]);
    let transposed = base.clone().permuted_axes([2, 0, 1]);
    for array in [base, reversed, cut, transposed] {
        let tensor = Tensor::try_from(array.clone()).unwrap();
        assert_eq!(tensor.to_ndarray::<f32>().unwrap(), array.clone().into_dyn());
        let expected: Vec<f32> = array.iter().copied().collect();
        assert_eq!(tensor.to_vec::<f32>().unwrap(), expected);
        assert_eq!(tensor.into_ndarray::<f32>().unwrap(), array.into_dyn());
    }
}

#[test]
fn small_and_empty_arrays() {
    let scalar = Tensor::try_from(ndarray::arr0(3.0f64)).unwrap();
    assert_eq!((scalar.rank(), scalar.to_scalar().unwrap()), (0, 3.0));
    for shape in [vec![0], vec![2, 0, 3]] {
        let tensor = Tensor::try_from(ArrayD::<f32>::zeros(shape.clone())).unwrap();
        assert_eq!(tensor.into_ndarray::<f32>().unwrap().shape(), shape);
    }
}

#[test]
fn tensors_of_the_pool_become_arrays_too() {
    let x = Tensor::full(&[2, 2], 1.5, DType::F32, &Device::cpu()).unwrap();
    assert_eq!(x.into_ndarray::<f32>().unwrap(), ArrayD::from_elem(vec![2, 2], 1.5));
}

#[test]
fn the_wrong_element_type_and_too_many_axes_are_errors() {
    let x = Tensor::try_from(array![1.0f32]).unwrap();
    let expected = Error::DTypeMismatch { op: "to_vec", lhs: DType::F32, rhs: DType::F64 };
    assert_eq!(x.to_ndarray::<f64>().unwrap_err(), expected);
    assert_eq!(x.into_ndarray::<f64>().unwrap_err(), expected);
    let deep = ArrayD::<f32>::zeros(vec![1; 7]);
    assert!(matches!(Tensor::try_from(deep), Err(Error::Shape { .. })));
}
