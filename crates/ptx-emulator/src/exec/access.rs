//! Loads and stores of a warp. Where all lanes access one allocation properly, as they nearly
//! always do, they are done together; else lane by lane.

use super::Machine;
use super::global_races::Actor;
use super::interpreter::lanes;
use super::lane_access::LaneAccess;
use super::shared::{PENDING, WRITTEN};
use super::shared_races::Manner;
use super::warp::Warp;
use crate::fault::{Access as What, Fault};
use crate::instruction::{Access, Address, BaseSlot, Value};
use crate::lanes::call_for;
use crate::memory::windows;
use crate::registers::{ALL, BITS, LANES, Mask, Narrow, Registers, Wide};
use crate::types::{Kind, Space};

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
enum Pattern {
    /// All 32 lanes, one behind the other.
    Row,
    /// All active lanes at one address.
    Same,
    Other,
}

/// The addresses of active lanes that are aligned and less than 2 GiB apart.
pub(super) struct Span {
    low: u64,
    /// Bytes from the lowest address to behind the highest access.
    pub bytes: u64,
    /// From the lowest address; 0 for lanes that are not active.
    pub offsets: [u32; LANES],
    pattern: Pattern,
}

impl Span {
    #[inline(always)]
    pub fn new(addresses: &[u64; LANES], active: Mask, total: u32) -> Option<Span> {
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
    bytes: *mut u8,
    states: *mut u8,
    /// The allocation in global memory; `None` for shared memory.
    allocation: Option<usize>,
    /// Offset in the allocation or in shared memory.
    pub offset: u64,
}

impl Region {
    /// Copies what the lanes of a span that lies here access.
    #[inline(always)]
    pub fn read_lanes(
        &self,
        span: &Span,
        active: Mask,
        bytes: usize,
        data: &mut [[u8; 16]; LANES],
    ) {
        for lane in lanes(active) {
            let at = self.bytes.wrapping_add(span.offsets[lane] as usize);
            // SAFETY: each lane's access lies in the span, which the region has.
            let source = unsafe { std::slice::from_raw_parts(at, bytes) };
            data[lane][..bytes].copy_from_slice(source);
        }
    }
}

impl Machine<'_> {
    /// The memory of a span, if it lies within one allocation or in shared memory.
    #[inline(always)]
    pub(super) fn region(&mut self, space: Space, span: &Span) -> Option<Region> {
        let (space, low) = match space {
            Space::Generic => windows::resolve(span.low),
            space => (space, span.low),
        };
        let end = low.checked_add(span.bytes)?;
        match space {
            Space::Shared if end <= self.shared.bytes.len() as u64 => {
                let bytes = self.shared.bytes.as_mut_ptr().wrapping_add(low as usize);
                let states = self.shared.state.as_mut_ptr().wrapping_add(low as usize);
                Some(Region { bytes, states, allocation: None, offset: low })
            }
            Space::Global => {
                let fits = |memory: &crate::memory::Memory, index: usize| {
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

    pub(super) fn load(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        let machine = self;
        let simd = machine.simd;
        let done = call_for!(simd, load_together(
            machine: &mut Machine<'_>,
            warp: &mut Warp,
            access: &Access,
            pc: u32,
            active: Mask,
        ) -> bool);
        if done { Ok(()) } else { machine.load_lanes(warp, access, pc, active) }
    }

    #[cold]
    #[inline(never)]
    fn load_lanes(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        let addresses = access.address.of_lanes(&warp.registers);
        let total = access.bytes() as usize;
        let element = access.element as usize;
        let mut buffer = [0u8; 16];
        for lane in lanes(active) {
            let one = access.of_lane(What::Load, pc, lane, addresses[lane]);
            self.lane_read(warp, &one, &mut buffer[..total])?;
            for (index, value) in access.values.iter().enumerate().take(access.count as usize) {
                if let Some(value) = value {
                    let piece = &buffer[index * element..(index + 1) * element];
                    let bits = extend(piece, access.signed);
                    warp.registers.set_lane(value.kind, value.slot, lane, bits);
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        let machine = self;
        let simd = machine.simd;
        let done = call_for!(simd, store_together(
            machine: &mut Machine<'_>,
            warp: &mut Warp,
            access: &Access,
            pc: u32,
            active: Mask,
        ) -> bool);
        if done { Ok(()) } else { machine.store_lanes(warp, access, pc, active) }
    }

    #[cold]
    #[inline(never)]
    fn store_lanes(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        let addresses = access.address.of_lanes(&warp.registers);
        let total = access.bytes() as usize;
        for lane in lanes(active) {
            let buffer = access.lane_bytes(&warp.registers, lane);
            let one = access.of_lane(What::Store, pc, lane, addresses[lane]);
            self.lane_write(warp, &one, &buffer[..total])?;
        }
        Ok(())
    }
}

impl Access {
    fn of_lane(&self, what: What, pc: u32, lane: usize, address: u64) -> LaneAccess {
        let (space, bytes, atomic) = (self.address.space, self.bytes(), self.strong);
        LaneAccess { what, pc, lane, space, address, bytes, atomic }
    }

    /// What a lane stores.
    fn lane_bytes(&self, registers: &Registers, lane: usize) -> [u8; 16] {
        let mut buffer = [0u8; 16];
        let element = self.element as usize;
        let pieces = buffer.chunks_exact_mut(element).zip(&self.values[..self.count as usize]);
        for (piece, value) in pieces {
            if let Some(value) = value {
                let bits = registers.lane(value.kind, value.slot, lane);
                piece.copy_from_slice(&bits.to_le_bytes()[..element]);
            }
        }
        buffer
    }
}

/// Loads for all lanes at once; false, with nothing done, if there is something to look at.
#[inline(always)]
fn load_together(
    machine: &mut Machine<'_>,
    warp: &mut Warp,
    access: &Access,
    pc: u32,
    active: Mask,
) -> bool {
    if access.address.space == Space::Parameter {
        return load_parameter(machine, warp, access, active);
    }
    let addresses = access.address.of_lanes(&warp.registers);
    let total = access.bytes();
    let Some(span) = Span::new(&addresses, active, total) else { return false };
    let Some(region) = machine.region(access.address.space, &span) else { return false };
    if (machine.checks.uninitialised || region.allocation.is_none())
        && !all_written(&region, &span, active, total)
    {
        return false;
    }
    if !note_read(machine, warp, &region, &span, pc, active, total, access.strong) {
        return false;
    }
    for (index, value) in access.values.iter().enumerate().take(access.count as usize) {
        let Some(value) = value else { continue };
        let start = index * access.element as usize;
        // SAFETY: the region has the span's bytes, and each lane's access lies in the span.
        unsafe { load_element(warp, access, *value, region.bytes.add(start), &span, active) }
    }
    true
}

/// A parameter at a fixed place has one value for all lanes.
#[inline(always)]
fn load_parameter(machine: &Machine<'_>, warp: &mut Warp, access: &Access, active: Mask) -> bool {
    let start = access.address.offset as usize;
    let fits = access.address.base == BaseSlot::Absolute
        && start.is_multiple_of(access.bytes() as usize)
        && start
            .checked_add(access.bytes() as usize)
            .is_some_and(|end| end <= machine.parameters.len());
    if !fits {
        return false;
    }
    let element = access.element as usize;
    for (index, value) in access.values.iter().enumerate().take(access.count as usize) {
        let Some(value) = value else { continue };
        let start = start + index * element;
        let bits = extend(&machine.parameters[start..start + element], access.signed);
        match value.kind {
            Kind::B64 => warp.registers.set_wide(value.slot, &Wide([bits; LANES]), active),
            Kind::B16 => {
                let row = Narrow([bits as u32 & 0xffff; LANES]);
                warp.registers.set_narrow(value.slot, &row, active);
            }
            _ => warp.registers.set_narrow(value.slot, &Narrow([bits as u32; LANES]), active),
        }
    }
    true
}

/// Whether all bytes that the active lanes access are written, and no copy is on its way to them.
#[inline(always)]
pub(super) fn all_written(region: &Region, span: &Span, active: Mask, total: u32) -> bool {
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
fn lanes_written<const N: usize>(region: &Region, span: &Span, active: Mask) -> bool {
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

/// Reads one element of each lane into a register.
///
/// # Safety
///
/// From `bytes` on, each lane's offset of the span must have the element's bytes.
#[inline(always)]
unsafe fn load_element(
    warp: &mut Warp,
    access: &Access,
    value: Value,
    bytes: *const u8,
    span: &Span,
    active: Mask,
) {
    let at = |lane: usize| bytes.wrapping_add(span.offsets[lane] as usize);
    if value.kind == Kind::B64 {
        let mut row = Wide::ZERO;
        for lane in 0..LANES {
            // SAFETY: the caller promises it.
            row.0[lane] = unsafe { read(at(lane), access.element, access.signed) };
        }
        warp.registers.set_wide(value.slot, &row, active);
        return;
    }
    let mut row = Narrow::ZERO;
    if access.element == 4 && span.pattern == Pattern::Row && access.count == 1 {
        // SAFETY: the row has 32 elements one behind the other.
        row.0 = unsafe { bytes.cast::<[u32; LANES]>().read_unaligned() };
    } else if access.element == 4 && span.pattern == Pattern::Same {
        // SAFETY: the caller promises it.
        row.0 = [unsafe { bytes.cast::<u32>().read_unaligned() }; LANES];
    } else if access.element == 4 {
        for lane in 0..LANES {
            // SAFETY: the caller promises it.
            row.0[lane] = unsafe { at(lane).cast::<u32>().read_unaligned() };
        }
    } else {
        let kept = if value.kind == Kind::B16 { 0xffff } else { !0 };
        for lane in 0..LANES {
            // SAFETY: the caller promises it.
            let bits = unsafe { read(at(lane), access.element, access.signed) };
            row.0[lane] = bits as u32 & kept;
        }
    }
    warp.registers.set_narrow(value.slot, &row, active);
}

/// Reads a little-endian number of 1, 2, 4 or 8 bytes, widened with zeros or the sign.
///
/// # Safety
///
/// The bytes must be readable.
#[inline(always)]
unsafe fn read(at: *const u8, bytes: u32, signed: bool) -> u64 {
    // SAFETY: the caller promises it.
    unsafe {
        match (bytes, signed) {
            (1, false) => u64::from(at.read()),
            (1, true) => at.cast::<i8>().read() as u64,
            (2, false) => u64::from(at.cast::<u16>().read_unaligned()),
            (2, true) => at.cast::<i16>().read_unaligned() as u64,
            (4, false) => u64::from(at.cast::<u32>().read_unaligned()),
            (4, true) => at.cast::<i32>().read_unaligned() as u64,
            _ => at.cast::<u64>().read_unaligned(),
        }
    }
}

/// Notes the reads of all lanes; false if one may race.
#[inline(always)]
pub(super) fn note_read(
    machine: &mut Machine<'_>,
    warp: &Warp,
    region: &Region,
    span: &Span,
    pc: u32,
    active: Mask,
    total: u32,
    strong: bool,
) -> bool {
    let first = active.trailing_zeros();
    let Some(allocation) = region.allocation else {
        let Some(races) = &mut machine.shared_races else { return true };
        let manner = if strong { Manner::Atomic } else { Manner::Plain };
        if span.pattern == Pattern::Same {
            let actor = warp.actor(first as usize, pc);
            let order = &warp.order;
            return races.read_by(region.offset, total, actor, active, order, manner).is_none();
        }
        for lane in lanes(active) {
            let address = region.offset + u64::from(span.offsets[lane]);
            let actor = warp.actor(lane, pc);
            if races.read(address, total, actor, &warp.order, manner).is_some() {
                return false;
            }
        }
        return true;
    };
    let Some(races) = &mut machine.global_races else { return true };
    let actor = Actor { thread: warp.index * LANES as u32 + first, pc };
    if span.pattern != Pattern::Other && !strong {
        let (offset, bytes, each) = (region.offset, span.bytes, u64::from(total));
        return races.access_range(allocation, offset, bytes, each, actor, false);
    }
    if strong {
        return false;
    }
    for lane in lanes(active) {
        let offset = region.offset + u64::from(span.offsets[lane]);
        let actor = Actor { thread: warp.index * LANES as u32 + lane as u32, pc };
        if !races.access_range(allocation, offset, total.into(), total.into(), actor, false) {
            return false;
        }
    }
    true
}

/// Stores for all lanes at once; false, with nothing done, if there is something to look at.
#[inline(always)]
fn store_together(
    machine: &mut Machine<'_>,
    warp: &mut Warp,
    access: &Access,
    pc: u32,
    active: Mask,
) -> bool {
    let addresses = access.address.of_lanes(&warp.registers);
    let total = access.bytes();
    let Some(span) = Span::new(&addresses, active, total) else { return false };
    let Some(region) = machine.region(access.address.space, &span) else { return false };
    if !note_write(machine, warp, &region, &span, pc, active, access) {
        return false;
    }
    for (index, value) in access.values.iter().enumerate().take(access.count as usize) {
        let Some(value) = value else { continue };
        let start = region.bytes.wrapping_add(index * access.element as usize);
        // SAFETY: the region has the span's bytes, and each lane's access lies in the span.
        unsafe { store_element(warp, access, *value, start, &span, active) }
    }
    if span.pattern == Pattern::Row {
        // SAFETY: the region has the span's bytes; the row takes all of them.
        unsafe { region.states.write_bytes(WRITTEN, span.bytes as usize) };
    } else {
        for lane in lanes(active) {
            let at = region.states.wrapping_add(span.offsets[lane] as usize);
            // SAFETY: each lane's access lies in the span, which the region has.
            unsafe { at.write_bytes(WRITTEN, total as usize) };
        }
    }
    true
}

/// Writes one element of each lane, in the order of the lanes.
///
/// # Safety
///
/// From `bytes` on, each lane's offset of the span must have the element's bytes.
#[inline(always)]
unsafe fn store_element(
    warp: &Warp,
    access: &Access,
    value: Value,
    bytes: *mut u8,
    span: &Span,
    active: Mask,
) {
    let at = |lane: usize| bytes.wrapping_add(span.offsets[lane] as usize);
    if value.kind == Kind::B64 {
        let row = warp.registers.wide(value.slot);
        for lane in lanes(active) {
            // SAFETY: the caller promises it.
            unsafe { write(at(lane), access.element, row.0[lane]) };
        }
        return;
    }
    let row = warp.registers.narrow(value.slot);
    if access.element == 4 && span.pattern == Pattern::Row && access.count == 1 {
        // SAFETY: the row has 32 elements one behind the other.
        unsafe { bytes.cast::<[u32; LANES]>().write_unaligned(row.0) };
        return;
    }
    for lane in lanes(active) {
        // SAFETY: the caller promises it.
        unsafe { write(at(lane), access.element, u64::from(row.0[lane])) };
    }
}

/// Writes the lower 1, 2, 4 or 8 bytes of a number.
///
/// # Safety
///
/// The bytes must be writable.
#[inline(always)]
unsafe fn write(at: *mut u8, bytes: u32, value: u64) {
    // SAFETY: the caller promises it.
    unsafe {
        match bytes {
            1 => at.write(value as u8),
            2 => at.cast::<u16>().write_unaligned(value as u16),
            4 => at.cast::<u32>().write_unaligned(value as u32),
            _ => at.cast::<u64>().write_unaligned(value),
        }
    }
}

/// Notes the writes of all lanes; false if one may race or meets a copy on its way.
#[inline(always)]
fn note_write(
    machine: &mut Machine<'_>,
    warp: &Warp,
    region: &Region,
    span: &Span,
    pc: u32,
    active: Mask,
    access: &Access,
) -> bool {
    let total = access.bytes();
    let Some(allocation) = region.allocation else {
        if machine.kernel.copies {
            let start = region.offset as usize;
            let states = &machine.shared.state[start..start + span.bytes as usize];
            if states.contains(&PENDING) {
                return false;
            }
        }
        let Some(races) = &mut machine.shared_races else { return true };
        if access.strong || span.pattern == Pattern::Same {
            return false;
        }
        // Two lanes of this instruction may meet, so each is noted before the next is looked at.
        for lane in lanes(active) {
            let address = region.offset + u64::from(span.offsets[lane]);
            let actor = warp.actor(lane, pc);
            if races.check_write(address, total, actor, &warp.order, Manner::Plain).is_some() {
                return false;
            }
            races.write(address, total, actor, Manner::Plain);
        }
        return true;
    };
    let Some(races) = &mut machine.global_races else { return true };
    if access.strong {
        return false;
    }
    let first = active.trailing_zeros();
    let (offset, each) = (region.offset, u64::from(total));
    if span.pattern == Pattern::Row {
        let actor = Actor { thread: warp.index * LANES as u32 + first, pc };
        return races.access_range(allocation, offset, span.bytes, each, actor, true);
    }
    for lane in lanes(active) {
        let offset = offset + u64::from(span.offsets[lane]);
        let actor = Actor { thread: warp.index * LANES as u32 + lane as u32, pc };
        if !races.access_range(allocation, offset, each, each, actor, true) {
            return false;
        }
    }
    true
}

/// Little-endian bytes as a number, widened with zeros or the sign.
pub(super) fn extend(bytes: &[u8], signed: bool) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    let value = u64::from_le_bytes(whole);
    let spare = 64 - 8 * bytes.len() as u32;
    if signed { ((value << spare) as i64 >> spare) as u64 } else { value }
}
