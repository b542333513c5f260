//! Finds accesses of global memory by two blocks that nothing orders: what makes a kernel's result
//! depend on the order of its blocks.
//!
//! For each piece of memory the last writing and the first reading block of the launch are kept.
//! Writes of the same value by two blocks are no race. Nothing orders two blocks of a launch: there
//! are no atomics and fences here.
//!
//! Blocks run one after another here, so every access by another block is an earlier one.

use super::warp::Warp;
use crate::registers::{LANES, LaneMask};
use crate::shadow::{AccessPage, AccessPages, PAGE};

/// An access, packed: a flag in the top bit, the block's number and 1 in the next 31, the thread
/// in ten, and the instruction in 22 bits. 0 stands for none.
type Packed = u64;

/// For a read: several blocks read.
const MANY: u64 = 1 << 63;

const PC_MASK: u32 = (1 << 22) - 1;

/// Another block's access.
#[derive(Clone, Copy, Debug)]
pub(super) struct GlobalRace {
    pub block: u32,
    /// `None` if several blocks read, of which this is the first.
    pub thread: Option<u32>,
    pub pc: u32,
    pub wrote: bool,
}

/// The thread and the instruction of an access.
#[derive(Clone, Copy, Debug)]
pub(super) struct GlobalActor {
    pub thread: u32,
    pub pc: u32,
}

/// The record of a launch.
pub(super) struct GlobalRaces {
    /// Pages of each allocation.
    allocations: Vec<Vec<Option<Box<AccessPage>>>>,
    /// Pages that are not in use.
    spare: AccessPages,
    /// Log₂ of a piece's bytes.
    shift: u32,
    /// The number of the block and 1, as it stands in a packed access.
    tag: u64,
}

impl GlobalRaces {
    pub fn new(allocations: usize, grain: u32, spare: AccessPages) -> GlobalRaces {
        GlobalRaces {
            allocations: std::iter::repeat_with(Vec::new).take(allocations).collect(),
            spare,
            shift: grain.trailing_zeros(),
            tag: 0,
        }
    }

    /// Ends the launch; gives back all pages.
    pub fn into_pages(mut self) -> AccessPages {
        self.spare.put(self.allocations.into_iter().flatten().flatten());
        self.spare
    }

    pub fn new_block(&mut self, number: u32) {
        self.tag = (u64::from(number) + 1) << 32;
    }

    fn pack(&self, actor: GlobalActor) -> Packed {
        self.tag | u64::from(actor.thread) << 22 | u64::from(actor.pc & PC_MASK)
    }

    /// The access that a packed one stands for, if another block made it.
    fn other(&self, packed: Packed, wrote: bool) -> Option<GlobalRace> {
        let many = packed & MANY != 0;
        let tag = packed & !MANY;
        if packed == 0 || !many && tag >> 32 == self.tag >> 32 {
            return None;
        }
        let block = (tag >> 32) as u32 - 1;
        let thread = (!many).then_some((packed >> 22) as u32 & 0x3ff);
        Some(GlobalRace { block, thread, pc: packed as u32 & PC_MASK, wrote })
    }

    #[inline(always)]
    fn page(&mut self, allocation: usize, piece: u64) -> &mut AccessPage {
        let pages = &mut self.allocations[allocation];
        let number = piece as usize / PAGE;
        if number >= pages.len() {
            pages.resize_with(number + 1, || None);
        }
        pages[number].get_or_insert_with(|| self.spare.take())
    }

    /// Notes a read by one thread; gives the write that it races with.
    pub fn read(
        &mut self,
        allocation: usize,
        offset: u64,
        bytes: u32,
        actor: GlobalActor,
    ) -> Option<GlobalRace> {
        let own = self.pack(actor);
        for piece in self.pieces(offset, bytes) {
            let index = piece as usize % PAGE;
            let page = self.page(allocation, piece);
            let (writer, reader) = (page.writers[index], page.readers[index]);
            if let Some(written) = self.other(writer, true) {
                return Some(written);
            }
            let many = self.other(reader, false).is_some();
            self.page(allocation, piece).readers[index] = if many { reader | MANY } else { own };
        }
        None
    }

