//! Finds accesses of shared memory by two threads of a block that nothing orders.
//!
//! Time is a counter that grows with each synchronisation. For each piece of shared memory the last
//! write and the reads since then are kept, with their times. An access by thread `t` follows an
//! earlier one by thread `s` properly if since then
//!
//! - a barrier of the whole block completed, or
//! - `s` and `t` are lanes of one warp and met at a `.sync` instruction (`bar.warp.sync`, `shfl`,
//!   `vote`, `match`, `redux`; also through third lanes), or
//! - their warps met at a barrier of some of the warps (also through third warps).
//!
//! Two writes of the same value are no race, nor are two atomics, nor a plain read and a
//! compare-and-swap, which loops begin and go on with. Reads of many threads are kept as
//! one set, with the time of the last: at most a race with an early one of them goes unseen.

use super::warp::Warp;
use crate::registers::{ALL, BITS, LANES, LaneMask};

/// Times of which each lane of a warp knows that all was done before, by lane.
type Clock = [[u32; LANES]; LANES];

/// For each warp, the time before which all that it did is known.
pub(super) type Knowledge = [u32; LANES];

/// What orders the lanes of one warp.
#[derive(Clone, Debug, Default)]
pub(super) struct WarpOrder {
    /// When all lanes met last.
    full: u32,
    /// `lanes[t][s]`: lane `t` is behind what lane `s` did before that time. Only kept if some
    /// lanes met without the others.
    lanes: Option<Box<Clock>>,
}

impl WarpOrder {
    /// The lanes of the mask meet at a time.
    fn meet(&mut self, members: LaneMask, now: u32) {
        let clock = self.lanes.get_or_insert_with(|| Box::new([[0; LANES]; LANES]));
        let mut joined = [0; LANES];
        for lane in super::interpreter::lanes(members) {
            for (known, time) in joined.iter_mut().zip(clock[lane]) {
                *known = time.max(*known);
            }
        }
        for lane in super::interpreter::lanes(members) {
            joined[lane] = now;
        }
        for lane in super::interpreter::lanes(members) {
            clock[lane] = joined;
        }
    }

    /// Whether lane `t` is behind what lane `s` did at a time.
    fn is_behind(&self, t: usize, s: usize, time: u32) -> bool {
        time < self.full || self.lanes.as_ref().is_some_and(|clock| time < clock[t][s])
    }
}

/// The thread and the instruction of an access.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SharedActor {
    pub warp: u32,
    pub lane: u32,
    pub pc: u32,
}

/// Another access that one is not ordered with.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedRace {
    pub actor: SharedActor,
    pub wrote: bool,
    pub atomic: bool,
}

/// What is known of one piece of shared memory; times are 0 if nothing is.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    write_time: u32,
    read_time: u32,
    /// The last writer, packed.
    writer: u32,
    /// The last reader, packed.
    reader: u32,
    /// Warps and lanes of all readers since the last write.
    reading_warps: u32,
    reading_lanes: u32,
}

/// The last write was an atomic.
const ATOMIC: u32 = 1 << 31;
/// Atomics of several warps.
const MANY: u32 = 1 << 30;
/// The last write was a compare-and-swap.
const SWAP: u32 = 1 << 29;
const PC_BITS: u32 = 19;

fn pack(actor: SharedActor) -> u32 {
    (actor.warp << 5 | actor.lane) << PC_BITS | actor.pc & ((1 << PC_BITS) - 1)
}

fn unpack(packed: u32) -> SharedActor {
    let thread = packed >> PC_BITS & 0x3ff;
    SharedActor { warp: thread >> 5, lane: thread & 31, pc: packed & ((1 << PC_BITS) - 1) }
}

/// How an access counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SharedManner {
    Plain,
    /// Does not race with others of its kind.
    Atomic,
    /// An atomic that does not race with plain reads either: a loop that begins with one looks again
    /// at what it read.
    Swap,
}

/// The record of a block's shared memory.
pub(super) struct SharedRaces {
    cells: Vec<Cell>,
    /// Log₂ of a piece's bytes.
    shift: u32,
    now: u32,
    /// When the last barrier of the whole block completed.
    barrier: u32,
    /// `warps[t][s]`: warp `t` is behind what warp `s` did before that time. Only kept if warps met
    /// at a barrier without the others.
    warps: Option<Box<Clock>>,
}

impl SharedRaces {
    pub fn new(bytes: usize, grain: u32) -> SharedRaces {
        let shift = grain.trailing_zeros();
        let cells = vec![Cell::default(); bytes.div_ceil(grain as usize)];
        SharedRaces { cells, shift, now: 1, barrier: 1, warps: None }
    }

    /// Begins a block: what was before does not matter.
    pub fn new_block(&mut self) {
        if self.now > 1 << 30 {
            self.cells.fill(Cell::default());
            self.now = 0;
        }
        self.barrier_of_all();
    }

    /// All threads of the block meet.
    pub fn barrier_of_all(&mut self) {
        self.now += 1;
        self.barrier = self.now;
        self.warps = None;
    }

