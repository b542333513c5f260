//! Device memory: blocks that go back to a pool when their last tensor is dropped, and what happens when it runs out.

use std::collections::BTreeMap;
use std::sync::Arc;

use cust::memory::DevicePointer;
use parking_lot::Mutex;
use vitrine_tensor::{Error, Result, Tensor};

use crate::backend::Context;

/// Blocks are multiples of this many bytes, so that every block begins where a whole cache line does.
const GRAIN: usize = 512;

/// Device memory behind a tensor.
pub(crate) struct DeviceBlock {
    address: u64,
    /// What the pool keeps it under; 0 for an empty block.
    size: usize,
    pool: Arc<Pool>,
}

impl DeviceBlock {
    /// Where it begins.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceBlock {
    fn drop(&mut self) {
        self.pool.give_back(self.address, self.size);
    }
}

/// The address of a tensor's first element.
pub(crate) fn address(tensor: &Tensor) -> u64 {
    let block: &DeviceBlock =
        tensor.memory().downcast_ref().expect("the CUDA backend is only given tensors it made");
    block.address + (tensor.offset() * tensor.dtype().size()) as u64
}

/// Blocks that wait to be used again, by size.
///
/// All work goes through one stream in order, so a block may be handed out while a kernel that uses it is still in the
/// queue: whatever its next owner does comes after.
pub(crate) struct Pool {
    context: &'static Context,
    /// Whether each block is taken from the driver and given back to it at once: for compute-sanitizer and the
    /// emulator, which then see each access beyond a tensor's end, and each read of what was not written.
    pub(crate) exact: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: BTreeMap<usize, Vec<u64>>,
    idle_bytes: usize,
    used_bytes: usize,
    fresh: usize,
}

impl Pool {
    pub(crate) fn new(context: &'static Context, exact: bool) -> Arc<Self> {
        Arc::new(Self { context, exact, state: Mutex::default() })
    }

    /// A block of at least `bytes` bytes.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<DeviceBlock> {
        let block = |address, size| DeviceBlock { address, size, pool: self.clone() };
        if bytes == 0 {
            return Ok(block(0, 0));
        }
        let size = if self.exact { bytes } else { class(bytes) };
        let mut state = self.state.lock();
        let idle = state.idle.get_mut(&size).and_then(Vec::pop);
        let address = match idle {
            Some(address) => {
                state.idle_bytes -= size;
                address
            }
            None => {
                let address = self.fresh(size, bytes, &mut state)?;
                state.fresh += 1;
                address
            }
        };
        state.used_bytes += size;
        Ok(block(address, size))
    }

    /// Memory from the driver; where it has none left, once more after the idle blocks went back.
    fn fresh(&self, size: usize, asked: usize, state: &mut State) -> Result<u64> {
        self.context.make_current();
        match allocate(size) {
            Ok(address) => return Ok(address),
            Err(cust::error::CudaError::OutOfMemory) => self.release(state),
            Err(error) => return Err(self.context.error("allocate", error)),
        }
        allocate(size).map_err(|error| match error {
            cust::error::CudaError::OutOfMemory => self.out_of_memory(asked, state),
            other => self.context.error("allocate", other),
        })
    }

    fn out_of_memory(&self, asked: usize, state: &State) -> Error {
        let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let there = match self.context.memory_info() {
            Ok((free, total)) => format!(
                "{:.1} MiB of the device's {:.1} are free",
                mebibytes(free),
                mebibytes(total)
            ),
            Err(error) => format!("what is free the driver does not say: {error}"),
        };
        Error::Device {
            op: "allocate",
            device: self.context.name(),
            message: format!(
                "out of memory: {:.1} MiB were asked for, {there}, tensors of this program hold {:.1}; \
                 a smaller batch, `model.recompute` or `optimizer.accumulation` needs less",
                mebibytes(asked),
                mebibytes(state.used_bytes),
            ),
        }
    }

    fn give_back(&self, address: u64, size: usize) {
        if size == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.used_bytes -= size;
        if self.exact {
            self.context.make_current();
            free(address);
        } else {
            state.idle_bytes += size;
            state.idle.entry(size).or_default().push(address);
        }
    }

    /// Gives the idle blocks back to the driver.
    pub(crate) fn trim(&self) {
        self.release(&mut self.state.lock());
    }

    fn release(&self, state: &mut State) {
        self.context.make_current();
        for address in std::mem::take(&mut state.idle).into_values().flatten() {
            free(address);
        }
        state.idle_bytes = 0;
    }

    /// Calls `each` with address and size of every idle block.
    pub(crate) fn for_each_idle(&self, mut each: impl FnMut(u64, usize)) {
        for (&size, addresses) in &self.state.lock().idle {
            addresses.iter().for_each(|&address| each(address, size));
        }
    }

    /// Bytes in blocks that wait to be used again.
    pub(crate) fn idle_bytes(&self) -> usize {
        self.state.lock().idle_bytes
    }

    /// How many blocks came from the driver so far.
    pub(crate) fn fresh_allocations(&self) -> usize {
        self.state.lock().fresh
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.trim();
    }
}

/// The size that a block of `bytes` bytes is kept under: eight steps to each power of two, so that at most an eighth
/// is wasted and batches of slightly different size share their blocks.
fn class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(GRAIN);
    bytes.next_multiple_of(step)
}

fn allocate(bytes: usize) -> cust::error::CudaResult<u64> {
    // SAFETY: the memory is only ever given to kernels and copies, which may write it in any order; `u8` has no
    // invalid values.
    unsafe { cust::memory::cuda_malloc::<u8>(bytes) }.map(|pointer| pointer.as_raw())
}

fn free(address: u64) {
    // SAFETY: the address came from `allocate`, and nobody else has it: its block was dropped. Freeing waits for
    // what is in the queue (CUDA Driver API, cuMemFree). If the driver refuses, the context is gone and its memory too.
    let _ = unsafe { cust::memory::cuda_free(DevicePointer::<u8>::from_raw(address)) };
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn classes_waste_an_eighth_at_most() {
        assert_eq!([1, 512, 513, 8192].map(class), [512, 512, 1024, 8192]);
        for bytes in (10_000..5_000_000).step_by(997) {
            let size = class(bytes);
            assert!(
                size >= bytes && size - bytes <= bytes / 8 && size.is_multiple_of(512),
                "{bytes} {size}"
            );
            assert_eq!(class(size), size);
        }
    }
}
