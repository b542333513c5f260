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
        let whole = self.is_contiguous() && self.offset() == 0 && self.dtype() == T::DTYPE;
        if !whole || !self.is_sole_owner() {
            return self.to_ndarray();
        }
        let (shape, device) = (self.dims(), self.device().clone());
        let memory = self.into_memory().expect("the sole owner has the memory alone");
        let memory = match memory.downcast::<HostMemory>() {
            Ok(host) => match host.into_values::<T>() {
                Ok(values) if values.len() == shape.elements() => {
                    let array = ArrayD::from_shape_vec(IxDyn(&shape), values);
                    return Ok(array.expect("the number of values was just compared"));
                }
                Ok(values) => Box::new(HostMemory::from_values(values)),
                Err(host) => Box::new(host),
            },
            Err(other) => other as crate::backend::Memory,
        };
        Self::from_memory(memory, shape, T::DTYPE, &device).to_ndarray()
    }

    fn array_from<T: Element>(&self, values: Vec<T>) -> ArrayD<T> {
        ArrayD::from_shape_vec(IxDyn(self.shape()), values)
            .expect("a tensor gives as many values as its shape has elements")
    }
}
