//! The emulated device's memory: allocations in an address range of their own, with gaps between
//! them, and for each byte whether it was ever written.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;

use crate::error::OutOfMemory;
use crate::shadow::AccessPages;

/// The address of the first allocation.
const HEAP: u64 = 0x1000_0000_0000;
/// Allocations begin at multiples of this, like those of a device.
const ALIGNMENT: u64 = 512;
/// At least as many bytes lie unmapped behind each allocation.
const GAP: u64 = 4096;
/// So many freed allocations are remembered, to name them where one is still used.
const REMEMBERED: usize = 1024;

/// A block of device memory.
pub(crate) struct Allocation {
    pub base: u64,
    pub bytes: Vec<u8>,
    /// For each byte 1 if it was written, else 0.
    pub initialised: Vec<u8>,
}

impl Allocation {
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The memory of an emulated device.
///
/// Addresses are never used twice, so the use of a freed address is always seen.
pub struct DeviceMemory {
    capacity: u64,
    used: u64,
    next: u64,
    /// In the order of their addresses.
    allocations: Vec<Allocation>,
    freed: VecDeque<(u64, u64)>,
    /// For launches to note accesses in.
    pub(crate) pages: AccessPages,
}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemory")
            .field("capacity", &self.capacity)
            .field("used", &self.used)
            .field("allocations", &self.allocations.len())
            .finish()
    }
}

impl DeviceMemory {
    /// A memory of that many bytes. They are taken from the host when they are allocated.
    pub fn new(capacity: u64) -> DeviceMemory {
        let (allocations, freed) = (Vec::new(), VecDeque::new());
        DeviceMemory {
            capacity,
            used: 0,
            next: HEAP,
            allocations,
            freed,
            pages: AccessPages::default(),
        }
    }

    /// Allocates memory that counts as never written. The address is a multiple of 512; an
    /// allocation of no bytes has an address of its own too.
    ///
    /// # Errors
    ///
    /// If that many bytes are not free.
    pub fn alloc(&mut self, bytes: u64) -> Result<u64, OutOfMemory> {
        let free = self.capacity - self.used;
        let size = usize::try_from(bytes).ok().filter(|_| bytes <= free);
        let size = size.ok_or(OutOfMemory { requested: bytes, free })?;
        let base = self.next;
        self.next = (base + bytes + GAP).next_multiple_of(ALIGNMENT);
        self.used += bytes;
        // What a program finds in memory that it did not write should look wrong.
        let allocation = Allocation { base, bytes: vec![0xcd; size], initialised: vec![0; size] };
        self.allocations.push(allocation);
        Ok(base)
    }

    /// Frees what [`DeviceMemory::alloc`] gave.
    ///
    /// # Errors
    ///
    /// If the address is not that of an allocation, or it was freed before.
    pub fn free(&mut self, address: u64) -> Result<(), AccessError> {
        let found = self.allocations.binary_search_by_key(&address, |known| known.base);
        let index = found.map_err(|_| self.error("free", address, 0))?;
        let allocation = self.allocations.remove(index);
        self.used -= allocation.len();
        if self.freed.len() == REMEMBERED {
            self.freed.pop_front();
        }
        self.freed.push_back((allocation.base, allocation.len()));
        Ok(())
    }

