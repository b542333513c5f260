//! [`Tensor`]: shape, strides, element type and shared memory on a device; creation and views. Arithmetic is in `ops`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Device;
use crate::backend::Memory;
use crate::cpu::dispatch::with_element;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::shape::Shape;

/// An array of numbers on a device. Cloning shares the memory.
///
/// Operations give new tensors. The few that write in place say so in their name (`fill_`, `add_scaled_`) and are
/// seen by every view of the same memory; this is how parameters and gradients live in one flat buffer.
#[derive(Clone)]
pub struct Tensor {
    memory: Arc<Shared>,
    shape: Shape,
    strides: Shape,
    offset: usize,
    dtype: DType,
    device: Device,
}

/// What all views of one memory share.
struct Shared {
    memory: Memory,
    /// How often an operation was asked to write to it.
    writes: AtomicU64,
}

impl Tensor {
    /// A tensor with any content, for operations that write all of it.
    pub(crate) fn uninitialised(shape: Shape, dtype: DType, device: &Device) -> Result<Self> {
        let memory = device.backend().allocate(shape.elements() * dtype.size())?;
        Ok(Self::from_memory(memory, shape, dtype, device))
    }

    /// A dense tensor over memory that a backend made for it.
    pub(crate) fn from_memory(memory: Memory, shape: Shape, dtype: DType, device: &Device) -> Self {
        let strides = shape.row_major_strides();
        let memory = Arc::new(Shared { memory, writes: AtomicU64::new(0) });
        Self { memory, shape, strides, offset: 0, dtype, device: device.clone() }
    }

    /// A tensor filled with `value`.
    pub fn full(shape: &[usize], value: f64, dtype: DType, device: &Device) -> Result<Self> {
        let tensor = Self::uninitialised(Shape::new(shape)?, dtype, device)?;
        tensor.fill_(value)?;
        Ok(tensor)
    }

    /// A tensor of zeros.
    pub fn zeros(shape: &[usize], dtype: DType, device: &Device) -> Result<Self> {
        Self::full(shape, 0.0, dtype, device)
    }