    /// Notes a write by one thread; gives the access that it races with. If the bytes are what they
    /// were, `unchanged`, it races with no other write.
    pub fn write(
        &mut self,
        allocation: usize,
        offset: u64,
        bytes: u32,
        actor: GlobalActor,
        unchanged: bool,
    ) -> Option<GlobalRace> {
        let own = self.pack(actor);
        for piece in self.pieces(offset, bytes) {
            let index = piece as usize % PAGE;
            let page = self.page(allocation, piece);
            let (writer, reader) = (page.writers[index], page.readers[index]);
            let written = self.other(writer, true);
            if written.is_some() && !unchanged {
                return written;
            }
            let read = self.other(reader, false);
            if read.is_some() {
                return read;
            }
            // Of writes of the same value the first is kept.
            if written.is_none() {
                self.page(allocation, piece).writers[index] = own;
            }
        }
        None
    }

    fn pieces(&self, offset: u64, bytes: u32) -> std::ops::RangeInclusive<u64> {
        offset >> self.shift..=(offset + u64::from(bytes) - 1) >> self.shift
    }

    /// Notes plain reads or writes of neighbouring bytes, `each` by one thread, if no other block
    /// has to do with them; false if it has not noted them.
    #[inline(always)]
    pub fn access_range(
        &mut self,
        allocation: usize,
        offset: u64,
        bytes: u64,
        each: u64,
        actor: GlobalActor,
        writes: bool,
    ) -> bool {
        let first = offset >> self.shift;
        let count = ((offset + bytes - 1) >> self.shift) - first + 1;
        let start = first as usize % PAGE;
        if start + count as usize > PAGE {
            return false;
        }
        let (own, tag) = (self.pack(actor), self.tag >> 32);
        let each = (each >> self.shift).max(1) as usize;
        let page = self.page(allocation, first);
        let writers = &mut page.writers[start..start + count as usize];
        let readers = &mut page.readers[start..start + count as usize];
        let fresh = |packed: Packed| packed == 0 || packed >> 32 == tag;
        let mut free = true;
        for &packed in writers.iter() {
            free &= fresh(packed);
        }
        if writes {
            for &packed in readers.iter() {
                free &= fresh(packed);
            }
        }
        if !free {
            return false;
        }
        if writes {
            for (index, pieces) in writers.chunks_mut(each).enumerate() {
                pieces.fill(own + ((index as u64) << 22));
            }
        } else {
            for (index, pieces) in readers.chunks_mut(each).enumerate() {
                let own = own + ((index as u64) << 22);
                for reader in pieces {
                    *reader = if fresh(*reader) { own } else { *reader | MANY };
                }
            }
        }
        true
    }

    /// The same for lanes of a warp that each access some bytes, at their offset from another.
    #[inline(always)]
    pub fn access_all(
        &mut self,
        allocation: usize,
        offset: u64,
        offsets: &[u32; LANES],
        active: LaneMask,
        bytes: u32,
        first_lane: GlobalActor,
        writes: bool,
    ) -> bool {
        let (own, tag) = (self.pack(first_lane), self.tag >> 32);
        let fresh = |packed: Packed| packed == 0 || packed >> 32 == tag;
        for lane in super::interpreter::lanes(active) {
            let own = own + ((lane as u64) << 22);
            for piece in self.pieces(offset + u64::from(offsets[lane]), bytes) {
                let index = piece as usize % PAGE;
                let page = self.page(allocation, piece);
                let (writer, reader) = (page.writers[index], page.readers[index]);
                if !fresh(writer) || writes && !fresh(reader) {
                    return false;
                }
                if writes {
                    page.writers[index] = own;
                } else {
                    page.readers[index] = if fresh(reader) { own } else { reader | MANY };
                }
            }
        }
        true
    }
}

impl Warp {
    /// The thread of a lane at an instruction, for the check of races between blocks.
    pub(super) fn global_actor(&self, lane: usize, pc: u32) -> GlobalActor {
        GlobalActor { thread: self.index * LANES as u32 + lane as u32, pc }
    }
}
