//! Matrix fragments: `ldmatrix`, `movmatrix` and `mma.sync`.
//!
//! A register of a warp holds an 8×8 matrix of 16-bit elements row by row, two in each lane: lane
//! `l` has columns `2(l mod 4)` and the next of row `l / 4`. Larger operands are made of such tiles.
//!
//! `mma` adds the exact products to the `f32` accumulator one after another in the order of `k`,
//! with one rounding to nearest each, as a chain of `fma` would. Tensor cores add several products
//! at once with a different rounding: results agree only up to rounding errors.

use super::Machine;
use super::interpreter::lanes;
use super::lane_access::LaneAccess;
use super::warp::Warp;
use crate::fault::{Access, Fault, FaultKind};
use crate::instruction::{Factor, LoadMatrix, Multiply};
use crate::lanes::Slots;
use crate::lanes::rounding::{NAN, bf16_to_f32, f16_to_f32};
use crate::registers::{ALL, LANES, Mask, Narrow};

/// 8×8 elements of 16 bits, row by row.
type Tile = [[u16; 8]; 8];

/// The tile that a register's lanes hold together.
fn tile(row: &Narrow) -> Tile {
    let mut tile = [[0; 8]; 8];
    for (lane, word) in row.0.iter().enumerate() {
        tile[lane / 4][lane % 4 * 2] = *word as u16;
        tile[lane / 4][lane % 4 * 2 + 1] = (*word >> 16) as u16;
    }
    tile
}

/// The register whose lanes hold a tile.
fn fragment(tile: &Tile) -> Narrow {
    let mut row = Narrow::ZERO;
    for (lane, word) in row.0.iter_mut().enumerate() {
        let pair = &tile[lane / 4][lane % 4 * 2..][..2];
        *word = u32::from(pair[0]) | u32::from(pair[1]) << 16;
    }
    row
}

fn transposed(tile: &Tile) -> Tile {
    std::array::from_fn(|row| std::array::from_fn(|column| tile[column][row]))
}

impl Machine<'_> {
    /// These instructions need all lanes of a warp.
    fn need_all(&self, warp: &Warp, pc: u32, active: Mask) -> Result<(), Fault> {
        if active == ALL {
            return Ok(());
        }
        let what = format!("all lanes must take part, but only {active:#010x} do");
        let lane = active.trailing_zeros() as usize % LANES;
        Err(self.fault(warp.index, pc, lane, FaultKind::InvalidMask(what)))
    }

    pub(super) fn load_matrix(
        &mut self,
        warp: &mut Warp,
        load: &LoadMatrix,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        self.need_all(warp, pc, active)?;
        let addresses = load.address.of_lanes(&warp.registers);
        for (matrix, &slot) in load.results.iter().enumerate() {
            let mut tile = [[0; 8]; 8];
            for (row, elements) in tile.iter_mut().enumerate() {
                let lane = matrix * 8 + row;
                let access = LaneAccess {
                    what: Access::Load,
                    pc,
                    lane,
                    space: load.address.space,
                    address: addresses[lane],
                    bytes: 16,
                    atomic: false,
                };
                let mut bytes = [0; 16];
                self.matrix_row(warp, &access, &mut bytes)?;
                for (element, pair) in elements.iter_mut().zip(bytes.chunks_exact(2)) {
                    *element = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
            let tile = if load.transposed { transposed(&tile) } else { tile };
            warp.registers.set_narrow(slot, &fragment(&tile), ALL);
        }
        Ok(())
    }

    pub(super) fn transpose_matrix(
        &mut self,
        warp: &mut Warp,
        slots: &Slots,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        self.need_all(warp, pc, active)?;
        let tile = transposed(&tile(warp.registers.narrow(slots.a)));
        warp.registers.set_narrow(slots.d, &fragment(&tile), ALL);
        Ok(())
    }

    pub(super) fn multiply(
        &mut self,
        warp: &mut Warp,
        multiply: &Multiply,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        self.need_all(warp, pc, active)?;
        run(warp, multiply);
        Ok(())
    }
}

fn run(warp: &mut Warp, multiply: &Multiply) {
    let registers = &warp.registers;
    let k = multiply.k as usize;
    let mut a = [[0.0f32; 16]; 16];
    let mut b = [[0.0f32; 8]; 16];
    let mut c = [[0.0f32; 8]; 16];
    if multiply.factor == Factor::Tf32 {
        for (index, &slot) in multiply.a.iter().enumerate() {
            for (lane, &bits) in registers.narrow(slot).0.iter().enumerate() {
                a[lane / 4 + index % 2 * 8][lane % 4 + index / 2 * 4] = tf32(bits);
            }
        }
        for (index, &slot) in multiply.b.iter().enumerate() {
            for (lane, &bits) in registers.narrow(slot).0.iter().enumerate() {
                b[lane % 4 + index * 4][lane / 4] = tf32(bits);
            }
        }
    } else {
        let widen = if multiply.factor == Factor::Bf16 { bf16_to_f32 } else { f16_to_f32 };
        for (index, &slot) in multiply.a.iter().enumerate() {
            for (row, elements) in tile(registers.narrow(slot)).iter().enumerate() {
                for (column, &bits) in elements.iter().enumerate() {
                    a[row + index % 2 * 8][column + index / 2 * 8] = widen(bits);
                }
            }
        }
        for (index, &slot) in multiply.b.iter().enumerate() {
            for (column, elements) in tile(registers.narrow(slot)).iter().enumerate() {
                for (row, &bits) in elements.iter().enumerate() {
                    b[row + index * 8][column] = widen(bits);
                }
            }
        }
    }
    for (index, &slot) in multiply.c.iter().enumerate() {
        for (lane, &bits) in registers.narrow(slot).0.iter().enumerate() {
            c[lane / 4 + index / 2 * 8][lane % 4 * 2 + index % 2] = f32::from_bits(bits);
        }
    }
    for (sums, factors) in c.iter_mut().zip(&a) {
        for (factor, row) in factors.iter().zip(&b).take(k) {
            for (sum, other) in sums.iter_mut().zip(row) {
                *sum = factor.mul_add(*other, *sum);
            }
        }
    }
    for (index, &slot) in multiply.d.iter().enumerate() {
        let mut row = Narrow::ZERO;
        for (lane, bits) in row.0.iter_mut().enumerate() {
            let value = c[lane / 4 + index / 2 * 8][lane % 4 * 2 + index % 2];
            *bits = if value.is_nan() { NAN } else { value }.to_bits();
        }
        warp.registers.set_narrow(slot, &row, ALL);
    }
}

/// The number that the upper 19 bits of a register stand for; devices ignore the others.
fn tf32(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1fff)
}
