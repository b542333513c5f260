//! Host memory: cache-line aligned buffers that a pool hands out again, so that a training step touches no fresh pages.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use super::CpuBackend;
use super::buffer::Buffer;
use super::weights::PackedWeights;
use crate::Tensor;
use crate::dtype::Element;

/// The vector of an array that was taken over.
trait Values: Any + Send + Sync {
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl<T: Element> Values for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self)
    }
}

/// What backs a tensor.
enum Bytes {
    /// A buffer, and the pool that it goes back to.
    Pooled(Buffer, Arc<Pool>),
    Array(Box<dyn Values>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Pooled(buffer, _) => buffer.bytes(),
            Self::Array(values) => values.bytes(),
        }
    }

    fn get_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Pooled(buffer, _) => buffer.bytes_mut(),
            Self::Array(values) => values.bytes_mut(),
        }
    }
}

/// The memory behind a CPU tensor. Reads are shared; an operation that writes has it alone.
pub(crate) struct HostMemory {
    bytes: RwLock<Bytes>,
    packed: PackedWeights,
}

impl HostMemory {
    fn new(bytes: Bytes) -> Self {
        Self { bytes: RwLock::new(bytes), packed: PackedWeights::default() }
    }

    /// Takes over the values of an array.
    pub(crate) fn from_values<T: Element>(values: Vec<T>) -> Self {
        Self::new(Bytes::Array(Box::new(values)))
    }

    /// Takes the vector of an array out, if this memory is one of so many values.
    pub(crate) fn take_values<T: Element>(&self, count: usize) -> Option<Vec<T>> {
        let Bytes::Array(values) = &mut *self.bytes.write() else { return None };
        let values = (&mut **values as &mut dyn Any).downcast_mut::<Vec<T>>()?;
        (values.len() == count).then(|| std::mem::take(values))
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if let Bytes::Pooled(buffer, pool) = self.bytes.get_mut() {
            pool.give_back(std::mem::replace(buffer, Buffer::EMPTY));
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
    form: [usize; 2],
    pack: impl FnOnce(Option<Buffer>) -> Option<Buffer>,
) -> Option<Arc<Buffer>> {
    host(weight).packed.get((weight.offset(), form), pack)
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
pub(crate) struct Pool(Mutex<State>);

#[derive(Default)]
struct State {
    /// By size, and by the number of buffers that came before.
    free: BTreeMap<(usize, u64), Buffer>,
    came: u64,
    fresh: usize,
    idle_bytes: usize,
    used_bytes: usize,
    most_used_bytes: usize,
}

impl State {
    /// The smallest free buffer of `size` to twice that; of those of one size the one that came last, which may still
    /// be in a cache.
    fn take(&mut self, size: usize) -> Option<Buffer> {
        let large_enough = (size, 0)..=(size.saturating_mul(2), u64::MAX);
        let (&(size, _), _) = self.free.range(large_enough).next()?;
        let (&newest, _) = self.free.range(..=(size, u64::MAX)).next_back()?;
        self.idle_bytes -= size;
        self.free.remove(&newest)
    }

    /// Counts a buffer that a tensor gets.
    fn used(&mut self, buffer: &Buffer) {
        self.used_bytes += buffer.bytes().len();
        self.most_used_bytes = self.most_used_bytes.max(self.used_bytes);
    }

    /// Gives the buffer back to the system that has waited longest.
    fn drop_oldest(&mut self) {
        let oldest = self.free.keys().min_by_key(|(_, came)| *came).copied();
        if let Some(key) = oldest {
            self.free.remove(&key);
            self.idle_bytes -= key.0;
        }
    }
}

impl Pool {
    /// A buffer of at least `bytes` bytes: the smallest free one of at most twice the size, else a new one.
    /// `None` if the system has no memory left.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<HostMemory> {
        let found = {
            let mut state = self.0.lock();
            let found = state.take(Buffer::size_for(bytes));
            found.inspect(|buffer| state.used(buffer))
        };
        let buffer = match found {
            Some(buffer) => buffer,
            None => {
                let fresh = Buffer::zeroed(bytes)?;
                let mut state = self.0.lock();
                state.fresh += 1;
                state.used(&fresh);
                fresh
            }
        };
        Some(HostMemory::new(Bytes::Pooled(buffer, self.clone())))
    }

    fn give_back(&self, buffer: Buffer) {
        let size = buffer.bytes().len();
        if size == 0 {
            return;
        }
        let mut state = self.0.lock();
        state.used_bytes -= size;
        state.idle_bytes += size;
        state.came += 1;
        let key = (size, state.came);
        state.free.insert(key, buffer);
        while state.idle_bytes > 2 * state.most_used_bytes {
            state.drop_oldest();
        }
    }

    /// Overwrites all free buffers with NaN, so that a test sees an operation that leaves a part unwritten.
    pub(crate) fn poison(&self) {
        for buffer in self.0.lock().free.values_mut() {
            buffer.bytes_mut().fill(0xff);
        }
    }
}

impl CpuBackend {
    /// Gives buffers that are not in use back to the system.
    pub fn trim(&self) {
        let mut state = self.pool.0.lock();
        state.free.clear();
        state.idle_bytes = 0;
    }

    /// How many buffers the pool had to ask the system for so far. In a steady state this no longer grows.
    pub fn fresh_allocations(&self) -> usize {
        self.pool.0.lock().fresh
    }

    /// Bytes in buffers that wait to be used again.
    pub fn idle_bytes(&self) -> usize {
        self.pool.0.lock().idle_bytes
    }
}
