//! Matrix fragments: `ldmatrix` and `mma.sync`.
//!
//! A register of a warp holds an 8×8 matrix of 16-bit elements row by row, two in each lane: lane
//! `l` has columns `2(l mod 4)` and the next of row `l / 4`. Larger operands are made of such tiles.
//!
//! `mma` adds the exact products to the `f32` accumulator one after another in the order of `k`,
//! with one rounding to nearest each, as a chain of `fma` would. Tensor cores add several products
//! at once with a different rounding: results agree only up to rounding errors.

use super::RunningLaunch;
use super::lane_access::LaneAccess;
use super::shared::WRITTEN;
use super::warp::Warp;
use crate::fault::{Access, Fault, FaultKind};
use crate::instruction::{Factor, LoadMatrix, Multiply};
use crate::lanes::call_for;
use crate::lanes::rounding::{bf16_to_f32, canonical};
use crate::registers::{ALL, LANES, LaneMask, Narrow, Registers};

/// The register that holds the transpose of the matrix in another.
fn transposed(row: &Narrow) -> Narrow {
    let element = |row: &Narrow, i: usize, j: usize| row.0[4 * i + j / 2] >> (j % 2 * 16) & 0xffff;
    let mut result = Narrow::ZERO;
    for (lane, word) in result.0.iter_mut().enumerate() {
        let (i, j) = (lane / 4, lane % 4 * 2);
        *word = element(row, j, i) | element(row, j + 1, i) << 16;
    }
    result
}

impl RunningLaunch<'_> {
    /// These instructions need all lanes of a warp.
    fn need_all(&self, warp: &Warp, pc: u32, active: LaneMask) -> Result<(), Fault> {
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
        active: LaneMask,
    ) -> Result<(), Fault> {
        self.need_all(warp, pc, active)?;
        let addresses = load.address.of_lanes(&warp.registers);
        for (matrix, &slot) in load.results.iter().enumerate() {
            let mut words = Narrow::ZERO;
            for (row, words) in words.0.chunks_exact_mut(4).enumerate() {
                let lane = matrix * 8 + row;
                let bytes = match self.matrix_row(warp, pc, lane, addresses[lane]) {
                    Some(bytes) => bytes,
                    None => {
                        return Err(self.matrix_row_fault(warp, load, pc, lane, addresses[lane]));
                    }
                };
                for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                    *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            let words = if load.transposed { transposed(&words) } else { words };
            warp.registers.set_narrow(slot, &words, ALL);
        }
        Ok(())
    }

    /// A row of a matrix in shared memory; `None` if something is wrong with it.
    ///
    /// All lanes get a part of it, so no write of this warp that follows can come before: for the
    /// check of races no lane of the warp counts as its reader, only the warp does.
    #[inline(always)]
    fn matrix_row(&mut self, warp: &Warp, pc: u32, lane: usize, address: u64) -> Option<[u8; 16]> {
        let start = usize::try_from(address).ok().filter(|start| start.is_multiple_of(16))?;
        let states = self.shared.state.get(start..start.checked_add(16)?)?;
        let bytes = self.shared.bytes.get(start..start + 16)?;
        if states != [WRITTEN; 16] {
            return None;
        }
        let bytes = bytes.try_into().ok()?;
        if let Some(races) = &mut self.shared_races {
            let actor = warp.actor(lane, pc);
            if races.read_by(address, 16, actor, 0, &warp.order).is_some() {
                return None;
            }
        }
        Some(bytes)
    }

    #[cold]
    fn matrix_row_fault(
        &mut self,
        warp: &Warp,
        load: &LoadMatrix,
        pc: u32,
        lane: usize,
        address: u64,
    ) -> Fault {
        let (what, space) = (Access::Load, load.address.space);
        let access = LaneAccess { what, pc, lane, space, address, bytes: 16 };
        let found = self.lane_read(warp, &access, &mut [0; 16]);
        found.expect_err("a row that cannot be read at once cannot be read alone")
    }

    pub(super) fn multiply(
        &mut self,
        warp: &mut Warp,
        multiply: &Multiply,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        self.need_all(warp, pc, active)?;
        let registers = &mut warp.registers;
        call_for!(self.simd, run(registers: &mut Registers, multiply: &Multiply) -> ());
        Ok(())
    }
}

