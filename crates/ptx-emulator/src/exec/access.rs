//! Loads and stores of a warp. Where all lanes access one allocation properly, as they nearly
//! always do, they are done together; else lane by lane.

use super::RunningLaunch;
use super::interpreter::lanes;
use super::lane_access::LaneAccess;
use super::shared::WRITTEN;
use super::span::{Pattern, Span, Together, all_written, note_reads, note_writes};
use super::warp::Warp;
use crate::fault::{Access, Fault};
use crate::instruction::{BaseSlot, LoadStore, Value};
use crate::lanes::call_for;
use crate::registers::{LANES, LaneMask, Narrow, Registers, Wide};
use crate::types::{Kind, Space};

impl RunningLaunch<'_> {
    pub(super) fn load(
        &mut self,
        warp: &mut Warp,
        access: &LoadStore,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        let machine = self;
        let simd = machine.simd;
        let done = call_for!(simd, load_together(
            machine: &mut RunningLaunch<'_>,
            warp: &mut Warp,
            access: &LoadStore,
            pc: u32,
            active: LaneMask,
        ) -> bool);
        if done { Ok(()) } else { machine.load_lanes(warp, access, pc, active) }
    }

    #[cold]
    #[inline(never)]
    fn load_lanes(
        &mut self,
        warp: &mut Warp,
        access: &LoadStore,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        let addresses = access.address.of_lanes(&warp.registers);
        let total = access.bytes() as usize;
        let element = access.element as usize;
        let mut buffer = [0u8; 16];
        for lane in lanes(active) {
            let one = access.of_lane(Access::Load, pc, lane, addresses[lane]);
            self.lane_read(warp, &one, &mut buffer[..total])?;
            for (index, value) in access.values.iter().enumerate().take(access.count as usize) {
                if let Some(value) = value {
                    let piece = &buffer[index * element..(index + 1) * element];
                    let bits = extend(piece);
                    warp.registers.set_lane(value.kind, value.slot, lane, bits);
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        warp: &mut Warp,
        access: &LoadStore,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        let machine = self;
        let simd = machine.simd;
        let done = call_for!(simd, store_together(
            machine: &mut RunningLaunch<'_>,
            warp: &mut Warp,
            access: &LoadStore,
            pc: u32,
            active: LaneMask,
        ) -> bool);
        if done { Ok(()) } else { machine.store_lanes(warp, access, pc, active) }
    }

    #[cold]
    #[inline(never)]
    fn store_lanes(
        &mut self,
        warp: &mut Warp,
        access: &LoadStore,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        let addresses = access.address.of_lanes(&warp.registers);
        let total = access.bytes() as usize;
        for lane in lanes(active) {
            let buffer = access.lane_bytes(&warp.registers, lane);
            let one = access.of_lane(Access::Store, pc, lane, addresses[lane]);
            self.lane_write(warp, &one, &buffer[..total])?;
        }
        Ok(())
    }
}

impl LoadStore {
    fn of_lane(&self, what: Access, pc: u32, lane: usize, address: u64) -> LaneAccess {
        LaneAccess { what, pc, lane, space: self.address.space, address, bytes: self.bytes() }
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
    machine: &mut RunningLaunch<'_>,
    warp: &mut Warp,
    access: &LoadStore,
    pc: u32,
    active: LaneMask,
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
    let together = Together { pc, active, bytes: total };
    if !note_reads(machine, warp, &region, &span, together) {
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
fn load_parameter(
    machine: &RunningLaunch<'_>,
    warp: &mut Warp,
    access: &LoadStore,
    active: LaneMask,
) -> bool {
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
        let bits = extend(&machine.parameters[start..start + element]);
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

/// Reads one element of each lane into a register.
///
/// # Safety
///
/// From `bytes` on, each lane's offset of the span must have the element's bytes.
#[inline(always)]
unsafe fn load_element(
    warp: &mut Warp,
    access: &LoadStore,
    value: Value,
    bytes: *const u8,
    span: &Span,
    active: LaneMask,
) {
    let at = |lane: usize| bytes.wrapping_add(span.offsets[lane] as usize);
    if value.kind == Kind::B64 {
        let mut row = Wide::ZERO;
        for lane in 0..LANES {
            // SAFETY: the caller promises it.
            row.0[lane] = unsafe { read(at(lane), access.element) };
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
            let bits = unsafe { read(at(lane), access.element) };
            row.0[lane] = bits as u32 & kept;
        }
    }
    warp.registers.set_narrow(value.slot, &row, active);
}

/// Reads a little-endian number of 1, 2, 4 or 8 bytes.
///
/// # Safety
///
/// The bytes must be readable.
#[inline(always)]
unsafe fn read(at: *const u8, bytes: u32) -> u64 {
    // SAFETY: the caller promises it.
    unsafe {
        match bytes {
            1 => u64::from(at.read()),
            2 => u64::from(at.cast::<u16>().read_unaligned()),
            4 => u64::from(at.cast::<u32>().read_unaligned()),
            _ => at.cast::<u64>().read_unaligned(),
        }
    }
}

/// Stores for all lanes at once; false, with nothing done, if there is something to look at.
#[inline(always)]
fn store_together(
    machine: &mut RunningLaunch<'_>,
    warp: &mut Warp,
    access: &LoadStore,
    pc: u32,
    active: LaneMask,
) -> bool {
    let addresses = access.address.of_lanes(&warp.registers);
    let total = access.bytes();
    let Some(span) = Span::new(&addresses, active, total) else { return false };
    let Some(region) = machine.region(access.address.space, &span) else { return false };
    let together = Together { pc, active, bytes: total };
    if !note_writes(machine, warp, &region, &span, together) {
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
    access: &LoadStore,
    value: Value,
    bytes: *mut u8,
    span: &Span,
    active: LaneMask,
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

/// Little-endian bytes as a number.
fn extend(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}
