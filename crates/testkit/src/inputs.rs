//! Inputs of cases: random values from Philox, rounded to an element type, placed in memory in several layouts.

use std::cell::Cell;
use std::rc::Rc;

use ndarray::{Axis, IxDyn, Slice};
use vitrine_tensor::{DType, Device, Element, Result, StreamKey, Tensor, bf16};

use crate::compare::Comparison;
use crate::reference::{Array, Sum, array, flat};

/// Where and in which element type a case runs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The device.
    pub device: Device,
    /// The element type.
    pub dtype: DType,
    spoiled: Option<Spoiled>,
}

/// A number of one input in place of which there is another, such as NaN.
#[derive(Clone, Debug)]
struct Spoiled {
    /// Inputs of floats before it, and those that were made so far.
    input: usize,
    made: Rc<Cell<usize>>,
    value: f64,
}

/// A tensor and the values that it holds.
#[derive(Clone)]
pub struct Input {
    /// On the device.
    pub tensor: Tensor,
    /// The same values in `f64`.
    pub values: Array,
}

/// How an input lies in memory. What surrounds its elements is NaN: an operation that reads it is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row-major, alone.
    Dense,
    /// Row-major, inside a larger buffer.
    Offset,
    /// The last two axes exchanged.
    Transposed,
    /// Gaps between the rows: a part of a wider tensor.
    Narrowed,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Dense, Self::Offset, Self::Transposed, Self::Narrowed];
}

/// The address of the random numbers of one input.
pub fn key(stream: u32) -> StreamKey {
    StreamKey { seed: 0x5eed, step: 1, stream }
}

/// Standard normal values.
pub fn random(stream: u32, shape: &[usize]) -> Array {
    array(shape, key(stream).normal().take(shape.iter().product()).collect())
}

/// The value that an element type stores for `value`.
pub fn rounded(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::F64 => value,
        DType::BF16 => {
            // Eight bits from the first that is set.
            let exponent = (value.to_bits() >> 52 & 0x7ff) as i32 - 1023;
            let unit = 2f64.powi(exponent.max(-126) - 7);
            (value / unit).round_ties_even() * unit
        }
        DType::U8 => f64::from(value as u8),
        DType::I64 => value as i64 as f64,
    }
}

fn upload(values: &Array, dtype: DType, device: &Device) -> Result<Tensor> {
    fn typed<T: Element>(values: &Array, device: &Device) -> Result<Tensor> {
        let converted: Vec<T> = values.iter().map(|&v| T::from_f64(v)).collect();
        Tensor::from_slice(&converted, values.shape(), device)
    }
    match dtype {
        DType::F32 => typed::<f32>(values, device),
        DType::F64 => typed::<f64>(values, device),
        DType::BF16 => typed::<bf16>(values, device),
        DType::U8 => typed::<u8>(values, device),
        DType::I64 => typed::<i64>(values, device),
    }
}

impl Setup {
    /// For cases as they are.
    pub fn new(device: &Device, dtype: DType) -> Self {
        Self { device: device.clone(), dtype, spoiled: None }
    }

    /// For cases in which one number of the input that is made after so many others is this one.
    pub(crate) fn spoiled(device: &Device, dtype: DType, input: usize, value: f64) -> Self {
        let spoiled = Spoiled { input, made: Rc::default(), value };
        Self { spoiled: Some(spoiled), ..Self::new(device, dtype) }
    }

    /// The same for inputs of another element type.
    pub fn of(&self, dtype: DType) -> Self {
        Self { dtype, ..self.clone() }
    }

    /// The same for inputs that stay as they are.
    pub(crate) fn unspoiled(&self) -> Self {
        Self::new(&self.device, self.dtype)
    }

    /// Whether the input to spoil was made.
    pub(crate) fn has_spoiled(&self) -> bool {
        self.spoiled.as_ref().is_some_and(|spoiled| spoiled.made.get() > spoiled.input)
    }

