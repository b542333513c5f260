//! Atomic operations and fences. The lanes of a warp follow one another in their order.

use super::RunningLaunch;
use super::interpreter::lanes;
use super::lane_access::LaneAccess;
use super::warp::Warp;
use crate::fault::{Access, Fault};
use crate::instruction::{Atomic, AtomicOp, FenceScope};
use crate::lanes::rounding::{
    BF16, F16, Rounding, add_to_odd, bf16_exact, bf16_to_f32, canonical, canonical64, f16_exact,
    f16_to_f32,
};
use crate::registers::LaneMask;
use crate::types::Type;

impl RunningLaunch<'_> {
    pub(super) fn fence(&mut self, scope: FenceScope) {
        if let (FenceScope::Device, Some(races)) = (scope, &mut self.global_races) {
            races.fence();
        }
    }

    pub(super) fn atomic(
        &mut self,
        warp: &mut Warp,
        atomic: &Atomic,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        let addresses = atomic.address.of_lanes(&warp.registers);
        let bytes = atomic.value_type.bytes();
        for lane in lanes(active) {
            let access = LaneAccess {
                what: Access::Atomic,
                pc,
                lane,
                space: atomic.address.space,
                address: addresses[lane],
                bytes,
                atomic: true,
                swap: atomic.op == AtomicOp::CompareAndSwap,
            };
            let operand = warp.registers.lane(atomic.operand.kind, atomic.operand.slot, lane);
            let second =
                atomic.second.map_or(0, |value| warp.registers.lane(value.kind, value.slot, lane));
            let update = |old: u64| apply(atomic.op, atomic.value_type, old, operand, second);
            let before = self.lane_update(warp, &access, update)?;
            if let Some(result) = atomic.result {
                warp.registers.set_lane(result.kind, result.slot, lane, before);
            }
        }
        Ok(())
    }
}

/// What an atomic leaves in memory.
pub(super) fn apply(op: AtomicOp, ty: Type, old: u64, operand: u64, second: u64) -> u64 {
    match op {
        AtomicOp::Add => add(ty, old, operand),
        AtomicOp::Min | AtomicOp::Max => {
            let less = match ty {
                Type::S32 => (operand as i32) < old as i32,
                Type::S64 => (operand as i64) < old as i64,
                _ => operand < old,
            };
            if less == (op == AtomicOp::Min) { operand } else { old }
        }
        AtomicOp::And => old & operand,
        AtomicOp::Or => old | operand,
        AtomicOp::Xor => old ^ operand,
        AtomicOp::Exchange => operand,
        AtomicOp::CompareAndSwap => {
            if old == operand {
                second
            } else {
                old
            }
        }
        AtomicOp::Increment => {
            if old >= operand {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Decrement => {
            if old == 0 || old > operand {
                operand
            } else {
                old - 1
            }
        }
    }
}

fn add(ty: Type, a: u64, b: u64) -> u64 {
    match ty {
        Type::F32 => {
            let sum = f32::from_bits(a as u32) + f32::from_bits(b as u32);
            u64::from(canonical(sum).to_bits())
        }
        Type::F64 => {
            let sum = f64::from_bits(a) + f64::from_bits(b);
            canonical64(sum).to_bits()
        }
        Type::F16 => u64::from(add_half(a as u16, b as u16)),
        Type::Bf16 => u64::from(add_brain(a as u16, b as u16)),
        Type::F16x2 => halves(a, b, add_half),
        Type::Bf16x2 => halves(a, b, add_brain),
        Type::U64 | Type::S64 => a.wrapping_add(b),
        _ => u64::from((a as u32).wrapping_add(b as u32)),
    }
}

fn halves(a: u64, b: u64, add: fn(u16, u16) -> u16) -> u64 {
    let low = add(a as u16, b as u16);
    let high = add((a >> 16) as u16, (b >> 16) as u16);
    u64::from(low) | u64::from(high) << 16
}

fn add_half(a: u16, b: u16) -> u16 {
    let sum = add_to_odd(f64::from(f16_to_f32(a)), f64::from(f16_to_f32(b)));
    f16_exact(F16.round(sum, Rounding::Nearest))
}

fn add_brain(a: u16, b: u16) -> u16 {
    let sum = add_to_odd(f64::from(bf16_to_f32(a)), f64::from(bf16_to_f32(b)));
    bf16_exact(BF16.round(sum, Rounding::Nearest))
}
