//! How many warps of a kernel a multiprocessor holds at once: the arithmetic of NVIDIA's occupancy
//! calculator.

/// Threads of a warp.
const WARP: u32 = 32;
/// Registers are given to a warp in units of this many.
const REGISTER_UNIT: u32 = 256;
/// A multiprocessor has this many parts, each with its share of the registers.
const PARTS: u32 = 4;
/// Shared memory is given to a block in units of this many bytes, and the system takes some.
const SHARED_UNIT: u32 = 128;
const SHARED_RESERVED: u32 = 1024;

/// What one multiprocessor holds.
///
/// The figures are those of the table "Technical Specifications per Compute Capability" in the
/// CUDA C++ Programming Guide; units and formula are those of `cuda_occupancy.h`, the header in
/// the toolkit that is the calculator's code.
pub struct Multiprocessor {
    /// The compute capability times ten.
    pub target: u32,
    warps: u32,
    blocks: u32,
    registers: u32,
    /// Bytes of shared memory, at the largest share of the cache that it can have.
    shared: u32,
}

/// The processors that the table has a column for.
pub const SHOWN: [Multiprocessor; 2] = [
    Multiprocessor { target: 80, warps: 64, blocks: 32, registers: 65_536, shared: 164 << 10 },
    Multiprocessor { target: 90, warps: 64, blocks: 32, registers: 65_536, shared: 228 << 10 },
];

impl Multiprocessor {
    /// The share of the warps that are in use when blocks of `threads` fill the multiprocessor;
    /// each thread has `registers`, and each block `shared` bytes. Zero: not one block fits.
    pub fn occupancy(&self, registers: u32, shared: u32, threads: u32) -> f64 {
        let warps = threads.div_ceil(WARP);
        let blocks = self.blocks_at_once(registers, shared, warps);
        f64::from(blocks * warps) / f64::from(self.warps)
    }

    fn blocks_at_once(&self, registers: u32, shared: u32, warps: u32) -> u32 {
        let registers = (registers * WARP).next_multiple_of(REGISTER_UNIT).max(REGISTER_UNIT);
        // A block is only started if it would fit with all parts equally full.
        if registers * warps.next_multiple_of(PARTS) > self.registers || warps == 0 {
            return 0;
        }
        let warps_with_registers = self.registers / PARTS / registers * PARTS;
        let shared = (shared + SHARED_RESERVED).next_multiple_of(SHARED_UNIT);
        let limits =
            [self.blocks, self.warps / warps, warps_with_registers / warps, self.shared / shared];
        limits.into_iter().fold(u32::MAX, u32::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_in_nvidias_guide_comes_out() {
        // CUDA C++ Best Practices Guide, "Calculating Occupancy", for compute capability 7.0,
        // which has the same registers, warps and blocks: 37 registers give 75 % with blocks of
        // 128 threads, 12 at once, and 63 % with blocks of 320, four at once.
        for sm in &SHOWN {
            assert_eq!(sm.blocks_at_once(37, 0, 128 / WARP), 12);
            assert_eq!(sm.occupancy(37, 0, 128), 0.75);
            assert_eq!(sm.blocks_at_once(37, 0, 320 / WARP), 4);
            assert_eq!(sm.occupancy(37, 0, 320), 0.625);
        }
    }

    #[test]
    fn blocks_are_counted_as_nvidias_header_counts_them() {
        // From a program that calls `cudaOccMaxActiveBlocksPerMultiprocessor` of the toolkit
        // 13.0.96, for 8.0 and 9.0, with these sizes of a block.
        const THREADS: [u32; 9] = [32, 64, 96, 128, 192, 256, 320, 512, 1024];
        type Row = (u32, u32, [u32; 9], [u32; 9]);
        const ROWS: [Row; 10] = [
            (16, 0, [32, 32, 21, 16, 10, 8, 6, 4, 2], [32, 32, 21, 16, 10, 8, 6, 4, 2]),
            (16, 19456, [8, 8, 8, 8, 8, 8, 6, 4, 2], [11, 11, 11, 11, 10, 8, 6, 4, 2]),
            (32, 7168, [20, 20, 20, 16, 10, 8, 6, 4, 2], [28, 28, 21, 16, 10, 8, 6, 4, 2]),
            (32, 49152, [3, 3, 3, 3, 3, 3, 3, 3, 2], [4, 4, 4, 4, 4, 4, 4, 4, 2]),
            (40, 1024, [32, 24, 16, 12, 8, 6, 4, 3, 1], [32, 24, 16, 12, 8, 6, 4, 3, 1]),
            (64, 33792, [4, 4, 4, 4, 4, 4, 3, 2, 1], [6, 6, 6, 6, 5, 4, 3, 2, 1]),
            (72, 0, [28, 14, 9, 7, 4, 3, 2, 1, 0], [28, 14, 9, 7, 4, 3, 2, 1, 0]),
            (96, 19456, [8, 8, 6, 5, 3, 2, 2, 1, 0], [11, 10, 6, 5, 3, 2, 2, 1, 0]),
            (168, 0, [12, 6, 4, 3, 2, 1, 1, 0, 0], [12, 6, 4, 3, 2, 1, 1, 0, 0]),
            (255, 49152, [3, 3, 2, 2, 1, 1, 0, 0, 0], [4, 4, 2, 2, 1, 1, 0, 0, 0]),
        ];
        for (registers, shared, on_80, on_90) in ROWS {
            for (sm, expected) in SHOWN.iter().zip([on_80, on_90]) {
                let blocks =
                    THREADS.map(|threads| sm.blocks_at_once(registers, shared, threads / WARP));
                assert_eq!(blocks, expected, "sm_{}, {registers}, {shared}", sm.target);
            }
        }
    }
}
