//! Host memory: cache-line aligned buffers that a pool hands out again, so that a training step touches no fresh pages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use super::buffer::Buffer;
use super::weights::PackedWeights;
use crate::dtype::Element;
use crate::{Tensor, bf16};

/// What backs a tensor: a buffer of the pool, or the vector of an array that was taken over.
enum Bytes {
    Pooled(Buffer),
    F32(Vec<f32>),
    F64(Vec<f64>),
    BF16(Vec<bf16>),
    U8(Vec<u8>),
    I64(Vec<i64>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Pooled(buffer) => buffer.bytes(),
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::F64(v) => bytemuck::cast_slice(v),
            Self::BF16(v) => bytemuck::cast_slice(v),
            Self::U8(v) => v,
            Self::I64(v) => bytemuck::cast_slice(v),
        }
    }

    fn get_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Pooled(buffer) => buffer.bytes_mut(),
            Self::F32(v) => bytemuck::cast_slice_mut(v),
            Self::F64(v) => bytemuck::cast_slice_mut(v),
            Self::BF16(v) => bytemuck::cast_slice_mut(v),
            Self::U8(v) => v,
            Self::I64(v) => bytemuck::cast_slice_mut(v),
        }
    }
}

/// The memory behind a CPU tensor. Reads are shared; an operation that writes has it alone.
pub(crate) struct HostMemory {
    bytes: RwLock<Bytes>,
    packed: PackedWeights,
    pool: Option<Arc<Pool>>,
}

impl HostMemory {
    /// Takes over the values of an array.
    pub(crate) fn from_values<T: Element>(values: Vec<T>) -> Self {
        use crate::DType;
        // `cast_vec` checks sizes and alignment; each arm casts to the very type that the tag names.
        let bytes = match T::DTYPE {
            DType::F32 => Bytes::F32(bytemuck::allocation::cast_vec(values)),
            DType::F64 => Bytes::F64(bytemuck::allocation::cast_vec(values)),
            DType::BF16 => Bytes::BF16(bytemuck::allocation::cast_vec(values)),
            DType::U8 => Bytes::U8(bytemuck::allocation::cast_vec(values)),
            DType::I64 => Bytes::I64(bytemuck::allocation::cast_vec(values)),
        };
        Self { bytes: RwLock::new(bytes), packed: PackedWeights::default(), pool: None }
    }

    /// Gives the vector of an array back, if that is what this memory is.
    pub(crate) fn into_values<T: Element>(mut self) -> Result<Vec<T>, Self> {
        use bytemuck::allocation::cast_vec;
        let bytes = std::mem::replace(self.bytes.get_mut(), Bytes::U8(Vec::new()));
        Ok(match bytes {
            Bytes::F32(v) if T::DTYPE == f32::DTYPE => cast_vec(v),
            Bytes::F64(v) if T::DTYPE == f64::DTYPE => cast_vec(v),
            Bytes::BF16(v) if T::DTYPE == bf16::DTYPE => cast_vec(v),
            Bytes::U8(v) if T::DTYPE == u8::DTYPE => cast_vec(v),
            Bytes::I64(v) if T::DTYPE == i64::DTYPE => cast_vec(v),
            other => {
                *self.bytes.get_mut() = other;
                return Err(self);
            }
        })
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        let bytes = std::mem::replace(self.bytes.get_mut(), Bytes::U8(Vec::new()));
        if let (Bytes::Pooled(buffer), Some(pool)) = (bytes, &self.pool) {
            pool.give_back(buffer);
        }
    }
}

/// The elements of a CPU tensor's whole memory, for reading.
pub(crate) type Read<'a, T> = MappedRwLockReadGuard<'a, [T]>;
/// The elements of a CPU tensor's whole memory, for writing.
pub(crate) type Write<'a, T> = MappedRwLockWriteGuard<'a, [T]>;

fn host(tensor: &Tensor) -> &HostMemory {
    tensor.memory().downcast_ref().expect("the CPU backend is only given tensors it made")
}

