//! Where the accesses of a warp's lanes lie: addresses that are near to each other in one
//! allocation or in shared memory, and the checks that look at all of them at once.

use super::RunningLaunch;
use super::interpreter::lanes;
use super::shared::{PENDING, WRITTEN};
use super::warp::Warp;
use crate::instruction::{Address, BaseSlot};
use crate::registers::{ALL, BITS, LANES, LaneMask, Registers};
use crate::types::Space;

impl Address {
    /// The address of each lane.
    #[inline(always)]
    pub(super) fn of_lanes(&self, registers: &Registers) -> [u64; LANES] {
        let mut addresses = [self.offset as u64; LANES];
        match self.base {
            BaseSlot::Wide(slot) => {
                for (address, base) in addresses.iter_mut().zip(&registers.wide(slot).0) {
                    *address = address.wrapping_add(*base);
                }
            }
            BaseSlot::Narrow(slot) => {
                for (address, base) in addresses.iter_mut().zip(&registers.narrow(slot).0) {
                    *address = u64::from((*address as u32).wrapping_add(*base));
                }
            }
            BaseSlot::Absolute => {}
        }
        addresses
    }
}

/// How the lanes' addresses lie to each other.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pattern {
    /// All 32 lanes, one behind the other.
    Row,
    /// All active lanes at one address.
    Same,
    Other,
}

/// What the active lanes of a warp do at once.
#[derive(Clone, Copy)]
pub(super) struct Together {
    pub pc: u32,
    pub active: LaneMask,
    /// Bytes of each lane.
    pub bytes: u32,
}

/// The addresses of active lanes that are aligned and less than 2 GiB apart.
pub(super) struct Span {
    low: u64,
    /// Bytes from the lowest address to behind the highest access.
    pub bytes: u64,
    /// From the lowest address; 0 for lanes that are not active.
    pub offsets: [u32; LANES],
    pub pattern: Pattern,
}

impl Span {
    #[inline(always)]
    pub fn new(addresses: &[u64; LANES], active: LaneMask, total: u32) -> Option<Span> {
        let first = addresses[active.trailing_zeros() as usize % LANES];
        let mut relative = [0i32; LANES];
        let (mut low, mut high) = (0i32, 0i32);
        let (mut far, mut bits, mut uneven) = (0u64, 0u32, 0u32);
        for lane in 0..LANES {
            let distance = addresses[lane].wrapping_sub(first);
            let distance = if active & BITS[lane] != 0 { distance } else { 0 };
            far |= distance.wrapping_add(1 << 30) >> 31;
            relative[lane] = distance as i32;
        }
        for lane in 0..LANES {
            low = low.min(relative[lane]);
            high = high.max(relative[lane]);
            bits |= relative[lane] as u32;
            uneven |= (relative[lane] as u32).wrapping_sub((lane as u32).wrapping_mul(total));
        }
        if far != 0 || (bits | first as u32) & (total - 1) != 0 {
            return None;
        }
        let pattern = if uneven == 0 && active == ALL {
            Pattern::Row
        } else if bits == 0 {
            Pattern::Same
        } else {
            Pattern::Other
        };
        let mut offsets = [0u32; LANES];
        for lane in 0..LANES {
            let offset = relative[lane].wrapping_sub(low) as u32;
            offsets[lane] = if active & BITS[lane] != 0 { offset } else { 0 };
        }
        let low_address = first.wrapping_add(low as i64 as u64);
        let bytes = u64::from(high.wrapping_sub(low) as u32) + u64::from(total);
        Some(Span { low: low_address, bytes, offsets, pattern })
    }
}

/// Where a span lies: the first of its bytes and of their states.
#[derive(Clone, Copy)]
pub(super) struct Region {
    pub bytes: *mut u8,
    pub states: *mut u8,
    /// The allocation in global memory; `None` for shared memory.
    pub allocation: Option<usize>,
    /// Offset in the allocation or in shared memory.
    pub offset: u64,
}

impl Region {
    /// Copies what the lanes of a span that lies here access, 16 bytes each.
    #[inline(always)]
    pub fn read_lanes(&self, span: &Span, active: LaneMask, data: &mut [[u8; 16]; LANES]) {
        for lane in lanes(active) {
            let at = self.bytes.wrapping_add(span.offsets[lane] as usize);
            // SAFETY: each lane's access lies in the span, which the region has.
            data[lane] = unsafe { at.cast::<[u8; 16]>().read() };
        }
    }
}