    /// The lanes of the mask meet; `all` if no other lane of the warp is left.
    pub fn lanes_meet(&mut self, order: &mut WarpOrder, members: LaneMask, all: bool) {
        self.now += 1;
        if all {
            order.full = self.now;
        } else {
            order.meet(members, self.now);
        }
    }

    /// What a warp that comes to a barrier of some warps has done and knows of others.
    pub fn knowledge(&mut self, warp: u32) -> Knowledge {
        self.now += 1;
        let clock = self.warps.get_or_insert_with(|| Box::new([[0; LANES]; LANES]));
        let mut knowledge = clock[warp as usize];
        knowledge[warp as usize] = self.now;
        knowledge
    }

    /// Warps that waited at a barrier of some warps learn what all that came there did.
    pub fn learn(&mut self, waited: u32, knowledge: &Knowledge) {
        if let Some(clock) = &mut self.warps {
            for warp in super::interpreter::lanes(waited) {
                for (known, time) in clock[warp].iter_mut().zip(knowledge) {
                    *known = *time.max(known);
                }
            }
        }
    }

    fn is_behind(&self, t: SharedActor, order: &WarpOrder, s: SharedActor, time: u32) -> bool {
        if t.warp == s.warp {
            t.lane == s.lane || order.is_behind(t.lane as usize, s.lane as usize, time)
        } else {
            let clock = self.warps.as_ref();
            clock.is_some_and(|clock| time < clock[t.warp as usize][s.warp as usize])
        }
    }

    fn pieces(&self, address: u64, bytes: u32) -> std::ops::Range<usize> {
        let last = address + u64::from(bytes) - 1;
        (address >> self.shift) as usize..(last >> self.shift) as usize + 1
    }

    /// A write that a read or write of a piece is not ordered with.
    fn writer(
        &self,
        cell: &Cell,
        actor: SharedActor,
        order: &WarpOrder,
        manner: SharedManner,
        reads: bool,
    ) -> Option<SharedRace> {
        if cell.write_time < self.barrier {
            return None;
        }
        let atomic = cell.writer & ATOMIC != 0;
        let swapped = cell.writer & SWAP != 0 && reads;
        if swapped || atomic && manner != SharedManner::Plain {
            return None;
        }
        let other = unpack(cell.writer);
        // Of atomics by several warps only the last is known, so barriers of some warps are taken
        // to order them all.
        let several = atomic && cell.writer & MANY != 0;
        let ordered = if several {
            self.warps.is_some()
        } else {
            self.is_behind(actor, order, other, cell.write_time)
        };
        (!ordered).then_some(SharedRace { actor: other, wrote: true, atomic })
    }

    /// A read that a write of a piece is not ordered with.
    fn reader(&self, cell: &Cell, actor: SharedActor, order: &WarpOrder) -> Option<SharedRace> {
        if cell.read_time < self.barrier {
            return None;
        }
        let found = |warp: u32, lane: u32| {
            let last = unpack(cell.reader);
            let known = last.warp == warp && (last.lane == lane || warp != actor.warp);
            let lane = if known { last.lane } else { lane };
            Some(SharedRace {
                actor: SharedActor { warp, lane, pc: last.pc },
                wrote: false,
                atomic: false,
            })
        };
        for warp in super::interpreter::lanes(cell.reading_warps) {
            let warp = warp as u32;
            if warp != actor.warp {
                let reader = SharedActor { warp, lane: 0, pc: 0 };
                if !self.is_behind(actor, order, reader, cell.read_time) {
                    return found(warp, 0);
                }
                continue;
            }
            for lane in super::interpreter::lanes(cell.reading_lanes & !(1 << actor.lane)) {
                if !order.is_behind(actor.lane as usize, lane, cell.read_time) {
                    return found(warp, lane as u32);
                }
            }
        }
        None
    }

    /// Notes a read; gives the write that it races with.
    #[inline]
    pub fn read(
        &mut self,
        address: u64,
        bytes: u32,
        actor: SharedActor,
        order: &WarpOrder,
        manner: SharedManner,
    ) -> Option<SharedRace> {
        self.read_by(address, bytes, actor, 1 << actor.lane, order, manner)
    }