/// The span of memory that a tensor's elements lie in, from its first to past its last.
fn span(tensor: &Tensor) -> std::ops::Range<usize> {
    if tensor.elements() == 0 {
        // The offset of an empty view may lie past the end of the memory.
        return 0..0;
    }
    let reach: usize =
        tensor.shape().iter().zip(tensor.strides()).map(|(&n, &stride)| (n - 1) * stride).sum();
    tensor.offset()..tensor.offset() + reach + 1
}

/// Locks a tensor's elements for reading. For a strided tensor this is the span from its first to its last element.
pub(crate) fn read<T: Element>(tensor: &Tensor) -> Read<'_, T> {
    // Recursive: a tensor may be given to an operation twice.
    of_read(tensor, host(tensor).bytes.read_recursive())
}

fn of_read<'a, T: Element>(tensor: &Tensor, guard: RwLockReadGuard<'a, Bytes>) -> Read<'a, T> {
    debug_assert_eq!(tensor.dtype(), T::DTYPE);
    RwLockReadGuard::map(guard, |bytes| &elements(bytes.get())[span(tensor)])
}

/// The packed form of a weight matrix that is locked for reading; see [`PackedWeights::get`].
pub(crate) fn packed_weight(
    weight: &Tensor,
    pack: impl FnOnce(Option<Buffer>) -> Option<Buffer>,
) -> Option<Arc<Buffer>> {
    let &[rows, columns] = weight.shape() else { return None };
    host(weight).packed.get((weight.offset(), [rows, columns]), pack)
}

/// Locks a tensor's elements for writing, as [`read`]. What an operation writes beside others that it holds is its own
/// result, which nobody else knows yet; else it is for [`lock`].
pub(crate) fn write<T: Element>(tensor: &Tensor) -> Write<'_, T> {
    of_write(tensor, host(tensor).bytes.write())
}

fn of_write<'a, T: Element>(tensor: &Tensor, guard: RwLockWriteGuard<'a, Bytes>) -> Write<'a, T> {
    debug_assert_eq!(tensor.dtype(), T::DTYPE);
    host(tensor).packed.written();
    RwLockWriteGuard::map(guard, |bytes| &mut elements_mut(bytes.get_mut())[span(tensor)])
}

/// Locks together what an operation reads and what it writes that others may know too: all or none, as one that holds
/// a lock and waits for another could wait for one that does the same the other way round.
pub(crate) fn lock<'a, S: Element, T: Element>(
    reads: &[&'a Tensor],
    writes: &[&'a Tensor],
) -> (Vec<Read<'a, S>>, Vec<Write<'a, T>>) {
    let shared =
        |i: usize| writes[i + 1..].iter().chain(reads).any(|t| t.shares_memory_with(writes[i]));
    debug_assert!(!(0..writes.len()).any(shared), "what is written is locked once");
    loop {
        let locked_writes: Vec<_> =
            writes.iter().map_while(|t| host(t).bytes.try_write()).collect();
        if let Some(taken) = writes.get(locked_writes.len()) {
            drop(locked_writes);
            drop(host(taken).bytes.write());
            continue;
        }
        let locked_reads: Vec<_> =
            reads.iter().map_while(|t| host(t).bytes.try_read_recursive()).collect();
        if let Some(taken) = reads.get(locked_reads.len()) {
            drop((locked_reads, locked_writes));
            drop(host(taken).bytes.read());
            continue;
        }
        let reads = reads.iter().zip(locked_reads).map(|(tensor, guard)| of_read(tensor, guard));
        let writes =
            writes.iter().zip(locked_writes).map(|(tensor, guard)| of_write(tensor, guard));
        return (reads.collect(), writes.collect());
    }
}

/// The bytes of whole elements; a buffer from the pool may be larger than the tensor.
fn elements<T: Element>(bytes: &[u8]) -> &[T] {
    let size = size_of::<T>();
    bytemuck::cast_slice(&bytes[..bytes.len() / size * size])
}

fn elements_mut<T: Element>(bytes: &mut [u8]) -> &mut [T] {
    let size = size_of::<T>();
    let whole = bytes.len() / size * size;
    bytemuck::cast_slice_mut(&mut bytes[..whole])
}

/// Buffers that are not in use, by their size in bytes.
///
/// A fresh buffer costs as much as the arithmetic on it (the kernel zeroes its pages when they are first touched), so
/// a training step takes the buffers of the step before. No more than twice as many bytes wait as were ever in use at
/// once: beyond that those go that have waited longest, as a program that meets many sizes needs few of them again.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    fresh: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// Those of one size in the order in which they came, each with the number of buffers that came before it.
    free: BTreeMap<usize, VecDeque<(u64, Buffer)>>,
    came: u64,
    idle_bytes: usize,
    used_bytes: usize,
    most_used_bytes: usize,
}