    /// A tensor from values in row-major order.
    ///
    /// ```
    /// use vitrine_tensor::{Device, Tensor};
    /// let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2], &Device::cpu())?;
    /// assert_eq!(x.transpose(0, 1)?.to_vec::<f32>()?, [1.0, 3.0, 2.0, 4.0]);
    /// # Ok::<(), vitrine_tensor::Error>(())
    /// ```
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize], device: &Device) -> Result<Self> {
        let shape = Shape::new(shape)?;
        if shape.elements() != values.len() {
            let rule = "the number of values must be the product of the extents";
            return Err(Error::shapes("from_slice", &[values.len()], &shape, rule));
        }
        let tensor = Self::uninitialised(shape, T::DTYPE, device)?;
        device.backend().upload(bytemuck::cast_slice(values), &tensor)?;
        Ok(tensor)
    }

    /// The values in row-major order. Waits for the device.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_element::<T>("to_vec")?;
        let dense = self.contiguous()?;
        let mut values = vec![T::default(); self.elements()];
        self.device.backend().download(&dense, bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }

    /// The values as `f64`, whatever the element type: for tests, logs and statistics.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        with_element!(self.dtype, T => Ok(self.to_vec()?.into_iter().map(T::to_f64).collect()))
    }

    /// The value of a tensor with one element. Waits for the device.
    pub fn to_scalar(&self) -> Result<f64> {
        match self.to_f64_vec()?.as_slice() {
            [value] => Ok(*value),
            _ => Err(self.shape_error("to_scalar", "a scalar has exactly one element")),
        }
    }

    /// Copies values from the host over this tensor's own, for every view of its memory.
    pub fn copy_from_slice_<T: Element>(&self, values: &[T]) -> Result<()> {
        self.check_element::<T>("copy_from_slice_")?;
        if !self.is_contiguous() || values.len() != self.elements() {
            let rule =
                "the destination must be dense and have as many elements as there are values";
            return Err(self.shape_error("copy_from_slice_", rule));
        }
        self.written_by(|| self.device.backend().upload(bytemuck::cast_slice(values), self))
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The extents, as a value that can be changed.
    pub fn dims(&self) -> Shape {
        self.shape
    }

    /// How many elements to skip for one step along each axis.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The position of the first element in the memory, in elements.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The backend's memory, for backends.
    pub fn memory(&self) -> &Memory {
        &self.memory.memory
    }

    /// How often this tensor's memory was written in place, through any view of it: whoever keeps a tensor for later
    /// knows by it whether its values are still the same.
    pub fn writes(&self) -> u64 {
        self.memory.writes.load(Ordering::Relaxed)
    }

    pub(crate) fn note_write(&self) {
        self.memory.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a write before and after: what another thread makes of the values meanwhile is of neither state.
    pub(crate) fn written_by(&self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        self.note_write();
        let result = write();
        self.note_write();
        result
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The product of all extents but the last.
    pub fn rows(&self) -> usize {
        let rank = self.rank();
        self.shape[..rank.saturating_sub(1)].iter().product()
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1;
        for axis in (0..self.rank()).rev() {
            if self.shape[axis] == 0 {
                return true;
            }
            if self.shape[axis] != 1 && self.strides[axis] != step {
                return false;
            }
            step *= self.shape[axis];
        }
        true
    }

    /// Whether both are views of the same memory.
    pub fn shares_memory_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    /// Whether no other tensor shares this one's memory, so that it may be written without anyone noticing.
    pub fn is_sole_owner(&self) -> bool {
        Arc::strong_count(&self.memory) == 1
    }

    pub(crate) fn view(&self, shape: Shape, strides: Shape, offset: usize) -> Self {
        Self { shape, strides, offset, ..self.clone() }
    }

    /// The same elements under another shape; a view where the memory allows it, else a copy.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        let shape = Shape::new(shape)?;
        if shape.elements() != self.elements() {
            let rule = "the number of elements must stay the same";
            return Err(Error::shapes("reshape", &self.shape, &shape, rule));
        }
        let dense = self.contiguous()?;
        Ok(dense.view(shape, shape.row_major_strides(), dense.offset))
    }

    /// A view with the axes in another order: axis `i` of the result is axis `order[i]` of `self`.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        if order.len() != self.rank() || !(0..self.rank()).all(|axis| order.contains(&axis)) {
            let rule = "the order must name each axis once";
            return Err(Error::shapes("permute", &self.shape, order, rule));
        }
        let pick = |of: &Shape| {
            let picked: Vec<usize> = order.iter().map(|&axis| of[axis]).collect();
            Shape::from_valid(&picked)
        };
        Ok(self.view(pick(&self.shape), pick(&self.strides), self.offset))
    }

    /// A view with two axes exchanged.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Self> {
        let mut order: Vec<usize> = (0..self.rank()).collect();
        if a >= self.rank() || b >= self.rank() {
            return Err(self.shape_error("transpose", "both axes must be among the tensor's"));
        }
        order.swap(a, b);
        self.permute(&order)
    }

    /// A view of `length` entries along `axis`, from `start` on.
    pub fn narrow(&self, axis: usize, start: usize, length: usize) -> Result<Self> {
        let inside = axis < self.rank()
            && start.checked_add(length).is_some_and(|end| end <= self.shape[axis]);
        if !inside {
            let rule = "(axis, start, length) must lie inside the tensor";
            return Err(Error::shapes("narrow", &self.shape, &[axis, start, length], rule));
        }
        let offset = self.offset + start * self.strides[axis];
        Ok(self.view(self.shape.with(axis, length), self.strides, offset))
    }

    /// A view that repeats extents of 1 (and adds leading axes) to reach `shape`, without a copy.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Self> {
        let target = Shape::new(shape)?;
        if self.shape.broadcast(&target, "broadcast_to")? != target {
            let rule = "only extents of 1 can be repeated";
            return Err(Error::shapes("broadcast_to", &self.shape, shape, rule));
        }
        let added = target.len() - self.rank();
        let mut strides = Shape::from_valid(&vec![0; target.len()]);
        for axis in 0..self.rank() {
            if self.shape[axis] == target[axis + added] {
                strides = strides.with(axis + added, self.strides[axis]);
            }
        }
        Ok(self.view(target, strides, self.offset))
    }

    /// The tensor on another device; the same tensor if it is there already.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if *device == self.device {
            return Ok(self.clone());
        }
        let dense = self.contiguous()?;
        let mut bytes = vec![0; self.elements() * self.dtype.size()];
        self.device.backend().download(&dense, &mut bytes)?;
        let out = Self::uninitialised(self.shape, self.dtype, device)?;
        device.backend().upload(&bytes, &out)?;
        Ok(out)
    }

    pub(crate) fn shape_error(&self, op: &'static str, rule: &'static str) -> Error {
        Error::Shape { op, shape: self.shape.to_vec(), rule }
    }

    fn check_element<T: Element>(&self, op: &'static str) -> Result<()> {
        if self.dtype == T::DTYPE {
            Ok(())
        } else {
            Err(Error::DTypeMismatch { op, lhs: self.dtype, rhs: T::DTYPE })
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?}, {}, {})", self.shape, self.dtype, self.device)
    }
}