impl RunningLaunch<'_> {
    /// The memory of a span, if it lies within one allocation or in shared memory.
    #[inline(always)]
    pub(super) fn region(&mut self, space: Space, span: &Span) -> Option<Region> {
        let low = span.low;
        let end = low.checked_add(span.bytes)?;
        match space {
            Space::Shared if end <= self.shared.bytes.len() as u64 => {
                let bytes = self.shared.bytes.as_mut_ptr().wrapping_add(low as usize);
                let states = self.shared.state.as_mut_ptr().wrapping_add(low as usize);
                Some(Region { bytes, states, allocation: None, offset: low })
            }
            Space::Global => {
                let fits = |memory: &crate::memory::DeviceMemory, index: usize| {
                    let known = memory.allocation(index)?;
                    let offset = low.wrapping_sub(known.base);
                    (offset < known.len() && offset + span.bytes <= known.len()).then_some(offset)
                };
                let offset = match fits(self.memory, self.recent) {
                    Some(offset) => offset,
                    None => {
                        self.recent = self.memory.find(low)?;
                        fits(self.memory, self.recent)?
                    }
                };
                let known = self.memory.allocation_mut(self.recent);
                let bytes = known.bytes.as_mut_ptr().wrapping_add(offset as usize);
                let states = known.initialised.as_mut_ptr().wrapping_add(offset as usize);
                Some(Region { bytes, states, allocation: Some(self.recent), offset })
            }
            _ => None,
        }
    }
}

/// Whether all bytes that the active lanes access are written, and no copy is on its way to them.
#[inline(always)]
pub(super) fn all_written(region: &Region, span: &Span, active: LaneMask, total: u32) -> bool {
    if span.pattern == Pattern::Row {
        // SAFETY: the region has the span's bytes; the row takes all of them.
        let row = unsafe { std::slice::from_raw_parts(region.states, span.bytes as usize) };
        let mut all = WRITTEN;
        for state in row {
            all &= state;
        }
        return all == WRITTEN;
    }
    match total {
        1 => lanes_written::<1>(region, span, active),
        2 => lanes_written::<2>(region, span, active),
        4 => lanes_written::<4>(region, span, active),
        8 => lanes_written::<8>(region, span, active),
        _ => lanes_written::<16>(region, span, active),
    }
}

#[inline(always)]
fn lanes_written<const N: usize>(region: &Region, span: &Span, active: LaneMask) -> bool {
    let mut all = [WRITTEN; N];
    for lane in 0..LANES {
        // Lanes that are not active have the offset 0, where an active one is.
        debug_assert!(active != 0);
        let at = region.states.wrapping_add(span.offsets[lane] as usize);
        // SAFETY: each lane's access lies in the span, which the region has.
        let states = unsafe { at.cast::<[u8; N]>().read() };
        for (all, state) in all.iter_mut().zip(states) {
            *all &= state;
        }
    }
    all == [WRITTEN; N]
}

/// Notes the reads of all lanes; false if one may race.
#[inline(always)]
pub(super) fn note_reads(
    machine: &mut RunningLaunch<'_>,
    warp: &Warp,
    region: &Region,
    span: &Span,
    access: Together,
) -> bool {
    let Together { pc, active, bytes } = access;
    let first = active.trailing_zeros() as usize;
    if let Some(allocation) = region.allocation {
        let Some(races) = &mut machine.global_races else { return true };
        let each = u64::from(bytes);
        if span.pattern != Pattern::Other {
            let actor = warp.global_actor(first, pc);
            return races.access_range(allocation, region.offset, span.bytes, each, actor, false);
        }
        let (offset, actor) = (region.offset, warp.global_actor(0, pc));
        return races.access_all(allocation, offset, &span.offsets, active, bytes, actor, false);
    }
    let Some(races) = &mut machine.shared_races else { return true };
    if span.pattern == Pattern::Same {
        let actor = warp.actor(first, pc);
        return races.read_by(region.offset, bytes, actor, active, &warp.order).is_none();
    }
    races.read_all(region.offset, &span.offsets, active, bytes, warp, pc)
}

/// Notes the writes of all lanes; false if one may race or meets a copy on its way. What was noted
/// until then may be noted again.
#[inline(always)]
pub(super) fn note_writes(
    machine: &mut RunningLaunch<'_>,
    warp: &Warp,
    region: &Region,
    span: &Span,
    access: Together,
) -> bool {
    let Together { pc, active, bytes } = access;
    if let Some(allocation) = region.allocation {
        let Some(races) = &mut machine.global_races else { return true };
        let each = u64::from(bytes);
        if span.pattern == Pattern::Row {
            let actor = warp.global_actor(0, pc);
            return races.access_range(allocation, region.offset, span.bytes, each, actor, true);
        }
        let (offset, actor) = (region.offset, warp.global_actor(0, pc));
        return races.access_all(allocation, offset, &span.offsets, active, bytes, actor, true);
    }
    if machine.kernel.copies {
        let start = region.offset as usize;
        if machine.shared.state[start..start + span.bytes as usize].contains(&PENDING) {
            return false;
        }
    }
    let Some(races) = &mut machine.shared_races else { return true };
    if span.pattern == Pattern::Same {
        return false;
    }
    races.write_all(region.offset, &span.offsets, active, bytes, warp, pc)
}
