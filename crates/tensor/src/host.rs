//! The way between tensors and `ndarray` arrays. An array in standard layout becomes a CPU tensor without a copy.

use ndarray::{Array, ArrayD, Dimension, IxDyn};

use crate::cpu::HostMemory;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::{Device, Tensor};

impl<T: Element, D: Dimension> TryFrom<Array<T, D>> for Tensor {
    type Error = Error;

    /// A tensor on the CPU. The array's memory is taken over where it is dense and in row-major order.
    ///
    /// ```
    /// use vitrine_tensor::Tensor;
    /// let x = Tensor::try_from(ndarray::array![[1.0f32, 2.0], [3.0, 4.0]])?;
    /// assert_eq!(x.to_ndarray::<f32>()?, ndarray::array![[1.0, 2.0], [3.0, 4.0]].into_dyn());
    /// # Ok::<(), vitrine_tensor::Error>(())
    /// ```
    fn try_from(array: Array<T, D>) -> Result<Self> {
        let shape = Shape::new(array.shape())?;
        let dense = if array.is_standard_layout() {
            array
        } else {
            array.as_standard_layout().into_owned()
        };
        let (mut values, offset) = dense.into_raw_vec_and_offset();
        let start = offset.unwrap_or(0);
        if start != 0 || values.len() != shape.elements() {
            values = values[start..start + shape.elements()].to_vec();
        }
        let memory = HostMemory::from_values(values);
        Ok(Self::from_memory(Box::new(memory), shape, T::DTYPE, &Device::cpu()))
    }
}

impl Tensor {
    /// The values as an `ndarray` array. Waits for the device.
    pub fn to_ndarray<T: Element>(&self) -> Result<ArrayD<T>> {
        Ok(self.array_from(self.to_vec()?))
    }

    /// As [`Tensor::to_ndarray`], but takes the memory over where the tensor came from an array, is dense and is the
    /// only one that uses it.
    pub fn into_ndarray<T: Element>(self) -> Result<ArrayD<T>> {
        let alone = self.is_sole_owner() && self.is_contiguous();
        let host = self.memory().downcast_ref::<HostMemory>().filter(|_| alone);
        match host.and_then(|host| host.take_values(self.elements())) {
            Some(values) => Ok(self.array_from(values)),
            None => self.to_ndarray(),
        }
    }

    fn array_from<T: Element>(&self, values: Vec<T>) -> ArrayD<T> {
        ArrayD::from_shape_vec(IxDyn(self.shape()), values)
            .expect("a tensor gives as many values as its shape has elements")
    }
}