/// The factors of a product: 16 × 16 and, by columns of the result, 16 × 8; zero where `k` is less.
struct Factors {
    a: [[f32; 16]; 16],
    b: [[f32; 8]; 16],
}

impl Factors {
    /// Sixteen-bit elements: a register holds the tile of rows `8i` and columns `8j`.
    #[inline(always)]
    fn halves(registers: &Registers, multiply: &Multiply) -> Factors {
        let mut factors = Factors { a: [[0.0; 16]; 16], b: [[0.0; 8]; 16] };
        for (index, &slot) in multiply.a.iter().enumerate() {
            let (i, j) = (index % 2 * 8, index / 2 * 8);
            for (lane, &word) in registers.narrow(slot).0.iter().enumerate() {
                let row = &mut factors.a[i + lane / 4];
                row[j + lane % 4 * 2] = bf16_to_f32(word as u16);
                row[j + lane % 4 * 2 + 1] = bf16_to_f32((word >> 16) as u16);
            }
        }
        for (index, &slot) in multiply.b.iter().enumerate() {
            for (lane, &word) in registers.narrow(slot).0.iter().enumerate() {
                let k = index * 8 + lane % 4 * 2;
                factors.b[k][lane / 4] = bf16_to_f32(word as u16);
                factors.b[k + 1][lane / 4] = bf16_to_f32((word >> 16) as u16);
            }
        }
        factors
    }

    /// Elements of 32 bits: a register holds eight rows of four.
    #[inline(always)]
    fn words(registers: &Registers, multiply: &Multiply) -> Factors {
        let mut factors = Factors { a: [[0.0; 16]; 16], b: [[0.0; 8]; 16] };
        for (index, &slot) in multiply.a.iter().enumerate() {
            for (lane, &bits) in registers.narrow(slot).0.iter().enumerate() {
                factors.a[lane / 4 + index % 2 * 8][lane % 4 + index / 2 * 4] = tf32(bits);
            }
        }
        for (index, &slot) in multiply.b.iter().enumerate() {
            for (lane, &bits) in registers.narrow(slot).0.iter().enumerate() {
                factors.b[lane % 4 + index * 4][lane / 4] = tf32(bits);
            }
        }
        factors
    }
}

#[inline(always)]
fn run(registers: &mut Registers, multiply: &Multiply) {
    let (factors, depth) = match multiply.factor {
        Factor::Bf16 => (Factors::halves(registers, multiply), 16),
        Factor::Tf32 => (Factors::words(registers, multiply), 8),
    };
    // Of the sum, registers 0 and 1 hold the even and odd columns of the upper eight rows, lane by
    // lane, and 2 and 3 those of the lower eight.
    let mut results = [Narrow::ZERO; 4];
    for half in 0..2 {
        let [even, odd] = [multiply.c[2 * half], multiply.c[2 * half + 1]];
        let (even, odd) = (registers.narrow(even), registers.narrow(odd));
        let mut sums = [[0.0f32; 8]; 8];
        for (row, sums) in sums.iter_mut().enumerate() {
            for pair in 0..4 {
                sums[2 * pair] = f32::from_bits(even.0[4 * row + pair]);
                sums[2 * pair + 1] = f32::from_bits(odd.0[4 * row + pair]);
            }
        }
        for (k, right) in factors.b.iter().enumerate().take(depth) {
            for row in 0..8 {
                let left = factors.a[8 * half + row][k];
                for column in 0..8 {
                    sums[row][column] = left.mul_add(right[column], sums[row][column]);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for pair in 0..4 {
                results[2 * half].0[4 * row + pair] = canonical(sums[2 * pair]).to_bits();
                results[2 * half + 1].0[4 * row + pair] = canonical(sums[2 * pair + 1]).to_bits();
            }
        }
    }
    // Only now: a register of the sum may be among the factors.
    for (&slot, row) in multiply.d.iter().zip(&results) {
        registers.set_narrow(slot, row, ALL);
    }
}

/// The number that the upper 19 bits of a register stand for; devices ignore the others.
#[inline(always)]
fn tf32(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1fff)
}
