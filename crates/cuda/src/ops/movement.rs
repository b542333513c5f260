//! Copies, conversions, fills: what only moves elements.

use cust::memory::AsyncCopyDestination;
use vitrine_tensor::backend::Movement;
use vitrine_tensor::{DType, Element, Result, Tensor, bf16};

use crate::arguments::Walk;
use crate::backend::CudaBackend;
use crate::memory::address;
use crate::transfer::device_bytes;

fn copy_dense(backend: &CudaBackend, from: &Tensor, to: &Tensor) -> Result<()> {
    backend.make_current();
    let bytes = from.elements() * from.dtype().size();
    let mut target = device_bytes(address(to), bytes);
    // SAFETY: both tensors are dense and of this size, on this device; the copy is in the stream's order.
    let copied =
        unsafe { target.async_copy_from(&device_bytes(address(from), bytes), backend.stream()) };
    copied.map_err(|error| backend.error("copy", backend.explain(error)))
}

/// The unsigned type of the same size: to move an element is to move its bits.
pub(crate) fn moved_as(dtype: DType) -> &'static str {
    match dtype.size() {
        1 => "u8",
        2 => "u16",
        4 => "u32",
        _ => "u64",
    }
}

impl Movement for CudaBackend {
    fn copy(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        let walk = Walk::new("copy", from.shape(), &[from.strides(), to.strides()])?;
        let launch = if from.dtype() != to.dtype() {
            self.launch("copy", &format!("convert_{}_{}", from.dtype(), to.dtype()))?
        } else if walk.is_dense(2) {
            return copy_dense(self, from, to);
        } else {
            self.launch("copy", &format!("copy_{}", moved_as(to.dtype())))?
        };
        launch.over(walk.elements()).moves(&[from, to]).tensor(from).tensor(to).value(walk).launch()
    }

    fn fill(&self, to: &Tensor, value: f64) -> Result<()> {
        let walk = Walk::new("fill", to.shape(), &[to.strides()])?;
        let bits: u64 = match to.dtype() {
            DType::F32 => (value as f32).to_bits().into(),
            DType::F64 => value.to_bits(),
            DType::BF16 => <bf16 as Element>::from_f64(value).to_bits().into(),
            DType::U8 => (value as u8).into(),
            DType::I64 => value as i64 as u64,
        };
        let kernel = format!("fill_{}", moved_as(to.dtype()));
        self.launch("fill", &kernel)?
            .moves(&[to])
            .over(walk.elements())
            .tensor(to)
            .value(bits)
            .value(walk)
            .launch()
    }
}