    /// A read by `actor` that counts, for later writes of its own warp, as one by the given lanes.
    #[inline(always)]
    pub fn read_by(
        &mut self,
        address: u64,
        bytes: u32,
        actor: SharedActor,
        lanes: LaneMask,
        order: &WarpOrder,
        manner: SharedManner,
    ) -> Option<SharedRace> {
        for index in self.pieces(address, bytes) {
            let cell = self.cells[index];
            if cell.write_time >= self.barrier
                && let Some(other) = self.writer(&cell, actor, order, manner, true)
            {
                return Some(other);
            }
            if manner != SharedManner::Plain {
                continue;
            }
            let (mut warps, mut reading) = (1 << actor.warp, lanes);
            if cell.read_time >= self.barrier {
                let others = cell.reading_warps & !(1 << actor.warp);
                warps |= if self.warps.is_some() {
                    let reader = |warp: usize| SharedActor { warp: warp as u32, lane: 0, pc: 0 };
                    super::interpreter::lanes(others)
                        .filter(|&warp| !self.is_behind(actor, order, reader(warp), cell.read_time))
                        .fold(0, |mask, warp| mask | 1 << warp)
                } else {
                    others
                };
                if cell.read_time >= order.full {
                    reading |= match &order.lanes {
                        None => cell.reading_lanes,
                        Some(_) => super::interpreter::lanes(cell.reading_lanes)
                            .filter(|&lane| {
                                !order.is_behind(actor.lane as usize, lane, cell.read_time)
                            })
                            .fold(0, |mask, lane| mask | 1 << lane),
                    };
                }
            }
            let cell = &mut self.cells[index];
            cell.read_time = self.now;
            cell.reader = pack(actor);
            cell.reading_warps = warps;
            cell.reading_lanes = reading;
        }
        None
    }

    /// Notes plain reads of the lanes of a warp, each at its offset from an address; false, with some
    /// noted, if one may race.
    #[inline(always)]
    pub fn read_all(
        &mut self,
        address: u64,
        offsets: &[u32; LANES],
        active: LaneMask,
        bytes: u32,
        warp: &Warp,
        pc: u32,
    ) -> bool {
        let simple = self.warps.is_none() && warp.order.lanes.is_none();
        let mut left = active;
        while left != 0 {
            let first = left.trailing_zeros() as usize;
            // Neighbouring lanes often read the same.
            let mut lanes = 1 << first;
            let mut next = first + 1;
            while next < LANES && left & BITS[next] != 0 && offsets[next] == offsets[first] {
                lanes |= BITS[next];
                next += 1;
            }
            left &= !lanes;
            let start = address + u64::from(offsets[first]);
            let (order, manner) = (&warp.order, SharedManner::Plain);
            for index in self.pieces(start, bytes) {
                let piece = (index as u64) << self.shift;
                if simple && self.cells[index].write_time < self.barrier {
                    // No write to race with, and no order among readers to look into.
                    self.read_by(piece, 1, warp.actor(first, pc), lanes, order, manner);
                    continue;
                }
                for lane in super::interpreter::lanes(lanes) {
                    if self.read(piece, 1, warp.actor(lane, pc), order, manner).is_some() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Notes plain writes of the lanes of a warp, each at its offset from an address; false, with
    /// some noted, if one may race, also with one of another lane.
    #[inline(always)]
    pub fn write_all(
        &mut self,
        address: u64,
        offsets: &[u32; LANES],
        active: LaneMask,
        bytes: u32,
        warp: &Warp,
        pc: u32,
    ) -> bool {
        for lane in super::interpreter::lanes(active) {
            let start = address + u64::from(offsets[lane]);
            let (actor, manner) = (warp.actor(lane, pc), SharedManner::Plain);
            if self.check_write(start, bytes, actor, &warp.order, manner).is_some() {
                return false;
            }
            self.write(start, bytes, actor, manner);
        }
        true
    }

    /// The access that a write races with. It is not noted yet: two writes of the same value are
    /// no race.
    #[inline(always)]
    pub fn check_write(
        &self,
        address: u64,
        bytes: u32,
        actor: SharedActor,
        order: &WarpOrder,
        manner: SharedManner,
    ) -> Option<SharedRace> {
        for cell in &self.cells[self.pieces(address, bytes)] {
            if cell.read_time >= self.barrier
                && manner != SharedManner::Swap
                && let Some(other) = self.reader(cell, actor, order)
            {
                return Some(other);
            }
            if cell.write_time >= self.barrier
                && let Some(other) = self.writer(cell, actor, order, manner, false)
            {
                return Some(other);
            }
        }
        None
    }

    /// Notes a write.
    #[inline(always)]
    pub fn write(&mut self, address: u64, bytes: u32, actor: SharedActor, manner: SharedManner) {
        for index in self.pieces(address, bytes) {
            let cell = &mut self.cells[index];
            let mut writer = pack(actor);
            if manner != SharedManner::Plain {
                writer |= if manner == SharedManner::Swap { ATOMIC | SWAP } else { ATOMIC };
                let recent = cell.write_time >= self.barrier && cell.writer & ATOMIC != 0;
                let elsewhere = unpack(cell.writer).warp != actor.warp;
                if recent && (elsewhere || cell.writer & MANY != 0) {
                    writer |= MANY;
                }
            }
            *cell = Cell { write_time: self.now, writer, ..Cell::default() };
        }
    }
}

impl Warp {
    /// The thread of a lane at an instruction.
    pub(super) fn actor(&self, lane: usize, pc: u32) -> SharedActor {
        SharedActor { warp: self.index, lane: lane as u32, pc }
    }
}

/// Whether a mask holds all lanes that are left.
pub(super) fn is_all(members: LaneMask, alive: LaneMask) -> bool {
    members & alive == alive || members == ALL
}
