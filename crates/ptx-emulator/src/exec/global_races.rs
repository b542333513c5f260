//! Finds accesses of global memory by two blocks that nothing orders: what makes a kernel's result
//! depend on the order of its blocks.
//!
//! For each piece of memory the last writing and the first reading block of the launch are kept.
//! Writes of the same value by two blocks are no race, nor are two atomics, nor a plain read and a
//! compare-and-swap, which loops begin and go on with. A block is behind
//! another if it ran an atomic on an address on which the other ran one before, after a fence
//! (`__threadfence`): so the pattern in which the last block adds up what all have written is fine.
//!
//! Blocks run one after another here, so every access by another block is an earlier one.

use std::collections::HashMap;

use super::warp::Warp;
use crate::registers::{LANES, LaneMask};
use crate::shadow::{AccessPage, AccessPages, PAGE};

/// An access, packed: a flag in the top bit, the block's number and 1 in the next 31, the thread
/// in ten, another flag, and the instruction in 21 bits. 0 stands for none.
type Packed = u64;

/// For a write: it was atomic. For a read: several blocks read.
const FLAG: u64 = 1 << 63;

/// For a write: it was a compare-and-swap.
const SWAP: u64 = 1 << 21;

const PC_MASK: u32 = (1 << 21) - 1;

/// Another block's access.
#[derive(Clone, Copy, Debug)]
pub(super) struct GlobalRace {
    pub block: u32,
    /// `None` if several blocks read, of which this is the first.
    pub thread: Option<u32>,
    pub pc: u32,
    pub wrote: bool,
    pub atomic: bool,
}

/// The thread and the instruction of an access.
#[derive(Clone, Copy, Debug)]
pub(super) struct GlobalActor {
    pub thread: u32,
    pub pc: u32,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum GlobalManner {
    Read,
    /// A write; `unchanged` if the bytes are what they were, which races with no other write.
    Write {
        unchanged: bool,
    },
    /// A relaxed read: it does not race with atomics.
    AtomicRead,
    /// Does not race with others of its kind.
    AtomicWrite,
    /// An atomic that does not race with plain reads either: a loop that begins with one looks again
    /// at what it read.
    Swap,
}

/// A set of blocks.
#[derive(Clone, Default)]
struct Blocks(Vec<u64>);

impl Blocks {
    fn contains(&self, block: u32) -> bool {
        let word = self.0.get(block as usize / 64);
        word.is_some_and(|word| word >> (block % 64) & 1 != 0)
    }

    fn insert(&mut self, block: u32) {
        let index = block as usize / 64;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] |= 1 << (block % 64);
    }

    fn add(&mut self, other: &Blocks) {
        if other.0.len() > self.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}

/// The record of a launch.
pub(super) struct GlobalRaces {
    /// Pages of each allocation.
    allocations: Vec<Vec<Option<Box<AccessPage>>>>,
    /// Pages that are not in use.
    spare: AccessPages,
    /// Log₂ of a piece's bytes.
    shift: u32,
    block: u32,
    /// The number of the block and 1, as it stands in a packed access.
    tag: u64,
    /// Whether the block ran a fence.
    fenced: bool,
    /// Blocks that this one is behind.
    behind: Blocks,
    /// Blocks that ran an atomic on an address after a fence, with those they were behind.
    released: HashMap<u64, Blocks>,
}

impl GlobalRaces {
    pub fn new(allocations: usize, grain: u32, spare: AccessPages) -> GlobalRaces {
        GlobalRaces {
            allocations: std::iter::repeat_with(Vec::new).take(allocations).collect(),
            spare,
            shift: grain.trailing_zeros(),
            block: 0,
            tag: 0,
            fenced: false,
            behind: Blocks::default(),
            released: HashMap::new(),
        }
    }

    /// Ends the launch; gives back all pages.
    pub fn into_pages(mut self) -> AccessPages {
        self.spare.put(self.allocations.into_iter().flatten().flatten());
        self.spare
    }

    pub fn new_block(&mut self, number: u32) {
        self.block = number;
        self.tag = (u64::from(number) + 1) << 32;
        self.fenced = false;
        self.behind = Blocks::default();
    }

