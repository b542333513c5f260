//! Finds accesses of shared memory by two threads of a block that nothing orders.
//!
//! Time is a counter that grows with each synchronisation. For each piece of shared memory the last
//! write and the reads since then are kept, with their times. An access by thread `t` follows an
//! earlier one by thread `s` properly if since then
//!
//! - a barrier of the block completed, or
//! - `s` and `t` are lanes of one warp and met at a `.sync` instruction (`bar.warp.sync` or `shfl`;
//!   also through third lanes).
//!
//! Two writes of the same value are no race. Reads of many threads are kept as one set, with the time
//! of the last: at most a race with an early one of them goes unseen.

use super::warp::Warp;
use crate::registers::{ALL, BITS, LANES, LaneMask};

/// Times of which each lane of a warp knows that all was done before, by lane.
type Clock = [[u32; LANES]; LANES];

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

const PC_BITS: u32 = 22;

fn pack(actor: SharedActor) -> u32 {
    (actor.warp << 5 | actor.lane) << PC_BITS | actor.pc & ((1 << PC_BITS) - 1)
}

fn unpack(packed: u32) -> SharedActor {
    let thread = packed >> PC_BITS & 0x3ff;
    SharedActor { warp: thread >> 5, lane: thread & 31, pc: packed & ((1 << PC_BITS) - 1) }
}

/// The record of a block's shared memory.
pub(super) struct SharedRaces {
    cells: Vec<Cell>,
    /// Log₂ of a piece's bytes.
    shift: u32,
    now: u32,
    /// When the last barrier of the block completed.
    barrier: u32,
}

impl SharedRaces {
    pub fn new(bytes: usize, grain: u32) -> SharedRaces {
        let shift = grain.trailing_zeros();
        let cells = vec![Cell::default(); bytes.div_ceil(grain as usize)];
        SharedRaces { cells, shift, now: 1, barrier: 1 }
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

    fn pieces(&self, address: u64, bytes: u32) -> std::ops::Range<usize> {
        let last = address + u64::from(bytes) - 1;
        (address >> self.shift) as usize..(last >> self.shift) as usize + 1
    }

    /// A write that a read or write of a piece is not ordered with.
    fn writer(&self, cell: &Cell, actor: SharedActor, order: &WarpOrder) -> Option<SharedRace> {
        if cell.write_time < self.barrier {
            return None;
        }
        let other = unpack(cell.writer);
        let (t, s) = (actor.lane as usize, other.lane as usize);
        let ordered =
            actor.warp == other.warp && (t == s || order.is_behind(t, s, cell.write_time));
        (!ordered).then_some(SharedRace { actor: other, wrote: true })
    }

    /// A read that a write of a piece is not ordered with.
    fn reader(&self, cell: &Cell, actor: SharedActor, order: &WarpOrder) -> Option<SharedRace> {
        if cell.read_time < self.barrier {
            return None;
        }
        let last = unpack(cell.reader);
        let others = cell.reading_warps & !(1 << actor.warp);
        let (warp, lane) = if others != 0 {
            let warp = others.trailing_zeros();
            (warp, if last.warp == warp { last.lane } else { 0 })
        } else {
            let mut lanes = super::interpreter::lanes(cell.reading_lanes & !(1 << actor.lane));
            let t = actor.lane as usize;
            let lane = lanes.find(|&lane| !order.is_behind(t, lane, cell.read_time))?;
            (actor.warp, lane as u32)
        };
        Some(SharedRace { actor: SharedActor { warp, lane, pc: last.pc }, wrote: false })
    }

    /// Notes a read; gives the write that it races with.
    #[inline]
    pub fn read(
        &mut self,
        address: u64,
        bytes: u32,
        actor: SharedActor,
        order: &WarpOrder,
    ) -> Option<SharedRace> {
        self.read_by(address, bytes, actor, 1 << actor.lane, order)
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
    ) -> Option<SharedRace> {
        for index in self.pieces(address, bytes) {
            let cell = self.cells[index];
            if cell.write_time >= self.barrier
                && let Some(other) = self.writer(&cell, actor, order)
            {
                return Some(other);
            }
            let (mut warps, mut reading) = (1 << actor.warp, lanes);
            if cell.read_time >= self.barrier {
                warps |= cell.reading_warps;
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
        let simple = warp.order.lanes.is_none();
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
            for index in self.pieces(start, bytes) {
                let piece = (index as u64) << self.shift;
                if simple && self.cells[index].write_time < self.barrier {
                    // No write to race with, and no order among readers to look into.
                    self.read_by(piece, 1, warp.actor(first, pc), lanes, &warp.order);
                    continue;
                }
                for lane in super::interpreter::lanes(lanes) {
                    if self.read(piece, 1, warp.actor(lane, pc), &warp.order).is_some() {
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
            let actor = warp.actor(lane, pc);
            if self.check_write(start, bytes, actor, &warp.order).is_some() {
                return false;
            }
            self.write(start, bytes, actor);
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
    ) -> Option<SharedRace> {
        for cell in &self.cells[self.pieces(address, bytes)] {
            if cell.read_time >= self.barrier
                && let Some(other) = self.reader(cell, actor, order)
            {
                return Some(other);
            }
            if cell.write_time >= self.barrier
                && let Some(other) = self.writer(cell, actor, order)
            {
                return Some(other);
            }
        }
        None
    }

    /// Notes a write.
    #[inline(always)]
    pub fn write(&mut self, address: u64, bytes: u32, actor: SharedActor) {
        for index in self.pieces(address, bytes) {
            self.cells[index] =
                Cell { write_time: self.now, writer: pack(actor), ..Cell::default() };
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
