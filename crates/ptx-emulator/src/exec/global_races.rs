//! Finds accesses of global memory by two blocks that nothing orders: what makes a kernel's result
//! depend on the order of its blocks.
//!
//! For each piece of memory the last writing and the first reading block of the launch are kept.
//! Writes of the same value by two blocks are no race, nor are two atomics. A block is behind
//! another if it ran an atomic on an address on which the other ran one before, after a fence
//! (`__threadfence`): so the pattern in which the last block adds up what all have written is fine.
//!
//! Blocks run one after another here, so every access by another block is an earlier one.

use std::collections::HashMap;

/// Pieces a page.
const PAGE: usize = 1024;

/// An access, packed: a flag in the top bit, the block's number and 1 in the next 31, the thread
/// in ten and the instruction in 22 bits. 0 stands for none.
type Packed = u64;

/// For a write: it was atomic. For a read: several blocks read.
const FLAG: u64 = 1 << 63;

struct Page {
    writers: [Packed; PAGE],
    readers: [Packed; PAGE],
}

/// Another block's access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Other {
    pub block: u32,
    /// `None` if several blocks read, of which this is the first.
    pub thread: Option<u32>,
    pub pc: u32,
    pub wrote: bool,
    pub atomic: bool,
}

/// How an access counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Manner {
    Plain,
    /// Does not race with others of its kind.
    Atomic,
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
    /// Pages of each allocation, by their number in it.
    allocations: Vec<HashMap<u64, Box<Page>>>,
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
    pub fn new(allocations: usize, grain: u32, _blocks: u64) -> GlobalRaces {
        GlobalRaces {
            allocations: std::iter::repeat_with(HashMap::new).take(allocations).collect(),
            shift: grain.trailing_zeros(),
            block: 0,
            tag: 0,
            fenced: false,
            behind: Blocks::default(),
            released: HashMap::new(),
        }
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

    fn pack(&self, thread: u32, pc: u32) -> Packed {
        self.tag | u64::from(thread) << 22 | u64::from(pc & 0x3f_ffff)
    }

    fn other(&self, packed: Packed, wrote: bool) -> Option<Other> {
        let flag = packed & FLAG != 0;
        let block = ((packed & !FLAG) >> 32) as u32 - 1;
        if self.behind.contains(block) && (wrote || !flag) {
            return None;
        }
        let thread = (packed >> 22) as u32 & 0x3ff;
        let thread = (wrote || !flag).then_some(thread);
        let pc = packed as u32 & 0x3f_ffff;
        Some(Other { block, thread, pc, wrote, atomic: wrote && flag })
    }

    /// Notes an access; gives the one that it races with. A write that changes nothing
    /// (`unchanged`) races with no write.
    #[inline]
    pub fn access(
        &mut self,
        allocation: usize,
        offset: u64,
        bytes: u32,
        thread: u32,
        pc: u32,
        writes: bool,
        manner: Manner,
        unchanged: bool,
    ) -> Option<Other> {
        let first = offset >> self.shift;
        let last = (offset + u64::from(bytes) - 1) >> self.shift;
        let own = self.pack(thread, pc);
        for piece in first..=last {
            let (number, index) = (piece / PAGE as u64, piece as usize % PAGE);
            let pages = &mut self.allocations[allocation];
            let page = pages
                .entry(number)
                .or_insert_with(|| Box::new(Page { writers: [0; PAGE], readers: [0; PAGE] }));
            let (writer, reader) = (page.writers[index], page.readers[index]);
            let elsewhere =
                |packed: Packed| packed != 0 && (packed & !FLAG) >> 32 != self.tag >> 32;
            let both_atomic = manner == Manner::Atomic && writer & FLAG != 0;
            let mut keep = false;
            if elsewhere(writer)
                && !both_atomic
                && let Some(other) = self.other(writer, true)
            {
                if !(writes && unchanged) {
                    return Some(other);
                }
                keep = true;
            }
            if writes {
                if (elsewhere(reader) || reader & FLAG != 0)
                    && let Some(other) = self.other(reader, false)
                {
                    return Some(other);
                }
                if !keep {
                    let flag = if manner == Manner::Atomic { FLAG } else { 0 };
                    let page = self.allocations[allocation].get_mut(&number)?;
                    page.writers[index] = own | flag;
                }
            } else if manner == Manner::Plain {
                let several = if elsewhere(reader) { reader | FLAG } else { own };
                let page = self.allocations[allocation].get_mut(&number)?;
                page.readers[index] = several;
            }
        }
        None
    }
}
