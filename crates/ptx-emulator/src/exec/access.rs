//! Loads and stores of a warp. Where all lanes access one allocation properly, as they nearly
//! always do, they are done together; else lane by lane.

use super::Machine;
use super::interpreter::lanes;
use super::lane_access::LaneAccess;
use super::warp::Warp;
use crate::fault::{Access as What, Fault};
use crate::instruction::{Access, Address, BaseSlot};
use crate::registers::{BITS, LANES, Mask, Registers};
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

impl Machine<'_> {
    pub(super) fn load(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        let addresses = access.address.of_lanes(&warp.registers);
        self.load_lanes(warp, access, pc, active, &addresses)
    }

    fn load_lanes(
        &mut self,
        warp: &mut Warp,
        access: &Access,
        pc: u32,
        active: Mask,
        addresses: &[u64; LANES],
    ) -> Result<(), Fault> {
        let total = access.bytes() as usize;
        let element = access.element as usize;
        let mut buffer = [0u8; 16];
        for lane in lanes(active) {
            let one = LaneAccess {
                what: What::Load,
                pc,
                lane,
                space: access.address.space,
                address: addresses[lane],
                bytes: total as u32,
                atomic: access.strong,
            };
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
        let addresses = access.address.of_lanes(&warp.registers);
        let total = access.bytes() as usize;
        let element = access.element as usize;
        let mut buffer = [0u8; 16];
        for lane in lanes(active) {
            for (index, value) in access.values.iter().enumerate().take(access.count as usize) {
                if let Some(value) = value {
                    let bits = warp.registers.lane(value.kind, value.slot, lane);
                    let piece = &mut buffer[index * element..(index + 1) * element];
                    piece.copy_from_slice(&bits.to_le_bytes()[..element]);
                }
            }
            let one = LaneAccess {
                what: What::Store,
                pc,
                lane,
                space: access.address.space,
                address: addresses[lane],
                bytes: total as u32,
                atomic: access.strong,
            };
            self.lane_write(warp, &one, &buffer[..total])?;
        }
        Ok(())
    }
}

/// Little-endian bytes as a number, widened with zeros or the sign.
pub(super) fn extend(bytes: &[u8], signed: bool) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    let value = u64::from_le_bytes(whole);
    let spare = 64 - 8 * bytes.len() as u32;
    if signed { ((value << spare) as i64 >> spare) as u64 } else { value }
}