    /// Bytes in all.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        self.capacity - self.used
    }

    /// Whether these bytes lie in one allocation.
    pub fn holds(&self, address: u64, bytes: u64) -> bool {
        self.range("look at", address, bytes).is_ok()
    }

    /// Writes bytes, which then count as written.
    ///
    /// # Errors
    ///
    /// If they do not lie in one allocation.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let (allocation, range) = self.range("write", address, bytes.len() as u64)?;
        let allocation = &mut self.allocations[allocation];
        allocation.bytes[range.clone()].copy_from_slice(bytes);
        allocation.initialised[range].fill(1);
        Ok(())
    }

    /// Reads bytes, written or not; [`DeviceMemory::uninitialised`] tells.
    ///
    /// # Errors
    ///
    /// If they do not lie in one allocation.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let (allocation, range) = self.range("read", address, bytes.len() as u64)?;
        bytes.copy_from_slice(&self.allocations[allocation].bytes[range]);
        Ok(())
    }

    /// Writes a pattern `count` times in a row.
    ///
    /// # Errors
    ///
    /// If the bytes do not lie in one allocation.
    pub fn fill(&mut self, address: u64, pattern: &[u8], count: u64) -> Result<(), AccessError> {
        let bytes = count.saturating_mul(pattern.len() as u64);
        let (allocation, range) = self.range("fill", address, bytes)?;
        let allocation = &mut self.allocations[allocation];
        if !pattern.is_empty() {
            for piece in allocation.bytes[range.clone()].chunks_exact_mut(pattern.len()) {
                piece.copy_from_slice(pattern);
            }
        }
        allocation.initialised[range].fill(1);
        Ok(())
    }

    /// Copies bytes, and with them whether they were ever written. The ranges may overlap.
    ///
    /// # Errors
    ///
    /// If either range does not lie in one allocation.
    pub fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<(), AccessError> {
        let (source, from) = self.range("copy from", from, bytes)?;
        let (target, to) = self.range("copy to", to, bytes)?;
        if source == target {
            let allocation = &mut self.allocations[source];
            allocation.bytes.copy_within(from.clone(), to.start);
            allocation.initialised.copy_within(from, to.start);
            return Ok(());
        }
        let (low, high) = (source.min(target), source.max(target));
        let (head, tail) = self.allocations.split_at_mut(high);
        let (first, second) = (&mut head[low], &mut tail[0]);
        let (source, target) = if source < target { (first, second) } else { (second, first) };
        target.bytes[to.clone()].copy_from_slice(&source.bytes[from.clone()]);
        target.initialised[to].copy_from_slice(&source.initialised[from]);
        Ok(())
    }

    /// The offset of the first byte of a range that was never written, if there is one.
    ///
    /// # Errors
    ///
    /// If the range does not lie in one allocation.
    pub fn uninitialised(&self, address: u64, bytes: u64) -> Result<Option<u64>, AccessError> {
        let (allocation, range) = self.range("look at", address, bytes)?;
        let flags = &self.allocations[allocation].initialised[range];
        Ok(flags.iter().position(|&flag| flag == 0).map(|offset| offset as u64))
    }

    /// The allocation that an address lies in.
    #[inline]
    pub(crate) fn find(&self, address: u64) -> Option<usize> {
        let behind = self.allocations.partition_point(|known| known.base <= address);
        let index = behind.checked_sub(1)?;
        let allocation = &self.allocations[index];
        (address - allocation.base < allocation.len()).then_some(index)
    }

    #[inline]
    pub(crate) fn allocation(&self, index: usize) -> Option<&Allocation> {
        self.allocations.get(index)
    }

    #[inline]
    pub(crate) fn allocation_mut(&mut self, index: usize) -> &mut Allocation {
        &mut self.allocations[index]
    }

    pub(crate) fn allocations(&self) -> usize {
        self.allocations.len()
    }

    fn range(
        &self,
        what: &'static str,
        address: u64,
        bytes: u64,
    ) -> Result<(usize, std::ops::Range<usize>), AccessError> {
        let behind = self.allocations.partition_point(|known| known.base <= address);
        let found = behind.checked_sub(1).and_then(|index| {
            let allocation = &self.allocations[index];
            let start = address - allocation.base;
            let end = start.checked_add(bytes)?;
            (end <= allocation.len()).then_some((index, start as usize..end as usize))
        });
        found.ok_or_else(|| self.error(what, address, bytes))
    }

    #[cold]
    fn error(&self, what: &'static str, address: u64, bytes: u64) -> AccessError {
        AccessError { what, address, bytes, nearest: self.nearest(address) }
    }

    /// The allocation, in use or freed, that is nearest to an address.
    pub(crate) fn nearest(&self, address: u64) -> Option<Nearest> {
        let live = self.allocations.iter();
        let live = live.map(|known| Nearest { base: known.base, bytes: known.len(), freed: false });
        let freed = self.freed.iter();
        let freed = freed.map(|&(base, bytes)| Nearest { base, bytes, freed: true });
        live.chain(freed).min_by_key(|known| known.distance(address))
    }
}