    /// Rounds an input's values, and spoils one where that is asked for.
    fn stored(&self, values: &Array, dtype: DType) -> Array {
        let mut values = values.mapv(|v| rounded(v, dtype));
        let (count, middle) = (values.len(), values.len() / 2);
        if let Some(Spoiled { input, made, value }) = &self.spoiled
            && dtype.is_float()
            && count > 0
            && made.replace(made.get() + 1) == *input
        {
            values.iter_mut().skip(middle).take(1).for_each(|v| *v = *value);
        }
        values
    }
    /// A dense input of standard normal values.
    pub fn normal(&self, stream: u32, shape: &[usize]) -> Result<Input> {
        self.placed(&random(stream, shape), Layout::Dense)
    }

    /// Standard normal values in a layout.
    pub fn laid_out(&self, stream: u32, shape: &[usize], layout: Layout) -> Result<Input> {
        self.placed(&random(stream, shape), layout)
    }

    /// Given values, rounded to this setup's element type, in a layout.
    pub fn placed(&self, values: &Array, layout: Layout) -> Result<Input> {
        self.placed_as(values, layout, self.dtype)
    }

    /// Given values, rounded to an element type, in a layout.
    pub fn placed_as(&self, values: &Array, layout: Layout, dtype: DType) -> Result<Input> {
        let values = self.stored(values, dtype);
        let (rank, n) = (values.ndim(), values.len());
        let tensor = match layout {
            Layout::Offset => {
                let flat = array(&[n], flat(&values));
                upload(&surround(&flat, 0, f64::NAN), dtype, &self.device)?
                    .narrow(0, 1, n)?
                    .reshape(values.shape())?
            }
            Layout::Transposed if rank >= 2 => {
                let mut swapped = values.clone();
                swapped.swap_axes(rank - 1, rank - 2);
                upload(&swapped, dtype, &self.device)?.transpose(rank - 1, rank - 2)?
            }
            Layout::Narrowed if rank >= 1 => {
                let axis = rank - 1;
                upload(&surround(&values, axis, f64::NAN), dtype, &self.device)?.narrow(
                    axis,
                    1,
                    values.shape()[axis],
                )?
            }
            _ => upload(&values, dtype, &self.device)?,
        };
        Ok(Input { tensor, values })
    }

    /// A dense tensor of random values to be written in place, between guards.
    pub fn destination(&self, stream: u32, shape: &[usize]) -> Result<Destination> {
        self.destination_of(&random(stream, shape))
    }

    /// As [`Setup::destination`], for given values.
    pub fn destination_of(&self, values: &Array) -> Result<Destination> {
        let before = self.stored(values, self.dtype);
        let n = before.len();
        let flat = array(&[n], flat(&before));
        let whole = upload(&surround(&flat, 0, GUARD), self.dtype, &self.device)?;
        let tensor = whole.narrow(0, 1, n)?.reshape(before.shape())?;
        Ok(Destination { tensor, whole, before })
    }
}

/// The value around a destination.
const GUARD: f64 = 5.0;

/// `values` with one entry of `guard` before and two after, along an axis.
fn surround(values: &Array, axis: usize, guard: f64) -> Array {
    let mut shape = values.shape().to_vec();
    let n = shape[axis];
    shape[axis] = n + 3;
    let mut out = Array::from_elem(IxDyn(&shape), guard);
    out.slice_axis_mut(Axis(axis), Slice::from(1..n + 1)).assign(values);
    out
}

/// A tensor that an operation writes in place, inside a larger buffer whose other elements must stay.
pub struct Destination {
    /// The part to write.
    pub tensor: Tensor,
    whole: Tensor,
    /// The values before.
    pub before: Array,
}

impl Destination {
    /// Compares the destination with `expected`, and its surroundings with what they were.
    pub fn compare(&self, output: &'static str, expected: &Array) -> Result<Comparison> {
        let whole = self.surrounded(expected, GUARD);
        Ok(Comparison::new(output, &self.whole, &whole)?.sized_by(expected))
    }

    /// Compares with the values before plus a sum.
    pub fn compare_added(&self, output: &'static str, added: &Sum) -> Result<Comparison> {
        let terms = &added.terms + &self.before.mapv(f64::abs);
        let comparison = self.compare(output, &(&self.before + &added.value))?;
        Ok(comparison.loosened(self.tensor.dtype().accumulator(), &self.surrounded(&terms, 0.0)))
    }

    fn surrounded(&self, values: &Array, guard: f64) -> Array {
        surround(&array(&[values.len()], flat(values)), 0, guard)
    }
}
