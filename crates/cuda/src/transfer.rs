//! Copies between host and device through pinned memory. Uploads travel on a stream of their own, beside the kernels.

use cust::error::CudaResult;
use cust::event::{Event, EventFlags};
use cust::memory::{AsyncCopyDestination, DeviceBuffer, DevicePointer, DeviceSlice, LockedBuffer};
use cust::stream::{Stream, StreamFlags, StreamWaitEventFlags};

/// Bytes of a slot; larger copies go in pieces.
const SLOT: usize = 4 << 20;
/// Slots for uploads: a batch is filled into one while the others are on their way.
const SLOTS: usize = 4;

/// The buffers of both directions.
pub(crate) struct Transfer {
    copies: Stream,
    slots: Vec<Slot>,
    next: usize,
    download: Option<LockedBuffer<u8>>,
}

/// Pinned memory on the host, and as much on the device.
///
/// The copy to the device does not wait for the kernels in the queue: it goes to memory that they do not know. From
/// there it is moved to the tensor in the queue's order, at the device's own speed.
struct Slot {
    host: LockedBuffer<u8>,
    device: DeviceBuffer<u8>,
    /// It was moved to the tensor: both may be filled again.
    moved: Event,
}

impl Slot {
    fn new() -> CudaResult<Self> {
        // SAFETY: both are written before they are read; bytes have no invalid values.
        let host = unsafe { LockedBuffer::uninitialized(SLOT)? };
        // SAFETY: as above.
        let device = unsafe { DeviceBuffer::uninitialized(SLOT)? };
        Ok(Self { host, device, moved: Event::new(EventFlags::DISABLE_TIMING)? })
    }
}

impl Transfer {
    pub(crate) fn new() -> CudaResult<Self> {
        let copies = Stream::new(StreamFlags::NON_BLOCKING, None)?;
        Ok(Self { copies, slots: Vec::new(), next: 0, download: None })
    }

    /// Copies bytes to `address`, before whatever is put into `stream` from now on. `bytes` may change at once.
    pub(crate) fn upload(&mut self, bytes: &[u8], address: u64, stream: &Stream) -> CudaResult<()> {
        for (piece, bytes) in bytes.chunks(SLOT).enumerate() {
            let fresh = self.slots.len() < SLOTS && self.next == self.slots.len();
            if fresh {
                self.slots.push(Slot::new()?);
            }
            let slot = &mut self.slots[self.next];
            self.next = (self.next + 1) % SLOTS;
            if !fresh {
                slot.moved.synchronize()?;
            }
            slot.host[..bytes.len()].copy_from_slice(bytes);
            let mut staged = slot.device.index(0..bytes.len());
            let mut to = device_bytes(address + (piece * SLOT) as u64, bytes.len());
            // SAFETY: the host's memory is pinned; neither is used again before `moved`, for which the slot's next user
            // waits above.
            unsafe { staged.async_copy_from(&slot.host[..bytes.len()], &self.copies)? };
            wait_for(&self.copies, stream)?;
            // SAFETY: both are device memory of this length, and the copy above comes first.
            unsafe { to.async_copy_from(&staged, stream)? };
            slot.moved.record(stream)?;
        }
        Ok(())
    }

    /// Copies bytes from `address` after all that is in `stream`, and waits for it.
    pub(crate) fn download(
        &mut self,
        address: u64,
        bytes: &mut [u8],
        stream: &Stream,
    ) -> CudaResult<()> {
        for (piece, bytes) in bytes.chunks_mut(SLOT).enumerate() {
            let pinned = match &mut self.download {
                Some(pinned) => pinned,
                // SAFETY: it is written before it is read; bytes have no invalid values.
                empty => empty.insert(unsafe { LockedBuffer::uninitialized(SLOT)? }),
            };
            let from = device_bytes(address + (piece * SLOT) as u64, bytes.len());
            let pinned = &mut pinned[..bytes.len()];
            // SAFETY: the pinned memory is not touched until the stream is done, for which the next line waits.
            unsafe { from.async_copy_to(&mut *pinned, stream)? };
            stream.synchronize()?;
            bytes.copy_from_slice(pinned);
        }
        Ok(())
    }
}

/// Lets `stream` wait for all that is in `first` by now.
fn wait_for(first: &Stream, stream: &Stream) -> CudaResult<()> {
    let event = Event::new(EventFlags::DISABLE_TIMING)?;
    event.record(first)?;
    stream.wait_event(event, StreamWaitEventFlags::DEFAULT)
}

/// Device memory as `cust` wants to see it.
pub(crate) fn device_bytes(address: u64, length: usize) -> DeviceSlice<u8> {
    // SAFETY: a description only; whoever copies says why the memory is there.
    unsafe { DeviceSlice::from_raw_parts(DevicePointer::from_raw(address), length) }
}