impl State {
    /// The buffer of this size that came last, which may still be in a cache.
    fn take(&mut self, size: usize) -> Option<Buffer> {
        let waiting = self.free.get_mut(&size)?;
        let (_, buffer) = waiting.pop_back()?;
        if waiting.is_empty() {
            self.free.remove(&size);
        }
        self.idle_bytes -= size;
        Some(buffer)
    }

    /// Counts a buffer that a tensor gets.
    fn used(&mut self, buffer: &Buffer) {
        self.used_bytes += buffer.bytes().len();
        self.most_used_bytes = self.most_used_bytes.max(self.used_bytes);
    }

    /// Gives the buffer back to the system that has waited longest.
    fn drop_oldest(&mut self) {
        let came = |waiting: &VecDeque<(u64, Buffer)>| waiting.front().map(|(came, _)| *came);
        let oldest = self.free.iter().min_by_key(|(_, waiting)| came(waiting));
        let Some(size) = oldest.map(|(&size, _)| size) else { return };
        if let Some(waiting) = self.free.get_mut(&size) {
            waiting.pop_front();
            if waiting.is_empty() {
                self.free.remove(&size);
            }
        }
        self.idle_bytes -= size;
    }
}

impl Pool {
    /// A buffer of at least `bytes` bytes: the smallest free one of at most twice the size, else a new one.
    /// `None` if the system has no memory left.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<HostMemory> {
        let size = Buffer::size_for(bytes);
        let found = {
            let mut state = self.state.lock();
            let fits = state.free.range(size..=size.saturating_mul(2)).next();
            let fits = fits.map(|(&size, _)| size);
            let found = fits.and_then(|size| state.take(size));
            found.inspect(|buffer| state.used(buffer))
        };
        let buffer = match found {
            Some(buffer) => buffer,
            None => {
                let fresh = Buffer::zeroed(bytes)?;
                self.fresh.fetch_add(1, Ordering::Relaxed);
                self.state.lock().used(&fresh);
                fresh
            }
        };
        let pool = Some(self.clone());
        let bytes = RwLock::new(Bytes::Pooled(buffer));
        Some(HostMemory { bytes, packed: PackedWeights::default(), pool })
    }

    fn give_back(&self, buffer: Buffer) {
        let size = buffer.bytes().len();
        if size == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.used_bytes -= size;
        state.idle_bytes += size;
        state.came += 1;
        let came = state.came;
        state.free.entry(size).or_default().push_back((came, buffer));
        while state.idle_bytes > 2 * state.most_used_bytes {
            state.drop_oldest();
        }
    }

    /// Gives all free buffers back to the system.
    pub(crate) fn trim(&self) {
        let mut state = self.state.lock();
        state.free.clear();
        state.idle_bytes = 0;
    }

    /// Overwrites all free buffers with NaN, so that a test sees an operation that leaves a part unwritten.
    pub(crate) fn poison(&self) {
        for (_, buffer) in self.state.lock().free.values_mut().flatten() {
            buffer.bytes_mut().fill(0xff);
        }
    }

    /// How many buffers were new.
    pub(crate) fn fresh_allocations(&self) -> usize {
        self.fresh.load(Ordering::Relaxed)
    }

    /// Bytes in free buffers.
    pub(crate) fn idle_bytes(&self) -> usize {
        self.state.lock().idle_bytes
    }
}