    pub fn fence(&mut self) {
        self.fenced = true;
    }

    /// The block runs an atomic on an address.
    pub fn synchronise(&mut self, address: u64) {
        if let Some(released) = self.released.get(&address) {
            self.behind.add(released);
        }
        if self.fenced {
            let released = self.released.entry(address).or_default();
            released.add(&self.behind);
            released.insert(self.block);
        }
    }

    fn pack(&self, actor: GlobalActor) -> Packed {
        self.tag | u64::from(actor.thread) << 22 | u64::from(actor.pc & PC_MASK)
    }

    /// The access by another block that a packed one stands for, unless this block is behind it.
    fn other(&self, packed: Packed, wrote: bool) -> Option<GlobalRace> {
        let flag = packed & FLAG != 0;
        let block = ((packed & !FLAG) >> 32) as u32 - 1;
        if self.behind.contains(block) && (wrote || !flag) {
            return None;
        }
        let thread = (packed >> 22) as u32 & 0x3ff;
        let thread = (wrote || !flag).then_some(thread);
        let pc = packed as u32 & PC_MASK;
        Some(GlobalRace { block, thread, pc, wrote, atomic: wrote && flag })
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

    /// Notes an access of one thread; gives the one that it races with.
    pub fn access(
        &mut self,
        allocation: usize,
        offset: u64,
        bytes: u32,
        actor: GlobalActor,
        manner: GlobalManner,
    ) -> Option<GlobalRace> {
        let first = offset >> self.shift;
        let last = (offset + u64::from(bytes) - 1) >> self.shift;
        let (own, tag) = (self.pack(actor), self.tag);
        let elsewhere = |packed: Packed| packed != 0 && (packed & !FLAG) >> 32 != tag >> 32;
        let atomic = matches!(
            manner,
            GlobalManner::AtomicRead | GlobalManner::AtomicWrite | GlobalManner::Swap
        );
        let reads = matches!(manner, GlobalManner::Read | GlobalManner::AtomicRead);
        for piece in first..=last {
            let index = piece as usize % PAGE;
            let page = self.page(allocation, piece);
            let (writer, reader) = (page.writers[index], page.readers[index]);
            let both_atomic = atomic && writer & FLAG != 0;
            let swapped = reads && writer & SWAP != 0;
            let written = if elsewhere(writer) && !both_atomic && !swapped {
                self.other(writer, true)
            } else {
                None
            };
            if written.is_some() && manner != (GlobalManner::Write { unchanged: true }) {
                return written;
            }
            match manner {
                GlobalManner::Read => {
                    let reader = if elsewhere(reader) { reader | FLAG } else { own };
                    self.page(allocation, piece).readers[index] = reader;
                }
                GlobalManner::AtomicRead => {}
                GlobalManner::Write { .. } | GlobalManner::AtomicWrite | GlobalManner::Swap => {
                    let read = elsewhere(reader) || reader & FLAG != 0;
                    let read = read && manner != GlobalManner::Swap;
                    if read && let Some(other) = self.other(reader, false) {
                        return Some(other);
                    }
                    // Of writes of the same value the first is kept.
                    if written.is_none() {
                        let flag = if atomic { FLAG } else { 0 };
                        let flag = if manner == GlobalManner::Swap { flag | SWAP } else { flag };
                        self.page(allocation, piece).writers[index] = own | flag;
                    }
                }
            }
        }
        None
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
                    *reader = if fresh(*reader) { own } else { *reader | FLAG };
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
            let start = offset + u64::from(offsets[lane]);
            let first = start >> self.shift;
            let last = (start + u64::from(bytes) - 1) >> self.shift;
            for piece in first..=last {
                let index = piece as usize % PAGE;
                let page = self.page(allocation, piece);
                let (writer, reader) = (page.writers[index], page.readers[index]);
                if !fresh(writer) || writes && !fresh(reader) {
                    return false;
                }
                if writes {
                    page.writers[index] = own;
                } else {
                    page.readers[index] = if fresh(reader) { own } else { reader | FLAG };
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