/// An allocation that is nearest to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// Its first address.
    pub base: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it was freed.
    pub freed: bool,
}

impl Nearest {
    fn distance(&self, address: u64) -> u64 {
        let last = self.base + self.bytes.saturating_sub(1);
        if address < self.base { self.base - address } else { address.saturating_sub(last) }
    }

    /// Where an address lies beside it, in words.
    pub(crate) fn describe(&self, address: u64) -> String {
        let Nearest { base, bytes, freed } = *self;
        let state = if freed { "freed" } else { "of" };
        let end = base + bytes;
        let place = if address < base {
            format!("{} bytes before", base - address)
        } else if address >= end {
            format!("{} bytes behind the end of", address - end)
        } else {
            format!("{} bytes into", address - base)
        };
        format!("{place} the allocation {state} {bytes} bytes at {base:#x}")
    }
}

/// An access by the host to memory that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessError {
    what: &'static str,
    address: u64,
    bytes: u64,
    nearest: Option<Nearest>,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccessError { what, address, bytes, nearest } = self;
        write!(f, "cannot {what} {bytes} bytes of device memory at {address:#x}: ")?;
        match nearest {
            Some(nearest) => f.write_str(&nearest.describe(*address)),
            None => f.write_str("nothing is allocated"),
        }
    }
}

impl Error for AccessError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_bytes_come_back_and_are_known_as_written() {
        let mut memory = DeviceMemory::new(1 << 20);
        let a = memory.alloc(16).unwrap();
        assert_eq!(memory.uninitialised(a, 16), Ok(Some(0)));
        memory.write(a + 4, &[1, 2, 3, 4]).unwrap();
        assert_eq!(memory.uninitialised(a + 4, 4), Ok(None));
        assert_eq!(memory.uninitialised(a + 4, 5), Ok(Some(4)));
        let mut bytes = [0; 4];
        memory.read(a + 4, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
    }

    #[test]
    fn copies_carry_what_was_written() {
        let mut memory = DeviceMemory::new(1 << 20);
        let (a, b) = (memory.alloc(8).unwrap(), memory.alloc(8).unwrap());
        memory.write(a, &[7; 4]).unwrap();
        memory.fill(b, &[1, 2], 4).unwrap();
        memory.copy(b, a, 8).unwrap();
        assert_eq!(memory.uninitialised(b, 8), Ok(Some(4)));
        memory.copy(a + 2, a, 4).unwrap();
        assert_eq!(memory.uninitialised(a, 8), Ok(Some(6)));
    }

    #[test]
    fn addresses_are_aligned_apart_and_never_reused() {
        let mut memory = DeviceMemory::new(1 << 20);
        let a = memory.alloc(100).unwrap();
        let b = memory.alloc(0).unwrap();
        assert!(a.is_multiple_of(512) && b.is_multiple_of(512) && b >= a + 100 + GAP);
        memory.free(a).unwrap();
        assert!(memory.alloc(100).unwrap() > b);
        assert!(memory.free(a).is_err());
        let message = memory.write(a, &[1]).unwrap_err().to_string();
        assert!(message.contains("0 bytes into the allocation freed 100 bytes"), "{message}");
    }

    #[test]
    fn the_capacity_is_kept() {
        let mut memory = DeviceMemory::new(1000);
        let a = memory.alloc(600).unwrap();
        assert_eq!(memory.alloc(500), Err(OutOfMemory { requested: 500, free: 400 }));
        memory.free(a).unwrap();
        assert_eq!(memory.free_bytes(), 1000);
        assert!(memory.alloc(u64::MAX).is_err());
    }

    #[test]
    fn ranges_over_the_end_are_refused() {
        let mut memory = DeviceMemory::new(1000);
        let a = memory.alloc(10).unwrap();
        assert!(memory.read(a + 8, &mut [0; 3]).is_err());
        assert!(memory.fill(a, &[0; 4], u64::MAX).is_err());
        assert!(memory.copy(a, a + 6, 5).is_err());
        assert!(memory.read(0, &mut [0; 1]).is_err());
    }
}
